//! A thousand clients that do nothing beside one that is busy, and a few that hear and do not read: the busy one goes on, memory
//! is bounded, and who does not read is cut, counted and named in the log.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use integration::{Gateway, Site, Subscriber, client, eventually, site::free_port};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);
/// Of each of the four kinds.
const IDLE: usize = 250;
/// Of each of the three kinds that hear something.
const DEAF: usize = 4;
const MESSAGES: usize = 1_500;
/// In bytes: a deaf client's kernel does not hold all of them.
const FILLING: usize = 20_000;
/// What an idle client may cost, in kB; 22 was measured in a debug build.
const IDLE_KB: u64 = 45;
/// What the gateway may have grown by when everything is over, in kB, though 30 MB were published to twelve deaf ones; 38,500 at
/// most was measured.
const GROWN_KB: u64 = 70_000;

/// The clients and what they said hello with; a connection ends when it is dropped.
struct Crowd {
    streams: Vec<TcpStream>,
    subscribers: Vec<Subscriber>,
}

/// What is sent to a deaf client fills the kernel's buffers long before `write_timeout` is over, also on a busy machine.
fn site() -> (Site, SocketAddr) {
    let (site, mqtt) = (Site::shipped(), free_port());
    site.configure("", "limits: { max_subscriptions_per_principal: 4096 }\n");
    let text = fs::read_to_string(site.config().join("gateway.yaml")).expect("the config");
    let listen = format!("listen: '{}', ", site.http);
    let many = "max_connections: 4096, max_connections_per_address: 4096, write_timeout: 8s";
    let http = format!("{listen}{many}, header_timeout: 10m, websocket: {{ ping_interval: 10m }}");
    let floor = format!("bridges:\n  floor: {{ mqtt: {{ listen: '{mqtt}', {many} }} }}\n");
    site.write("gateway.yaml", &text.replace(&listen, &http).replace("bridges:\n", &floor));
    site.write(
        "mappings/busy.yaml",
        "mapping: busy\nfrom: { bridge: web, address: POST /busy }\nenvelope: { topic: busy/all }\n",
    );
    (site, mqtt)
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// A request over a connection that stays, with the head of its answer read.
fn request(site: &Site, head: &str, body: &str) -> TcpStream {
    let mut stream = connect(site.http);
    let text = format!("{head} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n{body}", site.http, body.len());
    stream.write_all(text.as_bytes()).expect("to send");
    let mut input = BufReader::with_capacity(1, stream.try_clone().expect("the same again"));
    let mut line = String::new();
    input.read_line(&mut line).expect("a status line");
    assert!(line.contains(" 200 ") || line.contains(" 202 "), "{head}: {line}");
    while line != "\r\n" {
        line.clear();
        input.read_line(&mut line).expect("a header");
    }
    stream
}

/// A client of MQTT 3.1.1 that has subscribed at QoS 0, so that nothing but its socket bounds what it is sent.
fn mqtt(at: SocketAddr, name: &str, filter: &str) -> TcpStream {
    let text = |text: &str| [&u16::try_from(text.len()).expect("short").to_be_bytes()[..], text.as_bytes()].concat();
    let packet = |first: u8, body: &[u8]| [&[first, u8::try_from(body.len()).expect("short")][..], body].concat();
    let mut stream = connect(at);
    let connect = [&text("MQTT")[..], &[4, 2, 0, 0], &text(name)].concat();
    let subscribe = [&[0, 1][..], &text(filter), &[0]].concat();
    stream.write_all(&[packet(0x10, &connect), packet(0x82, &subscribe)].concat()).expect("to send");
    let mut answers = [0; 9];
    stream.read_exact(&mut answers).expect("CONNACK and SUBACK");
    assert_eq!(answers, [0x20, 2, 0, 0, 0x90, 3, 0, 1, 0], "{name}");
    stream
}

/// Clients of every kind: `filter` is what they hear.
fn crowd(site: &Site, at: SocketAddr, count: usize, name: &str, filter: &str) -> Crowd {
    let (mut streams, mut subscribers) = (Vec::new(), Vec::new());
    for n in 0..count {
        let subscriber = Subscriber::open(site.http, &[filter], &json!("new"), None, 1_000);
        subscribers.push(subscriber.expect("a WebSocket"));
        let filter = filter.replace('#', "%23");
        streams.push(request(site, &format!("GET /mesh/v1/events?filter={filter}"), ""));
        streams.push(mqtt(at, &format!("{name}-{n}"), &filter.replace("%23", "#")));
    }
    Crowd { streams, subscribers }
}

/// The sum of a metric of this name with this label.
fn metric(site: &Site, name: &str, label: &str) -> u64 {
    let text = client::get(&site.admin_url("/metrics")).text;
    let of_it = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn a_thousand_idle_clients_and_some_that_do_not_read_are_nothing_to_a_busy_one() {
    let (site, at) = site();
    let gateway = Gateway::start(&site);
    let before = gateway.resident_kb();
    let mut idle = crowd(&site, at, IDLE, "idle", "quiet/#");
    idle.streams.extend((0..IDLE).map(|_| request(&site, "POST /busy", "{}")));
    let each = gateway.resident_kb().saturating_sub(before) / (4 * IDLE as u64);
    assert!(each <= IDLE_KB, "an idle client costs {each} kB");

    let deaf = crowd(&site, at, DEAF, "deaf", "busy/#");
    let mut quick = Subscriber::open(site.http, &["busy/#"], &json!("new"), None, 64).expect("a subscription");
    let busy = client::Client::new();
    let crowded = gateway.resident_kb();
    for n in 0..MESSAGES {
        let body = json!({ "n": n, "filling": "x".repeat(FILLING) }).to_string();
        assert_eq!(busy.post(&site.url("/busy"), &[], body.as_bytes()).status, 202, "message {n}");
        let message = quick.message().expect("who reads goes on");
        assert_eq!(message["envelope"]["data"]["n"], n);
        quick.ack(&message).expect("an open subscription");
    }
    let grown = gateway.resident_kb().saturating_sub(crowded);
    assert!(grown <= GROWN_KB, "{MESSAGES} messages made the gateway {grown} kB larger");

    let cut = "openmesh_bridge_connections_cut_total";
    eventually("who does not read is cut", PATIENCE, || {
        (metric(&site, cut, "reason") == 3 * DEAF as u64).then_some(())
    });
    assert_eq!(metric(&site, cut, "reason=\"unread\""), 3 * DEAF as u64);
    let log = fs::read_to_string(site.scratch("gateway.log")).expect("the log");
    for stream in &deaf.streams {
        let address = stream.local_addr().expect("its address").to_string();
        assert!(log.lines().any(|line| line.contains(&address) && line.contains("cut")), "{address} is not named");
    }
    // nobody else was; a connection ends after its socket, which is what is counted above
    eventually("who is cut is gone", PATIENCE, || {
        let is_left = metric(&site, "openmesh_bridge_mqtt_connections", "floor") <= IDLE as u64
            && metric(&site, "openmesh_bridge_websockets", "web") <= IDLE as u64 + 1;
        is_left.then_some(())
    });
    assert_eq!(metric(&site, "openmesh_bridge_mqtt_connections", "floor"), IDLE as u64);
    assert_eq!(metric(&site, "openmesh_bridge_websockets", "web"), IDLE as u64 + 1);
    for subscriber in &mut idle.subscribers {
        subscriber.flush().expect("an idle WebSocket is there");
    }
    let mut again = idle.streams.pop().expect("one that has sent a request");
    again
        .write_all(format!("POST /busy HTTP/1.1\r\nhost: {}\r\ncontent-length: 2\r\n\r\n{{}}", site.http).as_bytes())
        .expect("to send");
    // behind the body of the first answer
    let said = BufReader::new(again).lines().map_while(Result::ok).any(|line| line.contains("HTTP/1.1 202"));
    assert!(said, "its connection goes on");
    println!("an idle client {each} kB, {MESSAGES} messages {grown} kB");
    drop((deaf, idle));
    let ledger = client::get(&site.admin_url("/ledger")).body;
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
    assert!(gateway.terminate().success());
}
