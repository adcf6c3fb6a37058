//! A config folder and a data folder of a test's own.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Mutex,
};

use tempfile::TempDir;

/// A copy of the shipped `config/` with private ports, and an empty data folder.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    /// HTTP and WebSocket.
    pub http: SocketAddr,
    /// The admin API.
    pub admin: SocketAddr,
}

// === impl Site ===

impl Site {
    /// The shipped configuration, but for ports and data.
    pub fn shipped() -> Self {
        let dir = tempfile::tempdir().expect("a scratch folder");
        copy(&repository().join("config"), &dir.path().join("config"));
        let site = Self { dir, http: free_port(), admin: free_port() };
        site.configure("", "");
        site
    }

    /// Writes `gateway.yaml`; `http` is further keys of the HTTP bridge, as `write_timeout: 1s`, and `more` further
    /// top-level lines, as `limits: { max_in_flight: 4 }`.
    pub fn configure(&self, http: &str, more: &str) {
        let text = format!(
            "domain: plant-a\njurisdictions: [eu]\nbackbone: {{ embedded: {{ path: {} }} }}\nadmin: {{ listen: {} }}\n\
             bridges:\n  web:\n    http: {{ listen: '{}', {http} }}\nmappings: mappings/\npolicy: policy.yaml\n{more}",
            self.data().display(),
            self.admin,
            self.http,
        );
        self.write("gateway.yaml", &text);
    }

    /// Writes a file below the config folder.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.config().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).expect("a folder for the file");
        }
        fs::write(path, text).expect("the file to be written");
    }

    /// The config folder.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A path in the scratch folder, outside of config and data.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `http://<http address><path>`
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// `http://<admin address><path>`
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("this crate stands in the repository").to_owned()
}

/// A loopback port that was free a moment ago, and that nobody else in this process was given.
pub fn free_port() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        if GIVEN.lock().expect("nobody panics with it").insert(address.port()) {
            return address;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the shipped config") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
