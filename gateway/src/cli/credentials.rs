//! As whom a command asks a gateway, and whom it trusts.
//!
//! Secrets come from files: what stands on a command line can be read by everybody on the host.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use http::HeaderValue;

/// Who asks, and whom it trusts.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Credentials {
    /// A file with an API key or a token in its first line; without credentials, who asks is anonymous
    #[arg(long, conflicts_with = "user")]
    key_file: Option<PathBuf>,
    /// A user, who proves it by a password
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// A file with the user's password in its first line
    #[arg(long, requires = "user")]
    password_file: Option<PathBuf>,
    /// The authorities that the certificate of a gateway with TLS is verified with, in PEM
    #[arg(long, default_value = "/etc/ssl/certs/ca-certificates.crt")]
    pub(super) ca_file: PathBuf,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
#[error("no {what} in {path:?}: {cause}")]
pub(super) struct SecretError {
    what: &'static str,
    path: PathBuf,
    cause: String,
}

/// The longest key, token or password, in bytes.
const MAX_SECRET: u64 = 16_384;

// === impl Credentials ===

impl Credentials {
    /// The value of the `Authorization` header, if there is to be one.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, SecretError> {
        let header = |what, path: &PathBuf, text: String| {
            let mut value = HeaderValue::try_from(text).map_err(|_| SecretError {
                what,
                path: path.clone(),
                cause: "its first line can't be one".to_owned(),
            })?;
            value.set_sensitive(true);
            Ok(Some(value))
        };
        match (&self.key_file, &self.user, &self.password_file) {
            (Some(path), ..) => header("key", path, format!("Bearer {}", secret("key", path)?)),
            (None, Some(user), Some(path)) => {
                let basic = STANDARD.encode(format!("{user}:{}", secret("password", path)?));
                header("password", path, format!("Basic {basic}"))
            }
            (None, ..) => Ok(None),
        }
    }
}

/// The first line.
fn secret(what: &'static str, path: &Path) -> Result<String, SecretError> {
    let wrong = |cause: String| SecretError { what, path: path.to_owned(), cause };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_SECRET + 1).read_to_string(&mut text));
    read.map_err(|error: io::Error| wrong(error.to_string()))?;
    match text.lines().next().map(str::trim_end) {
        Some(line) if line.len() as u64 > MAX_SECRET => Err(wrong(format!("longer than {MAX_SECRET} bytes"))),
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        Some(_) | None => Err(wrong("its first line is empty".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn a_key_is_the_first_line_and_is_shown_by_nothing() {
        let (_dir, path) = with("om_a_secret\nmore\n");
        let credentials = Credentials { key_file: Some(path), ..Credentials::default() };
        let value = credentials.authorization().unwrap().unwrap();
        assert_eq!(value, "Bearer om_a_secret");
        assert!(!format!("{value:?} {credentials:?}").contains("om_a_secret"));
    }

    #[test]
    fn a_password_goes_with_its_user() {
        let (_dir, path) = with("correct horse\r\n");
        let credentials =
            Credentials { user: Some("bob".to_owned()), password_file: Some(path), ..Credentials::default() };
        assert_eq!(credentials.authorization().unwrap().unwrap(), "Basic Ym9iOmNvcnJlY3QgaG9yc2U=");
    }

    #[test]
    fn what_is_no_secret_is_an_error_without_its_text() {
        for text in ["", "\nkey\n", "ke\u{1}y", &"k".repeat(16_385)] {
            let (_dir, path) = with(text);
            let credentials = Credentials { key_file: Some(path), ..Credentials::default() };
            let error = credentials.authorization().unwrap_err().to_string();
            assert!(error.starts_with("no key in ") && !error.contains("ke\u{1}y"), "{error}");
        }
        let credentials = Credentials { key_file: Some("/nowhere/key".into()), ..Credentials::default() };
        assert!(credentials.authorization().unwrap_err().to_string().contains("/nowhere/key"));
    }
}
