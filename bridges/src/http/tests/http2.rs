//! HTTP/2 over real sockets: by curl, and by peers that speak it frame by frame and mean no good.

use std::{process::Command, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    client::Client,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY, HEADERS, NO_ERROR, PING,
        RST_STREAM, SETTINGS, frame, goaways,
    },
};
use crate::{
    conformance::{HARD_TIMEOUT, Rig, delivery},
    http::{HttpConfig, ServerConfig},
    tls::{TlsConfig, testing::Authority},
};

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
    let (head, cancel) = (peer.head("POST", "/a", &[]), 8_u32.to_be_bytes());
    let taken_back = |number: u32| {
        let stream = 2 * number + 1;
        [frame(HEADERS, END_HEADERS, stream, &head), frame(RST_STREAM, 0, stream, &cancel)].concat()
    };
    // at once: all of them are there before the first is looked at
    let flood: Vec<u8> = (0..40).flat_map(taken_back).collect();
    peer.stream.write_all(&flood).await.unwrap();
    assert_eq!(peer.ends().await, [ENHANCE_YOUR_CALM]);
    // one after the other, for as long as the gateway takes them; what it sends last may be lost behind what it does not read
    let mut peer = Frames::connect(rig.address(), &[]).await;
    for number in 0..2_000 {
        if peer.stream.write_all(&taken_back(number)).await.is_err() {
            break;
        }
    }
    let codes = peer.ends().await;
    assert!(codes.is_empty() || codes == [ENHANCE_YOUR_CALM], "{codes:?}");
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
    let mut answers = Vec::new();
    let drained = async {
        let mut bytes = vec![0; 65_536];
        while let Ok(count) = read.read(&mut bytes).await
            && count > 0
        {
            answers.extend_from_slice(&bytes[..count]);
        }
    };
    timeout(HARD_TIMEOUT, async { tokio::join!(flooded, drained, nobody_else_notices(&rig)) })
        .await
        .expect("cut in time");
    // none of it was wrong, and all of it was answered: it is a connection without a request, and ends as such
    assert_eq!(goaways(&answers), [NO_ERROR]);
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
    let codes = peer.ends().await;
    assert!(codes.is_empty() || codes == [ENHANCE_YOUR_CALM], "{codes:?}");
    // no more of them than bring the end: nothing is left unread, so that its reason arrives
    let mut peer = Frames::connect(rig.address(), &[]).await;
    peer.send(HEADERS, 0, 1, &more).await;
    peer.stream.write_all(&frame(CONTINUATION, 0, 1, &[]).repeat(6)).await.unwrap();
    assert_eq!(peer.ends().await, [ENHANCE_YOUR_CALM]);
    // one that begins and does not go on
    let mut peer = Frames::connect(rig.address(), &[]).await;
    peer.send(HEADERS, 0, 1, &more).await;
    assert_eq!(peer.ends().await, [NO_ERROR]);
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
    assert!(peer.ends().await.is_empty(), "who does not read hears no reason");
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
