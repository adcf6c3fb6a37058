//! What a client writes to a broker, beside what both sides write.

use bytes::{BufMut, BytesMut};
use envelope::Qos;

use super::{
    Version,
    encode::{put_bytes, put_properties, put_u16, put_u32, put_varint, varint_size},
    level,
    property::id,
};

/// What a CONNECT says. `Debug` shows no secret.
#[derive(Clone, Copy)]
pub(in crate::mqtt) struct Hello<'h> {
    pub(in crate::mqtt) version: Version,
    pub(in crate::mqtt) client_id: &'h str,
    /// Nothing of an earlier session is kept.
    pub(in crate::mqtt) clean: bool,
    /// In seconds; 0 for none.
    pub(in crate::mqtt) keep_alive: u16,
    pub(in crate::mqtt) username: Option<&'h str>,
    pub(in crate::mqtt) password: Option<&'h [u8]>,
    /// In seconds; MQTT 3.1.1 has no place for it, nor for what follows.
    pub(in crate::mqtt) session_expiry: u32,
    pub(in crate::mqtt) receive_maximum: u16,
}

/// What a filter is wanted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mqtt) struct Wish<'w> {
    pub(in crate::mqtt) filter: &'w str,
    pub(in crate::mqtt) qos: Qos,
}

/// Retained messages come once, with the subscription, and messages say whether they are to be retained.
const RETAIN_OPTIONS: u8 = 0x10 | 0x08;

pub(in crate::mqtt) fn connect(out: &mut BytesMut, hello: &Hello<'_>) {
    let five = hello.version == Version::V5;
    let mut body = BytesMut::with_capacity(128);
    put_bytes(&mut body, b"MQTT");
    body.put_u8(if five { 5 } else { 4 });
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    // a password without a name is not in MQTT 3.1.1 (MQTT-3.1.2-22 of it)
    let username = hello.username.or(if five { None } else { hello.password.map(|_| "") });
    let flags = flag(hello.clean, 0x02) | flag(username.is_some(), 0x80) | flag(hello.password.is_some(), 0x40);
    body.put_u8(flags);
    body.put_u16(hello.keep_alive);
    if five {
        let mut properties = BytesMut::new();
        put_u32(&mut properties, id::SESSION_EXPIRY, Some(hello.session_expiry));
        put_u16(&mut properties, id::RECEIVE_MAXIMUM, Some(hello.receive_maximum));
        put_properties(&mut body, &properties);
    }
    put_bytes(&mut body, hello.client_id.as_bytes());
    for part in [username.map(str::as_bytes), hello.password].into_iter().flatten() {
        put_bytes(&mut body, part);
    }
    out.put_u8(0x10);
    put_varint(out, body.len());
    out.put_slice(&body);
}

/// At least one wish.
pub(in crate::mqtt) fn subscribe(out: &mut BytesMut, version: Version, id: u16, wishes: &[Wish<'_>]) {
    let mut body = BytesMut::new();
    for Wish { filter, qos } in wishes {
        put_bytes(&mut body, filter.as_bytes());
        let qos = level(*qos);
        body.put_u8(if version == Version::V5 { qos | RETAIN_OPTIONS } else { qos });
    }
    asked(out, 0x82, version, id, &body);
}

/// At least one filter.
pub(in crate::mqtt) fn unsubscribe(out: &mut BytesMut, version: Version, id: u16, filters: &[&str]) {
    let mut body = BytesMut::new();
    filters.iter().for_each(|filter| put_bytes(&mut body, filter.as_bytes()));
    asked(out, 0xA2, version, id, &body);
}

pub(in crate::mqtt) fn pingreq(out: &mut BytesMut) {
    out.put_slice(&[0xC0, 0]);
}

/// DISCONNECT, with which all is well.
pub(in crate::mqtt) fn goodbye(out: &mut BytesMut) {
    out.put_slice(&[0xE0, 0]);
}

fn asked(out: &mut BytesMut, first: u8, version: Version, id: u16, body: &[u8]) {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    let length = 2 + properties.len() + body.len();
    out.reserve(1 + varint_size(length) + length);
    out.put_u8(first);
    put_varint(out, length);
    out.put_u16(id);
    out.put_slice(properties);
    out.put_slice(body);
}

// === impl Hello ===

impl std::fmt::Debug for Hello<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean", &self.clean)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::{Decoder, Next, Packet};

    fn hello(version: Version) -> Hello<'static> {
        Hello {
            version,
            client_id: "plant-a-in",
            clean: false,
            keep_alive: 30,
            username: Some("gateway"),
            password: Some(b"s3cr3t"),
            session_expiry: 3_600,
            receive_maximum: 9,
        }
    }

    #[test]
    fn what_is_asked_is_what_the_listener_reads() {
        for version in [Version::V3, Version::V5] {
            let mut out = BytesMut::new();
            connect(&mut out, &hello(version));
            let wishes = [Wish { filter: "a/+", qos: Qos::AtLeastOnce }, Wish { filter: "b", qos: Qos::ExactlyOnce }];
            subscribe(&mut out, version, 7, &wishes);
            unsubscribe(&mut out, version, 8, &["b"]);
            pingreq(&mut out);
            let mut decoder = Decoder::new(1 << 20);
            let mut next = || match decoder.next(&mut out) {
                Ok(Next::Packet(packet)) => packet,
                other => panic!("{other:?}"),
            };
            let Packet::Connect(first) = next() else { panic!("a CONNECT") };
            assert_eq!((first.version, &*first.client_id, first.clean_start), (version, "plant-a-in", false));
            assert_eq!((first.username.as_deref(), first.password.as_deref()), (Some("gateway"), Some(&b"s3cr3t"[..])));
            if version == Version::V5 {
                assert_eq!((first.properties.session_expiry, first.properties.receive_maximum), (Some(3_600), Some(9)));
            }
            let Packet::Subscribe(found) = next() else { panic!("a SUBSCRIBE") };
            let filters: Vec<_> = found.filters.iter().map(|wanted| (&*wanted.filter, wanted.qos)).collect();
            assert_eq!((found.id, filters), (7, vec![("a/+", Qos::AtLeastOnce), ("b", Qos::ExactlyOnce)]));
            let Packet::Unsubscribe(found) = next() else { panic!("an UNSUBSCRIBE") };
            assert_eq!((found.id, found.filters.len()), (8, 1));
            assert_eq!(next(), Packet::PingReq);
        }
    }

    #[test]
    fn a_hello_shows_no_secret() {
        assert!(!format!("{:?}", hello(Version::V5)).contains("s3cr3t"));
    }
}
