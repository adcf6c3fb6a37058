//! Who connects and says nothing, or half of something.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
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
/// More than it takes to open all of them on a busy machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);

/// A connection; tried again while the listener is too busy to take it.
fn open(at: SocketAddr) -> TcpStream {
    eventually("a connection", PATIENCE, || TcpStream::connect(at).ok())
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

#[test]
fn ten_thousand_sockets_that_never_send_connect_are_closed_in_time_and_cost_little() {
    let keys = format!(
        "connect_timeout: {}s, max_connections: 12000, max_connections_per_address: 12000",
        CONNECT_TIMEOUT.as_secs()
    );
    let floor = Floor::with(&keys);
    let gateway = Gateway::start(&floor.site);
    publish(&floor);
    let (before, began) = (gateway.resident_kb(), Instant::now());
    let opening: Vec<_> =
        (0..4).map(|_| thread::spawn(move || (0..CROWD / 4).map(|_| open(floor.mqtt)).collect::<Vec<_>>())).collect();
    let mut silent: Vec<_> = opening.into_iter().flat_map(|some| some.join().expect("all are open")).collect();
    assert!(began.elapsed() < CONNECT_TIMEOUT, "all of them were open at a time: {:?}", began.elapsed());
    // one that comes behind them all is served
    publish(&floor);
    let each = gateway.resident_kb().saturating_sub(before) * 1_024 / CROWD as u64;
    println!("{each} bytes each, opened in {:?}", began.elapsed());
    assert!(each < 16_384, "{each} bytes each");
    assert!(began.elapsed() < CONNECT_TIMEOUT, "they were still open: {:?}", began.elapsed());
    let closed = silent.iter_mut().filter_map(|stream| is_closed(stream).then_some(())).count();
    assert_eq!(closed, CROWD);
    assert!(began.elapsed() >= CONNECT_TIMEOUT, "not before their time");
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
