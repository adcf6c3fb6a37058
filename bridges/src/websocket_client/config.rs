//! What the user writes of a remote feed, and its bounds.

use std::{
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use envelope::Flow;
use http::{HeaderValue, Uri};
use yaml::{Fields, Node, Problems, Resolve, Secret};

use super::{
    offers::BATCH_BYTES,
    opening::{Pointer, SEQUENCE, Step},
    source::WebSocketClient,
};
use crate::{
    Bridge, BridgeConfig, Guarantees,
    private::{self, Block, Private},
    section::{blocks, optional, size, timeout},
};

/// The WebSocket client: which feed, and what it is told.
#[derive(Debug, Clone)]
pub struct WebSocketClientConfig {
    /// `wss://`, or `ws://` where plain text is meant.
    pub url: Uri,
    /// The value of `Authorization`.
    pub authorization: Option<Secret>,
    /// The subprotocol that is asked for, and has to be agreed on.
    pub subprotocol: Option<String>,
    /// Said first.
    pub(super) login: Option<Step>,
    /// Said then.
    pub(super) subscribe: Vec<Step>,
    /// Where a message says its channel: a segment of its address.
    pub(super) channel: Option<Pointer>,
    /// Where a message has its number.
    pub(super) sequence: Option<Sequenced>,
    /// The authorities that the server's certificate may be from, as PEM.
    pub authorities: PathBuf,
    /// Blocks that are not of the internet, and may be connected to though a name leads there.
    pub allow_private: Vec<Block>,
    /// How often the server is asked for a sign of life; of one that sends nothing for twice as long, the connection is ended.
    pub ping_interval: Duration,
    /// How long it may take from the connection to the last answer of the opening.
    pub connect_timeout: Duration,
    /// The longest pause between two attempts to connect.
    pub max_backoff: Duration,
    /// The largest message.
    pub max_payload_bytes: usize,
}

/// How a feed numbers its messages.
#[derive(Debug, Clone)]
pub(super) struct Sequenced {
    pub(super) at: Pointer,
    /// Each channel has numbers of its own.
    pub(super) by_channel: bool,
    /// Said in place of `subscribe`, where it is known from where to go on.
    pub(super) resume: Option<Step>,
}

/// The authorities of Debian and most others.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const PAYLOAD: usize = 1_048_576;
const PAYLOAD_BYTES: RangeInclusive<u64> = 1..=67_108_864;
const PING_SECONDS: u64 = 20;
const MAX_SUBSCRIBE: usize = 64;

// === impl WebSocketClientConfig ===

impl WebSocketClientConfig {
    /// The defaults for one feed.
    pub fn new(url: Uri) -> Self {
        Self {
            url,
            authorization: None,
            subprotocol: None,
            login: None,
            subscribe: Vec::new(),
            channel: None,
            sequence: None,
            authorities: AUTHORITIES.into(),
            allow_private: Vec::new(),
            ping_interval: Duration::from_secs(PING_SECONDS),
            connect_timeout: Duration::from_secs(10),
            max_backoff: Duration::from_secs(30),
            max_payload_bytes: PAYLOAD,
        }
    }

    /// Reads `{ url: wss://feed.example/v2, ... }`, with paths relative to `folder`.
    pub fn read(node: &Node, folder: &Path, resolve: &Resolve<'_>, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let plain_text = fields.optional("plain_text").map_or(Some(false), |node| node.bool(problems));
        let meant = plain_text.unwrap_or(true);
        let url = fields.required("url").and_then(|node| url(node, meant, resolve, problems));
        let authorization = optional(&mut fields, "authorization", |node| header(node, resolve, problems));
        let subprotocol = optional(&mut fields, "subprotocol", |node| token(node, problems));
        let login = optional(&mut fields, "login", |node| Step::read(node, resolve, problems));
        let subscribe = optional(&mut fields, "subscribe", |node| steps(node, resolve, problems));
        let channel = optional(&mut fields, "channel", |node| Pointer::read(node, problems));
        let has_channel = channel.as_ref().is_none_or(Option::is_some);
        let sequence = optional(&mut fields, "sequence", |node| Sequenced::read(node, has_channel, resolve, problems));
        let authorities = match fields.optional("authorities") {
            Some(node) => node.non_empty(problems).map(|path| folder.join(path)),
            None => Some(AUTHORITIES.into()),
        };
        let allow_private = optional(&mut fields, "allow_private", |node| blocks(node, problems));
        let ping_interval = timeout(&mut fields, "ping_interval", PING_SECONDS, problems);
        let connect_timeout = timeout(&mut fields, "connect_timeout", 10, problems);
        let max_backoff = timeout(&mut fields, "max_backoff", 30, problems);
        let max_payload_bytes = size(&mut fields, "max_payload_bytes", PAYLOAD, PAYLOAD_BYTES, problems);
        fields.finish();
        plain_text?;
        Some(Self {
            url: url?,
            authorization: authorization?,
            subprotocol: subprotocol?,
            login: login?,
            subscribe: subscribe?.unwrap_or_default(),
            channel: channel?,
            sequence: sequence?,
            authorities: authorities?,
            allow_private: allow_private?.unwrap_or_default(),
            ping_interval: ping_interval?,
            connect_timeout: connect_timeout?,
            max_backoff: max_backoff?,
            max_payload_bytes: max_payload_bytes?,
        })
    }

    /// The host, as it is resolved.
    pub(super) fn host(&self) -> &str {
        self.url.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// Whether the server may be at this address.
    pub(super) fn may_be_at(&self, address: IpAddr) -> Result<(), Private> {
        private::check_named(self.host(), address, &self.allow_private)
    }

    /// What can be asked for again: said where it is known from where to go on.
    pub(super) fn resume(&self) -> Option<&Step> {
        self.sequence.as_ref().and_then(|sequence| sequence.resume.as_ref())
    }
}

impl BridgeConfig for WebSocketClientConfig {
    fn build(&self, _: &str) -> Bridge {
        Bridge { source: Some(Box::new(WebSocketClient::new(self.clone()))), sink: None, link: None }
    }

    fn delivery(&self) -> Guarantees {
        match self.resume() {
            Some(_) => Guarantees {
                ordered_within: "the connection",
                ack: "none: what was not taken is asked for again by its number",
                identity: "the feed's number",
            },
            None => Guarantees {
                ordered_within: "the connection",
                ack: "none: what is sent while the gateway is away is lost",
                identity: "none: a message that the feed repeats is a second one",
            },
        }
    }

    fn flow(&self) -> Flow {
        Flow::Pull
    }

    fn check_source(&self, written: &str) -> Result<(), String> {
        let segments: Vec<_> = written.split('/').collect();
        match segments.as_slice() {
            ["message"] => Ok(()),
            ["message", _] if self.channel.is_some() => Ok(()),
            ["message", _] => Err("no message has a channel: the bridge has no \"channel\"".to_owned()),
            _ => Err("a feed has the addresses message and message/CHANNEL".to_owned()),
        }
    }

    fn max_payload_bytes(&self) -> usize {
        self.max_payload_bytes
    }

    fn max_message_bytes(&self) -> usize {
        BATCH_BYTES + self.max_payload_bytes
    }
}

// === impl Sequenced ===

impl Sequenced {
    /// Reads `{ at: /POINTER, by: channel, resume: ... }`.
    fn read(node: &Node, has_channel: bool, resolve: &Resolve<'_>, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let at = fields.required("at").and_then(|node| Pointer::read(node, problems));
        let by = [("connection", false), ("channel", true)];
        let by_node = fields.optional("by");
        let by_channel = by_node.map_or(Some(false), |node| node.one_of(&by, problems));
        if let (Some(true), Some(node), false) = (by_channel, by_node, has_channel) {
            problems.report(node.span, "contradiction", "by which channel, \"channel\" of the bridge says");
            return None;
        }
        let resume = match fields.optional("resume") {
            Some(node) if by_channel == Some(true) => {
                problems.report(node.span, "contradiction", "\"resume\" goes with numbers of the whole connection");
                None
            }
            Some(node) => resume(node, resolve, problems).map(Some),
            None => Some(None),
        };
        fields.finish();
        Some(Self { at: at?, by_channel: by_channel?, resume: resume? })
    }
}

fn resume(node: &Node, resolve: &Resolve<'_>, problems: &Problems) -> Option<Step> {
    let step = Step::read(node, resolve, problems)?;
    if step.goes_on() {
        return Some(step);
    }
    problems.report(node.span, "contradiction", format!("from where to go on stands nowhere: {SEQUENCE}"));
    None
}

fn steps(node: &Node, resolve: &Resolve<'_>, problems: &Problems) -> Option<Vec<Step>> {
    let all = node.list(problems)?;
    if all.len() > MAX_SUBSCRIBE {
        problems.report(node.span, "out-of-range", format!("at most {MAX_SUBSCRIBE} messages, this has {}", all.len()));
        return None;
    }
    let read: Vec<_> = all.iter().map(|node| Step::read(node, resolve, problems)).collect();
    read.into_iter().collect()
}

fn url(node: &Node, plain_text: bool, resolve: &Resolve<'_>, problems: &Problems) -> Option<Uri> {
    let text = node.substituted(resolve, problems)?;
    let refuse = |code, message: &str| {
        problems.report(node.span, code, message.to_owned());
        None
    };
    let Ok(url) = text.parse::<Uri>() else { return refuse("bad-url", "it is no URL") };
    let Some(authority) = url.authority().filter(|authority| !authority.host().is_empty()) else {
        return refuse("bad-url", "no host: expected wss://HOST/PATH");
    };
    let has_port = authority.as_str().len() > authority.host().len();
    if authority.as_str().contains('@') || text.contains('#') {
        return refuse("bad-url", "a name, a password and a fragment have no place in the URL of a feed");
    }
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return refuse("bad-url", "the port is none: 1 to 65535");
    }
    match url.scheme_str() {
        Some("wss") => Some(url),
        Some("ws") if plain_text || private::is_here(authority.host().trim_matches(['[', ']'])) => Some(url),
        Some("ws") => refuse("plain-text", "ws can be read on the way: wss, or plain_text: true of the bridge"),
        _ => refuse("bad-url", "a feed is wss://HOST/PATH, or ws:// for plain text"),
    }
}

fn header(node: &Node, resolve: &Resolve<'_>, problems: &Problems) -> Option<Secret> {
    let secret = node.secret(resolve, problems)?;
    if HeaderValue::from_str(secret.expose()).is_ok() {
        return Some(secret);
    }
    problems.report(node.span, "bad-header", "it can't be the value of a header");
    None
}

fn token(node: &Node, problems: &Problems) -> Option<String> {
    let text = node.non_empty(problems)?;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.len() <= 128 && text.bytes().all(valid) {
        return Some(text.to_owned());
    }
    node.mismatch("a token of HTTP such as feed.v2.json", problems)
}
