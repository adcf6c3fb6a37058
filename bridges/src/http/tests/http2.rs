//! HTTP/2 over real sockets: by curl, and by peers that speak it frame by frame and mean no good.

use std::{net::SocketAddr, process::Command, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_blocking,
    time::timeout,
};

use super::client::Client;
use crate::{
    conformance::{HARD_TIMEOUT, Rig, delivery},
    http::{HttpConfig, ServerConfig},
    tls::{TlsConfig, testing::Authority},
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

async fn rig(change: impl FnOnce(&mut HttpConfig)) -> Rig {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    change(&mut config);
    Rig::start(&config).await
}

/// What curl writes, and whether it was content.
async fn curl(arguments: &[&str]) -> String {
    let arguments: Vec<_> = ["-s", "-m", "20"].iter().chain(arguments).map(ToString::to_string).collect();
    let run = spawn_blocking(move || Command::new("curl").args(arguments).output().unwrap());
    let output = timeout(HARD_TIMEOUT, run).await.expect("curl ends in time").unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A connection of frames.
struct Frames {
    stream: TcpStream,
    address: SocketAddr,
}

impl Frames {
    /// After the preface, with `settings` of the peer.
    async fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let mut frames = Self { stream: TcpStream::connect(address).await.unwrap(), address };
        frames.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        frames.send(SETTINGS, 0, 0, settings).await;
        frames
    }

    /// Whether the other end still takes it.
    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let frame = frame(kind, flags, stream, payload);
        matches!(timeout(HARD_TIMEOUT, self.stream.write_all(&frame)).await.expect("is read in time"), Ok(()))
    }

    /// The head of a request, in literals.
    fn head(&self, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let authority = self.address.to_string();
        let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", &authority)];
        let mut block = Vec::new();
        for (name, value) in pseudo.iter().chain(more) {
            block.push(0);
            for text in [name, value] {
                match u8::try_from(text.len()) {
                    Ok(length) if length < 127 => block.push(length),
                    _ => {
                        let mut rest = text.len() - 127;
                        block.push(127);
                        while rest >= 128 {
                            block.push(rest as u8 | 128);
                            rest >>= 7;
                        }
                        block.push(rest as u8);
                    }
                }
                block.extend_from_slice(text.as_bytes());
            }
        }
        block
    }

    /// The next frame: kind, stream, payload. `None` once the connection is closed.
    async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let read = async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
        };
        timeout(HARD_TIMEOUT, read).await.expect("a frame in time, or the end")
    }

    /// The codes of the GOAWAYs that come before the end.
    async fn ends(&mut self) -> Vec<u32> {
        let mut codes = Vec::new();
        while let Some((kind, _, payload)) = self.next().await {
            if kind == GOAWAY {
                codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        codes
    }

    /// The head and the data of an answer are there.
    async fn answered(&mut self, stream: u32) -> Vec<u8> {
        loop {
            let (kind, of, payload) = self.next().await.expect("an answer before the end");
            if kind == HEADERS && of == stream {
                return payload;
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Somebody else is served as ever.
async fn nobody_else_notices(rig: &Rig) {
    assert_eq!(Client::connect(rig.address()).await.ask("POST /other", "{}").await.status, 202);
}

#[tokio::test]
async fn curl_publishes_with_prior_knowledge() {
    let rig = rig(|_| {}).await;
    let url = format!("http://{}/a?b", rig.address());
    let write = "%{http_version} %{http_code}\n";
    let prior = "--http2-prior-knowledge";
    let said = curl(&[prior, "-o", "/dev/null", "-w", write, "-d", "{}", &url]).await;
    assert_eq!(said, "2 202\n");
    let said = curl(&[prior, "-o", "/dev/null", "-w", write, "-H", "Host: evil.example", "-d", "{}", &url]).await;
    assert_eq!(said, "2 421\n");
    let large = format!("@{}", concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/streams.rs"));
    let said = curl(&[prior, "-w", write, "-o", "/dev/null", "--data-binary", &large, &url]).await;
    assert_eq!(said, "2 202\n");
    let seen = rig.seen();
    assert_eq!((seen.len(), &*seen[0][0].address, &seen[0][0].payload[..]), (2, "POST /a", &b"{}"[..]));
    assert_eq!(seen[1][0].payload, include_str!("../streams.rs"));
    rig.stop().await;
}

#[tokio::test]
async fn curl_agrees_on_http2_in_the_handshake_of_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test");
    let own = authority.server(1);
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let trusted = write("ca.pem", &authority.certificate());
    let tls =
        TlsConfig { certificate: write("own.pem", &own.certificate), key: write("own.key", &own.key), clients: None };
    let server = ServerConfig { tls: Some(tls), ..ServerConfig::new("127.0.0.1:0".parse().unwrap()) };
    let rig = rig(|config| config.server = server).await;
    let url = format!("https://{}/a", rig.address());
    for (version, spoken) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let arguments = [
            "--cacert",
            trusted.to_str().unwrap(),
            version,
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
            "-d",
            "1",
            &url,
        ];
        assert_eq!(curl(&arguments).await, format!("{spoken} 202"));
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_large_answer_and_events_come_in_pieces() {
    let rig = rig(|_| {}).await;
    let value = format!("\"{}\"", "abc ".repeat(100_000));
    rig.outlet.give([delivery(1, "large", value.clone().into())]);
    let address = rig.address();
    let said = curl(&["--http2-prior-knowledge", &format!("http://{address}/mesh/v1/last/large")]).await;
    assert_eq!(super::client::member(&said, "data").as_deref(), Some(value.trim_matches('"')));
    let events = format!("http://{address}/mesh/v1/events?filter=large&start=earliest");
    let arguments = ["--http2-prior-knowledge", "-N", &events];
    let asked = curl(&arguments);
    let ended = async {
        rig.outlet.until(|state| state.settled.len() == 1).await;
        rig.drain();
    };
    let (said, ()) = tokio::join!(asked, ended);
    assert!(said.contains("id: 0000000000000001"), "{said}");
    rig.stop().await;
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let rig = rig(|_| {}).await;
    let mut peer = Frames::connect(rig.address(), &[]).await;
    let head = peer.head("POST", "/a", &[]);
    let cancel = 8_u32.to_be_bytes();
    for number in 0..2_000_u32 {
        let stream = 2 * number + 1;
        if !peer.send(HEADERS, END_HEADERS, stream, &head).await || !peer.send(RST_STREAM, 0, stream, &cancel).await {
            break;
        }
    }
    peer.ends().await;
    assert_eq!(rig.counts().received, 0);
    nobody_else_notices(&rig).await;
    rig.stop().await;
}

#[tokio::test]
async fn settings_and_pings_keep_nothing_open() {
    let rig = rig(|config| config.server.header_timeout = Duration::from_millis(300)).await;
    let mut peer = Frames::connect(rig.address(), &[]).await;
    let flood = [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[0; 8])].concat().repeat(500);
    let (mut read, mut write) = peer.stream.split();
    let flooded = async { while write.write_all(&flood).await.is_ok() {} };
    let drained = async {
        let mut bytes = vec![0; 65_536];
        while read.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    };
    timeout(HARD_TIMEOUT, async { tokio::join!(flooded, drained, nobody_else_notices(&rig)) })
        .await
        .expect("cut in time");
    rig.stop().await;
}

#[tokio::test]
async fn a_head_over_the_limit_or_without_end_is_no_request() {
    let rig = rig(|config| {
        config.server.max_header_bytes = 1_024;
        config.server.header_timeout = Duration::from_millis(300);
    })
    .await;
    let (url, long) = (format!("http://{}/a", rig.address()), format!("x-long: {}", "x".repeat(3_000)));
    let arguments = ["--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}", "-H", &long, &url];
    assert_eq!(curl(&arguments).await, "431");
    // frames that go on for ever
    let mut peer = Frames::connect(rig.address(), &[]).await;
    let more = peer.head("POST", "/a", &[("x", &"x".repeat(100))]);
    peer.send(HEADERS, 0, 1, &more).await;
    while peer.send(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y'].repeat(200)).await {
        tokio::task::yield_now().await;
    }
    // one that begins and does not go on
    let mut peer = Frames::connect(rig.address(), &[]).await;
    peer.send(HEADERS, 0, 1, &more).await;
    peer.ends().await;
    assert_eq!(rig.counts().received, 0);
    nobody_else_notices(&rig).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_ends_the_connection() {
    let rig = rig(|config| config.server.write_timeout = Duration::from_millis(300)).await;
    rig.outlet.give([delivery(1, "large", format!("\"{}\"", "x".repeat(200_000)).into())]);
    // no window at all: the socket is read, the answer is not
    let mut peer = Frames::connect(rig.address(), &[0, 4, 0, 0, 0, 0]).await;
    let head = peer.head("GET", "/mesh/v1/last/large", &[]);
    peer.send(HEADERS, END_HEADERS | END_STREAM, 1, &head).await;
    peer.ends().await;
    nobody_else_notices(&rig).await;
    rig.stop().await;
}

#[tokio::test]
async fn more_streams_than_there_may_be_are_refused_and_the_others_go_on() {
    let rig = rig(|_| {}).await;
    rig.hold();
    let mut peer = Frames::connect(rig.address(), &[]).await;
    let head = peer.head("POST", "/a", &[]);
    for number in 0..65_u32 {
        peer.send(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head).await;
    }
    let refused = loop {
        let (kind, stream, payload) = peer.next().await.expect("a frame");
        if kind == RST_STREAM {
            break (stream, payload);
        }
    };
    assert_eq!(refused, (129, 7_u32.to_be_bytes().to_vec()));
    rig.until(|counts| counts.offered == 64).await;
    rig.release();
    for _ in 0..64 {
        while peer.next().await.expect("an answer").0 != HEADERS {}
    }
    rig.stop().await;
}

#[tokio::test]
async fn at_the_drain_what_is_in_flight_is_answered_behind_a_goaway() {
    let rig = rig(|_| {}).await;
    rig.hold();
    let mut peer = Frames::connect(rig.address(), &[]).await;
    let head = peer.head("POST", "/a", &[]);
    peer.send(HEADERS, END_HEADERS, 1, &head).await;
    peer.send(DATA, END_STREAM, 1, b"{}").await;
    rig.until(|counts| counts.offered == 1).await;
    rig.drain();
    while peer.next().await.expect("a GOAWAY").0 != GOAWAY {}
    rig.release();
    peer.answered(1).await;
    drop(peer);
    assert_eq!(rig.counts().received, 1);
    rig.stop().await;
}
