//! Plain HTTP and WebSocket clients.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// An HTTP answer. Status 0: the connection failed or broke.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as JSON, `null` if it is none.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

/// A client that keeps its connection.
#[derive(Debug, Clone)]
pub struct Client(ureq::Agent);

/// A subscription over WebSocket.
#[derive(Debug)]
pub struct Subscriber {
    socket: WebSocket<TcpStream>,
    ready: VecDeque<Value>,
}

// === impl Client ===

impl Client {
    /// With a timeout of 10 s.
    pub fn new() -> Self {
        let timeout = Some(Duration::from_secs(10));
        Self(ureq::Agent::config_builder().timeout_global(timeout).http_status_as_error(false).build().into())
    }

    /// POST with these headers.
    pub fn post(&self, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let request = headers.iter().fold(self.0.post(url), |request, (name, value)| request.header(*name, *value));
        Answer::from(request.send(body))
    }

    /// GET.
    pub fn get(&self, url: &str) -> Answer {
        self.get_with(url, &[])
    }

    /// GET with these headers.
    pub fn get_with(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        let request = headers.iter().fold(self.0.get(url), |request, (name, value)| request.header(*name, *value));
        Answer::from(request.call())
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

/// One POST on a connection of its own.
pub fn post(url: &str, body: &str) -> Answer {
    Client::new().post(url, &[], body.as_bytes())
}

/// One GET on a connection of its own.
pub fn get(url: &str) -> Answer {
    Client::new().get(url)
}

// === impl Answer ===

impl From<Result<ureq::http::Response<ureq::Body>, ureq::Error>> for Answer {
    fn from(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Self {
        let read =
            result.and_then(|mut response| Ok((response.status().as_u16(), response.body_mut().read_to_string()?)));
        let (status, text) = read.unwrap_or_default();
        Self { status, body: serde_json::from_str(&text).unwrap_or_default(), text }
    }
}

// === impl Subscriber ===

impl Subscriber {
    /// Connects and subscribes; `None` if the gateway is away. `start` as in the protocol: `"earliest"`, ...
    pub fn open(at: SocketAddr, filters: &[&str], start: &Value, durable: Option<&str>, credit: u32) -> Option<Self> {
        let stream = TcpStream::connect(at).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let (socket, _) = tungstenite::client(format!("ws://{at}/mesh/v1/ws"), stream).ok()?;
        let mut subscriber = Self { socket, ready: VecDeque::new() };
        let mut frame = json!({"op": "subscribe", "ref": "s", "filters": filters, "start": start, "credit": credit});
        if let Some(name) = durable {
            frame["durable"] = name.into();
        }
        subscriber.send(&frame)?;
        let answer = subscriber.frame()?;
        assert_eq!(answer["op"], "subscribed", "{answer}");
        Some(subscriber)
    }

    /// Sends a frame; `None` if the connection broke.
    pub fn send(&mut self, frame: &Value) -> Option<()> {
        self.socket.send(Message::text(frame.to_string())).ok()
    }

    /// The next frame of any kind; `None` if the connection broke or nothing came for 10 s.
    pub fn frame(&mut self) -> Option<Value> {
        if let Some(frame) = self.ready.pop_front() {
            return Some(frame);
        }
        loop {
            match self.socket.read().ok()? {
                Message::Text(text) => return serde_json::from_str(&text).ok(),
                Message::Close(_) => return None,
                _ => continue,
            }
        }
    }

    /// The next message; other frames before it are dropped.
    pub fn message(&mut self) -> Option<Value> {
        loop {
            let frame = self.frame()?;
            if frame["op"] == "message" {
                return Some(frame);
            }
        }
    }

    /// Acks a message.
    pub fn ack(&mut self, message: &Value) -> Option<()> {
        self.send(&json!({"op": "ack", "sub": "s", "positions": [message["position"]]}))
    }
}
