//! What holds under pressure: a store without room delays acknowledgements, and who does not read takes no memory.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    process::Stdio,
    thread,
    time::Duration,
};

use integration::{Gateway, client, disk, eventually};

use crate::{
    Floor, PATIENCE,
    clients::{run, tool},
};

/// A client that is bytes on a socket.
pub(crate) struct Raw(pub(crate) TcpStream);

/// A packet that was read.
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

/// A packet.
pub(crate) fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let (mut packet, mut length) = (vec![first], body.len());
    while length >= 128 {
        packet.push(u8::try_from(length % 128).expect("below 128") | 0x80);
        length /= 128;
    }
    packet.push(u8::try_from(length).expect("below 128"));
    [packet, body].concat()
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).expect("a short text").to_be_bytes()[..], text.as_bytes()].concat()
}

// === impl Raw ===

impl Raw {
    /// A connection that has said nothing.
    pub(crate) fn open(floor: &Floor) -> Self {
        let raw = Self(TcpStream::connect(floor.mqtt).expect("the listener"));
        raw.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        raw
    }

    /// Connects with this version and these flags. Of MQTT 5.0 the session goes with the connection.
    pub(crate) fn connect(floor: &Floor, version: u8, flags: u8, name: &str) -> Self {
        let mut raw = Self::open(floor);
        let properties: &[u8] = if version == 5 { &[0] } else { &[] };
        raw.send(&packet(0x10, &[&text("MQTT"), &[version, flags, 0, 0], properties, &text(name)]));
        let connack = raw.read();
        assert_eq!((connack.first, connack.body[1]), (0x20, 0), "CONNACK");
        raw
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("to write");
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        self.send(&packet(0x82, &[&[0, 1], &text(filter), &[qos]]));
        let ack = self.read();
        assert_eq!((ack.first, ack.body.last()), (0x90, Some(&qos)), "SUBACK");
    }

    pub(crate) fn read(&mut self) -> Packet {
        self.try_read().expect("a packet in time")
    }

    pub(crate) fn try_read(&mut self) -> std::io::Result<Packet> {
        let (mut byte, mut length, mut shift) = ([0], 0_usize, 0);
        self.0.read_exact(&mut byte)?;
        let first = byte[0];
        loop {
            self.0.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7F) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Packet { first, body })
    }
}

/// A PUBLISH at QoS 1 of 64 KiB.
fn large(id: u16) -> Vec<u8> {
    packet(0x32, &[&text("a/1"), &id.to_be_bytes(), &vec![b'x'; 65_536]])
}

/// With a store that keeps so much of its disk free.
fn small(floor: &Floor, keys: &str) {
    let path = floor.site.config().join("gateway.yaml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let data = format!("path: {}", floor.site.data().display());
    assert!(text.contains(&data), "{text}");
    floor.site.write("gateway.yaml", &text.replace(&data, &format!("{data}, {keys}")));
}

fn ledger(floor: &Floor) -> serde_json::Value {
    client::get(&floor.site.admin_url("/ledger")).body
}

/// Fills the disk, and waits until the gateway has noticed.
fn fill(floor: &Floor, disk: &Path) -> std::path::PathBuf {
    let filler = disk::fill(disk);
    eventually("the gateway says that it takes nothing", PATIENCE, || {
        (client::get(&floor.site.admin_url("/readyz")).status == 503).then_some(())
    });
    filler
}

#[test]
fn while_the_store_is_full_acknowledgements_wait_and_memory_does_not_grow_and_then_all_are_given() {
    let floor = Floor::with("prefix: devices");
    small(&floor, "min_free: { percent: 0, at_least: 20MB }");
    let (gateway, disk) = disk::start(&floor.site, "240m");
    let mut raw = Raw::connect(&floor, 4, 2, "press");
    let ids = 1..=400_u16;
    for id in 1..=50 {
        raw.send(&large(id));
        assert_eq!(raw.read().body, id.to_be_bytes());
    }
    let filler = fill(&floor, &disk);
    let before = gateway.resident_kb();
    let mut writes = raw.0.try_clone().expect("the socket again");
    let writing = thread::spawn(move || {
        for id in 51..=400 {
            writes.write_all(&large(id)).expect("to write, once there is room");
        }
    });
    raw.0.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    let silence = raw.try_read().map(|packet| packet.first).expect_err("no PUBACK while nothing is stored");
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    assert!(!writing.is_finished(), "the gateway stops reading: 22 MB wait in no buffer");
    let grown = gateway.resident_kb().saturating_sub(before);
    assert!(grown < 16_384, "{grown} kB more");
    assert_eq!(ledger(&floor)["bridges"]["floor"]["accepted"], 50);
    std::fs::remove_file(filler).expect("to make room");
    raw.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for id in ids.skip(50) {
        let ack = raw.read();
        assert_eq!((ack.first, ack.body), (0x40, id.to_be_bytes().to_vec()), "in order, and none left out");
    }
    writing.join().expect("all is written");
    floor.assert_balanced();
    let bridge = &ledger(&floor)["bridges"]["floor"];
    assert_eq!((bridge["accepted"].as_u64(), bridge["duplicate"].as_u64()), (Some(400), Some(0)), "{bridge}");
}

#[test]
fn what_the_store_does_not_take_for_retry_for_is_given_back_unacknowledged() {
    let floor = Floor::with("prefix: devices, retry_for: 2s");
    small(&floor, "min_free: { percent: 0, at_least: 20MB }");
    let (_gateway, disk) = disk::start(&floor.site, "240m");
    let (mut three, mut five) = (Raw::connect(&floor, 4, 2, "three"), Raw::connect(&floor, 5, 2, "five"));
    let filler = fill(&floor, &disk);
    let publish = |properties: &[u8]| packet(0x32, &[&text("a/1"), &[0, 7], properties, b"kept by its client"]);
    three.send(&publish(&[]));
    five.send(&publish(&[0]));
    let disconnect = five.read();
    assert_eq!((disconnect.first, disconnect.body[0]), (0xE0, 0x89), "server busy");
    assert!(three.try_read().is_err(), "closed, and not acknowledged");
    eventually("it is on record", PATIENCE, || {
        let bridge = &ledger(&floor)["bridges"]["floor"];
        (bridge["returned"]["unavailable"] == 2 && bridge["in_flight"] == 0).then_some(())
    });
    std::fs::remove_file(filler).expect("to make room");
    eventually("what is sent again is stored", PATIENCE, || {
        let mut publish = tool("mosquitto_pub", &floor, "mqttv5");
        run(publish.args(["-q", "1", "-t", "a/1", "-m", "kept by its client"])).0.then_some(())
    });
    floor.assert_balanced();
}

#[test]
fn who_does_not_read_takes_no_memory_and_at_qos_1_gets_everything_later() {
    const MESSAGES: usize = 1_600;
    const BYTES: usize = 48_000;
    let floor = Floor::with("prefix: devices, write_timeout: 10m, session: { max_queued_bytes: 2MiB }");
    let gateway = Gateway::start(&floor.site);
    let publish = |messages: usize| {
        let lines: String = (0..messages).map(|n| format!("{n:05}{}\n", "x".repeat(BYTES))).collect();
        floor.site.write("lines", &lines);
        let input = std::fs::File::open(floor.site.config().join("lines")).expect("the file");
        let mut publish = tool("mosquitto_pub", &floor, "mqttv311");
        let (sent, said) = run(publish.args(["-q", "1", "-t", "a/1", "-l"]).stdin(Stdio::from(input)));
        assert!(sent, "{said}");
    };
    // what the store and the publisher need is there
    publish(400);
    let before = gateway.resident_kb();
    let mut at_once = Raw::connect(&floor, 4, 2, "once");
    let mut acked = Raw::connect(&floor, 4, 0, "acked");
    at_once.subscribe("a/#", 0);
    acked.subscribe("a/#", 1);
    publish(MESSAGES);
    let grown = gateway.resident_kb().saturating_sub(before);
    println!("{grown} kB more, of {} kB that wait for each of the two", MESSAGES * BYTES / 1_024);
    assert!(grown < 32_768, "{grown} kB more");
    let number = |body: &[u8], at: usize| std::str::from_utf8(&body[at..at + 5]).expect("digits").parse().expect("one");
    for n in 0..MESSAGES {
        let message = acked.read();
        assert_eq!((message.first, number(&message.body, 7)), (0x32, n), "in order, and none left out");
        acked.send(&packet(0x40, &[&message.body[5..7]]));
    }
    let mut seen: Vec<usize> = Vec::new();
    while seen.last() != Some(&(MESSAGES - 1)) {
        let message = at_once.read();
        seen.push(number(&message.body, 5));
    }
    assert!(seen.is_sorted() && seen.len() < MESSAGES, "the oldest of what waited were dropped");
    let metrics = client::get(&floor.site.admin_url("/metrics")).text;
    let dropped = metrics.lines().find(|line| line.starts_with("openmesh_bridge_dropped_total{bridge=\"floor\"}"));
    let dropped: Option<usize> = dropped.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    assert_eq!(dropped, Some(MESSAGES - seen.len()), "and counted");
    floor.assert_balanced();
    eventually("all that was acknowledged is settled", PATIENCE, || {
        let ledger = ledger(&floor);
        let subscriptions = ledger["subscriptions"].as_object()?;
        subscriptions.values().all(|one| one["pending"] == 0 && one["delivered"] == MESSAGES).then_some(())
    });
}
