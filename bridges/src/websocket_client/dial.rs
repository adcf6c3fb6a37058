//! A connection to the feed: TCP, TLS, the WebSocket handshake, and the opening.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use envelope::Json;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

use super::{WebSocketClientConfig, opening::Step};
use crate::{
    connect::{ConnectError, Stream, connect_if},
    standing::shown,
};

/// An open connection.
pub(super) struct Feed {
    pub(super) stream: WebSocketStream<Box<dyn Stream>>,
    /// Messages that came while an answer of the opening was waited for.
    pub(super) early: VecDeque<Bytes>,
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("not open within {0:?}")]
    Timeout(Duration),
    #[error("the answer to the handshake is {0}")]
    Refused(StatusCode),
    #[error("the subprotocol {0:?} was not agreed on")]
    Subprotocol(String),
    #[error("nothing that was to be answered to message {0} of the opening came within {1:?}")]
    Unanswered(usize, Duration),
    #[error("the feed sends {0} messages with {1} bytes and no answer to the opening")]
    Flood(usize, usize),
    #[error("{0}")]
    Broken(String),
    #[error("the feed closed the connection{0}")]
    Closed(String),
    #[error("the feed is silent for {0:?}")]
    Silent(Duration),
    /// The feed is to be asked for what is missing.
    #[error("{0} messages are missing")]
    Missing(u64),
}

/// How much may come before the last answer of the opening: so many messages, and so many bytes unless one may be larger.
const MAX_EARLY: usize = 1_024;
const MAX_EARLY_BYTES: usize = 4_194_304;
const READ_BUFFER_BYTES: usize = 16_384;
const WRITE_BUFFER_BYTES: usize = 131_072;

/// Connects and says what is to be said; `last` is the number to go on behind.
pub(super) async fn dial(config: &WebSocketClientConfig, last: Option<u64>) -> Result<Feed, Lost> {
    let within = config.connect_timeout;
    let shaken = async {
        let stream = connect_if(&config.url, &config.authorities, |address| config.may_be_at(address)).await?;
        shake(config, stream).await
    };
    match timeout(within, shaken).await {
        Ok(feed) => open(config, feed?, last).await,
        Err(_) => Err(Lost::Timeout(within)),
    }
}

/// Says what is to be said over a connection.
pub(super) async fn open(config: &WebSocketClientConfig, mut feed: Feed, last: Option<u64>) -> Result<Feed, Lost> {
    let within = config.connect_timeout;
    let resume = config.resume().filter(|_| last.is_some());
    let then: Vec<&Step> = resume.map_or_else(|| config.subscribe.iter().collect(), |resume| vec![resume]);
    for (number, step) in config.login.iter().chain(then).enumerate() {
        let most = MAX_EARLY_BYTES.max(config.max_payload_bytes);
        match timeout(within, feed.step(step, last, most)).await {
            Ok(done) => done?,
            Err(_) => return Err(Lost::Unanswered(number + 1, within)),
        }
    }
    Ok(feed)
}

/// Makes a WebSocket of the connection.
pub(super) async fn shake(config: &WebSocketClientConfig, stream: Box<dyn Stream>) -> Result<Feed, Lost> {
    let mut request = (&config.url).into_client_request().map_err(|error| Lost::Broken(error.to_string()))?;
    let headers = request.headers_mut();
    if let Some(value) = config.authorization.as_ref().and_then(|secret| HeaderValue::from_str(secret.expose()).ok()) {
        headers.insert(header::AUTHORIZATION, value);
    }
    if let Some(value) = config.subprotocol.as_ref().and_then(|name| HeaderValue::from_str(name).ok()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    let agent = HeaderValue::from_static(concat!("openmesh/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::USER_AGENT, agent);
    let limits = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(Some(config.max_payload_bytes))
        .max_frame_size(Some(config.max_payload_bytes));
    let (stream, _) = client_async_with_config(request, stream, Some(limits)).await.map_err(Lost::from)?;
    Ok(Feed { stream, early: VecDeque::new() })
}

// === impl Feed ===

impl Feed {
    /// Says one thing and waits for what has to be the answer; what comes before that is a message. Of these all that came so
    /// far may have `most` bytes.
    async fn step(&mut self, step: &Step, last: Option<u64>, most: usize) -> Result<(), Lost> {
        self.stream.send(Message::text(step.text(last))).await?;
        let mut bytes: usize = self.early.iter().map(Bytes::len).sum();
        while step.waits() {
            let Some(payload) = payload(self.stream.next().await)? else { continue };
            if Json::parse(payload.clone()).is_ok_and(|json| step.is_answered_by(&json)) {
                return Ok(());
            }
            if self.early.len() >= MAX_EARLY || bytes + payload.len() > most {
                return Err(Lost::Flood(self.early.len(), bytes));
            }
            bytes += payload.len();
            self.early.push_back(payload);
        }
        Ok(())
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("early", &self.early.len()).finish_non_exhaustive()
    }
}

/// The message of a frame; `None` for those that only keep the connection alive.
pub(super) fn payload(next: Option<Result<Message, tungstenite::Error>>) -> Result<Option<Bytes>, Lost> {
    match next {
        None => Err(Lost::Closed(String::new())),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(Message::Text(text))) => Ok(Some(text.into())),
        Some(Ok(Message::Binary(bytes))) => Ok(Some(bytes)),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Ok(Message::Close(close))) => Err(Lost::Closed(match close {
            Some(close) => format!(" with {}: {}", u16::from(close.code), shown(&close.reason)),
            None => String::new(),
        })),
    }
}

// === impl Lost ===

impl Lost {
    /// Whether the feed says no, and will again.
    pub(super) fn is_refused(&self) -> bool {
        match self {
            Self::Refused(status) => status.is_client_error(),
            Self::Connect(error) => matches!(error, ConnectError::Forbidden(_)),
            Self::Subprotocol(_) | Self::Unanswered(..) => true,
            _ => false,
        }
    }
}

impl From<tungstenite::Error> for Lost {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(answer) => Self::Refused(answer.status()),
            tungstenite::Error::Protocol(tungstenite::error::ProtocolError::SecWebSocketSubProtocolError(why)) => {
                Self::Subprotocol(why.to_string())
            }
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Self::Closed(String::new()),
            other => Self::Broken(shown(&other.to_string())),
        }
    }
}
