//! Clients: raw HTTP over TCP, and frames over a WebSocket.

use std::net::SocketAddr;

use envelope::Json;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::conformance::HARD_TIMEOUT;

/// One HTTP connection.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

/// An answer. Header names are in lower case.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    /// As it was sent.
    pub(super) bytes: Vec<u8>,
    /// As text.
    pub(super) body: String,
}

/// One WebSocket.
pub(super) struct Ws(pub(super) WebSocketStream<MaybeTlsStream<TcpStream>>);

// === impl Client ===

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), address)
    }

    pub(super) fn over(stream: TcpStream, address: SocketAddr) -> Self {
        Self { stream, address, buffer: Vec::new() }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a request with a fitting Host; `head` is the request line and further headers, a line each.
    pub(super) async fn request(&mut self, head: &str, body: &str) {
        let (line, headers) = head.split_once('\n').map_or((head, String::new()), |(line, headers)| {
            (line, headers.lines().map(|header| format!("{}\r\n", header.trim())).collect())
        });
        let (address, length) = (self.address, body.len());
        self.send(format!("{line} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"))
            .await;
    }

    pub(super) async fn ask(&mut self, head: &str, body: &str) -> Answer {
        self.request(head, body).await;
        self.answer().await
    }

    pub(super) async fn answer(&mut self) -> Answer {
        timeout(HARD_TIMEOUT, self.read()).await.expect("an answer in time").expect("an answer")
    }

    /// An answer; that to HEAD has no body whatever its length says.
    pub(super) async fn answer_to_head(&mut self, is_head: bool) -> Answer {
        if !is_head {
            return self.answer().await;
        }
        self.stream.read_to_end(&mut self.buffer).await.unwrap();
        let head = String::from_utf8(std::mem::take(&mut self.buffer)).unwrap().to_ascii_lowercase();
        Answer { status: head[9..12].parse().unwrap(), head, bytes: Vec::new(), body: String::new() }
    }

    /// Whether the gateway closes without a further answer.
    pub(super) async fn is_closed(&mut self) -> bool {
        timeout(HARD_TIMEOUT, self.read()).await.expect("the end in time").is_none()
    }

    async fn read(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.parse() {
                return Some(answer);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    fn parse(&mut self) -> Option<Answer> {
        let end = self.buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap().to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
        let bytes = self.buffer.get(end..end + length)?.to_vec();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        self.buffer.drain(..end + length);
        Some(Answer { status: head[9..12].parse().unwrap(), head, bytes, body })
    }
}

// === impl Answer ===

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// A member of the JSON body, as it is written there.
    pub(super) fn member(&self, name: &str) -> Option<String> {
        member(&self.body, name)
    }
}

/// A member of a JSON object, as it is written there.
pub(super) fn member(json: &str, name: &str) -> Option<String> {
    let json = Json::parse(json.to_owned().into()).expect("the answer is JSON");
    json.root().get(name).map(|node| node.source().trim_matches('"').to_owned())
}

// === impl Ws ===

impl Ws {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self(connect_async(format!("ws://{address}/mesh/v1/ws")).await.unwrap().0)
    }

    pub(super) async fn send(&mut self, frame: impl Into<String>) {
        self.0.send(Message::text(frame.into())).await.unwrap();
    }

    /// The next frame but pings; `None` once the connection is closed.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            match timeout(HARD_TIMEOUT, self.0.next()).await.expect("a frame in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(frame)) => return Some(frame),
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub(super) async fn text(&mut self) -> String {
        match self.next().await {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("expected a text frame, got {other:?}"),
        }
    }

    /// Code and reason of the close frame.
    pub(super) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Some(Message::Close(Some(close))) => return (close.code.into(), close.reason.to_string()),
                Some(Message::Text(_)) => {}
                other => panic!("expected a close frame, got {other:?}"),
            }
        }
    }
}
