//! A client of MQTT 3.1.1 and 5.0 that can just enough to be told yes and no.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::PATIENCE;

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    is_five: bool,
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
    pub(crate) async fn connect(address: SocketAddr, version: u8, who: Option<(&str, &str)>) -> Result<Self, u8> {
        let is_five = version == 5;
        let mut body = [text("MQTT"), vec![version, if who.is_some() { 0xC2 } else { 0x02 }, 0, 60]].concat();
        if is_five {
            body.push(0);
        }
        body.extend(text(&format!("table-{version}")));
        for part in who.iter().flat_map(|(name, password)| [name, password]) {
            body.extend(text(part));
        }
        let mut client = Self { stream: TcpStream::connect(address).await.unwrap(), is_five };
        let (first, answer) = client.ask(&packet(0x10, &body)).await;
        assert_eq!(first, 0x20, "{answer:?}");
        if answer[1] == 0 { Ok(client) } else { Err(answer[1]) }
    }

    /// At QoS 1.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str) -> Said {
        let properties = if self.is_five { &[0][..] } else { &[] };
        let body = [&text(topic)[..], &[0, 7], properties, payload.as_bytes()].concat();
        let (first, answer) = self.ask(&packet(0x32, &body)).await;
        assert_eq!((first, &answer[..2]), (0x40, &[0, 7][..]));
        Said { code: answer.get(2).copied().unwrap_or_default(), reason: reason(answer.get(3..).unwrap_or_default()) }
    }

    pub(crate) async fn subscribe(&mut self, filter: &str) -> Said {
        let properties = if self.is_five { &[0][..] } else { &[] };
        let (first, answer) = self.ask(&packet(0x82, &[&[0, 9], properties, &text(filter), &[1]].concat())).await;
        assert_eq!((first, &answer[..2]), (0x90, &[0, 9][..]));
        let code = answer.last().copied().unwrap();
        Said { code, reason: if self.is_five { reason(&answer[2..]) } else { String::new() } }
    }

    async fn ask(&mut self, packet: &[u8]) -> (u8, Vec<u8>) {
        let exchange = async {
            self.stream.write_all(packet).await.unwrap();
            let first = self.stream.read_u8().await.unwrap();
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await.unwrap();
                length |= usize::from(byte & 0x7F) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.unwrap();
            (first, body)
        };
        timeout(PATIENCE, exchange).await.unwrap()
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
