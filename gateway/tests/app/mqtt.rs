//! A client of MQTT 3.1.1 and 5.0, over TCP or WebSocket, that can just enough to be told yes and no, and to hear.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::support::PATIENCE;

/// One connection.
pub(crate) struct Client {
    wire: Wire,
    is_five: bool,
    /// What was published to it, while it waited for something else.
    heard: Vec<Vec<u8>>,
}

/// Bytes, however they travel.
pub(crate) enum Wire {
    Tcp(TcpStream),
    /// And what of the last frame was not read yet.
    WebSocket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>, Vec<u8>),
}

/// A reason code, and what MQTT 5.0 says beside it.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: u8,
    pub(crate) reason: String,
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut left) = (vec![first], body.len());
    loop {
        let more = left > 127;
        packet.push((left % 128) as u8 | if more { 0x80 } else { 0 });
        left /= 128;
        if !more {
            return [packet, body.to_vec()].concat();
        }
    }
}

impl Client {
    /// `version` is 4 or 5; as a user with a password, or as nobody. The code of a CONNACK that refuses is the error.
    pub(crate) async fn over(wire: Wire, version: u8, who: Option<(&str, &str)>) -> Result<Self, u8> {
        Self::named(&format!("table-{version}"), wire, version, who).await
    }

    /// [`Self::over`], by a client identifier of its own.
    pub(crate) async fn named(id: &str, wire: Wire, version: u8, who: Option<(&str, &str)>) -> Result<Self, u8> {
        let is_five = version == 5;
        let mut body = [text("MQTT"), vec![version, if who.is_some() { 0xC2 } else { 0x02 }, 0, 60]].concat();
        if is_five {
            body.push(0);
        }
        body.extend(text(id));
        for part in who.iter().flat_map(|(name, password)| [name, password]) {
            body.extend(text(part));
        }
        let mut client = Self { wire, is_five, heard: Vec::new() };
        let (first, answer) = client.ask(&packet(0x10, &body)).await;
        assert_eq!(first, 0x20, "{answer:?}");
        if answer[1] == 0 { Ok(client) } else { Err(answer[1]) }
    }

    /// Connects with MQTT 3.1.1 to a session that stays.
    pub(crate) async fn staying(id: &str, wire: Wire, (name, password): (&str, &str)) -> Self {
        let body = [&text("MQTT")[..], &[4, 0xC0, 0, 60], &text(id), &text(name), &text(password)].concat();
        let mut client = Self { wire, is_five: false, heard: Vec::new() };
        let (first, answer) = client.ask(&packet(0x10, &body)).await;
        assert_eq!((first, answer[1]), (0x20, 0));
        client
    }

    /// The next message of QoS 1 that is published to it, acknowledged: its topic and its payload, of MQTT 3.1.1.
    pub(crate) async fn take(&mut self) -> (String, String) {
        let body = self.hear().await;
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (topic, rest) = body[2..].split_at(length);
        self.wire.write(&packet(0x40, &rest[..2])).await;
        (String::from_utf8(topic.to_vec()).unwrap(), String::from_utf8(rest[2..].to_vec()).unwrap())
    }

    /// At QoS 1.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str) -> Said {
        let properties = if self.is_five { &[0][..] } else { &[] };
        let body = [&text(topic)[..], &[0, 7], properties, payload.as_bytes()].concat();
        let (first, answer) = self.ask(&packet(0x32, &body)).await;
        assert_eq!((first, &answer[..2]), (0x40, &[0, 7][..]));
        Said { code: answer.get(2).copied().unwrap_or_default(), reason: reason(answer.get(3..).unwrap_or_default()) }
    }

    /// Connects with MQTT 3.1.1 to a session that stays, and leaves this will.
    pub(crate) async fn with_will(wire: Wire, id: &str, topic: &str, payload: &str) -> Self {
        let body = [&text("MQTT")[..], &[4, 0x0C, 0, 60], &text(id), &text(topic), &text(payload)].concat();
        let mut client = Self { wire, is_five: false, heard: Vec::new() };
        assert_eq!(client.ask(&packet(0x10, &body)).await, (0x20, vec![0, 0]));
        client
    }

    /// At QoS 0 and 2 as well, retained or not; ended by a PINGRESP, so that it was read.
    pub(crate) async fn publish_at(&mut self, qos: u8, retain: bool, topic: &str, payload: &str) {
        let id: &[u8] = if qos == 0 { &[] } else { &[0, 8] };
        let properties = if self.is_five { &[0][..] } else { &[] };
        let body = [&text(topic)[..], id, properties, payload.as_bytes()].concat();
        let first = 0x30 | qos << 1 | u8::from(retain);
        self.wire.write(&packet(first, &body)).await;
        if qos > 0 {
            let (first, answer) = self.ask(&[]).await;
            // a PUBREC that refuses ends it, in MQTT 5.0
            if first == 0x50 && answer.get(2).is_none_or(|code| *code < 0x80) {
                assert_eq!(self.ask(&packet(0x62, &answer[..2])).await.0, 0x70);
            }
        }
        assert_eq!(self.ask(&[0xC0, 0]).await.0, 0xD0);
    }

    pub(crate) async fn subscribe(&mut self, filter: &str) -> Said {
        let properties = if self.is_five { &[0][..] } else { &[] };
        let (first, answer) = self.ask(&packet(0x82, &[&[0, 9], properties, &text(filter), &[1]].concat())).await;
        assert_eq!((first, &answer[..2]), (0x90, &[0, 9][..]));
        let code = answer.last().copied().unwrap();
        Said { code, reason: if self.is_five { reason(&answer[2..]) } else { String::new() } }
    }

    /// The next message that is published to it, from its topic on. None of them is acknowledged.
    pub(crate) async fn hear(&mut self) -> Vec<u8> {
        if !self.heard.is_empty() {
            return self.heard.remove(0);
        }
        loop {
            let (first, body) = timeout(PATIENCE, self.wire.packet()).await.unwrap().unwrap();
            if first >> 4 == 3 {
                return body;
            }
        }
    }

    /// Waits for its end: the reason code of a DISCONNECT, if there is one.
    pub(crate) async fn ended(&mut self) -> Option<u8> {
        let end = async {
            while let Some((first, body)) = self.wire.packet().await {
                match first >> 4 {
                    3 => self.heard.push(body),
                    14 => return body.first().copied(),
                    _ => {}
                }
            }
            None
        };
        timeout(PATIENCE, end).await.unwrap()
    }

    /// All that was published to it and not heard yet.
    pub(crate) fn left(&self) -> String {
        self.heard.iter().map(|body| String::from_utf8_lossy(body)).collect()
    }

    async fn ask(&mut self, packet: &[u8]) -> (u8, Vec<u8>) {
        let exchange = async {
            self.wire.write(packet).await;
            loop {
                let (first, body) = self.wire.packet().await.unwrap();
                match first >> 4 {
                    3 => self.heard.push(body),
                    _ => return (first, body),
                }
            }
        };
        timeout(PATIENCE, exchange).await.unwrap()
    }
}

// === impl Wire ===

impl Wire {
    pub(crate) async fn tcp(address: SocketAddr) -> Self {
        Self::Tcp(TcpStream::connect(address).await.unwrap())
    }

    /// The endpoint of a listener.
    pub(crate) async fn web_socket(address: SocketAddr) -> Self {
        let mut request = format!("ws://{address}/mqtt").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().unwrap());
        Self::WebSocket(Box::new(connect_async(request).await.unwrap().0), Vec::new())
    }

    async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await.unwrap(),
            Self::WebSocket(socket, _) => socket.send(Message::binary(bytes.to_vec())).await.unwrap(),
        }
    }

    /// `None` at the end.
    async fn read(&mut self, count: usize) -> Option<Vec<u8>> {
        match self {
            Self::Tcp(stream) => {
                let mut bytes = vec![0; count];
                stream.read_exact(&mut bytes).await.ok()?;
                Some(bytes)
            }
            Self::WebSocket(socket, rest) => {
                while rest.len() < count {
                    if let Message::Binary(more) = socket.next().await?.ok()? {
                        rest.extend_from_slice(&more);
                    }
                }
                Some(rest.drain(..count).collect())
            }
        }
    }

    /// The next packet: its first byte, and what is behind its length; `None` at the end.
    async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.read(1).await?[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.read(1).await?[0];
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Some((first, self.read(length).await?))
    }
}

/// The reason string, if it is the first of the properties (MQTT 5.0, section 2.2.2).
fn reason(properties: &[u8]) -> String {
    let skip = properties.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    match properties.get(skip..) {
        Some([0x1F, high, low, rest @ ..]) => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned()
        }
        _ => String::new(),
    }
}
