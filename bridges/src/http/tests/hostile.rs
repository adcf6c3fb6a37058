//! WebSocket clients of bad intent: frames by the byte, storms, and crowds that do nothing.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::client::{Client, Ws, member};
use crate::{
    conformance::{HARD_TIMEOUT, Rig},
    http::HttpConfig,
};

async fn rig(change: impl FnOnce(&mut HttpConfig)) -> Rig {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    change(&mut config);
    Rig::start(&config).await
}

/// A WebSocket that was just upgraded, as a socket.
async fn upgraded(rig: &Rig) -> TcpStream {
    let mut socket = TcpStream::connect(rig.address()).await.unwrap();
    let head = format!(
        "GET /mesh/v1/ws HTTP/1.1\r\nHost: {}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        rig.address()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(HARD_TIMEOUT, socket.read_u8()).await.expect("an answer in time").unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    socket
}

/// The code of the close frame that comes, after whatever else; `None` if the connection ends without one.
async fn close_code(mut socket: TcpStream) -> Option<u16> {
    let mut all = Vec::new();
    let read = async { while socket.read_buf(&mut all).await.is_ok_and(|count| count > 0) {} };
    timeout(HARD_TIMEOUT, read).await.expect("the end in time");
    let mut rest = &all[..];
    while let [first, length, after @ ..] = rest {
        let length = usize::from(*length);
        assert!(length < 126, "only short frames are expected");
        if first & 15 == 8 {
            return Some(u16::from_be_bytes([after[0], after[1]]));
        }
        rest = &after[length..];
    }
    None
}

/// A frame with the mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut frame = if length < 126 { vec![first, 128 | length] } else { vec![first, 254, 0, length] };
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection_with_its_code() {
    let rig = rig(|config| config.websocket.max_frame_bytes = 1_024).await;
    let long = |bytes: u64| [vec![FIN | TEXT, 255], bytes.to_be_bytes().to_vec(), vec![0; 4]].concat();
    let parts = |count| [frame(TEXT, &[b'x'; 100]), frame(CONTINUATION, &[b'x'; 100]).repeat(count)].concat();
    for (what, bytes, code) in [
        ("a terabyte is announced", long(1 << 40), 1009),
        ("more bytes than there are addresses", long(u64::MAX), 1009),
        ("one byte over the limit", long(1_025), 1009),
        ("fragments over the limit", parts(11), 1009),
        ("a ping in fragments", frame(PING, b"x"), 1002),
        ("a ping that is too long", frame(FIN | PING, &[0; 126]), 1002),
        ("a continuation of nothing", frame(FIN | CONTINUATION, b"x"), 1002),
        ("a text within a text", [frame(TEXT, b"x"), frame(FIN | TEXT, b"y")].concat(), 1002),
        ("a reserved bit", frame(FIN | 0x40 | TEXT, b"x"), 1002),
        ("an unknown opcode", frame(FIN | 3, b"x"), 1002),
        ("no mask", vec![FIN | TEXT, 1, b'x'], 1002),
        ("no UTF-8", frame(FIN | TEXT, &[0xff]), 1007),
    ] {
        let mut socket = upgraded(&rig).await;
        socket.write_all(&bytes).await.unwrap();
        assert_eq!(close_code(socket).await, Some(code), "{what}");
    }
    assert_eq!(rig.counts().received, 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_frame_that_never_ends_is_cut_as_silence() {
    let rig = rig(|config| config.websocket.ping_interval = Duration::from_millis(150)).await;
    let mut socket = upgraded(&rig).await;
    socket.write_all(&frame(FIN | TEXT, &[b'x'; 100])[..50]).await.unwrap();
    assert_eq!(close_code(socket).await, Some(1008));
    rig.stop().await;
}

#[tokio::test]
async fn who_takes_its_time_over_a_message_is_not_silent() {
    let rig = rig(|config| config.websocket.ping_interval = Duration::from_millis(50)).await;
    let mut socket = upgraded(&rig).await;
    let message = frame(FIN | TEXT, br#"{"op":"publish","ref":"p","address":"POST /a","payload":1}"#);
    let (begun, rest) = message.split_at(20);
    // a byte for each ping, and no pong
    for byte in begun {
        socket.write_all(&[*byte]).await.unwrap();
        let first = timeout(HARD_TIMEOUT, socket.read_u8()).await.expect("a ping in time").unwrap();
        assert_eq!((first, socket.read_u8().await.unwrap()), (FIN | PING, 0));
    }
    socket.write_all(rest).await.unwrap();
    while timeout(HARD_TIMEOUT, socket.read_u8()).await.expect("an answer in time").unwrap() == FIN | PING {
        assert_eq!(socket.read_u8().await.unwrap(), 0);
    }
    assert_eq!(rig.counts().received, 1);
    rig.stop().await;
}

/// The first half of a text of a megabyte.
fn half() -> Vec<u8> {
    [&[FIN | TEXT, 255][..], &1_000_000_u64.to_be_bytes(), &[0; 4], &[b'x'; 500_000]].concat()
}

#[tokio::test]
async fn half_a_message_is_read_only_if_there_is_room_for_all_of_it() {
    let rig = rig(|config| config.body_timeout = Duration::from_millis(100)).await;
    let all = rig.fill();
    let mut socket = upgraded(&rig).await;
    socket.write_all(&half()).await.unwrap();
    assert_eq!(close_code(socket).await, Some(1013), "no room");
    drop(all);
    let mut socket = upgraded(&rig).await;
    socket.write_all(&half()).await.unwrap();
    rig.until_in_flight().await;
    assert_eq!(close_code(socket).await, Some(1008), "the other half does not come");
    assert!(rig.fill().is_some(), "what was held came back");
    rig.stop().await;
}

#[tokio::test]
async fn who_leaves_in_the_middle_of_a_message_leaves_nothing_in_flight() {
    let rig = rig(|_| {}).await;
    let mut fragments = upgraded(&rig).await;
    fragments.write_all(&frame(TEXT, &[b'x'; 125])).await.unwrap();
    fragments.write_all(&half()[..1]).await.unwrap();
    let mut socket = upgraded(&rig).await;
    socket.write_all(&half()).await.unwrap();
    rig.until_in_flight().await;
    drop((socket, fragments));
    // it fails if bytes stay in flight
    rig.stop().await;
}

#[tokio::test]
async fn a_close_is_answered_with_its_own_code() {
    let rig = rig(|_| {}).await;
    for (payload, code) in [(&[][..], 1000), (&[0x03, 0xe9, b'x'], 1001), (&[0x0f, 0xa0], 4000)] {
        let mut socket = upgraded(&rig).await;
        socket.write_all(&frame(FIN | CLOSE, payload)).await.unwrap();
        assert_eq!(close_code(socket).await, Some(code), "{payload:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_storm_of_subscriptions_opens_no_more_than_the_limit() {
    let rig = rig(|config| config.websocket.max_subscriptions = 4).await;
    let mut ws = Ws::connect(rig.address()).await;
    for n in 0..2_000 {
        ws.send(format!(r##"{{"op":"subscribe","ref":"s{n}","filters":["#"],"credit":1}}"##)).await;
    }
    let mut opened = 0;
    for _ in 0..2_000 {
        match member(&ws.text().await, "op").as_deref() {
            Some("subscribed") => opened += 1,
            Some("error") => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((opened, rig.outlet.state().opened.len()), (4, 4));
    rig.stop().await;
}

#[tokio::test]
async fn a_hundred_thousand_filters_are_refused_and_asking_again_ends_the_connection() {
    let rig = rig(|_| {}).await;
    let mut ws = Ws::connect(rig.address()).await;
    let filters = vec!["\"a/b\""; 100_000].join(",");
    let subscribe = format!(r#"{{"op":"subscribe","ref":"s","filters":[{filters}],"credit":1}}"#);
    for _ in 0..17 {
        ws.send(subscribe.clone()).await;
    }
    let detail = member(&ws.text().await, "detail").unwrap();
    assert!(detail.contains("a list of 1 to 64"), "{detail}");
    assert_eq!(ws.closed().await, (1008, "too many bad frames".to_owned()));
    assert!(rig.outlet.state().opened.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_crowd_that_does_nothing_takes_nothing_from_who_works() {
    let rig = rig(|config| config.server.max_connections_per_address = 500).await;
    let host = rig.address();
    let mut crowd = Vec::new();
    for number in 0..400 {
        let mut socket = match number % 5 {
            4 => upgraded(&rig).await,
            _ => TcpStream::connect(host).await.unwrap(),
        };
        // some say nothing, some begin a head, some a body, some wait for what does not come
        let begun = match number % 5 {
            0 => Vec::new(),
            1 => b"POST /a HTTP/1.1\r\nHo".to_vec(),
            2 => format!("POST /a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\nx").into_bytes(),
            3 => format!("GET /mesh/v1/events?filter=idle HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
            _ => frame(FIN | TEXT, br#"{"op":"subscribe","ref":"s","filters":["idle"],"credit":1}"#),
        };
        socket.write_all(&begun).await.unwrap();
        crowd.push(socket);
    }
    let subscribed = async {
        while rig.outlet.state().opened.len() < 160 {
            tokio::task::yield_now().await;
        }
    };
    timeout(HARD_TIMEOUT, subscribed).await.expect("two in five subscribe");
    let mut busy = Client::connect(rig.address()).await;
    for _ in 0..200 {
        assert_eq!(busy.ask("POST /a", "{}").await.status, 202);
    }
    assert_eq!(rig.counts().received, 200);
    drop(crowd);
    rig.stop().await;
}
