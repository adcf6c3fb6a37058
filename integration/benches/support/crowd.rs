//! A crowd of subscribers that do as little as they can, and one publisher, in a process of their own with one thread. The
//! benchmark runs itself with `--crowd KIND ADDRESS SUBSCRIBERS AHEAD MESSAGES` for it; it prints deliveries a second.

use std::{
    cell::{Cell, RefCell},
    env,
    io::ErrorKind,
    net::SocketAddr,
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::LocalSet,
    time::timeout,
};

use crate::UPGRADE;

/// There is one in each message, and nowhere else.
const MARK: u8 = b'~';
/// What a WebSocket's delivery begins with.
const MESSAGE: &[u8] = br#"{"op":"message","sub":"s","position":""#;
/// Deliveries that a WebSocket acknowledges at once.
const ACKED: usize = 64;
/// Messages that go before those that count.
const WARM: usize = 100;

/// What the subscribers share.
struct Crowd {
    read: RefCell<Vec<u8>>,
    received: Cell<usize>,
    moved: Notify,
}

/// Runs the crowd, and does not come back to the benchmark, if this process was started for that.
pub(crate) fn run_if_asked() {
    let arguments: Vec<_> = env::args().collect();
    let Some(at) = arguments.iter().position(|argument| argument == "--crowd") else { return };
    let address: SocketAddr = arguments[at + 2].parse().expect("an address");
    let number = |more: usize| -> usize { arguments[at + more].parse().expect("a number") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let work = fan(&arguments[at + 1], address, number(3), number(4), number(5));
    println!("{:.0}", LocalSet::new().block_on(&runtime, work));
    std::process::exit(0);
}

/// Deliveries a second.
pub(crate) fn measure(address: SocketAddr, kind: &str, subscribers: usize, ahead: usize, messages: usize) -> String {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--crowd", kind, &address.to_string()]);
    command.args([subscribers, ahead, messages].map(|number| number.to_string()));
    let output = command.stderr(std::process::Stdio::inherit()).output().expect("the crowd");
    assert!(output.status.success(), "the crowd failed");
    String::from_utf8(output.stdout).expect("a number").trim().to_owned()
}

async fn fan(kind: &str, at: SocketAddr, subscribers: usize, ahead: usize, messages: usize) -> f64 {
    let read = RefCell::new(vec![0; 262_144]);
    let crowd = Rc::new(Crowd { read, received: Cell::new(0), moved: Notify::new() });
    for _ in 0..subscribers {
        match kind {
            "sse" => drop(tokio::task::spawn_local(events(subscribe_events(at).await, crowd.clone()))),
            "ws" => drop(tokio::task::spawn_local(frames(subscribe_frames(at).await, crowd.clone()))),
            other => panic!("no kind of subscribers: {other}"),
        }
    }
    let mut publisher = websocket(at).await;
    let publish = format!(
        r#"{{"op":"publish","ref":"p","address":"POST /bench/crowd","payload":{{"note":"~{}"}}}}"#,
        "x".repeat(100)
    );
    let publish = frame(&publish);
    let (mut sent, mut began) = (0, Instant::now());
    while crowd.received.get() < (messages + WARM) * subscribers {
        let of_all = crowd.received.get() / subscribers;
        if of_all < WARM {
            began = Instant::now();
        }
        let more = (of_all + ahead).min(messages + WARM).saturating_sub(sent);
        publisher.write_all(&publish.repeat(more)).await.expect("to write");
        sent += more;
        // its receipts
        match publisher.try_read(&mut crowd.read.borrow_mut()) {
            Ok(0) => panic!("the publisher's connection is closed"),
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        let more = timeout(Duration::from_secs(30), crowd.moved.notified()).await;
        more.expect("a message did not come, so that nothing goes on");
    }
    (messages * subscribers) as f64 / began.elapsed().as_secs_f64()
}

/// A subscriber by server-sent events: every message has one mark.
async fn events(socket: TcpStream, crowd: Rc<Crowd>) {
    while socket.readable().await.is_ok() {
        let mut read = crowd.read.borrow_mut();
        match socket.try_read(&mut read) {
            Ok(0) => return,
            Ok(count) => crowd.came(read[..count].iter().filter(|byte| **byte == MARK).count()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }
}

/// A subscriber by WebSocket, which acknowledges what comes.
async fn frames(mut socket: TcpStream, crowd: Rc<Crowd>) {
    let (mut rest, mut positions) = (Vec::new(), Vec::new());
    while socket.readable().await.is_ok() {
        let count = {
            let mut read = crowd.read.borrow_mut();
            match socket.try_read(&mut read) {
                Ok(0) => return,
                Ok(count) => {
                    rest.extend_from_slice(&read[..count]);
                    take_positions(&mut rest, &mut positions)
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    continue;
                }
            }
        };
        crowd.came(count);
        if positions.len() >= ACKED {
            let ack = format!(r#"{{"op":"ack","sub":"s","positions":["{}"]}}"#, positions.join(r#"",""#));
            positions.clear();
            socket.write_all(&frame(&ack)).await.expect("to write");
        }
    }
}

/// Takes the whole frames, and their positions; how many were messages.
fn take_positions(rest: &mut Vec<u8>, positions: &mut Vec<String>) -> usize {
    let (mut at, before) = (0, positions.len());
    while let [_, short, ..] = rest[at..] {
        let (head, length) = match short {
            126 if rest.len() < at + 4 => break,
            126 => (4, usize::from(u16::from_be_bytes([rest[at + 2], rest[at + 3]]))),
            short => (2, usize::from(short)),
        };
        let Some(body) = rest.get(at + head..at + head + length) else { break };
        if let Some(position) = body.strip_prefix(MESSAGE) {
            let end = position.iter().position(|byte| *byte == b'"').expect("its end");
            positions.push(String::from_utf8_lossy(&position[..end]).into_owned());
        }
        at += head + length;
    }
    rest.drain(..at);
    positions.len() - before
}

async fn subscribe_events(at: SocketAddr) -> TcpStream {
    let mut socket = connect(at).await;
    let ask = format!("GET /mesh/v1/events?filter=bench/crowd HTTP/1.1\r\nHost: {at}\r\n\r\n");
    socket.write_all(ask.as_bytes()).await.expect("to write");
    until(&mut socket, "retry: ").await;
    socket
}

async fn subscribe_frames(at: SocketAddr) -> TcpStream {
    let mut socket = websocket(at).await;
    let ask = r#"{"op":"subscribe","ref":"s","filters":["bench/crowd"],"credit":1024}"#;
    socket.write_all(&frame(ask)).await.expect("to write");
    until(&mut socket, "subscribed").await;
    socket
}

async fn websocket(at: SocketAddr) -> TcpStream {
    let mut socket = connect(at).await;
    let ask = format!("GET /mesh/v1/ws HTTP/1.1\r\nHost: {at}\r\n{UPGRADE}\r\n");
    socket.write_all(ask.as_bytes()).await.expect("to write");
    until(&mut socket, "\r\n\r\n").await;
    socket
}

async fn connect(at: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(at).await.expect("the gateway");
    socket.set_nodelay(true).expect("no delay");
    socket
}

/// Reads up to the part that has this text.
async fn until(socket: &mut TcpStream, text: &str) {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        assert!(socket.read_buf(&mut read).await.expect("to read") > 0, "the gateway closed");
    }
}

/// A text frame, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(short @ ..126) => frame.push(0x80 | short),
        Ok(_) | Err(_) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(text.len()).expect("a short frame").to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

// === impl Crowd ===

impl Crowd {
    fn came(&self, count: usize) {
        self.received.set(self.received.get() + count);
        self.moved.notify_one();
    }
}
