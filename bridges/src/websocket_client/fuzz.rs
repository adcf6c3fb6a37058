//! Hostile feeds: what the fuzz target calls with any bytes. A server says them, to a client over memory whose clock runs ahead.

#![allow(clippy::expect_used, reason = "a promise that is broken is to panic here")]

use std::{path::Path, time::Duration};

use envelope::{Identity, KeyWrite};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::Builder,
    time::timeout,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use yaml::{File, Resolve};

use super::{
    WebSocketClientConfig,
    dial::{open, shake},
    source::{KEY, Running},
};
use crate::conformance::Rig;

const MAX_PAYLOAD: usize = 4_096;
/// Long beside every timeout of a connection.
const PATIENCE: Duration = Duration::from_secs(3_600);
const CONNECTIONS: usize = 2;

/// What the server does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    /// The bytes are its answer to the handshake, and all behind it.
    Handshake,
    /// They are what follows the handshake.
    Wire,
    /// Each line of them is a message.
    Lines,
}

/// A feed, twice in a row: whatever it says, the client comes to an end, what it brings in has an address that is one, and each
/// message that it counted was offered.
///
/// # Panics
/// If one of it is not so.
pub fn feeds(bits: u8, bytes: &[u8]) {
    let says = match bits & 3 {
        0 => Says::Handshake,
        1 => Says::Wire,
        _ => Says::Lines,
    };
    let Ok(runtime) = Builder::new_current_thread().enable_time().start_paused(true).build() else { return };
    runtime.block_on(async {
        let (rig, cx) = Rig::unbound();
        // what is kept of the feed may be anything, too
        let (kept, said) = bytes.split_at(if bits & 64 == 0 { 0 } else { bytes.len().min(12) });
        cx.keys.write(vec![KeyWrite::put(KEY, kept.to_vec())]).await.expect("the fake takes it");
        let config = config(bits);
        let mut running = Running::new(config.clone(), cx);
        running.take_up().await;
        for _ in 0..CONNECTIONS {
            let (ours, theirs) = duplex(65_536);
            let connection = async {
                let feed = shake(&config, Box::new(ours)).await.ok()?;
                let feed = open(&config, feed, running.last()).await.ok()?;
                running.serve(feed).await;
                running.keep().await;
                Some(())
            };
            let both = async { tokio::join!(connection, serve(theirs, says, said)) };
            timeout(PATIENCE, both).await.expect("a connection that ends");
        }
        let counts = rig.counts();
        let seen: Vec<_> = rig.seen().into_iter().flatten().collect();
        assert_eq!((counts.received, counts.offered), (seen.len() as u64, seen.len() as u64));
        assert!(counts.returned.is_empty() && rig.is_empty());
        for message in &seen {
            let channel = message.address.strip_prefix("message").expect("the address of a message");
            let segment = channel.strip_prefix('/').unwrap_or("-");
            assert!(channel.is_empty() || channel.starts_with('/'), "{:?}", message.address);
            assert!(!segment.is_empty() && !segment.contains(['/', '+', '#']), "{:?}", message.address);
            assert!(!segment.chars().any(char::is_control), "{:?}", message.address);
            assert!(message.payload.len() <= MAX_PAYLOAD && message.principal.id.starts_with("$bridge:"));
            assert!(bits & 8 != 0 || !matches!(message.identity, Identity::Native(_)), "only a number identifies");
        }
    });
}

/// With some of what can be asked of a feed.
fn config(bits: u8) -> WebSocketClientConfig {
    let mut text = format!("url: ws://127.0.0.1/feed\nmax_payload_bytes: {MAX_PAYLOAD}\n");
    if bits & 4 != 0 {
        text += "login: { send: me, expect: { /ok: true } }\n";
    }
    match (bits & 8 != 0, bits & 16 != 0) {
        (true, true) => text += "channel: /c\nsequence: { at: /n, by: channel }\n",
        (true, false) => text += "channel: /c\nsequence: { at: /n, resume: { send: 'after {sequence}' } }\n",
        (false, true) => text += "channel: /c\n",
        (false, false) => text += "subscribe: [{ send: all, expect: { /e: 1, /c: null } }]\n",
    }
    if bits & 32 != 0 {
        text += "subprotocol: v1\n";
    }
    let file = File::parse("feed.yaml", &text).expect("YAML");
    let nothing = Resolve { env: &|_| None, file: &|_| Err(std::io::Error::other("no files")) };
    file.read(|root, problems| WebSocketClientConfig::read(root, Path::new("."), &nothing, problems)).expect("a config")
}

/// One connection of the server, which closes it without a word.
async fn serve(mut wire: DuplexStream, says: Says, bytes: &[u8]) {
    if says != Says::Handshake {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let Ok(byte) = wire.read_u8().await else { return };
            request.push(byte);
        }
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let at = text.find("sec-websocket-key: ").expect("a key") + "sec-websocket-key: ".len();
        let key = request[at..].split(|byte| *byte == b'\r').next().unwrap_or_default();
        let protocol = if text.contains("sec-websocket-protocol") { "sec-websocket-protocol: v1\r\n" } else { "" };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n{protocol}\
             sec-websocket-accept: {}\r\n\r\n",
            derive_accept_key(key)
        );
        // the client may be gone at any time
        _ = wire.write_all(answer.as_bytes()).await;
    }
    if says == Says::Lines {
        for line in bytes.split(|byte| *byte == b'\n') {
            let length = u16::try_from(line.len()).unwrap_or(u16::MAX);
            let kind = if std::str::from_utf8(line).is_ok() { 0x81 } else { 0x82 };
            let line = &line[..usize::from(length)];
            _ = wire.write_all(&[&[kind, 126][..], &length.to_be_bytes(), line].concat()).await;
        }
    } else {
        _ = wire.write_all(bytes).await;
    }
    _ = wire.shutdown().await;
    // until the client closes it, too
    let mut rest = [0; 1_024];
    while let Ok(1..) = wire.read(&mut rest).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: [&[u8]; 6] = [
        b"{\"ok\":true}\n{\"c\":\"a/b\",\"n\":1}\n{\"c\":\"a/b\",\"n\":5}\n{\"c\":7,\"n\":2}",
        b"{\"e\":1,\"c\":null}\n{\"c\":\"%+#\\u0000\"}\n[]\n",
        b"{\"n\":18446744073709551615}\n{\"n\":0}\n{\"n\":-1}\n{\"n\":1e3}\n{\"n\":\"7\"}",
        b"\x81\x05hello\x89\x00\x01\x03abc\x80\x01d\x88\x02\x03\xe8",
        b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
        b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
    ];

    #[test]
    fn whatever_a_feed_says_the_promises_hold() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..400 {
            for seed in SEEDS {
                let mut bytes = seed.to_vec();
                for _ in 0..round % 4 {
                    let at = random.usize(0..=bytes.len());
                    match random.u8(0..3) {
                        0 => bytes.insert(at, random.u8(..)),
                        1 if at < bytes.len() => bytes[at] = random.u8(..),
                        _ => bytes.truncate(at),
                    }
                }
                feeds(random.u8(..), &bytes);
            }
        }
    }

    #[test]
    fn the_seeds_bring_messages_in() {
        // the first without a login: four lines, one of them an answer that nobody waits for
        for (bits, lines) in [(2 | 16, 4), (1 | 16, 0)] {
            let Ok(runtime) = Builder::new_current_thread().enable_time().start_paused(true).build() else { return };
            let seen = runtime.block_on(async {
                let (rig, cx) = Rig::unbound();
                let mut running = Running::new(config(bits), cx);
                let (ours, theirs) = duplex(65_536);
                let says = if bits & 3 == 1 { Says::Handshake } else { Says::Lines };
                let connection = async {
                    let feed = shake(&config(bits), Box::new(ours)).await.ok()?;
                    Some(running.serve(feed).await)
                };
                tokio::join!(connection, serve(theirs, says, SEEDS[if lines == 0 { 5 } else { 0 }]));
                rig.counts().received
            });
            assert_eq!(seen, lines);
        }
    }
}
