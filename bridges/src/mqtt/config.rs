//! What the user writes of an MQTT listener, and its bounds.

use std::{net::SocketAddr, ops::RangeInclusive, path::Path, time::Duration};

use envelope::{Flow, Qos, Topic};
use yaml::{Fields, Node, Problems};

use super::source::MqttSource;
use crate::{
    Bridge, BridgeConfig, Guarantees, Resource,
    http::ServerConfig,
    net::share_of,
    section::{check_plain_text, connections, count, is_exposed, listen, size, timeout},
    tls::TlsConfig,
};

/// The MQTT bridge: a listener for MQTT 3.1.1 and 5.0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttConfig {
    /// Where to listen; port 0 takes a free port.
    pub listen: SocketAddr,
    /// TLS, where the listener speaks it.
    pub tls: Option<TlsConfig>,
    /// The config says that plain text off loopback is meant.
    pub plain_text: bool,
    /// The config says that clients without credentials are meant to reach it from off loopback.
    pub allow_anonymous: bool,
    /// At this number of connections no further one is accepted until one closes.
    pub max_connections: usize,
    /// The most connections of one address, of IPv6 of one /64: a further one is closed at once.
    pub max_connections_per_address: usize,
    /// The largest payload of one message, inclusive.
    pub max_payload_bytes: usize,
    /// How long a client may take for its CONNECT, from when it has connected; for a handshake of TLS as long before.
    pub connect_timeout: Duration,
    /// How long a large packet may take from its first bytes, when room for all of it is reserved, to its last.
    pub packet_timeout: Duration,
    /// How long a client may leave what was sent to it unread.
    pub write_timeout: Duration,
    /// The longest keep alive; who asks for a longer one, or for none, is told to keep to this.
    pub max_keep_alive: Duration,
    /// The most messages of QoS 1 and 2 of one client that have no answer yet.
    pub receive_maximum: u16,
    /// The surest way that clients may publish in.
    pub max_qos: Qos,
    /// How long a message that can't be taken now is offered again before the connection is closed on it.
    pub retry_for: Duration,
    /// How long a message over its sender's rate waits before MQTT 5.0 clients hear of it.
    pub max_delay: Duration,
    /// How often values below `$SYS` that have changed are told.
    pub sys_interval: Duration,
    /// A topic of the mesh: what no mapping takes is stored below it, by the topic that the client wrote, and clients see what is
    /// below it without it.
    pub prefix: Option<Box<str>>,
    /// Where MQTT is spoken over WebSocket as well.
    pub websocket: Option<ServerConfig>,
    /// What is kept of clients.
    pub session: SessionConfig,
}

/// Sessions of an MQTT listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// The longest that a session outlives its connection; in MQTT 3.1.1 every session that is not clean does.
    pub max_expiry: Duration,
    /// The most sessions, connected or not.
    pub max_sessions: usize,
    /// The most sessions of one principal.
    pub max_per_principal: usize,
    /// The most subscriptions of one session.
    pub max_subscriptions: usize,
    /// The most messages of QoS 0 that wait for a slow client; the oldest are dropped.
    pub max_queued: usize,
    /// The most bytes of payloads that wait for a slow client: at QoS 0 the oldest are dropped, at QoS 1 and 2 the rest stays
    /// where it is stored.
    pub max_queued_bytes: usize,
}

/// The default of `max_payload_bytes`.
const PAYLOAD: usize = 1_048_576;
/// What a packet has room for beside the largest payload: a topic, and properties.
const PACKET_HEAD: usize = 65_536;
const PAYLOAD_BYTES: RangeInclusive<u64> = 1..=67_108_864;
/// The default of `max_connections`.
const CONNECTIONS: u32 = 10_000;
const RECEIVE_MAXIMUM: RangeInclusive<i64> = 1..=65_535;
const SESSIONS: RangeInclusive<i64> = 1..=1_000_000;
const SUBSCRIPTIONS: RangeInclusive<i64> = 1..=1_024;
const QUEUED: RangeInclusive<i64> = 1..=65_536;
/// The default of `max_queued_bytes`.
const QUEUED_BYTES: usize = 8 << 20;
const MOST_QUEUED_BYTES: RangeInclusive<u64> = 1..=1_073_741_824;
const KEEP_ALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(65_535);
const EXPIRY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * 86_400);

// === impl MqttConfig ===

impl MqttConfig {
    /// The defaults at an address.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            plain_text: false,
            allow_anonymous: false,
            max_connections: CONNECTIONS as usize,
            max_connections_per_address: share_of(CONNECTIONS as usize),
            max_payload_bytes: PAYLOAD,
            connect_timeout: Duration::from_secs(10),
            packet_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            max_keep_alive: Duration::from_secs(3_600),
            receive_maximum: 128,
            max_qos: Qos::ExactlyOnce,
            retry_for: Duration::from_secs(300),
            max_delay: Duration::from_secs(10),
            sys_interval: Duration::from_secs(10),
            prefix: None,
            websocket: None,
            session: SessionConfig::default(),
        }
    }

    /// The largest packet, fixed header and all: what clients are told.
    pub fn max_packet_bytes(&self) -> usize {
        self.max_payload_bytes + PACKET_HEAD
    }

    /// Reads `{ listen: 127.0.0.1:1883, ... }`, with paths relative to `folder`; adds every problem to `problems`.
    pub fn read(node: &Node, folder: &Path, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let listen = fields.required("listen").and_then(|node| listen(node, problems));
        let tls = match fields.optional("tls") {
            Some(node) => TlsConfig::read(node, folder, problems).map(Some),
            None => Some(None),
        };
        let mut word = |key| fields.optional(key).map_or(Some(false), |node| node.bool(problems));
        let (plain_text, allow_anonymous) = (word("plain_text"), word("allow_anonymous"));
        let connections = connections(&mut fields, CONNECTIONS, problems);
        let max_payload_bytes = size(&mut fields, "max_payload_bytes", PAYLOAD, PAYLOAD_BYTES, problems);
        let connect_timeout = timeout(&mut fields, "connect_timeout", 10, problems);
        let packet_timeout = timeout(&mut fields, "packet_timeout", 60, problems);
        let write_timeout = timeout(&mut fields, "write_timeout", 30, problems);
        let max_keep_alive = duration(&mut fields, "max_keep_alive", 3_600, KEEP_ALIVE, problems);
        let receive_maximum = count(&mut fields, "receive_maximum", 128, RECEIVE_MAXIMUM, problems);
        let max_qos = count(&mut fields, "max_qos", 2, 0..=2, problems);
        let retry_for = timeout(&mut fields, "retry_for", 300, problems);
        let max_delay = timeout(&mut fields, "max_delay", 10, problems);
        let sys_interval = timeout(&mut fields, "sys_interval", 10, problems);
        let prefix = match fields.optional("prefix") {
            Some(node) => prefix(node, problems).map(Some),
            None => Some(None),
        };
        let websocket = match fields.optional("websocket") {
            Some(node) => over_websocket(node, folder, problems).map(Some),
            None => Some(None),
        };
        let session = match fields.optional("session") {
            Some(node) => SessionConfig::read(node, problems),
            None => Some(SessionConfig::default()),
        };
        if let (Some(listen), Some(tls), Some(plain_text)) = (listen, &tls, plain_text)
            && let Err(error) = check_plain_text(listen, tls.is_some() || plain_text)
        {
            let span = fields.optional("listen").map_or(fields.span(), |node| node.span);
            problems.report(span, "plain-text", error.to_string());
        }
        fields.finish();
        let (max_connections, max_connections_per_address) = connections?;
        Some(Self {
            listen: listen?,
            tls: tls?,
            plain_text: plain_text?,
            allow_anonymous: allow_anonymous?,
            max_connections,
            max_connections_per_address,
            max_payload_bytes: max_payload_bytes?,
            connect_timeout: connect_timeout?,
            packet_timeout: packet_timeout?,
            write_timeout: write_timeout?,
            max_keep_alive: max_keep_alive?,
            receive_maximum: u16::try_from(receive_maximum?).unwrap_or(u16::MAX),
            max_qos: match max_qos? {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            },
            retry_for: retry_for?,
            max_delay: max_delay?,
            sys_interval: sys_interval?,
            prefix: prefix?,
            websocket: websocket?,
            session: session?,
        })
    }
}

impl BridgeConfig for MqttConfig {
    fn build(&self, _: &str) -> Bridge {
        Bridge { source: Some(Box::new(MqttSource::new(self.clone()))), sink: None, link: None }
    }

    fn resources(&self) -> Vec<Resource> {
        let over_websocket = self.websocket.as_ref().map(|server| server.listen);
        [self.listen].into_iter().chain(over_websocket).map(Resource::Tcp).collect()
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "mqtts" } else { "mqtt" }
    }

    fn exposed_to_anonymous(&self) -> bool {
        let over_websocket = |server: &ServerConfig| server.is_exposed() && !server.allow_anonymous;
        (is_exposed(self.listen) && !self.allow_anonymous) || self.websocket.as_ref().is_some_and(over_websocket)
    }

    fn delivery(&self) -> Guarantees {
        Guarantees {
            ordered_within: "a client",
            ack: "PUBACK, or PUBREC; MQTT 3.1.1 has no other word for a refusal that is final",
            identity: "the packet identifier within its session; at QoS 0 none: there are no retries",
        }
    }

    fn takes_exactly_once(&self) -> bool {
        self.max_qos == Qos::ExactlyOnce
    }

    fn shows(&self) -> bool {
        true
    }

    fn waits_for(&self) -> Duration {
        self.session.max_expiry
    }

    fn check_address(&self, written: &str) -> Result<(), String> {
        if written.starts_with('$') && !written.starts_with("${") {
            return Err("a topic that begins with '$' is reserved".to_owned());
        }
        super::address::check_topic(&written.replace("${", "").replace('}', ""))
    }

    fn one_to_one(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    fn flow(&self) -> Flow {
        Flow::Pull
    }

    fn max_payload_bytes(&self) -> usize {
        self.max_payload_bytes
    }

    fn max_message_bytes(&self) -> usize {
        self.max_packet_bytes().max(super::lane::BATCH_BYTES + self.max_packet_bytes())
    }
}

// === impl SessionConfig ===

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            max_expiry: Duration::from_secs(7 * 86_400),
            max_sessions: 20_000,
            max_per_principal: 20_000,
            max_subscriptions: 64,
            max_queued: 1_000,
            max_queued_bytes: QUEUED_BYTES,
        }
    }
}

impl SessionConfig {
    fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let max_expiry = duration(&mut fields, "max_expiry", 7 * 86_400, EXPIRY, problems);
        let max_sessions = count(&mut fields, "max_sessions", 20_000, SESSIONS, problems);
        let of_all = max_sessions.unwrap_or(20_000);
        let max_per_principal = count(&mut fields, "max_per_principal", of_all, SESSIONS, problems);
        let max_subscriptions = count(&mut fields, "max_subscriptions", 64, SUBSCRIPTIONS, problems);
        let max_queued = count(&mut fields, "max_queued", 1_000, QUEUED, problems);
        let max_queued_bytes = size(&mut fields, "max_queued_bytes", QUEUED_BYTES, MOST_QUEUED_BYTES, problems);
        fields.finish();
        Some(Self {
            max_expiry: max_expiry?,
            max_sessions: max_sessions? as usize,
            max_per_principal: max_per_principal? as usize,
            max_subscriptions: max_subscriptions? as usize,
            max_queued: max_queued? as usize,
            max_queued_bytes: max_queued_bytes?,
        })
    }
}

/// A topic that is not reserved.
fn prefix(node: &Node, problems: &Problems) -> Option<Box<str>> {
    let text = node.non_empty(problems)?;
    match Topic::new(text) {
        Ok(topic) if topic.is_reserved() => {
            problems.report(node.span, "topic", "a topic that begins with '$' is reserved");
            None
        }
        Ok(_) => Some(text.into()),
        Err(error) => {
            problems.report(node.span, "topic", error.to_string());
            None
        }
    }
}

/// The keys of an HTTP listener, and no others.
fn over_websocket(node: &Node, folder: &Path, problems: &Problems) -> Option<ServerConfig> {
    let mut fields = Fields::of(node, problems)?;
    let server = ServerConfig::read(&mut fields, folder, problems);
    fields.finish();
    server
}

fn duration(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    seconds: u64,
    range: RangeInclusive<Duration>,
    problems: &Problems,
) -> Option<Duration> {
    let Some(node) = fields.optional(key) else { return Some(Duration::from_secs(seconds)) };
    node.duration(range, problems)
}

#[cfg(test)]
mod tests {
    use yaml::File;

    use super::*;

    fn read(text: &str) -> Result<MqttConfig, String> {
        let file = File::parse("gateway.yaml", text).unwrap();
        file.read(|node, problems| MqttConfig::read(node, Path::new(""), problems)).map_err(|all| all.to_string())
    }

    #[test]
    fn an_address_is_enough() {
        let listen = "127.0.0.1:1883".parse().unwrap();
        assert_eq!(read("{ listen: 127.0.0.1:1883 }"), Ok(MqttConfig::new(listen)));
    }

    #[test]
    fn every_key_is_read() {
        let text = "{ listen: 127.0.0.1:0, plain_text: true, allow_anonymous: true, max_connections: 4, \
                    max_connections_per_address: 2, \
                    max_payload_bytes: 3, connect_timeout: 4s, packet_timeout: 15s, write_timeout: 5s, max_keep_alive: 6s, \
                    receive_maximum: 7, max_qos: 1, sys_interval: 16s, prefix: floor/7, retry_for: 8s, max_delay: 9s, \
                    websocket: { listen: 127.0.0.1:8083, max_connections: 14 }, \
                    session: { max_expiry: 10s, max_sessions: 11, max_per_principal: 9, max_subscriptions: 12, max_queued: 13, \
                    max_queued_bytes: 14KiB } }";
        let config = read(text).unwrap();
        let session = SessionConfig {
            max_expiry: Duration::from_secs(10),
            max_sessions: 11,
            max_per_principal: 9,
            max_subscriptions: 12,
            max_queued: 13,
            max_queued_bytes: 14_336,
        };
        assert_eq!(config.session, session);
        assert_eq!((config.max_connections, config.max_connections_per_address), (4, 2));
        assert_eq!((config.max_payload_bytes, config.receive_maximum), (3, 7));
        let times = [config.connect_timeout, config.write_timeout, config.max_keep_alive];
        assert_eq!(times.map(|time| time.as_secs()), [4, 5, 6]);
        assert_eq!([config.packet_timeout, config.sys_interval].map(|time| time.as_secs()), [15, 16]);
        assert_eq!([config.retry_for, config.max_delay].map(|time| time.as_secs()), [8, 9]);
        assert_eq!((config.max_qos, config.one_to_one()), (Qos::AtLeastOnce, Some("floor/7")));
        assert!(!config.takes_exactly_once() && MqttConfig::new(config.listen).takes_exactly_once());
        assert!(config.plain_text && config.allow_anonymous && !config.exposed_to_anonymous());
        let websocket = config.websocket.as_ref().unwrap();
        assert_eq!((websocket.listen.port(), websocket.max_connections_per_address), (8083, 14));
        assert_eq!(config.resources().len(), 2);
        let open = read("{ listen: 127.0.0.1:1883, websocket: { listen: 0.0.0.0:8083, plain_text: true } }").unwrap();
        assert!(open.exposed_to_anonymous());
    }

    #[test]
    fn every_problem_is_reported_with_its_place() {
        let problems = read(
            "{ listen: 0.0.0.0:1883, receive_maximum: 0, prefix: $SYS, websocket: { port: 1 }, \
                             session: { max_expiry: 2y, quota: 1 } }",
        );
        let problems = problems.unwrap_err();
        for part in [
            "plain text",
            "65535",
            "reserved",
            "max_expiry",
            "unknown key \"quota\"",
            "unknown key \"port\"",
            "gateway.yaml:1:",
        ] {
            assert!(problems.contains(part), "{part} in {problems}");
        }
    }
}
