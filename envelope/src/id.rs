//! Envelope ids: stable over a sender's retries wherever the protocol gives a message a name.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The `id` of an envelope: a UUID and, for the items of a group, the item's number (`<uuid>.0`, `<uuid>.1`, ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvelopeId {
    uuid: Uuid,
    item: Option<u32>,
}

/// The protocol's own name of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Stable over the sender's retries; hashed into the id together with where it came from.
    Native(Bytes),
    /// As [`Native`](Self::Native), of a sender that may use a name twice by mistake: another message of the same name is
    /// refused.
    Keyed {
        /// What is hashed into the id.
        name: Bytes,
        /// What tells messages of this name apart; stored with the first.
        print: Fingerprint,
    },
    /// The protocol has none: a UUIDv7 made once, at decode, so that an offer repeated is no second message.
    Fresh(Uuid),
}

/// The first 128 bits of a SHA-256 over what a sender sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Fingerprint(pub [u8; 16]);

/// What makes a native identity unique in the mesh.
#[derive(Debug, Clone, Copy)]
pub struct IdentityParts<'a> {
    /// This gateway's domain.
    pub domain: &'a str,
    /// The bridge that took the message.
    pub bridge: &'a str,
    /// Who sent it.
    pub principal: &'a str,
    /// The mapping that took it.
    pub route: &'a str,
}

// === impl EnvelopeId ===

impl EnvelopeId {
    /// An id that is not part of a group.
    pub const fn new(uuid: Uuid) -> Self {
        Self { uuid, item: None }
    }

    /// The id of item `item` of the group with this id.
    #[must_use]
    pub const fn item(self, item: u32) -> Self {
        Self { uuid: self.uuid, item: Some(item) }
    }

    /// The UUID, the same for all items of a group.
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The number within its group, if it is part of one.
    pub const fn item_number(&self) -> Option<u32> {
        self.item
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (uuid, item) = match text.split_once('.') {
            Some((uuid, item)) => (uuid, Some(item.parse().ok()?)),
            None => (text, None),
        };
        let id = Self { uuid: Uuid::try_parse(uuid).ok()?, item };
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.as_hyphenated().fmt(f)?;
        match self.item {
            Some(item) => write!(f, ".{item}"),
            None => Ok(()),
        }
    }
}

// === impl Identity ===

impl Identity {
    /// A fresh identity for a message of a protocol that gives it none.
    pub fn fresh() -> Self {
        Self::Fresh(Uuid::now_v7())
    }

    /// The envelope id: the first 122 bits of a SHA-256 over the parts as UUIDv8 (RFC 9562), or the fresh UUIDv7.
    /// Every part is preceded by its length, so no two lists of parts hash alike.
    pub fn envelope_id(&self, parts: IdentityParts<'_>) -> EnvelopeId {
        let native = match self {
            Self::Fresh(uuid) => return EnvelopeId::new(*uuid),
            Self::Native(native) | Self::Keyed { name: native, .. } => native,
        };
        let mut hash = Sha256::new();
        for part in [parts.domain, parts.bridge, parts.principal, parts.route].map(str::as_bytes) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(native);
        let digest = hash.finalize();
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        EnvelopeId::new(Uuid::new_v8(first))
    }
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Of these parts. Each is preceded by its length, so that parts do not run together.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut first = [0; 16];
        first.copy_from_slice(&hash.finalize()[..16]);
        Self(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: IdentityParts<'_> = IdentityParts { domain: "a", bridge: "web", principal: "p", route: "r" };

    fn native(name: &'static [u8]) -> Identity {
        Identity::Native(Bytes::from_static(name))
    }

    #[test]
    fn the_same_native_identity_gives_the_same_id() {
        assert_eq!(native(b"k").envelope_id(PARTS), native(b"k").envelope_id(PARTS));
    }

    #[test]
    fn each_part_makes_another_id_and_parts_do_not_run_together() {
        let ids = [
            native(b"k").envelope_id(PARTS),
            native(b"l").envelope_id(PARTS),
            native(b"k").envelope_id(IdentityParts { domain: "b", ..PARTS }),
            native(b"k").envelope_id(IdentityParts { domain: "aw", bridge: "eb", ..PARTS }),
            native(b"k").envelope_id(IdentityParts { principal: "q", ..PARTS }),
            native(b"k").envelope_id(IdentityParts { route: "s", ..PARTS }),
            native(b"k").envelope_id(IdentityParts { route: "rk", ..PARTS }),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn what_a_name_is_used_for_makes_no_other_id() {
        let keyed = |body: &[u8]| Identity::Keyed { name: "k".into(), print: Fingerprint::of(&[b"", body]) };
        assert_eq!(keyed(b"1").envelope_id(PARTS), keyed(b"2").envelope_id(PARTS));
        assert_eq!(keyed(b"1").envelope_id(PARTS), native(b"k").envelope_id(PARTS));
        assert_ne!(Fingerprint::of(&[b"a", b"b"]), Fingerprint::of(&[b"ab", b""]));
    }

    #[test]
    fn a_fresh_identity_is_a_version_7_uuid_that_stays() {
        let fresh = Identity::fresh();
        assert_eq!(fresh.envelope_id(PARTS), fresh.clone().envelope_id(PARTS));
        assert_eq!(fresh.envelope_id(PARTS).uuid().get_version_num(), 7);
    }

    #[test]
    fn an_id_reads_back_and_only_in_its_one_spelling() {
        let id = native(b"k").envelope_id(PARTS);
        assert_eq!(EnvelopeId::parse(&id.to_string()), Some(id));
        assert_eq!(EnvelopeId::parse(&id.item(12).to_string()), Some(id.item(12)));
        assert_eq!(EnvelopeId::parse(&id.to_string().to_uppercase()), None);
        assert_eq!(EnvelopeId::parse(&format!("{id}.01")), None);
        assert_eq!(EnvelopeId::parse(""), None);
    }
}
