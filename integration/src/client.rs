//! Plain HTTP, WebSocket and server-sent event clients.

use std::{
    collections::VecDeque,
    fmt,
    io::{BufRead, BufReader},
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

/// A stream of server-sent events.
pub struct Events(BufReader<ureq::BodyReader<'static>>);

/// One of them; one without data is no event, but a sign of life.
#[derive(Debug, Default)]
pub struct Event {
    /// Its type; empty for most.
    pub kind: String,
    /// What to go on behind.
    pub id: String,
    /// The data as JSON, `null` if there is none.
    pub data: Value,
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

    /// DELETE with these headers.
    pub fn delete(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        let request = headers.iter().fold(self.0.delete(url), |request, (name, value)| request.header(*name, *value));
        Answer::from(request.call())
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
        let mut subscriber = Self::connect(at)?;
        let mut frame = json!({"op": "subscribe", "ref": "s", "filters": filters, "start": start, "credit": credit});
        if let Some(name) = durable {
            frame["durable"] = name.into();
        }
        subscriber.send(&frame)?;
        let answer = subscriber.frame()?;
        assert_eq!(answer["op"], "subscribed", "{answer}");
        Some(subscriber)
    }

    /// Connects and does not subscribe; `None` if the gateway is away.
    pub fn connect(at: SocketAddr) -> Option<Self> {
        Self::connect_at(at, "/mesh/v1/ws")
    }

    /// Connects at a path whose frames are messages; `None` if the gateway is away.
    pub fn connect_at(at: SocketAddr, path: &str) -> Option<Self> {
        let stream = TcpStream::connect(at).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let (socket, _) = tungstenite::client(format!("ws://{at}{path}"), stream).ok()?;
        Some(Self { socket, ready: VecDeque::new() })
    }

    /// How long to wait for a frame, instead of 10 s.
    pub fn set_patience(&self, patience: Duration) {
        self.socket.get_ref().set_read_timeout(Some(patience)).expect("a timeout over 0");
    }

    /// Waits until the gateway has taken all that was sent: it answers frames in order, and this one it refuses.
    pub fn flush(&mut self) -> Option<()> {
        self.send(&json!({"op": "nonsense"}))?;
        while self.frame()?["op"] != "error" {}
        Some(())
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

// === impl Events ===

impl Events {
    /// GET, to go on behind the event of this id; `None` if the gateway is away.
    pub fn open(url: &str, last: Option<&str>) -> Option<Self> {
        let timeout = Some(Duration::from_secs(10));
        let config = ureq::Agent::config_builder().timeout_connect(timeout).timeout_recv_response(timeout);
        let agent = ureq::Agent::from(config.http_status_as_error(false).build());
        let request = last.into_iter().fold(agent.get(url), |request, id| request.header("last-event-id", id));
        let mut response = request.call().ok()?;
        match response.status().as_u16() {
            200 => Some(Self(BufReader::new(response.into_body().into_reader()))),
            503 => None,
            other => panic!("{other}: {:?}", response.body_mut().read_to_string()),
        }
    }

    /// The next event; `None` if the connection broke, also in the midst of one.
    pub fn event(&mut self) -> Option<Event> {
        let (mut event, mut data, mut line) = (Event::default(), String::new(), String::new());
        loop {
            line.clear();
            if self.0.read_line(&mut line).ok()? == 0 || !line.ends_with('\n') {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", kind)) => kind.clone_into(&mut event.kind),
                Some(("id", id)) => id.clone_into(&mut event.id),
                Some(("data", text)) => data += text,
                Some(_) => continue,
                None if line == "\n" => {
                    event.data = serde_json::from_str(&data).unwrap_or_default();
                    return Some(event);
                }
                None => continue,
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
