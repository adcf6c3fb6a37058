//! API keys: `om_<id>_<secret>`, the secret 256 random bits in hexadecimal.
//!
//! The secret is random, so a plain SHA-256 of it is as hard to turn around as the secret is to guess; what is stored is
//! that hash. The id finds the hash, the comparison takes the same time whatever is wrong.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with.
pub(crate) const PREFIX: &str = "om_";
/// Characters of an id that is made here.
const ID_CHARS: usize = 10;
/// The most characters of an id.
const MAX_ID: usize = 32;
/// Bytes of a secret.
const SECRET: usize = 32;
/// What is stored in front of the hash.
const SCHEME: &str = "sha256:";

/// The hash of a key's secret. Not a secret itself, and not worth showing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; SECRET]);

/// A key that was made just now: the only moment in which it is known.
pub struct NewKey {
    /// Names it in files, logs and the audit.
    pub id: String,
    /// What its owner is given, once.
    pub key: yaml::Secret,
    /// What is stored.
    pub hash: KeyHash,
}

/// No random bytes from the operating system.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandom;

// === impl NewKey ===

impl NewKey {
    /// Makes one.
    pub fn generate() -> Result<Self, NoRandom> {
        let (mut id, mut secret) = ([0; ID_CHARS], [0; SECRET]);
        let random = SystemRandom::new();
        random.fill(&mut id).and_then(|()| random.fill(&mut secret)).map_err(|_| NoRandom)?;
        // 32 letters: every byte gives one, each as likely as the others
        let id: String =
            id.iter().map(|byte| char::from(b"abcdefghijkmnpqrstuvwxyz23456789"[usize::from(byte % 32)])).collect();
        let key = yaml::Secret::new(format!("{PREFIX}{id}_{}", hex(&secret)));
        Ok(Self { id, key, hash: KeyHash::of(&secret) })
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

// === impl KeyHash ===

impl KeyHash {
    fn of(secret: &[u8; SECRET]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Reads what [`fmt::Display`] writes: `sha256:` and 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text.strip_prefix(SCHEME)?).map(Self)
    }

    /// Whether it is this secret's, in constant time.
    pub(crate) fn is_of(&self, secret: &[u8; SECRET]) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
    }

    /// Tells hashes apart.
    pub(crate) fn version(&self) -> u64 {
        self.0.iter().take(8).fold(0, |version, byte| version << 8 | u64::from(*byte))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", hex(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(***)")
    }
}

/// The id and the secret of a key as it is presented; `None` if it is none.
pub(crate) fn parse(key: &str) -> Option<(&str, [u8; SECRET])> {
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    is_id(id).then_some(())?;
    Some((id, unhex(secret)?))
}

/// 1 to 32 of `a-z` and `0-9`.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; SECRET]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 2 * SECRET] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; SECRET];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_known_by_its_hash_and_no_other_is() {
        let (new, other) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
        let (id, secret) = parse(new.key.expose()).unwrap();
        assert_eq!(id, new.id);
        assert!(new.hash.is_of(&secret) && !other.hash.is_of(&secret));
        assert_eq!(KeyHash::parse(&new.hash.to_string()), Some(new.hash));
        assert_ne!(new.hash.version(), other.hash.version());
    }

    #[test]
    fn nothing_shows_a_secret() {
        let new = NewKey::generate().unwrap();
        let (_, secret) = parse(new.key.expose()).unwrap();
        let shown = format!("{new:?} {:?} {} {}", new.hash, new.hash, new.key);
        assert!(!shown.contains(&hex(&secret)), "{shown}");
    }

    #[test]
    fn what_is_no_key_is_not_taken_for_one() {
        let secret = "0".repeat(64);
        assert!(parse(&format!("om_a_{secret}")).is_some());
        for key in [
            String::new(),
            "om_".to_owned(),
            format!("om__{secret}"),
            format!("om_a_{}", &secret[1..]),
            format!("om_a_{secret}0"),
            format!("om_a_{}", secret.replace('0', "A")),
            format!("om_A_{secret}"),
            format!("OM_a_{secret}"),
            format!("om_a_{secret}\n"),
            format!("om_a_ {secret}"),
            format!("om_{}_{secret}", "a".repeat(MAX_ID + 1)),
        ] {
            assert!(parse(&key).is_none(), "{key:?}");
        }
    }
}
