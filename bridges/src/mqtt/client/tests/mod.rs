//! The bridge against a broker of the test's own, which does what no good broker does.

mod sending;

use std::{net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};

use bytes::BytesMut;
use envelope::{Principal, Qos, RejectKind, Rejection};
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{MqttClientConfig, Protocol, Server};
use crate::{
    conformance::{Heard, Peer, Rig, run},
    mqtt::packet::{
        Acked, ConnAck, Decoder, Next, Outgoing, Packet, Reason, Version, ack, connack, publish, suback, unsuback,
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A broker with one client at a time.
struct Broker {
    listener: TcpListener,
    version: Version,
}

/// Its connection.
struct Client {
    stream: TcpStream,
    decoder: Decoder,
    buffer: BytesMut,
    version: Version,
    clean: bool,
}

// === impl Broker ===

impl Broker {
    async fn bind(version: Version) -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), version }
    }

    /// The same one, at the same port.
    fn again(&self) -> Self {
        let again = self.listener.as_fd().try_clone_to_owned().unwrap();
        let listener = TcpListener::from_std(std::net::TcpListener::from(again)).unwrap();
        Self { listener, version: self.version }
    }

    fn config(&self) -> MqttClientConfig {
        let server = Server::parse(&format!("mqtt://{}", self.listener.local_addr().unwrap())).unwrap();
        let protocol = if self.version == Version::V5 { Protocol::V5 } else { Protocol::V311 };
        let mut config = MqttClientConfig { protocol, ..MqttClientConfig::new(server) };
        config.max_backoff = Duration::from_millis(200);
        config
    }

    /// The next client, before it is answered.
    async fn called(&self) -> Client {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("a client").unwrap();
        let (decoder, buffer) = (Decoder::new(1 << 20), BytesMut::new());
        let mut client = Client { stream, decoder, buffer, version: self.version, clean: false };
        let Some(Packet::Connect(connect)) = client.next().await else { panic!("a CONNECT") };
        assert_eq!(connect.version, self.version);
        client.clean = connect.clean_start;
        client
    }

    /// The next client, welcome.
    async fn welcomed(&self, session_present: bool) -> Client {
        let mut client = self.called().await;
        let says = ConnAck { session_present, receive_maximum: 20, maximum_packet: 400_000, ..ConnAck::default() };
        let version = self.version;
        client.send(|out| connack(out, version, Reason::SUCCESS, &says)).await;
        client
    }

    /// The next one that subscribes, with its filters, which are granted.
    async fn subscribed(&self, session_present: bool) -> (Client, Vec<String>) {
        let mut client = self.welcomed(session_present).await;
        let Some(Packet::Subscribe(wanted)) = client.next().await else { panic!("a SUBSCRIBE") };
        let version = self.version;
        client.send(|out| suback(out, version, wanted.id, &vec![Reason(1); wanted.filters.len()], None)).await;
        (client, wanted.filters.iter().map(|one| one.filter.to_string()).collect())
    }
}

// === impl Client ===

impl Client {
    /// The next packet but pings; `None` at the end.
    async fn next(&mut self) -> Option<Packet> {
        loop {
            match self.decoder.next(&mut self.buffer).unwrap() {
                Next::Packet(Packet::PingReq) => {}
                Next::Packet(packet) => return Some(packet),
                Next::Incomplete(_) => {
                    let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("something");
                    if read.unwrap_or(0) == 0 {
                        return None;
                    }
                }
            }
        }
    }

    async fn send(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        write(&mut out);
        // a client that is gone is noticed when it is read
        _ = self.stream.write_all(&out).await;
    }

    async fn publish(&mut self, qos: Qos, id: u16, dup: bool, topic: &str, payload: &[u8]) {
        let message = Outgoing {
            dup,
            qos,
            retain: false,
            topic,
            id,
            alias: None,
            subscription_id: None,
            is_text: false,
            message_expiry: None,
            content_type: None,
            response_topic: None,
            correlation: None,
            user: &[],
            payload,
        };
        let version = self.version;
        self.send(|out| assert!(publish(out, version, &message, None))).await;
    }

    async fn ack(&mut self, acked: Acked, id: u16, reason: Reason) {
        let version = self.version;
        self.send(|out| ack(out, version, acked, id, reason, None)).await;
    }

    /// The next packet is an answer to a message: which, and with what reason.
    async fn answered(&mut self) -> Option<(u16, u8)> {
        match self.next().await? {
            Packet::PubAck(ack) | Packet::PubRec(ack) => Some((ack.id, ack.reason.0)),
            Packet::Disconnect(_) => None,
            other => panic!("{other:?}"),
        }
    }
}

struct Publisher {
    broker: Broker,
    qos: Qos,
}

impl Peer for Publisher {
    fn publish(&self, _: SocketAddr, text: &'static str) -> BoxFuture<'static, Heard> {
        let (broker, qos) = (self.broker.again(), self.qos);
        Box::pin(async move {
            let (mut client, _) = broker.subscribed(false).await;
            client.publish(qos, 1, false, "telemetry/7", text.as_bytes()).await;
            match client.answered().await {
                Some((1, reason)) if reason < 0x80 => Heard::Taken,
                Some(_) => Heard::Refused,
                None => Heard::GivenBack,
            }
        })
    }
}

#[tokio::test]
async fn it_passes_the_suite_at_qos_1_and_2() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let broker = Broker::bind(Version::V5).await;
        let mut config = broker.config();
        config.retry_for = Duration::from_millis(100);
        run(&config, &Publisher { broker, qos }).await;
    }
}

#[tokio::test]
async fn what_was_not_answered_comes_again_as_the_same_message_over_the_next_connection() {
    for version in [Version::V3, Version::V5] {
        let broker = Broker::bind(version).await;
        let rig = Rig::start(&broker.config()).await;
        let (mut client, filters) = broker.subscribed(false).await;
        assert_eq!(filters, ["telemetry/+"]);
        rig.hold();
        client.publish(Qos::AtLeastOnce, 1, false, "telemetry/1", b"{}").await;
        client.publish(Qos::ExactlyOnce, 2, false, "telemetry/2", b"{}").await;
        rig.until(|counts| counts.received == 2).await;
        drop(client);
        let noticed = async {
            while rig.standings.all()[0].2.state.word() == "connected" {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, noticed).await.expect("it notices");
        rig.release();
        // of a session that goes on, nothing is subscribed to again
        let mut client = broker.welcomed(true).await;
        assert!(!client.clean);
        client.publish(Qos::AtLeastOnce, 1, true, "telemetry/1", b"{}").await;
        client.publish(Qos::ExactlyOnce, 2, true, "telemetry/2", b"{}").await;
        assert_eq!((client.answered().await, client.answered().await), (Some((1, 0)), Some((2, 0))));
        client.ack(Acked::Release, 2, Reason::SUCCESS).await;
        assert!(matches!(client.next().await, Some(Packet::PubComp(ack)) if ack.id == 2));
        // the identifiers are free: these are other messages
        client.publish(Qos::ExactlyOnce, 2, false, "telemetry/2", b"{}").await;
        assert_eq!(client.answered().await, Some((2, 0)));
        rig.stop().await;
        let mut seen: Vec<_> = rig.seen().concat().into_iter().map(|one| (one.address, one.identity)).collect();
        let last = seen.pop().unwrap();
        let of = |address: &str| {
            let all: Vec<_> = seen.iter().filter(|(own, _)| **own == *address).map(|(_, identity)| identity).collect();
            assert!(all.len() >= 2 && all.windows(2).all(|two| two[0] == two[1]), "{version:?} {all:?}");
            all[0].clone()
        };
        of("telemetry/1");
        assert_ne!(of("telemetry/2"), last.1);
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_the_next_one_taken() {
    let broker = Broker::bind(Version::V5).await;
    let mut config = broker.config();
    config.max_payload_bytes = 1_000;
    let rig = Rig::start(&config).await;
    let (mut client, _) = broker.subscribed(false).await;
    client.publish(Qos::AtLeastOnce, 1, false, "telemetry/1", &vec![b'x'; 300_000]).await;
    client.publish(Qos::AtLeastOnce, 2, false, "telemetry/1", b"{}").await;
    assert_eq!((client.answered().await, client.answered().await), (Some((1, 0x83)), Some((2, 0))));
    rig.stop().await;
    let counts = rig.counts();
    assert_eq!((counts.received, counts.offered, &counts.refused[..]), (2, 1, &[RejectKind::TooLarge][..]));
}

#[tokio::test]
async fn what_is_read_together_with_the_welcome_is_taken_at_once() {
    let broker = Broker::bind(Version::V5).await;
    let rig = Rig::start(&broker.config()).await;
    let (client, _) = broker.subscribed(false).await;
    drop(client);
    let mut client = broker.called().await;
    let says = ConnAck { session_present: true, receive_maximum: 20, maximum_packet: 400_000, ..ConnAck::default() };
    client
        .send(|out| {
            connack(out, Version::V5, Reason::SUCCESS, &says);
            // PUBLISH of QoS 1 that is sent again, to telemetry/1, identifier 9, no properties
            out.extend_from_slice(b"\x3a\x12\x00\x0btelemetry/1\x00\x09\x00{}");
        })
        .await;
    assert_eq!(client.answered().await, Some((9, 0)));
    rig.stop().await;
}

#[tokio::test]
async fn at_qos_2_the_identifier_of_a_refused_message_is_another_message_next_time_even_after_a_crash() {
    let broker = Broker::bind(Version::V5).await;
    let rig = Rig::start(&broker.config()).await;
    let (mut client, _) = broker.subscribed(false).await;
    rig.answer(|_| Err(Rejection::new(RejectKind::Denied, "test", "no")));
    client.publish(Qos::ExactlyOnce, 7, false, "telemetry/1", b"{}").await;
    assert_eq!(client.answered().await, Some((7, 0x87)));
    let again = rig.restart(&broker.config()).await;
    drop(client);
    rig.drain();
    let mut client = broker.welcomed(true).await;
    client.publish(Qos::ExactlyOnce, 7, false, "telemetry/1", b"{}").await;
    assert_eq!(client.answered().await, Some((7, 0)));
    again.stop().await;
    assert_ne!(rig.seen()[0][0].identity, again.seen()[0][0].identity);
}

#[tokio::test]
async fn a_broker_that_talks_nonsense_is_left_and_asked_again() {
    let broker = Broker::bind(Version::V5).await;
    let rig = Rig::start(&broker.config()).await;
    let nonsense: [&[u8]; 5] = [
        &[0x21, 0x02, 0x00, 0xCA, 0x01],
        &[0x20, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x30, 3, 0, 1, b'a'],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x20, 3, 0, 0x86, 0],
    ];
    for bytes in nonsense {
        let mut client = broker.called().await;
        client.send(|out| out.extend_from_slice(bytes)).await;
        assert!(client.next().await.is_none(), "{bytes:x?}");
    }
    let standing = &rig.standings.all()[0].2;
    assert_eq!((standing.state.word(), standing.peer.starts_with("mqtt://127.0.0.1")), ("refused", true));
    let (mut client, _) = broker.subscribed(false).await;
    client.publish(Qos::AtLeastOnce, 0, false, "telemetry/1", b"{}").await;
    assert!(client.next().await.is_none(), "a packet identifier of 0");
    let mut client = broker.welcomed(true).await;
    client.publish(Qos::AtLeastOnce, 1, false, "telemetry/1", b"{}").await;
    assert_eq!(client.answered().await, Some((1, 0)));
    rig.stop().await;
}

#[tokio::test]
async fn a_broker_that_says_nothing_any_more_is_left() {
    let broker = Broker::bind(Version::V3).await;
    let mut config = broker.config();
    config.keep_alive = Duration::from_secs(1);
    let rig = Rig::start(&config).await;
    let (silent, _) = broker.subscribed(false).await;
    // it is connected to again while the first connection is still open
    let (mut client, _) = broker.subscribed(false).await;
    client.publish(Qos::AtLeastOnce, 1, false, "telemetry/1", b"{}").await;
    assert_eq!(client.answered().await, Some((1, 0)));
    drop(silent);
    rig.stop().await;
}

#[tokio::test]
async fn any_number_of_answers_to_pings_is_nothing() {
    let broker = Broker::bind(Version::V5).await;
    let rig = Rig::start(&broker.config()).await;
    let (mut client, _) = broker.subscribed(false).await;
    client.send(|out| out.extend_from_slice(&[0xD0, 0].repeat(100_000))).await;
    client.publish(Qos::AtLeastOnce, 1, false, "telemetry/1", b"{}").await;
    assert_eq!(client.answered().await, Some((1, 0)));
    rig.stop().await;
}

#[tokio::test]
async fn large_messages_that_are_not_offered_hold_no_room_for_others() {
    let broker = Broker::bind(Version::V5).await;
    let mut config = broker.config();
    // more than half of what there is room for
    config.max_payload_bytes = 2_500_000;
    config.own = vec![envelope::Filter::new("telemetry/own").unwrap()];
    let rig = Rig::start(&config).await;
    let (mut client, _) = broker.subscribed(false).await;
    let large = vec![b'x'; config.max_payload_bytes];
    for (id, topic) in [(1, "telemetry/own"), (2, "telemetry/own"), (3, "telemetry/7")] {
        client.publish(Qos::AtLeastOnce, id, false, topic, &large).await;
        assert_eq!(client.answered().await, Some((id, 0)));
    }
    rig.stop().await;
    assert_eq!(rig.counts().offered, 1);
}

#[tokio::test]
async fn mqtt_4_6_0_2_the_gateways_own_message_is_acknowledged_in_its_turn() {
    let broker = Broker::bind(Version::V5).await;
    let mut config = broker.config();
    config.own = vec![envelope::Filter::new("telemetry/own").unwrap()];
    let rig = Rig::start(&config).await;
    let (mut client, _) = broker.subscribed(false).await;
    let full = rig.fill().unwrap();
    for (id, topic) in [(1, "telemetry/1"), (2, "telemetry/own"), (3, "telemetry/2"), (4, "telemetry/own")] {
        client.publish(Qos::AtLeastOnce, id, false, topic, b"{}").await;
    }
    rig.until(|counts| counts.received == 2).await;
    drop(full);
    for id in 1..=4 {
        assert_eq!(client.answered().await, Some((id, 0)));
    }
    rig.stop().await;
    assert_eq!(rig.counts().offered, 2);
}

#[tokio::test]
async fn a_mapping_that_is_back_before_the_broker_has_answered_is_subscribed_to() {
    let broker = Broker::bind(Version::V5).await;
    let rig = Rig::start(&broker.config()).await;
    let (mut client, _) = broker.subscribed(false).await;
    rig.addresses_taken.send_replace(["other/+".to_owned()].into());
    let (mut over, mut new) = (None, None);
    while over.is_none() || new.is_none() {
        match client.next().await {
            Some(Packet::Unsubscribe(packet)) => over = Some(packet.id),
            Some(Packet::Subscribe(packet)) => new = Some(packet.id),
            other => panic!("{other:?}"),
        }
    }
    rig.addresses_taken.send_replace(["other/+".to_owned(), "telemetry/+".to_owned()].into());
    client.send(|out| suback(out, Version::V5, new.unwrap(), &[Reason(1)], None)).await;
    client.send(|out| unsuback(out, Version::V5, over.unwrap(), &[Reason::SUCCESS])).await;
    let Some(Packet::Subscribe(wanted)) = client.next().await else { panic!("a SUBSCRIBE") };
    assert_eq!(wanted.filters.iter().map(|one| &*one.filter).collect::<Vec<_>>(), ["telemetry/+"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_broker_hears_pings_while_there_is_no_room_for_what_it_sends() {
    let broker = Broker::bind(Version::V5).await;
    let mut config = broker.config();
    config.keep_alive = Duration::from_secs(1);
    let rig = Rig::start(&config).await;
    let (mut client, _) = broker.subscribed(false).await;
    let full = rig.fill().unwrap();
    client.publish(Qos::AtLeastOnce, 1, false, "telemetry/1", &vec![b'x'; 100_000]).await;
    let mut pings = 0;
    while pings < 3 {
        match client.decoder.next(&mut client.buffer).unwrap() {
            Next::Packet(Packet::PingReq) => pings += 1,
            Next::Packet(other) => panic!("{other:?}"),
            Next::Incomplete(_) => {
                let read = timeout(PATIENCE, client.stream.read_buf(&mut client.buffer)).await.expect("a ping");
                assert!(read.unwrap() > 0, "it is still connected");
            }
        }
    }
    drop(full);
    assert_eq!(client.answered().await, Some((1, 0)));
    rig.stop().await;
}
