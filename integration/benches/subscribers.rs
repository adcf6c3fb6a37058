//! What subscribers cost: the memory of idle WebSockets, deliveries to a crowd, and the time from publish to subscriber.
//!
//! `cargo bench -p integration --bench subscribers [-- IDLE CROWD]`, by default 10,000 and 1,000. The clients are a process of
//! their own; it needs a file descriptor a client (`ulimit -n`). Deliveries go out as server-sent events and to WebSockets. To
//! the crowd there is one publisher: first it waits for each answer, then it is 200 messages ahead of its subscribers at most.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark fails by panic")]

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use integration::{Gateway, Site, client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream as Socket,
    runtime::Runtime,
    sync::mpsc,
    task::JoinSet,
};

#[path = "support/append.rs"]
mod append;
#[path = "support/crowd.rs"]
mod crowd;
#[path = "support/paced.rs"]
mod paced;

use append::append_loop;
use paced::http;

/// Messages of a crowd's round.
const SENT: usize = 2_000;
/// How many of them the publisher is ahead.
const AHEAD: [usize; 2] = [1, 200];
/// Messages a second, and for how long, of the latency's rounds.
const RATE: u64 = 1_000;
const SECONDS: u64 = 5;
const ROUNDS: usize = 5;
const UPGRADE: &str = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const MAPPING: &str = "mapping: bench\nfrom: { bridge: web, address: \"POST /bench/{topic}\" }\n\
                       envelope: { topic: \"bench/${address.topic}\", performative: inform }\n";

fn main() {
    let arguments: Vec<_> = env::args().collect();
    crowd::run_if_asked();
    if let Some(at) = arguments.iter().position(|argument| argument == "--clients") {
        let number = |at: usize| arguments[at].parse().expect("a number");
        return clients(
            &arguments[at + 1],
            arguments[at + 2].parse().expect("an address"),
            number(at + 3),
            number(at + 4),
        );
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<usize>().ok());
    let (idle, crowd) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(1_000));
    let site = Site::shipped();
    site.configure("max_connections: 65536, max_connections_per_address: 65536", "");
    site.write("mappings/bench.yaml", MAPPING);
    let gateway = Gateway::start(&site);
    assert_eq!(client::post(&site.url("/bench/warm"), &reading(0)).status, 202);
    memory(&site, &gateway, idle);
    for (kind, ahead) in ["sse", "ws"].into_iter().flat_map(|kind| AHEAD.map(|ahead| (kind, ahead))) {
        let rate = crowd::measure(site.http, kind, crowd, ahead, SENT);
        println!("1 to {crowd}, {kind}, {ahead} ahead at most: {rate} deliveries/s");
    }
    for kind in ["sse", "ws"] {
        latency(&site, kind);
    }
    assert!(gateway.terminate().success());
}

fn memory(site: &Site, gateway: &Gateway, count: usize) {
    let before = gateway.resident_kb();
    let mut clients = Clients::start("idle", site.http, count, 0);
    clients.line();
    let after = gateway.resident_kb();
    println!("{count} idle WebSocket subscribers: {} kB, {} kB in all", after - before, after);
}

/// From when a message is due to its subscriber, at a rate that is given; beside it in the same run a loop that appends and
/// syncs.
fn latency(site: &Site, kind: &str) {
    let count = RATE * SECONDS;
    let (mut to_subscriber, mut synced) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let append = append_loop(&site.scratch("append"), &reading(0), RATE, count);
        let mut clients = Clients::start(&format!("{kind}-latency"), site.http, 1, count as usize);
        clients.line();
        let (began, at) = (Instant::now(), now());
        let body = |due: Instant| reading(at + (due - began).as_nanos());
        let answers = http(site.http, "/bench/crowd", body, RATE, count);
        let line = clients.line();
        let micros: Vec<u64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        println!(
            "{kind}, {RATE} messages/s, round {round}: to the subscriber p50 {} us, p99 {} us; answer p50 {:?}, p99 {:?}; append \
             loop p50 {:?}, p99 {:?}",
            micros[0], micros[1], answers.p50, answers.p99, append.p50, append.p99
        );
        to_subscriber.push((micros[0], micros[1]));
        synced.push(append.p50.as_micros());
    }
    let median = |numbers: &mut Vec<u64>| {
        numbers.sort_unstable();
        numbers[numbers.len() / 2]
    };
    let p50 = median(&mut to_subscriber.iter().map(|(p50, _)| *p50).collect());
    let p99 = median(&mut to_subscriber.iter().map(|(_, p99)| *p99).collect());
    synced.sort_unstable();
    println!("{kind}: median p50 {p50} us, p99 {p99} us; append loop p50 {} us", synced[synced.len() / 2]);
}

fn reading(sent: u128) -> String {
    format!("{{\"sent\":{sent},\"note\":\"{}\"}}", "x".repeat(100))
}

/// Nanoseconds since 1970.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos()
}

/// The process of the clients.
struct Clients {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Clients {
    fn start(what: &str, at: SocketAddr, count: usize, messages: usize) -> Self {
        let arguments = ["--clients", what, &at.to_string(), &count.to_string(), &messages.to_string()];
        let mut process = Command::new(env::current_exe().expect("this program"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the clients");
        let said = BufReader::new(process.stdout.take().expect("its output"));
        Self { process, said }
    }

    /// What they say next: that all are there, then that all is received.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("the clients go on");
        assert!(!line.is_empty(), "the clients ended early");
        line.trim().to_owned()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // it may have ended by itself
        _ = self.process.kill();
        self.process.wait().expect("the clients end");
    }
}

/// In the process of the clients.
fn clients(what: &str, at: SocketAddr, count: usize, messages: usize) {
    Runtime::new().expect("a runtime").block_on(async {
        let (open, mut opened) = mpsc::channel(64);
        let (done, mut all) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (open, done, what) = (open.clone(), done.clone(), what.to_owned());
            tasks.spawn(async move {
                let mut client = Client::open(&what, at, number).await;
                open.send(()).await.expect("somebody waits");
                done.send(client.receive(messages).await).await.expect("somebody waits");
            });
        }
        for _ in 0..count {
            opened.recv().await.expect("one more is open");
        }
        println!("open");
        let mut delays = Vec::new();
        for _ in 0..count {
            delays.extend(all.recv().await.expect("one more is done"));
        }
        delays.sort_unstable();
        let at = |percent: usize| delays.get(delays.len() * percent / 100).copied().unwrap_or_default() / 1_000;
        println!("{} {}", at(50), at(99));
    });
}

/// One subscriber.
struct Client {
    socket: Socket,
    read: Vec<u8>,
    is_websocket: bool,
    is_timed: bool,
}

impl Client {
    async fn open(what: &str, at: SocketAddr, number: usize) -> Self {
        let socket = Socket::connect(at).await.expect("the gateway");
        socket.set_nodelay(true).expect("no delay");
        let is_websocket = what == "idle" || what == "ws-latency";
        let is_timed = what.ends_with("latency");
        let mut client = Self { socket, read: Vec::new(), is_websocket, is_timed };
        if !is_websocket {
            client
                .write(format!("GET /mesh/v1/events?filter=bench/crowd HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes())
                .await;
            client.until(b"retry: ").await;
            return client;
        }
        client.write(format!("GET /mesh/v1/ws HTTP/1.1\r\nHost: {at}\r\n{UPGRADE}\r\n").as_bytes()).await;
        client.until(b"\r\n\r\n").await;
        let filter = if what == "idle" { format!("idle/{number}") } else { "bench/crowd".to_owned() };
        client.frame(&format!(r#"{{"op":"subscribe","ref":"s","filters":["{filter}"],"credit":1024}}"#)).await;
        client.until(b"subscribed").await;
        client
    }

    /// Takes so many messages, or waits for the end if there are none to come; how long each was on its way.
    async fn receive(&mut self, messages: usize) -> Vec<u64> {
        const SENT: &[u8] = b"\"sent\":";
        let mut delays = Vec::with_capacity(if self.is_timed { messages } else { 0 });
        if messages == 0 {
            while self.socket.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
        }
        for _ in 0..messages {
            let before = self.until(SENT).await;
            let digits = self.until(b",").await;
            if self.is_timed {
                let sent: u128 =
                    std::str::from_utf8(&digits).expect("digits").trim_end_matches(',').parse().expect("a time");
                delays.push(u64::try_from(now() - sent).expect("less than 500 years"));
            }
            if self.is_websocket {
                let text = String::from_utf8_lossy(&before).into_owned();
                let (_, position) = text.rsplit_once("\"position\":\"").expect("its position");
                let position = position.split('"').next().expect("its end");
                self.frame(&format!(r#"{{"op":"ack","sub":"s","positions":["{position}"]}}"#)).await;
            }
        }
        delays
    }

    /// All that comes up to the end of these bytes.
    async fn until(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut from = 0;
        loop {
            let found = self.read[from..].windows(bytes.len()).position(|window| window == bytes);
            if let Some(at) = found {
                return self.read.drain(..from + at + bytes.len()).collect();
            }
            from = self.read.len().saturating_sub(bytes.len() - 1);
            let count = self.socket.read_buf(&mut self.read).await.expect("to read");
            assert!(count > 0, "the gateway closed: {}", String::from_utf8_lossy(&self.read));
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("to write");
    }

    /// A text frame, masked with zeros.
    async fn frame(&mut self, text: &str) {
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).expect("a short frame"), 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.write(&frame).await;
    }
}
