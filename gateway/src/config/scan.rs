//! Whether the files of a configuration are still those that were read, told by what the file system says of them.
//!
//! Looking costs a `stat` a file and works on every file system and through links, as mounted configuration has them,
//! where notifications do not come, or come for another file. Reading is for `load`.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::files;

/// Where the files of a configuration are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub(super) gateway: PathBuf,
    pub(crate) mappings: PathBuf,
    pub(crate) schemas: PathBuf,
    pub(super) tables: PathBuf,
    pub(super) policy: PathBuf,
    pub(super) users: PathBuf,
    pub(super) policies: PathBuf,
}

/// What all files looked like at one time; another one means that some file was written, replaced, added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scan(u64);

/// What one file looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stamp {
    File { device: u64, inode: u64, length: u64, modified: (i64, i64), changed: (i64, i64) },
    Unreadable(io::ErrorKind),
}

// === impl Places ===

impl Places {
    /// Looks at all files.
    pub(crate) fn scan(&self) -> Scan {
        self.scan_with(Stamp::of(&self.gateway))
    }

    /// Looks at all files but `gateway.yaml`, which looked like `gateway` before it was read.
    pub(super) fn scan_with(&self, gateway: Stamp) -> Scan {
        let mut hasher = DefaultHasher::new();
        (gateway, Stamp::of(&self.policy), Stamp::of(&self.users)).hash(&mut hasher);
        let folders = [
            (&self.mappings, files::MAPPINGS),
            (&self.schemas, files::SCHEMAS),
            (&self.tables, files::TABLES),
            (&self.policies, files::POLICIES),
        ];
        for (folder, extensions) in folders {
            let (paths, failed) = files::list(folder, extensions);
            failed.map(|(path, error)| (path, error.kind())).hash(&mut hasher);
            paths.len().hash(&mut hasher);
            for path in &paths {
                (path, Stamp::of(path)).hash(&mut hasher);
            }
        }
        Scan(hasher.finish())
    }
}

// === impl Stamp ===

impl Stamp {
    /// Follows links.
    pub(super) fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(found) => Self::File {
                device: found.dev(),
                inode: found.ino(),
                length: found.len(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            },
            Err(error) => Self::Unreadable(error.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn places(dir: &Path) -> Places {
        let at = |name: &str| dir.join(name);
        Places {
            gateway: at("gateway.yaml"),
            mappings: at("mappings"),
            schemas: at("schemas"),
            tables: at("tables"),
            policy: at("policy.yaml"),
            users: at("users.yaml"),
            policies: at("policies"),
        }
    }

    #[test]
    fn a_file_written_added_removed_or_replaced_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let mut before = places.scan();
        let mut differs = |what: &str| {
            let now = places.scan();
            assert_ne!(now, before, "{what}");
            assert_eq!(now, places.scan(), "{what}");
            before = now;
        };
        fs::create_dir(dir.path().join("mappings")).unwrap();
        differs("a folder");
        fs::write(dir.path().join("mappings/a.yaml"), "1").unwrap();
        differs("a mapping");
        fs::write(dir.path().join("mappings/a.yaml"), "12").unwrap();
        differs("a longer one");
        fs::write(dir.path().join("b"), "34").unwrap();
        fs::rename(dir.path().join("b"), dir.path().join("mappings/a.yaml")).unwrap();
        differs("a replaced one");
        fs::create_dir(dir.path().join("tables")).unwrap();
        differs("a folder of tables");
        fs::write(dir.path().join("tables/a.csv"), "1").unwrap();
        differs("a table");
        fs::remove_file(dir.path().join("mappings/a.yaml")).unwrap();
        differs("none");
        fs::write(dir.path().join("gateway.yaml"), "1").unwrap();
        differs("the gateway's file");
        fs::write(dir.path().join("policy.yaml"), "1").unwrap();
        differs("the policy");
        fs::write(dir.path().join("users.yaml"), "1").unwrap();
        differs("the users");
        fs::create_dir(dir.path().join("policies")).unwrap();
        fs::write(dir.path().join("policies/a.cedar"), "1").unwrap();
        differs("a policy in Cedar");
    }

    #[test]
    fn a_link_that_points_elsewhere_is_seen_and_a_file_of_no_concern_is_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["..one/mappings", "..two/mappings"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("a.yaml"), "same").unwrap();
        }
        let point = |to: &str| {
            symlink(to, dir.path().join("..new")).unwrap();
            fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        };
        point("..one");
        symlink("..data/mappings", dir.path().join("mappings")).unwrap();
        let places = places(dir.path());
        let before = places.scan();
        fs::write(dir.path().join("mappings/.a.yaml.swp"), "an editor's").unwrap();
        assert_eq!(places.scan(), before);
        point("..two");
        assert_ne!(places.scan(), before);
    }
}
