//! How the commands that read reach a gateway that runs: its WebSocket, over TLS where the URL says so. As whom, `credentials` says.

use bridges::connect::{ConnectError, Stream, connect};
use clap::Args;
use http::{Uri, header};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest, handshake::client::Request},
};

use super::credentials::{Credentials, SecretError};

/// Where the gateway is, and who asks.
#[derive(Debug, Clone, Args)]
pub(super) struct Client {
    /// The gateway's WebSocket; wss:// is TLS
    #[arg(long, default_value = "ws://127.0.0.1:8080/mesh/v1/ws")]
    url: Uri,
    #[command(flatten)]
    pub(super) credentials: Credentials,
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
    #[error(transparent)]
    Secret(#[from] SecretError),
}

// === impl Client ===

impl Client {
    /// Connects, and proves who asks.
    pub(super) async fn open(&self) -> Result<Socket, ClientError> {
        if !matches!(self.url.scheme_str(), Some("ws" | "wss")) || self.url.host().is_none_or(str::is_empty) {
            return Err(ClientError::NoUrl(self.url.clone()));
        }
        let request = self.request()?;
        let away = |cause| ClientError::Away { url: self.url.clone(), cause };
        let stream = connect(&self.url, &self.credentials.ca_file).await.map_err(away)?;
        let opened = client_async(request, stream).await;
        opened.map(|(socket, _)| socket).map_err(|cause| self.refused(cause))
    }

    fn request(&self) -> Result<Request, ClientError> {
        let mut request = self.url.clone().into_client_request().map_err(|cause| self.refused(cause))?;
        if let Some(value) = self.credentials.authorization()? {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    fn refused(&self, cause: tungstenite::Error) -> ClientError {
        ClientError::Refused { url: self.url.clone(), cause: Box::new(cause) }
    }
}

#[cfg(test)]
impl Client {
    /// Of no gateway.
    pub(super) fn nowhere() -> Self {
        let url = Uri::from_static("ws://127.0.0.1:1/");
        Self { url, credentials: Credentials::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_of_something_else_is_refused_before_anything_is_sent() {
        for url in ["http://localhost/", "/mesh/v1/ws", "localhost:80"] {
            let client = Client { url: url.parse().unwrap(), ..Client::nowhere() };
            assert!(matches!(client.open().await, Err(ClientError::NoUrl(_))), "{url}");
        }
    }
}
