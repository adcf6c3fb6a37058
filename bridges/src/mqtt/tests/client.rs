//! A client that writes bytes by hand, so that nothing of the bridge's own codec is trusted.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{conformance::Rig, mqtt::MqttConfig};

const HARD_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Client {
    stream: TcpStream,
}

/// What goes into a CONNECT.
#[derive(Clone)]
pub(super) struct Hello {
    pub(super) level: u8,
    pub(super) id: &'static str,
    pub(super) clean: bool,
    pub(super) keep_alive: u16,
    pub(super) properties: Vec<u8>,
    /// Flags, and what stands behind the client identifier.
    pub(super) will: Option<(u8, Vec<u8>)>,
    pub(super) username: Option<&'static str>,
    pub(super) password: Option<&'static str>,
}

/// A packet of the server: its first byte and what follows its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) first: u8,
    pub(super) body: Vec<u8>,
}

pub(super) fn config() -> MqttConfig {
    MqttConfig::new("127.0.0.1:0".parse().unwrap())
}

pub(super) async fn rig() -> Rig {
    rig_of(&config()).await
}

/// A rig whose last values are those that were published to be.
pub(super) async fn rig_of(config: &MqttConfig) -> Rig {
    let rig = Rig::start(config).await;
    rig.outlet.only_retained();
    rig
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

pub(super) fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let (mut packet, mut length) = (vec![first], body.len());
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// A PUBLISH; `properties` with their length, or nothing for MQTT 3.1.1.
pub(super) fn publish(flags: u8, topic: &str, id: u16, properties: &[u8], payload: &str) -> Vec<u8> {
    let id = if flags & 0x06 == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
    packet(0x30 | flags, &[&text(topic), &id, properties, payload.as_bytes()])
}

pub(super) fn subscribe(five: bool, id: u16, properties: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let filters: Vec<u8> =
        filters.iter().flat_map(|(filter, options)| [text(filter), vec![*options]].concat()).collect();
    let properties = if five { [&[properties.len() as u8][..], properties].concat() } else { Vec::new() };
    packet(0x82, &[&id.to_be_bytes(), &properties, &filters])
}

pub(super) fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &[&id.to_be_bytes()])
}

impl Hello {
    pub(super) fn five(id: &'static str) -> Self {
        Self {
            level: 5,
            id,
            clean: true,
            keep_alive: 60,
            properties: Vec::new(),
            will: None,
            username: None,
            password: None,
        }
    }

    pub(super) fn three(id: &'static str) -> Self {
        Self { level: 4, ..Self::five(id) }
    }

    /// A session that stays for as long as it may.
    pub(super) fn staying(self) -> Self {
        let properties = if self.level == 5 { vec![0x11, 0, 0, 0xFF, 0xFF] } else { Vec::new() };
        Self { clean: false, properties, ..self }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut rest = Vec::new();
        if let Some((will_flags, will)) = &self.will {
            flags |= will_flags | 0x04;
            rest.extend(will);
        }
        if let Some(name) = self.username {
            flags |= 0x80;
            rest.extend(text(name));
        }
        if let Some(password) = self.password {
            flags |= 0x40;
            rest.extend(text(password));
        }
        let properties = match self.level {
            5 => [&[self.properties.len() as u8][..], &self.properties].concat(),
            _ => Vec::new(),
        };
        let keep_alive = self.keep_alive.to_be_bytes();
        packet(0x10, &[&text("MQTT"), &[self.level, flags], &keep_alive, &properties, &text(self.id), &rest])
    }
}

impl Client {
    pub(super) async fn open(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap() }
    }

    pub(super) fn over(stream: TcpStream) -> Self {
        Self { stream }
    }

    /// Connects, and expects to be let in.
    pub(super) async fn connect(address: SocketAddr, hello: &Hello) -> Self {
        Self::connected(address, hello).await.0
    }

    /// Also says what CONNACK said.
    pub(super) async fn connected(address: SocketAddr, hello: &Hello) -> (Self, Packet) {
        let mut client = Self::open(address).await;
        client.send(&hello.bytes()).await;
        let connack = client.next().await.expect("a CONNACK");
        assert_eq!((connack.first, connack.body[1]), (0x20, 0), "{connack:?}");
        (client, connack)
    }

    pub(super) async fn five(rig: &Rig) -> Self {
        Self::connect(rig.address(), &Hello::five("five")).await
    }

    pub(super) async fn three(rig: &Rig) -> Self {
        Self::connect(rig.address(), &Hello::three("three")).await
    }

    /// A server that has closed already hears nothing.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        _ = self.stream.write_all(bytes).await;
    }

    /// The next packet; `None` once the server has closed.
    pub(super) async fn next(&mut self) -> Option<Packet> {
        timeout(HARD_TIMEOUT, self.read()).await.expect("the server to say something")
    }

    async fn read(&mut self) -> Option<Packet> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Packet { first, body })
    }

    /// Asks, and hears.
    pub(super) async fn ask(&mut self, bytes: &[u8]) -> Option<Packet> {
        self.send(bytes).await;
        self.next().await
    }

    /// Everything that came before the answer to a ping.
    pub(super) async fn until_pong(&mut self) -> Vec<Packet> {
        self.send(&[0xC0, 0]).await;
        let mut before = Vec::new();
        loop {
            match self.next().await.expect("a PINGRESP") {
                Packet { first: 0xD0, .. } => return before,
                other => before.push(other),
            }
        }
    }

    /// The reason of the DISCONNECT that ends this connection; `None`: it was closed without one.
    pub(super) async fn disconnected(&mut self) -> Option<u8> {
        let mut reason = None;
        while let Some(packet) = self.next().await {
            if packet.first == 0xE0 {
                reason = Some(packet.body[0]);
            }
        }
        reason
    }

    pub(super) fn close(self) {}
}

impl Packet {
    /// The reason code of an acknowledgement, in either version.
    pub(super) fn reason(&self) -> u8 {
        self.body.get(2).copied().unwrap_or_default()
    }

    pub(super) fn id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// Of a PUBLISH: topic, identifier, properties and payload.
    pub(super) fn published(&self, five: bool) -> (String, u16, Vec<u8>, String) {
        assert_eq!(self.first & 0xF0, 0x30, "{self:?}");
        let (length, rest) = self.body.split_at(2);
        let (topic, rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
        let (id, rest) =
            if self.first & 0x06 == 0 { (0, rest) } else { (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..]) };
        let (properties, payload) = match (five, rest) {
            (true, [first, second, rest @ ..]) if first & 0x80 != 0 => {
                rest.split_at(usize::from(first & 0x7F) | usize::from(*second) << 7)
            }
            (true, [length, rest @ ..]) => rest.split_at(usize::from(*length)),
            (_, rest) => (&[][..], rest),
        };
        let owned = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (owned(topic), id, properties.to_vec(), owned(payload))
    }
}
