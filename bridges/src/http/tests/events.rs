//! Server-sent events over real sockets.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use envelope::{Position, Settlement, Start};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::client::Client;
use crate::{
    conformance::{HARD_TIMEOUT, Rig, delivery},
    http::HttpConfig,
};

/// A stream of events as its bytes come, chunks and all.
struct Stream {
    socket: TcpStream,
    seen: String,
}

impl Stream {
    async fn open(address: SocketAddr, query: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!("GET /mesh/v1/events?{query} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        Self { socket, seen: String::new() }
    }

    /// Reads on until it is there; all that came up to it.
    async fn until(&mut self, text: &str) -> String {
        let read = async {
            loop {
                if let Some(at) = self.seen.find(text) {
                    return self.seen.drain(..at + text.len()).collect();
                }
                let mut bytes = [0; 4_096];
                let count = self.socket.read(&mut bytes).await.unwrap();
                assert!(count > 0, "ends before {text:?}: {}", self.seen);
                self.seen.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
        };
        timeout(HARD_TIMEOUT, read).await.expect("in time")
    }

    /// All that comes until the stream ends.
    async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        timeout(HARD_TIMEOUT, self.socket.read_to_end(&mut rest)).await.expect("ends in time").unwrap();
        self.seen + std::str::from_utf8(&rest).unwrap()
    }
}

async fn rig(change: impl FnOnce(&mut HttpConfig)) -> Rig {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    change(&mut config);
    Rig::start(&config).await
}

fn small(count: u64) -> impl Iterator<Item = envelope::Delivery> {
    (1..=count).map(|position| delivery(position, "telemetry/7", Bytes::from_static(b"{\"c\": 12.10}")))
}

#[tokio::test]
async fn events_are_cloud_events_whose_id_is_their_position() {
    let rig = rig(|_| {}).await;
    rig.outlet.give(small(2));
    let mut stream = Stream::open(rig.address(), "filter=telemetry/%23&filter=a/%2B&start=earliest", "").await;
    let head = stream.until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
    stream.until("retry: 2000\n\n").await;
    let first = stream.until("\n\n").await;
    assert!(first.contains("id: 0000000000000001\ndata: {\"specversion\":\"1.0\""), "{first}");
    assert!(first.contains("\"data\":{\"c\": 12.10}}\n\n"), "{first}");
    assert!(stream.until("\n\n").await.contains("id: 0000000000000002\n"));
    rig.outlet.until(|state| state.settled.len() == 2).await;
    let state = rig.outlet.state();
    assert!(state.settled.iter().all(|(_, settlement)| *settlement == Settlement::Delivered));
    let (who, what) = &state.opened[0];
    let filters: Vec<_> = what.filters.iter().map(|filter| filter.as_str()).collect();
    assert_eq!(
        (&**who, filters, &what.start, &what.durable),
        ("anonymous", vec!["telemetry/#", "a/+"], &Start::Earliest, &None)
    );
    rig.stop().await;
    assert!(stream.rest().await.ends_with("0\r\n\r\n"), "the drain ends the stream as it should");
}

#[tokio::test]
async fn a_client_that_comes_back_goes_on_behind_its_last_event() {
    let rig = rig(|_| {}).await;
    let id = "Last-Event-ID: 0000000000000007\r\nAuthorization: Bearer plant:1\r\n";
    let mut stream = Stream::open(rig.address(), "filter=a&start=earliest&durable=d-1", id).await;
    stream.until("retry").await;
    let (who, what) = rig.outlet.state().opened.remove(0);
    assert_eq!((&*who, what.start), ("plant:1", Start::Again(Position(Bytes::copy_from_slice(&7_u64.to_be_bytes())))));
    assert_eq!(what.durable.as_deref(), Some("sse:plant%3A1:d-1"));
    for (start, asked) in [
        ("last", Start::Last),
        ("2026-01-01T00:00:00Z", Start::Time(envelope::Timestamp::parse("2026-01-01T00:00:00Z").unwrap())),
    ] {
        let mut stream = Stream::open(rig.address(), &format!("filter=a&start={start}"), "").await;
        stream.until("retry").await;
        assert_eq!(rig.outlet.state().opened.pop().unwrap().1.start, asked);
    }
    Stream::open(rig.address(), "filter=a", "Last-Event-ID: \r\n").await.until("retry").await;
    assert_eq!(rig.outlet.state().opened.pop().unwrap().1.start, Start::New);
    rig.stop().await;
}

#[tokio::test]
async fn what_is_no_wish_is_refused_and_says_why() {
    let rig = rig(|_| {}).await;
    rig.outlet.forbid("secret/#");
    let mut client = Client::connect(rig.address()).await;
    let many = vec!["filter=a"; 65].join("&");
    for (query, headers, status, says) in [
        ("", "", 400, "\"filter\" is missing"),
        ("filter=a/%23/b", "", 400, "filter: "),
        ("filter=a&filtre=b", "", 400, "unknown parameter \"filtre\""),
        ("filter=a&start=later", "", 400, "start is new, earliest, last or a time"),
        ("filter=a&start=new&start=new", "", 400, "is there twice"),
        ("filter=a&durable=a/b", "", 400, "a durable name"),
        (&many, "", 400, "more than 64 filters"),
        ("filter=a", "\nLast-Event-ID: seven", 400, "Last-Event-ID is no position"),
        ("filter=a", "\nLast-Event-ID: 07\nLast-Event-ID: 08", 400, "given twice"),
        ("filter=a", "\nAuthorization: Bearer wrong", 401, "not valid"),
        ("filter=secret/%23", "", 403, "not for you"),
    ] {
        let answer = client.ask(&format!("GET /mesh/v1/events?{query}{headers}"), "").await;
        let detail = answer.member("detail").unwrap_or_default();
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        assert!(detail.replace("\\\"", "\"").contains(says), "{query}: {detail}");
    }
    assert_eq!(client.ask("POST /mesh/v1/events?filter=a", "").await.status, 405);
    assert_eq!(rig.counts().on_record.len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_stream_without_events_says_that_it_is_there() {
    let rig = rig(|config| config.heartbeat = Duration::from_millis(100)).await;
    let mut stream = Stream::open(rig.address(), "filter=a", "").await;
    stream.until("retry: 2000\n\n").await;
    stream.until(":\n\n").await;
    stream.until(":\n\n").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_principal_that_is_let_in_no_more_hears_why_and_the_stream_ends() {
    let rig = rig(|_| {}).await;
    let mut stream =
        Stream::open(rig.address(), "filter=a", "Authorization: Bearer plant\r\nConnection: close\r\n").await;
    stream.until("retry").await;
    rig.revoke("plant");
    let rest = stream.rest().await;
    assert!(rest.contains("event: closed\ndata: {") && rest.contains("\"kind\":\"unauthenticated\""), "{rest}");
    rig.stop().await;
}

#[tokio::test]
async fn who_reads_nothing_is_handed_no_more_than_fits_and_is_cut() {
    let rig = rig(|config| config.server.write_timeout = Duration::from_millis(300)).await;
    let large = Bytes::from(format!("\"{}\"", "x".repeat(200_000)));
    rig.outlet.give((1..=200).map(|position| delivery(position, "telemetry/7", large.clone())));
    let mut stream = Stream::open(rig.address(), "filter=telemetry/%23", "").await;
    stream.until("retry").await;
    rig.outlet.until(|state| state.ended == 1).await;
    let state = rig.outlet.state();
    assert!(state.settled.len() < 200, "all {} were written", state.settled.len());
    assert!(state.gone_back > 0, "what it did not take goes back");
    rig.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_peer_that_is_gone_without_a_word_is_cut_whether_there_is_something_to_write_or_not() {
    for heartbeat in [Duration::from_millis(100), Duration::from_secs(3_600)] {
        let rig = rig(|config| {
            config.heartbeat = heartbeat;
            config.server.write_timeout = Duration::from_millis(500);
        })
        .await;
        let mut stream = Stream::open(rig.address(), "filter=a", "").await;
        stream.until("retry").await;
        // from here on nothing reaches it, and nothing of its kernel's comes back
        let nothing = [socket2::SockFilter::new(6, 0, 0, 0)];
        socket2::SockRef::from(&stream.socket).attach_filter(&nothing).unwrap();
        rig.outlet.until(|state| state.ended == 1).await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn data_with_line_breaks_stays_the_same_json() {
    let rig = rig(|_| {}).await;
    rig.outlet.give([delivery(1, "telemetry/7", Bytes::from_static(b"{\r\n \"a\":\n\n1}"))]);
    let mut stream = Stream::open(rig.address(), "filter=telemetry/%23", "").await;
    stream.until("retry: 2000\n\n").await;
    let event = stream.until("\n\n").await;
    let lines = event.lines().filter_map(|line| line.strip_prefix("data: "));
    let json = lines.collect::<Vec<_>>().join("\n");
    assert!(json.starts_with("{\"specversion\"") && json.ends_with("1}}"), "{event}");
    assert!(envelope::Json::parse(json.into()).is_ok());
    rig.stop().await;
}
