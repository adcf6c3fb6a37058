//! A will as it is on disk, with who left it: what that one may do is decided when it is published.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use envelope::{Attribute, CertificateNames, Principal, Proof, Timestamp};

use super::Testament;
use crate::mqtt::codec::{Reader, SnapshotError, put_bytes, put_list, put_option};

const FORMAT: u8 = 1;

// === impl Testament ===

impl Testament {
    /// What [`Testament::restore`] reads.
    pub(in crate::mqtt) fn store(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256 + self.payload.len());
        out.put_u8(FORMAT);
        out.put_slice(self.id.as_bytes());
        out.put_slice(self.session.as_bytes());
        out.put_u64(self.delay.as_secs());
        put_bytes(&mut out, self.address.as_bytes());
        put_list(&mut out, self.headers.iter(), |out, (name, value)| {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value);
        });
        put_bytes(&mut out, &self.payload);
        out.put_u8(u8::from(self.retain));
        put_principal(&mut out, &self.principal);
        put_option(&mut out, self.peer, |out, peer| put_text(out, &peer.to_string()));
        out.freeze()
    }

    /// Reads what [`Testament::store`] wrote.
    pub(in crate::mqtt) fn restore(bytes: Bytes) -> Result<Self, SnapshotError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            FORMAT => {}
            other => return Err(SnapshotError::Format(other)),
        }
        let testament = Self {
            id: reader.uuid()?,
            session: reader.uuid()?,
            delay: Duration::from_secs(reader.u64()?),
            address: text(&mut reader)?,
            headers: reader.list(|reader| Ok((reader.text()?.to_string(), reader.bytes()?)))?.into(),
            payload: reader.bytes()?,
            retain: reader.u8()? != 0,
            principal: Arc::new(principal(&mut reader)?),
            peer: reader.option(|reader| reader.text()?.parse::<IpAddr>().map_err(|_| SnapshotError::Damaged))?,
            may_be_kept: true,
        };
        reader.finish()?;
        Ok(testament)
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn text(reader: &mut Reader) -> Result<Arc<str>, SnapshotError> {
    Ok(Arc::from(&*reader.text()?))
}

fn put_principal(out: &mut BytesMut, principal: &Principal) {
    let Principal { id, domain, roles, jurisdiction, trust, attributes, proof, expires } = principal;
    put_text(out, id);
    put_text(out, domain);
    put_list(out, roles.iter(), |out, role| put_text(out, role));
    put_option(out, jurisdiction.as_ref(), |out, label| put_text(out, label));
    out.put_u8(*trust);
    put_list(out, attributes.iter(), |out, (name, value)| {
        put_text(out, name);
        put_attribute(out, value);
    });
    put_proof(out, proof);
    put_time(out, *expires);
}

fn principal(reader: &mut Reader) -> Result<Principal, SnapshotError> {
    Ok(Principal {
        id: text(reader)?,
        domain: text(reader)?,
        roles: reader.list(text)?,
        jurisdiction: reader.option(text)?,
        trust: reader.u8()?,
        attributes: reader.list(|reader| Ok((text(reader)?, attribute(reader)?)))?.into_iter().collect(),
        proof: proof(reader)?,
        expires: time(reader)?,
    })
}

fn put_time(out: &mut BytesMut, time: Option<Timestamp>) {
    put_option(out, time, |out, time| out.put_u64(time.as_micros()));
}

fn time(reader: &mut Reader) -> Result<Option<Timestamp>, SnapshotError> {
    reader.option(|reader| Ok(Timestamp::from_micros(reader.u64()?)))
}

fn put_attribute(out: &mut BytesMut, value: &Attribute) {
    match value {
        Attribute::Boolean(value) => out.put_slice(&[0, u8::from(*value)]),
        Attribute::Integer(value) => {
            out.put_u8(1);
            out.put_i64(*value);
        }
        Attribute::Decimal(value) => {
            out.put_u8(2);
            out.put_i64(*value);
        }
        Attribute::Text(value) => {
            out.put_u8(3);
            put_text(out, value);
        }
        Attribute::List(values) => {
            out.put_u8(4);
            put_list(out, values.iter(), |out, value| put_text(out, value));
        }
    }
}

fn attribute(reader: &mut Reader) -> Result<Attribute, SnapshotError> {
    Ok(match reader.u8()? {
        0 => Attribute::Boolean(reader.u8()? != 0),
        1 => Attribute::Integer(reader.u64()?.cast_signed()),
        2 => Attribute::Decimal(reader.u64()?.cast_signed()),
        3 => Attribute::Text(text(reader)?),
        4 => Attribute::List(reader.list(text)?),
        _ => return Err(SnapshotError::Damaged),
    })
}

fn put_proof(out: &mut BytesMut, proof: &Proof) {
    match proof {
        Proof::None => out.put_u8(0),
        Proof::Key { id, version } => {
            out.put_u8(1);
            put_text(out, id);
            out.put_u64(*version);
        }
        Proof::Password { version } => {
            out.put_u8(2);
            out.put_u64(*version);
        }
        Proof::Token { issuer, version, key, id } => {
            out.put_u8(3);
            put_text(out, issuer);
            out.put_u64(*version);
            put_text(out, key);
            put_option(out, id.as_ref(), |out, id| put_text(out, id));
        }
        Proof::Certificate(names) => {
            let CertificateNames { common_name, dns, uri, email, expires } = &**names;
            out.put_u8(4);
            put_option(out, common_name.as_ref(), |out, name| put_text(out, name));
            for names in [dns, uri, email] {
                put_list(out, names.iter(), |out, name| put_text(out, name));
            }
            put_time(out, *expires);
        }
    }
}

fn proof(reader: &mut Reader) -> Result<Proof, SnapshotError> {
    let owned = |reader: &mut Reader| Ok(reader.text()?.to_string());
    Ok(match reader.u8()? {
        0 => Proof::None,
        1 => Proof::Key { id: text(reader)?, version: reader.u64()? },
        2 => Proof::Password { version: reader.u64()? },
        3 => {
            Proof::Token { issuer: text(reader)?, version: reader.u64()?, key: text(reader)?, id: reader.option(text)? }
        }
        4 => Proof::Certificate(Arc::new(CertificateNames {
            common_name: reader.option(owned)?,
            dns: reader.list(owned)?,
            uri: reader.list(owned)?,
            email: reader.list(owned)?,
            expires: time(reader)?,
        })),
        _ => return Err(SnapshotError::Damaged),
    })
}

#[cfg(test)]
mod tests {
    use envelope::Headers;
    use uuid::Uuid;

    use super::*;

    fn testament(proof: Proof) -> Testament {
        let mut principal = Principal::new("ada", "plant-a");
        principal.roles = vec!["operator".into()];
        principal.jurisdiction = Some("no".into());
        principal.trust = 50;
        principal.expires = Some(Timestamp::from_micros(7));
        let attributes = [
            Attribute::Boolean(true),
            Attribute::Integer(-1),
            Attribute::Decimal(121_000),
            Attribute::Text("x".into()),
            Attribute::List(vec!["a".into(), "b".into()]),
        ];
        principal.attributes =
            attributes.into_iter().zip('a'..).map(|(of, name)| (name.to_string().into(), of)).collect();
        principal.proof = proof;
        Testament {
            id: Uuid::now_v7(),
            session: Uuid::now_v7(),
            delay: Duration::from_secs(9),
            address: "gone/%".into(),
            headers: Headers::from([("a".to_owned(), Bytes::from("b"))]),
            payload: Bytes::from_static(b"bye"),
            retain: true,
            principal: Arc::new(principal),
            peer: Some("::1".parse().unwrap()),
            may_be_kept: true,
        }
    }

    #[test]
    fn what_is_stored_is_there_again_and_what_is_damaged_is_refused() {
        let names = CertificateNames {
            common_name: Some("ada".into()),
            dns: vec!["a.b".into()],
            uri: vec!["spiffe://a".into()],
            email: Vec::new(),
            expires: Some(Timestamp::from_micros(9)),
        };
        let token = Proof::Token { issuer: "i".into(), version: 1, key: "k".into(), id: Some("j".into()) };
        let key = Proof::Key { id: "k".into(), version: u64::MAX };
        for proof in [Proof::None, key, Proof::Password { version: 7 }, token, Proof::Certificate(Arc::new(names))] {
            let one = testament(proof);
            let stored = one.store();
            let again = Testament::restore(stored.clone()).unwrap();
            assert_eq!((again.id, again.session, again.delay), (one.id, one.session, one.delay));
            assert_eq!((&again.address, &again.headers, &again.payload), (&one.address, &one.headers, &one.payload));
            assert_eq!((again.retain, &again.principal, again.peer), (one.retain, &one.principal, one.peer));
            for end in 0..stored.len() {
                assert!(Testament::restore(stored.slice(..end)).is_err(), "cut at {end}");
            }
        }
        assert_eq!(Testament::restore(Bytes::from_static(&[9])).err(), Some(SnapshotError::Format(9)));
    }
}
