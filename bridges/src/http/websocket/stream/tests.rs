use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, protocol::Role},
};

use super::*;
use crate::http::websocket::wire::{CONTINUATION, FIN, MASKED};

/// A frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = Vec::new();
    put_head(&mut frame, 0, payload.len());
    frame[0] = first;
    frame[1] |= MASKED;
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// What is found in bytes that come in steps, and why nothing more is.
fn found(bytes: &[u8], step: usize) -> (Vec<u8>, Option<End>) {
    let (mut payloads, mut found) = (Payloads::default(), Vec::new());
    for piece in bytes.chunks(step) {
        let mut piece = piece.to_vec();
        let count = payloads.find(&mut piece);
        found.extend_from_slice(&piece[..count]);
    }
    (found, payloads.end)
}

fn pair(room: usize) -> (DuplexStream, ByteStream<DuplexStream>) {
    let (client, server) = duplex(room);
    (client, ByteStream::new(server, Bytes::new()))
}

#[test]
fn the_payload_of_binary_frames_is_one_stream_wherever_they_and_the_bytes_are_cut() {
    let sent = [
        frame(FIN | BINARY, b"one "),
        frame(BINARY, b"tw"),
        frame(FIN | PING, b"between"),
        frame(CONTINUATION, b"o"),
        frame(FIN | CONTINUATION, b" "),
        frame(FIN | BINARY, b""),
        frame(FIN | BINARY, &[b'x'; 70_000]),
        frame(FIN | CLOSE, b"\x03\xe8bye"),
        b"and nothing behind it".to_vec(),
    ]
    .concat();
    let expected = [b"one two ".to_vec(), vec![b'x'; 70_000]].concat();
    let close = Close { code: code::NORMAL, reason: "bye".into() };
    for step in [1, 2, 3, 7, 1_000, sent.len()] {
        let (found, end) = found(&sent, step);
        assert!(found == expected, "in steps of {step}");
        assert_eq!(end, Some(End::Closed(Some(close.clone()))));
    }
}

#[test]
fn the_payload_of_a_frame_is_there_before_its_end_is_however_long_it_says_it_is() {
    let mut bytes = vec![FIN | BINARY, MASKED | 127, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    bytes.extend_from_slice(b"at once");
    assert_eq!(found(&bytes, bytes.len()), (b"at once".to_vec(), None));
    bytes[2] = 0x80;
    assert_eq!(found(&bytes, 1), (Vec::new(), Some(End::Broken(Broken::TooLarge))), "the highest bit is no length");
}

#[test]
fn what_came_before_the_protocol_was_broken_is_there() {
    let broken = |how| End::Broken(Broken::Protocol(how));
    for (bytes, why) in [
        (frame(FIN | TEXT, b"x"), End::Text),
        (frame(TEXT, b""), End::Text),
        (frame(FIN | CONTINUATION, b"x"), broken("a frame goes on with nothing")),
        (frame(0x40 | FIN | BINARY, b"x"), broken("a reserved bit is set")),
        (vec![FIN | BINARY, 1, b'x'], broken("a frame is not masked")),
        (frame(FIN | PING, &[0; 126]), broken("a control frame is too long")),
        (frame(FIN | CLOSE, b"\x03"), broken("half a status code")),
        ([frame(BINARY, b""), frame(FIN | BINARY, b"x")].concat(), broken("a message begins within another")),
    ] {
        let bytes = [frame(FIN | BINARY, b"before"), bytes].concat();
        for step in [1, bytes.len()] {
            assert_eq!(found(&bytes, step), (b"before".to_vec(), Some(why.clone())));
        }
    }
}

#[test]
fn any_bytes_are_what_their_messages_are() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for run in 0..20_000 {
        // mostly frames, with something else between them
        let parts = (0..random.usize(1..6)).map(|_| match random.u8(..8) {
            0 => (0..random.usize(..9)).map(|_| random.u8(..)).collect(),
            _ => {
                let first =
                    random.choice([FIN, 0]).unwrap_or(0) | random.choice([0, 0, 2, 2, 9, 10, 1, 8]).unwrap_or(0);
                frame(first, &vec![random.u8(..); *random.choice(&[0, 1, 5, 125, 126, 300]).unwrap_or(&0)])
            }
        });
        let bytes = parts.collect::<Vec<Vec<u8>>>().concat();
        let step = random.usize(1..40);
        let ran = std::panic::catch_unwind(|| fuzz_stream(&bytes, step));
        assert!(ran.is_ok(), "seed {seed}, run {run}: {bytes:?} in steps of {step}");
    }
}

#[tokio::test]
async fn a_client_of_others_hears_what_is_written_and_is_heard_however_little_the_socket_takes() {
    for room in [1, 64, 1 << 20] {
        let (client, mut server) = pair(room);
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let sizes = [1_usize, 125, 126, 65_535, 65_536, 65_537, 200_000];
        let served = async {
            let mut heard = vec![0; 3_000];
            server.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, [7; 3_000]);
            for size in sizes {
                server.write_all(&vec![size as u8; size]).await.unwrap();
                server.flush().await.unwrap();
            }
            server.shutdown().await.unwrap();
        };
        let asked = async {
            client.send(tungstenite::Message::Binary(vec![7; 3_000].into())).await.unwrap();
            let mut heard = Vec::new();
            let close = loop {
                match client.next().await.unwrap().unwrap() {
                    tungstenite::Message::Binary(bytes) => heard.extend_from_slice(&bytes),
                    tungstenite::Message::Close(close) => break close,
                    other => panic!("{other:?}"),
                }
            };
            assert!(heard == sizes.map(|size| vec![size as u8; size]).concat());
            assert_eq!(close.map(|close| close.code.into()), Some(code::NORMAL));
        };
        tokio::join!(served, asked);
    }
}

#[tokio::test]
async fn what_was_read_with_the_handshake_comes_first() {
    let (mut client, server) = duplex(64);
    let mut server = ByteStream::new(server, frame(FIN | BINARY, b"early").into());
    client.write_all(&frame(FIN | BINARY, b" and late")).await.unwrap();
    let mut heard = [0; 14];
    server.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"early and late");
    drop(client);
    assert_eq!(server.read(&mut heard).await.unwrap(), 0);
}

#[tokio::test]
async fn a_ping_within_a_frame_that_is_being_written_is_answered_behind_it() {
    let (mut client, mut server) = pair(8);
    // the head, and four bytes
    assert_eq!(server.write(b"a frame").now_or_never().unwrap().unwrap(), 6);
    client.write_all(&frame(FIN | PING, b"?")[..7]).await.unwrap();
    let mut none = [0; 8];
    assert!(server.read(&mut none).now_or_never().is_none());
    let mut heard = [0; 8];
    client.read_exact(&mut heard).await.unwrap();
    let rest = async {
        server.write_all(b"e").await.unwrap();
        server.flush().await.unwrap();
    };
    let mut last = [0; 4];
    let (_, read) = tokio::join!(rest, client.read_exact(&mut last));
    read.unwrap();
    assert_eq!((&heard, &last), (b"\x82\x07a fram", b"e\x8a\x01?"));
}

#[tokio::test]
async fn nothing_is_read_until_the_answer_to_a_ping_has_left_and_of_several_the_last_is_answered() {
    let (mut client, mut server) = pair(64);
    let mut none = [0; 64];
    let pings = [frame(FIN | PING, &[1; 40]), frame(FIN | PING, b"2")].concat();
    client.write_all(&pings).await.unwrap();
    assert!(server.read(&mut none).now_or_never().is_none());
    let mut pong = [0; 3];
    client.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\x8a\x012");
    // 50 bytes are in its way, and the next answer does not fit behind them
    server.stream.write_all(&[0; 50]).await.unwrap();
    client.write_all(&frame(FIN | PING, &[3; 40])).await.unwrap();
    assert!(server.read(&mut none).now_or_never().is_none());
    for _ in 0..10 {
        client.write_all(&frame(FIN | PING, b"")).now_or_never();
        assert!(server.read(&mut none).now_or_never().is_none());
    }
    assert!(server.out.len() <= 42, "{} bytes wait to be written", server.out.len());
    let mut before = [0; 50 + 42];
    let (read, nothing) = tokio::join!(client.read_exact(&mut before), async { server.read(&mut none).now_or_never() });
    read.unwrap();
    assert!(nothing.is_none());
}

#[tokio::test]
async fn the_last_word_says_what_was_broken_and_a_close_is_answered_with_its_own_code() {
    for (sent, first, code) in [
        (frame(FIN | TEXT, b"x"), None, code::UNSUPPORTED),
        (frame(FIN | 3, b"x"), None, code::PROTOCOL),
        (frame(FIN | CLOSE, &[0x03, 0xe8, 0xff]), None, code::INVALID),
        (frame(FIN | CLOSE, b"\x0f\xa0because"), Some(0), 4_000),
    ] {
        let (mut client, mut server) = pair(1_024);
        client.write_all(&sent).await.unwrap();
        let mut none = [0; 64];
        let read = server.read(&mut none).await;
        assert_eq!(read.ok(), first);
        drop(server);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!((heard[0], &heard[2..4]), (FIN | CLOSE, &code.to_be_bytes()[..]));
    }
}

#[tokio::test]
async fn nothing_comes_behind_the_last_word_neither_an_answer_to_a_ping_that_came_with_the_end() {
    let pong = [&[0x8A, 4][..], b"ping"].concat();
    let own_close = [FIN | CLOSE, 2, 3, 0xE8];
    for (end, close) in [
        (frame(FIN | CLOSE, b"\x03\xe8bye"), Some(own_close)),
        // one that is cut by what is no frame
        (frame(FIN | TEXT, b"x"), None),
    ] {
        let (mut client, mut server) = pair(1 << 16);
        let bytes = [frame(FIN | PING, b"ping"), end].concat();
        client.write_all(&bytes).await.unwrap();
        let mut nothing = [0; 8];
        assert!(matches!(server.read(&mut nothing).await, Ok(0) | Err(_)));
        drop(server);
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        let last = said.strip_prefix(&pong[..]).expect("the answer, which was owed, comes before");
        assert_eq!((last[0], usize::from(last[1])), (FIN | CLOSE, last.len() - 2), "one frame: {last:?}");
        assert!(close.is_none_or(|close| last == close), "{last:?}");
    }
    // the gateway closes first, and is asked something then
    let (mut client, mut server) = pair(1 << 16);
    let closing = async {
        server.shutdown().await.unwrap();
        _ = server.read(&mut [0; 8]).await;
        _ = server.flush().await;
        drop(server);
    };
    client.write_all(&frame(FIN | PING, b"ping")).await.unwrap();
    client.shutdown().await.unwrap();
    closing.await;
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, own_close);
}
