//! What the user writes of remote brokers, and its bounds.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use envelope::{Filter, Flow, Qos};
use yaml::{Fields, Node, Problems, Resolve, Secret};

use super::{publisher, server::Server, subscriber::Subscriber};
use crate::{
    Bridge, BridgeConfig, Guarantees, Sending,
    mqtt::{address::check_topic, packet::Version},
    private::Block,
    section::{blocks, count, optional, size, timeout},
};

/// The bridge to remote brokers: which, as whom, and how.
#[derive(Debug, Clone)]
pub struct MqttClientConfig {
    /// Brokers that are asked in turn; at least one.
    pub servers: Vec<Server>,
    /// What is spoken.
    pub protocol: Protocol,
    /// What the clients are called, with `-in` and `-out` behind it; one is made and kept if left out.
    pub client_id: Option<String>,
    /// Who the gateway is to the broker.
    pub username: Option<String>,
    /// What proves it.
    pub password: Option<Secret>,
    /// The authorities that a broker's certificate may be from, as PEM.
    pub authorities: PathBuf,
    /// The own certificate and its key, as PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// `mqtt://` off this host is meant.
    pub plain_text: bool,
    /// Blocks that are not of the internet, and that a broker's name may resolve to.
    pub allow_private: Vec<Block>,
    /// How surely messages come in, and go out where a mapping says nothing.
    pub qos: Qos,
    /// Topics, in the mesh's spelling, that only this gateway publishes to: not taken in.
    pub own: Vec<Filter>,
    /// How long a broker may be silent.
    pub keep_alive: Duration,
    /// How long a broker keeps the session of a gateway that is away; MQTT 3.1.1 has no word for it.
    pub session_expiry: Duration,
    /// How long a connection may take, from the first packet to the broker's welcome.
    pub connect_timeout: Duration,
    /// The longest pause between two attempts.
    pub max_backoff: Duration,
    /// The most messages that the broker may have sent without an answer; MQTT 3.1.1 has no word for it.
    pub receive_maximum: u16,
    /// The most messages that the broker may have been sent without an answer.
    pub max_in_flight: u16,
    /// The largest payload of one message that comes in, inclusive.
    pub max_payload_bytes: usize,
    /// How long a message is offered again: that comes in to the gateway, that goes out to a broker that refuses it.
    pub retry_for: Duration,
}

/// The version that is spoken to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

/// The authorities of Debian and most others.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const PAYLOAD: usize = 1_048_576;
/// What a packet has room for beside the largest payload: a topic, and properties.
const PACKET_HEAD: usize = 131_072;
/// The most calls of one mapping at a time, and messages of a call.
const CALLS: usize = 8;
const BATCH: usize = 256;
const MAX_SERVERS: usize = 16;
const MAX_OWN: usize = 256;
/// A client identifier with its suffix, as many brokers bound it.
const MAX_CLIENT_ID: usize = 200;
const PAYLOAD_BYTES: RangeInclusive<u64> = 1..=67_108_864;
const WINDOW: RangeInclusive<i64> = 1..=65_535;
const IN_FLIGHT: RangeInclusive<i64> = 1..=4_096;
const KEEP_ALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(65_535);
const EXPIRY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);

// === impl MqttClientConfig ===

impl MqttClientConfig {
    /// The defaults for one broker.
    pub fn new(server: Server) -> Self {
        Self {
            servers: vec![server],
            protocol: Protocol::V5,
            client_id: None,
            username: None,
            password: None,
            authorities: AUTHORITIES.into(),
            certificate: None,
            plain_text: false,
            allow_private: Vec::new(),
            qos: Qos::AtLeastOnce,
            own: Vec::new(),
            keep_alive: Duration::from_secs(30),
            session_expiry: Duration::from_secs(7 * 86_400),
            connect_timeout: Duration::from_secs(10),
            max_backoff: Duration::from_secs(30),
            receive_maximum: 128,
            max_in_flight: 256,
            max_payload_bytes: PAYLOAD,
            retry_for: Duration::from_secs(300),
        }
    }

    pub(super) fn version(&self) -> Version {
        match self.protocol {
            Protocol::V311 => Version::V3,
            Protocol::V5 => Version::V5,
        }
    }

    /// The largest packet that is read.
    pub(super) fn max_packet_bytes(&self) -> usize {
        self.max_payload_bytes + PACKET_HEAD
    }

    /// Reads `{ servers: [mqtts://broker.example], ... }`, with paths relative to `folder`.
    pub fn read(node: &Node, folder: &Path, resolve: &Resolve<'_>, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let plain_text = fields.optional("plain_text").map_or(Some(false), |node| node.bool(problems));
        let meant = plain_text.unwrap_or(true);
        let servers = fields.required("servers").and_then(|node| servers(node, meant, resolve, problems));
        let usual = Self::new(servers.as_ref().and_then(|all| all.first().cloned()).unwrap_or_else(Server::nowhere));
        let versions = [("v3.1.1", Protocol::V311), ("v5", Protocol::V5)];
        let protocol = fields.optional("version").map_or(Some(Protocol::V5), |node| node.one_of(&versions, problems));
        let client_id = optional(&mut fields, "client_id", |node| client_id(node, problems));
        let username = optional(&mut fields, "username", |node| node.substituted(resolve, problems));
        let password = optional(&mut fields, "password", |node| node.secret(resolve, problems));
        let tls = optional(&mut fields, "tls", |node| Tls::read(node, folder, problems));
        let allow_private = optional(&mut fields, "allow_private", |node| blocks(node, problems));
        let qos = [
            ("at-most-once", Qos::AtMostOnce),
            ("at-least-once", Qos::AtLeastOnce),
            ("exactly-once", Qos::ExactlyOnce),
        ];
        let qos = fields.optional("qos").map_or(Some(usual.qos), |node| node.one_of(&qos, problems));
        let own = optional(&mut fields, "own", |node| own(node, problems));
        let mut duration =
            |key, usual, range| fields.optional(key).map_or(Some(usual), |node| node.duration(range, problems));
        let keep_alive = duration("keep_alive", usual.keep_alive, KEEP_ALIVE);
        let session_expiry = duration("session_expiry", usual.session_expiry, EXPIRY);
        let connect_timeout = timeout(&mut fields, "connect_timeout", 10, problems);
        let max_backoff = timeout(&mut fields, "max_backoff", 30, problems);
        let receive_maximum = count(&mut fields, "receive_maximum", 128, WINDOW, problems);
        let max_in_flight = count(&mut fields, "max_in_flight", 256, IN_FLIGHT, problems);
        let max_payload_bytes = size(&mut fields, "max_payload_bytes", PAYLOAD, PAYLOAD_BYTES, problems);
        let retry_for = timeout(&mut fields, "retry_for", 300, problems);
        fields.finish();
        let tls = tls?.unwrap_or(Tls { authorities: usual.authorities, certificate: None });
        Some(Self {
            servers: servers?,
            protocol: protocol?,
            client_id: client_id?,
            username: username?,
            password: password?,
            authorities: tls.authorities,
            certificate: tls.certificate,
            plain_text: plain_text?,
            allow_private: allow_private?.unwrap_or_default(),
            qos: qos?,
            own: own?.unwrap_or_default(),
            keep_alive: keep_alive?,
            session_expiry: session_expiry?,
            connect_timeout: connect_timeout?,
            max_backoff: max_backoff?,
            receive_maximum: u16::try_from(receive_maximum?).unwrap_or(u16::MAX),
            max_in_flight: u16::try_from(max_in_flight?).unwrap_or(u16::MAX),
            max_payload_bytes: max_payload_bytes?,
            retry_for: retry_for?,
        })
    }
}

impl BridgeConfig for MqttClientConfig {
    fn build(&self, name: &str) -> Bridge {
        let (sink, link) = publisher::pair(name, self.clone());
        Bridge { source: Some(Box::new(Subscriber::new(self.clone()))), sink: Some(sink), link: Some(Box::new(link)) }
    }

    fn delivery(&self) -> Guarantees {
        Guarantees {
            ordered_within: "the broker's connection, in each direction; what the broker refuses for now comes later",
            ack: "PUBACK and PUBREC in, PUBACK and PUBCOMP out",
            identity: "the packet identifier within the broker's session; at QoS 1 for as long as the gateway runs",
        }
    }

    fn flow(&self) -> Flow {
        Flow::Pull
    }

    fn sending(&self) -> Option<Sending> {
        // a broker that is away is waited for; of one that refuses a message the bridge itself has enough after `retry_for`
        Some(Sending { max_batch: BATCH, max_calls: CALLS, retry_for: None })
    }

    fn hears_itself(&self) -> bool {
        self.protocol == Protocol::V311
    }

    fn is_own(&self, address: &str) -> bool {
        self.own.iter().any(|filter| covers(filter, address))
    }

    fn check_address(&self, written: &str) -> Result<(), String> {
        check_topic(&written.replace("${", "").replace('}', ""))
    }

    fn max_payload_bytes(&self) -> usize {
        self.max_payload_bytes
    }

    fn max_message_bytes(&self) -> usize {
        crate::mqtt::lane::BATCH_BYTES + self.max_packet_bytes()
    }
}

/// Whether the filter selects every topic of this form, `+` where any segment may stand.
fn covers(filter: &Filter, form: &str) -> bool {
    let mut segments = form.split('/');
    for pattern in filter.segments() {
        match (pattern, segments.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (pattern, Some(segment)) if pattern == segment => {}
            (_, _) => return false,
        }
    }
    segments.next().is_none()
}

/// The section `tls`.
struct Tls {
    authorities: PathBuf,
    certificate: Option<(PathBuf, PathBuf)>,
}

// === impl Tls ===

impl Tls {
    fn read(node: &Node, folder: &Path, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let mut path = |key| optional(&mut fields, key, |node| file(node, folder, problems));
        let (authorities, certificate, key) = (path("authorities"), path("certificate"), path("key"));
        fields.finish();
        let certificate = match (certificate?, key?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                problems.report(node.span, "contradiction", "\"certificate\" and \"key\" go together");
                return None;
            }
        };
        Some(Self { authorities: authorities?.unwrap_or_else(|| AUTHORITIES.into()), certificate })
    }
}

/// A file that is there.
fn file(node: &Node, folder: &Path, problems: &Problems) -> Option<PathBuf> {
    let path = folder.join(node.non_empty(problems)?);
    if path.is_file() {
        return Some(path);
    }
    problems.report(node.span, "unreadable", format!("there is no file {:?}", path.display().to_string()));
    None
}

fn servers(node: &Node, plain_text: bool, resolve: &Resolve<'_>, problems: &Problems) -> Option<Vec<Server>> {
    let all = node.list(problems)?;
    if all.is_empty() || all.len() > MAX_SERVERS {
        problems.report(node.span, "out-of-range", format!("1 to {MAX_SERVERS} servers, this has {}", all.len()));
        return None;
    }
    let read: Vec<_> = all
        .iter()
        .map(|item| {
            let text = item.substituted(resolve, problems)?;
            let refuse = |code, problem: String| {
                problems.report(item.span, code, problem);
                None
            };
            match Server::parse(&text) {
                Ok(server) if server.tls() || plain_text || server.is_loopback() => Some(server),
                Ok(_) => {
                    let message = "mqtt can be read on the way: mqtts, or plain_text: true of the bridge";
                    refuse("plain-text", message.to_owned())
                }
                Err(problem) => refuse("bad-url", problem),
            }
        })
        .collect();
    read.into_iter().collect()
}

fn client_id(node: &Node, problems: &Problems) -> Option<String> {
    let text = node.non_empty(problems)?;
    if text.len() <= MAX_CLIENT_ID && !text.chars().any(char::is_control) {
        return Some(text.to_owned());
    }
    let message = format!("a client identifier has at most {MAX_CLIENT_ID} bytes and no control characters");
    problems.report(node.span, "out-of-range", message);
    None
}

fn own(node: &Node, problems: &Problems) -> Option<Vec<Filter>> {
    let all = node.list(problems)?;
    if all.len() > MAX_OWN {
        problems.report(node.span, "out-of-range", format!("at most {MAX_OWN} filters, this has {}", all.len()));
        return None;
    }
    let read: Vec<_> = all
        .iter()
        .map(|item| match Filter::new(item.string(problems)?) {
            Ok(filter) => Some(filter),
            Err(error) => {
                problems.report(item.span, "topic", error.to_string());
                None
            }
        })
        .collect();
    read.into_iter().collect()
}
