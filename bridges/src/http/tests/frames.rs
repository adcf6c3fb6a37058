//! A peer of HTTP/2 that sends what it likes, frame by frame.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::conformance::HARD_TIMEOUT;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

/// Codes of a GOAWAY (RFC 9113, section 7).
pub(super) const NO_ERROR: u32 = 0;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A connection of frames.
pub(super) struct Frames {
    pub(super) stream: TcpStream,
    address: SocketAddr,
}

impl Frames {
    /// After the preface, with `settings` of the peer.
    pub(super) async fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let mut frames = Self { stream: TcpStream::connect(address).await.unwrap(), address };
        frames.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        frames.send(SETTINGS, 0, 0, settings).await;
        frames
    }

    /// Whether the other end still takes it.
    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let frame = frame(kind, flags, stream, payload);
        matches!(timeout(HARD_TIMEOUT, self.stream.write_all(&frame)).await.expect("is read in time"), Ok(()))
    }

    /// The head of a request, in literals.
    pub(super) fn head(&self, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
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
    pub(super) async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
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
    pub(super) async fn ends(&mut self) -> Vec<u32> {
        let mut codes = Vec::new();
        while let Some((kind, _, payload)) = self.next().await {
            if kind == GOAWAY {
                codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        codes
    }

    /// The head and the data of an answer are there.
    pub(super) async fn answered(&mut self, stream: u32) -> Vec<u8> {
        loop {
            let (kind, of, payload) = self.next().await.expect("an answer before the end");
            if kind == HEADERS && of == stream {
                return payload;
            }
        }
    }
}

/// The codes of the GOAWAYs among frames; the last one may be cut off.
pub(super) fn goaways(mut frames: &[u8]) -> Vec<u32> {
    let mut codes = Vec::new();
    while let Some((head, rest)) = frames.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        if head[3] == GOAWAY {
            codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        frames = rest;
    }
    codes
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
