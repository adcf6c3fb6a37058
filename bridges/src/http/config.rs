//! What the user writes of an HTTP listener, and its bounds.

use std::{net::SocketAddr, ops::RangeInclusive, path::Path, time::Duration};

use envelope::Flow;
use yaml::{Fields, Node, Problems};

use super::{
    address::{check_path, check_written},
    source::HttpSource,
    websocket::BATCH_BYTES,
};
use crate::{
    Bridge, BridgeConfig, BridgeError, Guarantees, Resource,
    net::share_of,
    section::{check_plain_text, connections, count, is_exposed, listen, size, timeout, words},
    tls::TlsConfig,
};

/// The HTTP bridge: a listener for publishing by request and by WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The listener.
    pub server: ServerConfig,
    /// The largest payload of one message, inclusive.
    pub max_payload_bytes: usize,
    /// How long a request's body may take to arrive.
    pub body_timeout: Duration,
    /// How often a stream of events that has none says that it is still there.
    pub heartbeat: Duration,
    /// `/mesh/v1/ws`.
    pub websocket: WebSocketConfig,
}

/// An HTTP/1.1 listener: the bridge's, and the admin API's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free port.
    pub listen: SocketAddr,
    /// The largest request head, inclusive.
    pub max_header_bytes: usize,
    /// At this number of connections, WebSockets included, no further one is accepted until one closes.
    pub max_connections: usize,
    /// The most connections of one address, of IPv6 of one /64: a further one is closed at once.
    pub max_connections_per_address: usize,
    /// How long a request head may take to arrive. Counted from the end of the request before it, so an idle
    /// connection is closed after it as well.
    pub header_timeout: Duration,
    /// How long a peer may leave what was sent to it unread.
    pub write_timeout: Duration,
    /// Hosts a request may name, with port, in lower case. `None`: `localhost`, `127.0.0.1` and `[::1]` with the
    /// listener's port, and the listener's own address.
    pub allowed_hosts: Option<Vec<String>>,
    /// Origins whose pages may call, such as `https://console.example`, besides the same origin.
    pub allowed_origins: Vec<String>,
    /// TLS, where the listener speaks it.
    pub tls: Option<TlsConfig>,
    /// The config says that plain text off loopback is meant.
    pub plain_text: bool,
    /// The config says that peers without credentials are meant to reach it from off loopback.
    pub allow_anonymous: bool,
}

/// The WebSocket endpoint of the HTTP bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketConfig {
    /// The largest frame a client may send, inclusive.
    pub max_frame_bytes: usize,
    /// The most subscriptions of one connection.
    pub max_subscriptions: usize,
    /// The most unsettled deliveries of one subscription.
    pub max_credit: u32,
    /// How often an idle client is pinged; one that is silent for twice as long is cut.
    pub ping_interval: Duration,
    /// How long a message that can't be taken now is offered again before it is given back.
    pub retry_for: Duration,
    /// Paths at which every frame is a message: exact, or with `/*` at the end for all below. Its address is
    /// `WEBSOCKET /path`.
    pub paths: Vec<String>,
}

/// The default of `max_payload_bytes`.
const PAYLOAD: usize = 1_048_576;
/// What a frame has room for beside the largest payload, where the config does not say.
const FRAME_HEAD: usize = 65_536;
const HEADER_BYTES: RangeInclusive<u64> = 1_024..=262_144;
const PAYLOAD_BYTES: RangeInclusive<u64> = 1..=67_108_864;
const FRAME_BYTES: RangeInclusive<u64> = 1_024..=134_217_728;
/// The default of `max_connections`.
const CONNECTIONS_OF_ALL: u32 = 1_024;
const SUBSCRIPTIONS: RangeInclusive<i64> = 1..=1_024;
const CREDIT: RangeInclusive<i64> = 1..=65_536;
/// The most WebSocket paths of a listener.
const MAX_PATHS: usize = 64;

// === impl HttpConfig ===

impl HttpConfig {
    /// The defaults at an address.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            server: ServerConfig::new(listen),
            max_payload_bytes: PAYLOAD,
            body_timeout: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            websocket: WebSocketConfig::around(PAYLOAD),
        }
    }

    /// Reads `{ listen: 127.0.0.1:8080, ... }`, with paths relative to `folder`; adds every problem to `problems`.
    pub fn read(node: &Node, folder: &Path, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let server = ServerConfig::read(&mut fields, folder, problems);
        let max_payload_bytes = size(&mut fields, "max_payload_bytes", PAYLOAD, PAYLOAD_BYTES, problems);
        let body_timeout = timeout(&mut fields, "body_timeout", 30, problems);
        let heartbeat = timeout(&mut fields, "heartbeat", 15, problems);
        let largest = max_payload_bytes.unwrap_or(PAYLOAD);
        let websocket = match fields.optional("websocket") {
            Some(node) => WebSocketConfig::read(node, largest, problems),
            None => Some(WebSocketConfig::around(largest)),
        };
        fields.finish();
        Some(Self {
            server: server?,
            max_payload_bytes: max_payload_bytes?,
            body_timeout: body_timeout?,
            heartbeat: heartbeat?,
            websocket: websocket?,
        })
    }
}

impl HttpConfig {
    /// The largest body in gzip or zstd: what can't be made smaller becomes a little larger.
    pub(super) fn max_encoded_bytes(&self) -> usize {
        self.max_payload_bytes + self.max_payload_bytes / 1_024 + 1_024
    }
}

impl BridgeConfig for HttpConfig {
    fn build(&self, _: &str) -> Bridge {
        Bridge { source: Some(Box::new(HttpSource::new(self.clone()))), sink: None, link: None }
    }

    fn scheme(&self) -> &'static str {
        if self.server.tls.is_some() { "https" } else { "http" }
    }

    fn check_source(&self, written: &str) -> Result<(), String> {
        check_written(written, &self.websocket.paths)
    }

    fn resources(&self) -> Vec<Resource> {
        vec![Resource::Tcp(self.server.listen)]
    }

    fn exposed_to_anonymous(&self) -> bool {
        self.server.is_exposed() && !self.server.allow_anonymous
    }

    fn delivery(&self) -> Guarantees {
        Guarantees {
            ordered_within: "a WebSocket; requests are not ordered",
            ack: "202, or a receipt frame",
            identity: "Idempotency-Key, or ce-source with ce-id; without them a sender's retry is a second message",
        }
    }

    fn flow(&self) -> Flow {
        Flow::Push
    }

    fn replies(&self) -> bool {
        true
    }

    fn max_payload_bytes(&self) -> usize {
        self.max_payload_bytes
    }

    fn max_message_bytes(&self) -> usize {
        // an encoded body and what is in it, for as long as it is decoded
        let request = self.max_encoded_bytes() + self.max_payload_bytes;
        request.max(BATCH_BYTES + self.websocket.max_frame_bytes)
    }
}

// === impl ServerConfig ===

impl ServerConfig {
    /// The defaults at an address.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            max_header_bytes: 16_384,
            max_connections: CONNECTIONS_OF_ALL as usize,
            max_connections_per_address: share_of(CONNECTIONS_OF_ALL as usize),
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            allowed_hosts: None,
            allowed_origins: Vec::new(),
            tls: None,
            plain_text: false,
            allow_anonymous: false,
        }
    }

    /// Whether it can be reached from outside of this host.
    pub fn is_exposed(&self) -> bool {
        is_exposed(self.listen)
    }

    /// Refuses plain text on an address that can be reached from outside of this host, unless the config says that it is
    /// meant: credentials would be there for all to read.
    pub fn check_plain_text(&self) -> Result<(), BridgeError> {
        check_plain_text(self.listen, self.tls.is_some() || self.plain_text)
    }

    /// Reads the listener's keys of a section, which may have others. Paths are relative to `folder`.
    pub fn read(fields: &mut Fields<'_, '_>, folder: &Path, problems: &Problems) -> Option<Self> {
        let listen = fields.required("listen").and_then(|node| listen(node, problems));
        let max_header_bytes = size(fields, "max_header_bytes", 16_384, HEADER_BYTES, problems);
        let connections = connections(fields, CONNECTIONS_OF_ALL, problems);
        let header_timeout = timeout(fields, "header_timeout", 30, problems);
        let write_timeout = timeout(fields, "write_timeout", 30, problems);
        let allowed_hosts = match fields.optional("allowed_hosts") {
            Some(node) => {
                words(node, "a host with its port, such as gateway.example:8080", is_host, problems).map(Some)
            }
            None => Some(None),
        };
        let allowed_origins = match fields.optional("allowed_origins") {
            Some(node) => words(node, "an origin such as https://console.example", is_origin, problems),
            None => Some(Vec::new()),
        };
        let tls = match fields.optional("tls") {
            Some(node) => TlsConfig::read(node, folder, problems).map(Some),
            None => Some(None),
        };
        let mut word = |key| fields.optional(key).map_or(Some(false), |node| node.bool(problems));
        let (plain_text, allow_anonymous) = (word("plain_text"), word("allow_anonymous"));
        if let (Some(listen), Some(tls), Some(plain_text)) = (listen, &tls, plain_text)
            && let Err(error) = check_plain_text(listen, tls.is_some() || plain_text)
        {
            let span = fields.optional("listen").map_or(fields.span(), |node| node.span);
            problems.report(span, "plain-text", error.to_string());
            return None;
        }
        let (max_connections, max_connections_per_address) = connections?;
        Some(Self {
            listen: listen?,
            max_header_bytes: max_header_bytes?,
            max_connections,
            max_connections_per_address,
            header_timeout: header_timeout?,
            write_timeout: write_timeout?,
            allowed_hosts: allowed_hosts?,
            allowed_origins: allowed_origins?,
            tls: tls?,
            plain_text: plain_text?,
            allow_anonymous: allow_anonymous?,
        })
    }
}

// === impl WebSocketConfig ===

impl WebSocketConfig {
    /// The defaults where the largest payload has `max_payload_bytes`: a frame can carry it.
    pub fn around(max_payload_bytes: usize) -> Self {
        Self {
            max_frame_bytes: max_payload_bytes + FRAME_HEAD,
            max_subscriptions: 64,
            max_credit: 1_024,
            ping_interval: Duration::from_secs(30),
            retry_for: Duration::from_secs(300),
            paths: Vec::new(),
        }
    }

    fn read(node: &Node, max_payload_bytes: usize, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let default = max_payload_bytes + FRAME_HEAD;
        let max_frame_bytes = size(&mut fields, "max_frame_bytes", default, FRAME_BYTES, problems);
        let max_subscriptions = count(&mut fields, "max_subscriptions", 64, SUBSCRIPTIONS, problems);
        let max_credit = count(&mut fields, "max_credit", 1_024, CREDIT, problems);
        let ping_interval = timeout(&mut fields, "ping_interval", 30, problems);
        let retry_for = timeout(&mut fields, "retry_for", 300, problems);
        let paths = fields.optional("paths").map_or(Some(Vec::new()), |node| paths(node, problems));
        fields.finish();
        Some(Self {
            max_frame_bytes: max_frame_bytes?,
            max_subscriptions: max_subscriptions? as usize,
            max_credit: max_credit?,
            ping_interval: ping_interval?,
            retry_for: retry_for?,
            paths: paths?,
        })
    }
}

/// Paths that can be addresses, as they are once decoded.
fn paths(node: &Node, problems: &Problems) -> Option<Vec<String>> {
    let items = node.list(problems)?;
    if items.len() > MAX_PATHS {
        problems.report(node.span, "out-of-range", format!("{} paths, limit is {MAX_PATHS}", items.len()));
        return None;
    }
    let read: Vec<_> = items
        .iter()
        .map(|item| {
            let path = item.string(problems)?;
            let fixed = path.strip_suffix("/*").unwrap_or(path);
            match check_path(if fixed.is_empty() { "/" } else { fixed }) {
                Ok(()) => Some(path.to_owned()),
                Err(error) => {
                    problems.report(item.span, "path", format!("{path:?} is no path of messages: {error}"));
                    None
                }
            }
        })
        .collect();
    read.into_iter().collect()
}

fn is_host(word: &str) -> bool {
    let authority = word.parse::<http::uri::Authority>();
    authority.is_ok_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
}

fn is_origin(word: &str) -> bool {
    let Some((scheme, host)) = word.split_once("://") else { return false };
    matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") && is_host(host)
}

#[cfg(test)]
mod tests;
