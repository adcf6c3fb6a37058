//! A store on a small disk of its own: a tmpfs in a mount namespace of the gateway's.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use crate::{Gateway, Site};

/// Starts the gateway with its store on a disk of this size, as `mount` takes it, and says where that is seen from here.
pub fn start(site: &Site, size: &str) -> (Gateway, PathBuf) {
    let data = site.data();
    fs::create_dir_all(&data).expect("the store's folder");
    let mount = format!("mount -t tmpfs -o size={size} tmpfs '{}' && exec \"$@\"", data.display());
    let words = ["unshare", "--map-root-user", "--mount", "--fork", "--kill-child", "sh", "-c", &mount, "sh"];
    let gateway = Gateway::start_under(&words.map(OsStr::new), site);
    let below = data.strip_prefix("/").expect("an absolute path");
    let disk = Path::new("/proc").join(gateway.pid().to_string()).join("root").join(below);
    (gateway, disk)
}

/// Writes to a file of the disk until it takes no more; the file.
pub fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = File::create(&path).expect("a file on the disk");
    for block in [1 << 20, 4_096, 1] {
        while file.write_all(&vec![0; block]).is_ok() {}
    }
    path
}
