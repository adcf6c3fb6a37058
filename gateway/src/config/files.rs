//! Finds and reads the files that a configuration consists of. All of the gateway's reading of text files is here.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use yaml::Diagnostic;

/// The deepest folder below `mappings/` or `schemas/`; a loop of links ends here.
const MAX_DEPTH: usize = 8;
/// The most files of one folder.
const MAX_FILES: usize = 10_000;

/// What the names of mapping files end in.
pub(super) const MAPPINGS: &[&str] = &["yaml", "yml"];
/// What the names of schemas end in.
pub(super) const SCHEMAS: &[&str] = &["json"];

/// What the names of policies, of the keys of issuers, and of what these have revoked, end in.
pub(super) const POLICIES: &[&str] = &["cedar", "json", "yaml", "yml"];
/// What the names of tables end in.
pub(super) const TABLES: &[&str] = &["csv", "yaml", "yml"];

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TextFile {
    /// As errors name it.
    pub(super) path: String,
    /// Below the folder that was searched, joined by `/`, without its extension.
    pub(super) name: String,
    pub(super) text: String,
}

/// Reads a UTF-8 file of at most `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> io::Result<String> {
    // who opens a pipe waits until somebody writes to it
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let message = format!("the file is longer than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Reads every file below `folder` whose name ends in one of `extensions`, sorted by path; hidden ones are left out.
/// What can't be read is reported and left out.
pub(super) fn read_all(folder: &Path, extensions: &[&str], max: u64, found: &mut Vec<Diagnostic>) -> Vec<TextFile> {
    let (paths, failed) = list(folder, extensions);
    found.extend(failed.map(|(path, error)| unreadable(&path, &error)));
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        match read(&path, max) {
            Ok(text) => {
                files.push(TextFile { path: path.display().to_string(), name: name_below(folder, &path), text })
            }
            Err(error) => found.push(unreadable(&path, &error)),
        }
    }
    files
}

/// The paths of every file below `folder` whose name ends in one of `extensions`, sorted; and what stopped the search, if
/// something did.
pub(super) fn list(folder: &Path, extensions: &[&str]) -> (Vec<PathBuf>, Option<(PathBuf, io::Error)>) {
    let mut paths = Vec::new();
    let failed = collect(folder, extensions, 0, &mut paths).err();
    paths.sort();
    (paths, failed)
}

/// An error about a file that can't be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Diagnostic::of_file(path.display().to_string(), "too-large", error.to_string()),
        _ => Diagnostic::of_file(path.display().to_string(), "unreadable", format!("can't be read: {error}")),
    }
}

fn collect(
    folder: &Path,
    extensions: &[&str],
    depth: usize,
    paths: &mut Vec<PathBuf>,
) -> Result<(), (PathBuf, io::Error)> {
    let failed = |error| (folder.to_owned(), error);
    if depth > MAX_DEPTH {
        return Err(failed(io::Error::other(format!("more than {MAX_DEPTH} folders deep"))));
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        // Follows links: mounted configuration often consists of them.
        if fs::metadata(&path).map_err(|error| (path.clone(), error))?.is_dir() {
            collect(&path, extensions, depth + 1, paths)?;
        } else if extensions.iter().any(|extension| has_extension(&path, extension)) {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(failed(io::Error::other(format!("more than {MAX_FILES} files"))));
        }
    }
    Ok(())
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn name_below(folder: &Path, path: &Path) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path).with_extension("");
    below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_in_a_folder_is_an_error_and_nothing_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut found = Vec::new();
        assert!(read_all(folder.path(), &["yaml"], 10, &mut found).is_empty());
        assert!(found[0].to_string().contains("can't be read: it is no file"), "{}", found[0]);
    }

    #[test]
    fn files_are_named_by_their_path_below_the_folder_and_hidden_ones_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("telemetry/.git")).unwrap();
        for path in ["b.json", "telemetry/reading@v1.0.0.json", ".hidden.json", "telemetry/.git/x.json", "a.txt"] {
            fs::write(dir.path().join(path), "{}").unwrap();
        }
        let mut found = Vec::new();
        let files = read_all(dir.path(), &["json"], 10, &mut found);
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["b", "telemetry/reading@v1.0.0"]);
        assert!(found.is_empty());
    }

    #[test]
    fn a_file_at_the_limit_is_read_and_one_over_it_is_reported_with_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("at.json"), "12345").unwrap();
        fs::write(dir.path().join("over.json"), "123456").unwrap();
        let mut found = Vec::new();
        let files = read_all(dir.path(), &["json"], 5, &mut found);
        assert_eq!(files.len(), 1);
        assert!(found[0].to_string().contains("over.json: error[too-large]: the file is longer than 5 bytes"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_reported() {
        let mut found = Vec::new();
        assert!(read_all(Path::new("/nowhere"), &["json"], 5, &mut found).is_empty());
        assert_eq!(found.len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_loop_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        let mut found = Vec::new();
        read_all(dir.path(), &["json"], 5, &mut found);
        assert!(found[0].message.contains("folders deep"), "{found:?}");
    }
}
