//! MQTT over WebSocket: the same protocol, in binary frames.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use super::client::{Hello, config, publish, subscribe};
use crate::{
    conformance::{Rig, delivery},
    http::ServerConfig,
};

const HARD_TIMEOUT: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn rig() -> (Rig, SocketAddr) {
    let mut config = config();
    config.websocket = Some(ServerConfig::new("127.0.0.1:0".parse().unwrap()));
    let rig = Rig::start(&config).await;
    rig.outlet.only_retained();
    let address = rig.addresses()[1];
    (rig, address)
}

async fn open(address: SocketAddr, path: &str, headers: &[(&'static str, &'static str)]) -> Result<Socket, StatusCode> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    match connect_async(request).await {
        Ok((socket, response)) => {
            assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
            Ok(socket)
        }
        Err(tungstenite::Error::Http(response)) => Err(response.status()),
        Err(error) => panic!("{error}"),
    }
}

async fn opened(address: SocketAddr) -> Socket {
    open(address, "/mqtt", &[("sec-websocket-protocol", "mqtt")]).await.unwrap()
}

async fn send(socket: &mut Socket, bytes: &[u8]) {
    socket.send(Message::Binary(Bytes::copy_from_slice(bytes))).await.unwrap();
}

/// What is in binary frames, until `so`.
async fn read(socket: &mut Socket, so: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut heard = Vec::new();
    while !so(&heard) {
        match timeout(HARD_TIMEOUT, socket.next()).await {
            Ok(Some(Ok(Message::Binary(bytes)))) => heard.extend_from_slice(&bytes),
            other => panic!("{other:?} after {heard:?}"),
        }
    }
    heard
}

#[tokio::test]
async fn mqtt_6_0_0_2_and_4_packets_are_read_wherever_frames_begin_and_end() {
    let (rig, address) = rig().await;
    let mut socket = opened(address).await;
    let hello = Hello { username: Some("ada"), password: Some("right"), ..Hello::five("a") }.bytes();
    for part in hello.chunks(5) {
        send(&mut socket, part).await;
    }
    send(&mut socket, &[]).await;
    assert_eq!(read(&mut socket, |heard| heard.len() > 4).await[0], 0x20);
    let two = [publish(0x02, "a", 1, &[0], "one"), publish(0x02, "a", 2, &[0], "two")].concat();
    let (first, second) = two.split_at(17);
    send(&mut socket, first).await;
    send(&mut socket, second).await;
    let acks = [0x40, 2, 0, 1, 0x40, 2, 0, 2];
    assert_eq!(read(&mut socket, |heard| heard.len() >= acks.len()).await, acks);
    let seen: Vec<_> = rig.seen().into_iter().flatten().collect();
    assert_eq!(seen.iter().map(|inbound| &inbound.payload[..]).collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!(&*seen[0].principal.id, "ada");
    rig.stop().await;
}

/// The head of a binary frame of so many bytes, with a mask that changes nothing.
fn head(length: u32) -> Vec<u8> {
    match u16::try_from(length) {
        Ok(length) => [&[0x82, 0x80 | 126][..], &length.to_be_bytes(), &[0; 4]].concat(),
        Err(_) => [&[0x82, 0x80 | 127, 0, 0, 0, 0][..], &length.to_be_bytes(), &[0; 4]].concat(),
    }
}

/// What is below the frames.
fn raw(socket: &mut Socket) -> &mut TcpStream {
    let MaybeTlsStream::Plain(raw) = socket.get_mut() else { panic!("not over TCP") };
    raw
}

#[tokio::test]
async fn packets_are_obeyed_as_they_come_however_long_their_frame_is() {
    let (rig, address) = rig().await;
    let mut socket = opened(address).await;
    // far more than a packet may have, and than is in flight over all bridges
    raw(&mut socket).write_all(&[head(64 << 20), Hello::five("a").bytes()].concat()).await.unwrap();
    assert_eq!(read(&mut socket, |heard| heard.len() > 4).await[0], 0x20);
    assert!(rig.is_empty());
    for n in 1..=3 {
        raw(&mut socket).write_all(&publish(0x02, "a", n.into(), &[0], "x")).await.unwrap();
        assert_eq!(read(&mut socket, |heard| heard.len() >= 4).await, [0x40, 2, 0, n]);
    }
    assert!(rig.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn half_a_frame_and_then_silence_is_closed_as_half_a_packet_is() {
    let mut config = config();
    config.websocket = Some(ServerConfig::new("127.0.0.1:0".parse().unwrap()));
    config.connect_timeout = Duration::from_millis(300);
    config.packet_timeout = Duration::from_millis(300);
    let rig = Rig::start(&config).await;
    let hello = Hello { keep_alive: 1, ..Hello::five("a") }.bytes();
    let large = publish(0x02, "a", 1, &[0], &"x".repeat(1_000_000));
    let ends = async |socket: &mut Socket| {
        let ended = timeout(HARD_TIMEOUT, async {
            let mut heard = Vec::new();
            while let Some(Ok(Message::Binary(bytes))) = socket.next().await {
                heard.extend_from_slice(&bytes);
            }
            heard
        });
        ended.await.unwrap()
    };
    // a head and nothing else, and half of CONNECT
    for bytes in [head(1_000), [head(1_000), hello[..9].to_vec()].concat()] {
        let mut socket = opened(rig.addresses()[1]).await;
        raw(&mut socket).write_all(&bytes).await.unwrap();
        assert_eq!(ends(&mut socket).await, b"");
    }
    let connected = async || {
        let mut socket = opened(rig.addresses()[1]).await;
        send(&mut socket, &hello).await;
        read(&mut socket, |heard| heard.len() > 4).await;
        socket
    };
    // half of a packet that is large: there is room for all of it meanwhile, and no longer
    let mut socket = connected().await;
    raw(&mut socket).write_all(&[head(large.len() as u32), large[..20_000].to_vec()].concat()).await.unwrap();
    rig.until_in_flight().await;
    let last = ends(&mut socket).await;
    assert_eq!((last[0], last[2]), (0xE0, 0x97));
    // and of one that is not
    let mut socket = connected().await;
    raw(&mut socket)
        .write_all(&[head(1_000), publish(0x02, "a", 1, &[0], "payload")[..5].to_vec()].concat())
        .await
        .unwrap();
    assert_eq!(ends(&mut socket).await[2], 0x8D);
    rig.stop().await;
    assert!(rig.is_empty());
}

#[tokio::test]
async fn a_delivery_that_is_larger_than_a_frame_arrives_whole() {
    let (rig, address) = rig().await;
    let large = Bytes::from(vec![b'x'; 300_000]);
    rig.outlet.give([delivery(1, "a", large.clone())]);
    let mut socket = opened(address).await;
    send(&mut socket, &Hello::three("a").bytes()).await;
    read(&mut socket, |heard| heard.len() >= 4).await;
    send(&mut socket, &subscribe(false, 9, &[], &[("a", 0)])).await;
    let heard = read(&mut socket, |heard| heard.len() >= 300_000).await;
    assert!(heard.ends_with(&large));
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_6_0_0_1_a_text_frame_closes_the_connection() {
    let (rig, address) = rig().await;
    let mut socket = opened(address).await;
    send(&mut socket, &Hello::five("a").bytes()).await;
    read(&mut socket, |heard| heard.len() > 4).await;
    socket.send(Message::Text("PINGREQ".into())).await.unwrap();
    let last = timeout(HARD_TIMEOUT, socket.next()).await.unwrap().unwrap().unwrap();
    let Message::Close(Some(close)) = &last else { panic!("{last:?}") };
    assert_eq!(u16::from(close.code), 1003);
    rig.stop().await;
}

#[tokio::test]
async fn pings_of_the_websocket_are_no_packets_and_keep_nobody_alive() {
    let (rig, address) = rig().await;
    let mut socket = opened(address).await;
    send(&mut socket, &Hello { keep_alive: 1, ..Hello::five("a") }.bytes()).await;
    read(&mut socket, |heard| heard.len() > 4).await;
    let pings = async {
        loop {
            socket.send(Message::Ping(Bytes::new())).await.unwrap();
            match socket.next().await {
                Some(Ok(Message::Pong(_))) => {}
                Some(Ok(Message::Binary(last))) => break last,
                other => panic!("{other:?}"),
            }
        }
    };
    let last = timeout(HARD_TIMEOUT, pings).await.unwrap();
    assert_eq!((last[0], last[2]), (0xE0, 0x8D));
    rig.stop().await;
}

#[tokio::test]
async fn pings_are_answered_between_packets() {
    let (rig, address) = rig().await;
    let mut socket = opened(address).await;
    send(&mut socket, &Hello::five("a").bytes()).await;
    read(&mut socket, |heard| heard.len() > 4).await;
    for n in 1..=3 {
        socket.send(Message::Ping(Bytes::from(vec![n]))).await.unwrap();
        let answer = timeout(HARD_TIMEOUT, socket.next()).await.unwrap();
        assert!(matches!(&answer, Some(Ok(Message::Pong(bytes))) if **bytes == [n]), "{answer:?}");
        send(&mut socket, &publish(0x02, "a", n.into(), &[0], "x")).await;
        assert_eq!(read(&mut socket, |heard| heard.len() >= 4).await, [0x40, 2, 0, n]);
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_6_0_0_3_what_is_no_websocket_of_mqtt_or_is_of_a_foreign_page_is_refused() {
    let (rig, address) = rig().await;
    let mqtt = ("sec-websocket-protocol", "mqtt");
    for (path, headers, status) in [
        ("/mqtt", vec![], 400),
        ("/mqtt", vec![("sec-websocket-protocol", "amqp")], 400),
        ("/other", vec![mqtt], 404),
        ("/mqtt", vec![mqtt, ("origin", "https://evil.example")], 403),
        ("/mqtt", vec![mqtt, ("host", "evil.example")], 421),
    ] {
        let refused = open(address, path, &headers).await.err();
        assert_eq!(refused.map(|refused| refused.as_u16()), Some(status), "{path} {headers:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn at_the_drain_a_client_over_websocket_is_told_so() {
    let (rig, address) = rig().await;
    let mut socket = opened(address).await;
    send(&mut socket, &Hello::five("a").bytes()).await;
    read(&mut socket, |heard| heard.len() > 4).await;
    rig.drain();
    let heard = read(&mut socket, |heard| heard.len() > 2).await;
    assert_eq!((heard[0], heard[2]), (0xE0, 0x8B));
    rig.stop().await;
}
