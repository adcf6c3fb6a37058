//! Who connects and says nothing, or half of something.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use integration::{Gateway, client, eventually};

use crate::{
    Floor, PATIENCE,
    clients::{run, tool},
    pressure::{Raw, packet, text},
};

const CROWD: usize = 10_000;
/// While they come and go, for so many of them one message goes through beside them; between, as many as there is time for.
const EVERY: usize = 10;
/// More than it takes to open all of them on a busy machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);

/// A connection; tried again while the listener is too busy to take it.
fn open(at: SocketAddr) -> TcpStream {
    eventually("a connection", PATIENCE, || TcpStream::connect(at).ok())
}

/// A quarter of the crowd, with a turn for the stream now and then.
fn open_some(at: SocketAddr, turn: &SyncSender<()>) -> Vec<TcpStream> {
    let one = |n: usize| {
        if n.is_multiple_of(EVERY) {
            turn.send(()).expect("the stream goes on while they come");
        }
        open(at)
    };
    (0..CROWD / 4).map(one).collect()
}

/// Whether it was closed, without a word before.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    match stream.read(&mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn publish(floor: &Floor) {
    let mut publish = tool("mosquitto_pub", floor, "mqttv5");
    let (sent, said) = run(publish.args(["-q", "1", "-t", "floor/7/reading", "-m", r#"{"n":1}"#]));
    assert!(sent, "{said}");
}

/// A message of QoS 1 for each turn, acknowledged before the next, and a last one; how many before that.
fn stream(publisher: &mut Raw, turns: &Receiver<()>) -> u32 {
    let mut count = 0_u32;
    while turns.recv().is_ok() {
        let id = (count % 1_000 + 1) as u16;
        let payload = format!("{{\"n\":{count}}}");
        publisher.send(&packet(0x32, &[&text("floor/8/stream"), &id.to_be_bytes(), payload.as_bytes()]));
        let ack = publisher.read();
        assert_eq!((ack.first, ack.body), (0x40, id.to_be_bytes().to_vec()), "PUBACK of {count}");
        count += 1;
    }
    publisher.send(&packet(0x32, &[&text("floor/8/stream"), &[0xFF, 0xFF], br#"{"n":"last"}"#]));
    assert_eq!(publisher.read().first, 0x40, "PUBACK of the last");
    count
}

/// Reads them up to the last, each once and in order; how many.
fn follow(subscriber: &mut Raw) -> u32 {
    let mut count = 0_u32;
    loop {
        let message = subscriber.read();
        assert_eq!(message.first, 0x32, "QoS 1, and not again");
        let (head, payload) = message.body.split_at(2 + "floor/8/stream".len() + 2);
        subscriber.send(&packet(0x40, &[&head[head.len() - 2..]]));
        if payload == br#"{"n":"last"}"# {
            return count;
        }
        assert_eq!(payload, format!("{{\"n\":{count}}}").as_bytes(), "in order, and none left out");
        count += 1;
    }
}

#[test]
fn what_is_closed_before_it_is_let_in_is_counted_by_its_reason() {
    let floor = Floor::with("connect_timeout: 1s");
    let _gateway = Gateway::start(&floor.site);
    // none of these is: one that is let in, and one that leaves by itself
    let mut client = Raw::connect(&floor, 5, 2, "let-in");
    drop(Raw::open(&floor));
    let level_3 = packet(0x10, &[&text("MQIsdp"), &[3, 2, 0, 0], &text("old")]);
    let other_level = packet(0x10, &[&text("MQTT"), &[6, 2, 0, 0], &text("new")]);
    let connect = packet(0x10, &[&text("MQTT"), &[4, 2, 0, 0], &text("half")]);
    for bytes in [&b""[..], &connect[..9], b"GET / HTTP/1.1\r\n\r\n", &[0xC0, 0], &level_3, &other_level] {
        let mut raw = Raw::open(&floor);
        raw.send(bytes);
        let mut rest = Vec::new();
        let ended = raw.0.read_to_end(&mut rest);
        // who is of another version is told so
        assert!(ended.is_err() || rest.len() <= 4, "{bytes:?} {rest:?}");
    }
    let counted = ["timeout", "malformed", "version", "tls"].map(|reason| floor.unconnected(reason));
    assert_eq!(counted, [2, 2, 2, 0]);
    client.send(&[0xC0, 0]);
    assert_eq!(client.read().first, 0xD0, "who is let in is served");
    publish(&floor);
    floor.assert_balanced();
}

#[test]
fn ten_thousand_sockets_that_never_send_connect_are_closed_in_time_and_cost_little() {
    let keys = format!(
        "connect_timeout: {}s, max_connections: 12000, max_connections_per_address: 12000",
        CONNECT_TIMEOUT.as_secs()
    );
    let floor = Floor::with(&keys);
    let gateway = Gateway::start(&floor.site);
    publish(&floor);
    let (mut subscriber, mut publisher) =
        (Raw::connect(&floor, 4, 2, "follows"), Raw::connect(&floor, 4, 2, "streams"));
    subscriber.subscribe("floor/8/#", 1);
    // one turn waits at most: who gives the next waits for it
    let (turn, turns) = sync_channel(0);
    let following = thread::spawn(move || follow(&mut subscriber));
    let streaming = thread::spawn(move || stream(&mut publisher, &turns));
    let (before, began) = (gateway.resident_kb(), Instant::now());
    let opening: Vec<_> =
        (0..4).map(|_| turn.clone()).map(|turn| thread::spawn(move || open_some(floor.mqtt, &turn))).collect();
    let mut silent: Vec<_> = opening.into_iter().flat_map(|some| some.join().expect("all are open")).collect();
    assert!(began.elapsed() < CONNECT_TIMEOUT, "all of them were open at a time: {:?}", began.elapsed());
    // one that comes behind them all is served
    publish(&floor);
    let each = gateway.resident_kb().saturating_sub(before) * 1_024 / CROWD as u64;
    println!("{each} bytes each, opened in {:?}", began.elapsed());
    assert!(each < 16_384, "{each} bytes each");
    assert!(began.elapsed() < CONNECT_TIMEOUT, "they were still open: {:?}", began.elapsed());
    while began.elapsed() < CONNECT_TIMEOUT {
        turn.send(()).expect("the stream goes on");
    }
    for (n, stream) in silent.iter_mut().enumerate() {
        assert!(is_closed(stream), "the connection {n}");
        if n.is_multiple_of(EVERY) {
            turn.send(()).expect("the stream goes on while they are closed");
        }
    }
    assert!(began.elapsed() >= CONNECT_TIMEOUT, "not before their time");
    assert_eq!(floor.unconnected("timeout"), CROWD as u64);
    drop(turn);
    let sent = streaming.join().expect("each is acknowledged");
    assert_eq!(following.join().expect("each is heard"), sent);
    println!("{sent} messages beside them");
    assert!(sent > 2_000);
    publish(&floor);
    floor.assert_balanced();
}

#[test]
fn halves_of_large_packets_are_bounded_together_and_given_up_in_time() {
    const HALVES: usize = 150;
    let floor = Floor::with("max_connections_per_address: 1024, packet_timeout: 8s, max_payload_bytes: 1048576");
    let gateway = Gateway::start(&floor.site);
    publish(&floor);
    let before = gateway.resident_kb();
    let whole = packet(0x32, &[&text("floor/7/reading"), &[0, 1], &vec![b'x'; 1 << 20]]);
    let mut halves: Vec<_> = (0..HALVES)
        .map(|n| {
            let mut raw = Raw::connect(&floor, 5, 2, &format!("half-{n}"));
            raw.0.set_nonblocking(true).expect("not to wait");
            // as much as is taken: what is over the bound is not read
            _ = raw.0.write(&whole[..whole.len() / 2]);
            raw.0.set_nonblocking(false).expect("to wait again");
            raw
        })
        .collect();
    publish(&floor);
    let grown = gateway.resident_kb().saturating_sub(before);
    println!("{grown} kB more for {HALVES} halves of 1 MiB");
    assert!(grown < 131_072, "{grown} kB more");
    for half in &mut halves {
        let end = half.try_read().map(|packet| packet.body[0]);
        assert!(matches!(end, Ok(0x97) | Err(_)), "{end:?}");
    }
    publish(&floor);
    floor.assert_balanced();
}

#[test]
fn a_packet_that_says_it_has_268_mb_is_refused_at_once() {
    let floor = Floor::new();
    let gateway = Gateway::start(&floor.site);
    let before = gateway.resident_kb();
    for version in [4, 5] {
        let mut raw = Raw::connect(&floor, version, 2, "large");
        raw.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        match raw.try_read() {
            Ok(packet) => assert_eq!((version, packet.first, packet.body[0]), (5, 0xE0, 0x95), "packet too large"),
            Err(error) => assert_eq!(version, 4, "{error}"),
        }
    }
    let grown = gateway.resident_kb().saturating_sub(before);
    assert!(grown < 16_384, "{grown} kB more");
}

#[test]
fn with_every_identifier_of_qos_2_in_flight_each_is_received_once_and_memory_is_bounded() {
    let floor = Floor::new();
    let gateway = Gateway::start(&floor.site);
    publish(&floor);
    let before = gateway.resident_kb();
    let mut raw = Raw::connect(&floor, 4, 2, "all");
    // first all of them, then, since none is released, all of them again, as from a client that heard nothing
    for first in [0x34, 0x3C] {
        let mut writes = raw.0.try_clone().expect("the socket again");
        let writing = thread::spawn(move || {
            let one = |id: u16| packet(first, &[&text("floor/7/reading"), &id.to_be_bytes(), br#"{"n":1}"#]);
            let all: Vec<_> = (1..=u16::MAX).flat_map(one).collect();
            writes.write_all(&all).expect("all is taken");
        });
        let mut heard: Vec<u16> = (1..=u16::MAX)
            .map(|_| {
                let ack = raw.read();
                assert_eq!(ack.first, 0x50, "PUBREC");
                u16::from_be_bytes([ack.body[0], ack.body[1]])
            })
            .collect();
        writing.join().expect("all is written");
        assert!(heard.is_sorted() || first == 0x3C, "in order");
        heard.sort_unstable();
        assert!(heard.into_iter().eq(1..=u16::MAX), "each of them");
    }
    let grown = gateway.resident_kb().saturating_sub(before);
    println!("{grown} kB more");
    assert!(grown < 131_072, "{grown} kB more");
    for id in [1, u16::MAX] {
        raw.send(&packet(0x62, &[&id.to_be_bytes()]));
        let ack = raw.read();
        assert_eq!((ack.first, &ack.body[..2]), (0x70, &id.to_be_bytes()[..]), "PUBCOMP");
    }
    let ledger = client::get(&floor.site.admin_url("/ledger")).body;
    assert_eq!(ledger["bridges"]["floor"]["accepted"], u64::from(u16::MAX) + 1, "each was stored once");
    floor.assert_balanced();
}
