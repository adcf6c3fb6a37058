//! How the commands reach a gateway that runs: its WebSocket, over TLS where the URL says so, and as whom.
//!
//! Secrets come from files: what stands on a command line can be read by everybody on the host.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use http::{HeaderValue, Uri, header};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest, handshake::client::Request},
};

use crate::connect::{ConnectError, Stream, connect};

/// Where the gateway is, and who asks.
#[derive(Debug, Clone, Args)]
pub(super) struct Client {
    /// The gateway's WebSocket; wss:// is TLS
    #[arg(long, default_value = "ws://127.0.0.1:8080/mesh/v1/ws")]
    url: Uri,
    /// A file with an API key or a token in its first line; without credentials, who asks is anonymous
    #[arg(long, conflicts_with = "user")]
    key_file: Option<PathBuf>,
    /// A user, who proves it by a password
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// A file with the user's password in its first line
    #[arg(long, requires = "user")]
    password_file: Option<PathBuf>,
    /// The authorities that the certificate of a wss:// gateway is verified with, in PEM
    #[arg(long, default_value = "/etc/ssl/certs/ca-certificates.crt")]
    ca_file: PathBuf,
}

/// What envelopes come over.
pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("no gateway answers at {url}: {cause}")]
    Away { url: Uri, cause: ConnectError },
    #[error("{url} is not for us: {cause}")]
    Refused { url: Uri, cause: Box<tungstenite::Error> },
    #[error("--url is ws:// or wss://, then a host and a path: {0}")]
    NoUrl(Uri),
    #[error("no {what} in {path:?}: {cause}")]
    Secret { what: &'static str, path: PathBuf, cause: String },
}

/// The longest key, token or password, in bytes.
const MAX_SECRET: u64 = 16_384;

// === impl Client ===

impl Client {
    /// Connects, and proves who asks.
    pub(super) async fn open(&self) -> Result<Socket, ClientError> {
        if !matches!(self.url.scheme_str(), Some("ws" | "wss")) || self.url.host().is_none_or(str::is_empty) {
            return Err(ClientError::NoUrl(self.url.clone()));
        }
        let request = self.request()?;
        let away = |cause| ClientError::Away { url: self.url.clone(), cause };
        let stream = connect(&self.url, &self.ca_file).await.map_err(away)?;
        let opened = client_async(request, stream).await;
        opened.map(|(socket, _)| socket).map_err(|cause| self.refused(cause))
    }

    fn request(&self) -> Result<Request, ClientError> {
        let mut request = self.url.clone().into_client_request().map_err(|cause| self.refused(cause))?;
        if let Some(value) = self.authorization()? {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, ClientError> {
        let header = |what, path: &PathBuf, text: String| {
            let mut value = HeaderValue::try_from(text).map_err(|_| ClientError::Secret {
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

    fn refused(&self, cause: tungstenite::Error) -> ClientError {
        ClientError::Refused { url: self.url.clone(), cause: Box::new(cause) }
    }
}

/// The first line.
fn secret(what: &'static str, path: &Path) -> Result<String, ClientError> {
    let wrong = |cause: String| ClientError::Secret { what, path: path.to_owned(), cause };
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
impl Client {
    /// Of no gateway.
    pub(super) fn nowhere() -> Self {
        let url = Uri::from_static("ws://127.0.0.1:1/");
        Self { url, key_file: None, user: None, password_file: None, ca_file: PathBuf::new() }
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
        let client = Client { key_file: Some(path), ..Client::nowhere() };
        let value = client.authorization().unwrap().unwrap();
        assert_eq!(value, "Bearer om_a_secret");
        assert!(!format!("{:?} {client:?}", client.request().unwrap()).contains("om_a_secret"));
    }

    #[test]
    fn a_password_goes_with_its_user() {
        let (_dir, path) = with("correct horse\r\n");
        let client = Client { user: Some("bob".to_owned()), password_file: Some(path), ..Client::nowhere() };
        assert_eq!(client.authorization().unwrap().unwrap(), "Basic Ym9iOmNvcnJlY3QgaG9yc2U=");
    }

    #[test]
    fn what_is_no_secret_is_an_error_without_its_text() {
        for text in ["", "\nkey\n", "ke\u{1}y", &"k".repeat(16_385)] {
            let (_dir, path) = with(text);
            let client = Client { key_file: Some(path), ..Client::nowhere() };
            let error = client.authorization().unwrap_err().to_string();
            assert!(error.starts_with("no key in ") && !error.contains("ke\u{1}y"), "{error}");
        }
        let client = Client { key_file: Some("/nowhere/key".into()), ..Client::nowhere() };
        assert!(client.authorization().unwrap_err().to_string().contains("/nowhere/key"));
    }

    #[tokio::test]
    async fn a_url_of_something_else_is_refused_before_anything_is_sent() {
        for url in ["http://localhost/", "/mesh/v1/ws", "localhost:80"] {
            let client = Client { url: url.parse().unwrap(), ..Client::nowhere() };
            assert!(matches!(client.open().await, Err(ClientError::NoUrl(_))), "{url}");
        }
    }
}
