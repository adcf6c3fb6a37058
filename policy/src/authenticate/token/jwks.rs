//! JSON Web Key Sets (RFC 7517): public keys and nothing else.
//!
//! A key has one algorithm, by its type. What a token says of its algorithm is compared with that and never chooses it, so
//! a public key is never taken for a shared secret, and `none` is no key's algorithm.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use envelope::{Json, json};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use sha2::{Digest, Sha256};

/// The longest document, in bytes.
pub const MAX_DOCUMENT: usize = 262_144;
/// The most keys of a set.
const MAX_KEYS: usize = 64;
/// The longest part of a key, decoded: RSA of 8,192 bits.
const MAX_PART: usize = 1_024;
/// The least bytes of an RSA modulus: 2,048 bits.
const MIN_MODULUS: usize = 256;
/// The longest name of a key.
const MAX_KID: usize = 256;

/// The algorithms of RFC 7518 and RFC 8037 that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

/// The keys of an issuer. Empty: none of its tokens is accepted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    pub(super) keys: Vec<PublicKey>,
    /// Keys of the document that can't be used here.
    pub left_out: usize,
}

/// One public key.
#[derive(PartialEq, Eq)]
pub(super) struct PublicKey {
    kid: Option<String>,
    material: Material,
    /// Names it, by what it is.
    pub(super) thumbprint: Arc<str>,
}

#[derive(PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why a document is no key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// Not JSON.
    #[error("no JSON: {0}")]
    NotJson(String),
    /// No object with a list `keys` of objects.
    #[error("no JSON Web Key Set: {0}")]
    NotASet(&'static str),
    /// Too long.
    #[error("{0} bytes, limit is {MAX_DOCUMENT}")]
    TooLong(usize),
    /// Too many keys.
    #[error("{0} keys, limit is {MAX_KEYS}")]
    TooMany(usize),
    /// A private or shared key is in it: somebody published what must be kept.
    #[error("key {0} is a private or shared key; a key set for verifying holds public keys only")]
    Private(usize),
    /// No key is of a kind that verifies RS256, ES256 or EdDSA.
    #[error("none of its keys verifies RS256, ES256 or EdDSA")]
    NoKey,
}

// === impl KeySet ===

impl KeySet {
    /// Reads a document. Keys of other kinds are left out; one private key refuses it all.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > MAX_DOCUMENT {
            return Err(KeySetError::TooLong(document.len()));
        }
        let json =
            Json::parse(Bytes::copy_from_slice(document)).map_err(|error| KeySetError::NotJson(error.to_string()))?;
        let list = json.root().get("keys").ok_or(KeySetError::NotASet("there is no \"keys\""))?;
        let items = list.as_array().ok_or(KeySetError::NotASet("\"keys\" is no list"))?;
        let mut set = Self::default();
        for (at, item) in items.enumerate() {
            if at >= MAX_KEYS {
                return Err(KeySetError::TooMany(at + 1));
            }
            if item.as_object().is_none() {
                return Err(KeySetError::NotASet("a key is no object"));
            }
            if item.get("d").is_some() || item.get("k").is_some() {
                return Err(KeySetError::Private(at));
            }
            match PublicKey::of(item) {
                Some(key) => set.keys.push(key),
                None => set.left_out += 1,
            }
        }
        if set.keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(set) }
    }

    /// The keys that a token may be signed with: those of its name, or all if it names none.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &PublicKey> {
        let named = move |key: &&PublicKey| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
        self.keys.iter().filter(named).filter(move |key| key.algorithm() == algorithm)
    }

    /// Whether a key of this thumbprint is in it.
    pub(super) fn holds(&self, thumbprint: &str) -> bool {
        self.keys.iter().any(|key| &*key.thumbprint == thumbprint)
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// `None` for keys of other kinds, for other uses, too short, or malformed.
    fn of(item: json::Node<'_>) -> Option<Self> {
        let text = |name: &str| item.get(name).and_then(json::Node::as_str);
        let part = |name: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text(name)?).ok()?;
            (1..=MAX_PART).contains(&bytes.len()).then_some(bytes)
        };
        if item.get("use").is_some() && text("use") != Some("sig") {
            return None;
        }
        if let Some(mut ops) = item.get("key_ops").map(|ops| ops.as_array()).map(|ops| ops.into_iter().flatten()) {
            ops.find(|op| op.as_str() == Some("verify"))?;
        }
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (n, e) = (part("n")?, part("e")?);
                (n.len() >= MIN_MODULUS).then_some(Material::Rsa { n, e })?
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (part("x")?, part("y")?);
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                (x.len() == 32 && y.len() == 32).then_some(Material::P256(point))?
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(part("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let kid = match item.get("kid") {
            Some(kid) => Some(kid.as_str().filter(|kid| kid.len() <= MAX_KID)?.to_owned()),
            None => None,
        };
        let key = Self { kid, thumbprint: material.thumbprint(), material };
        match item.get("alg") {
            Some(alg) if alg.as_str() != Some(key.algorithm().name()) => None,
            _ => Some(key),
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm().name(), self.thumbprint)
    }
}

// === impl Material ===

impl Material {
    fn thumbprint(&self) -> Arc<str> {
        let mut hash = Sha256::new();
        match self {
            Self::Rsa { n, e } => {
                hash.update([1]);
                hash.update((n.len() as u64).to_be_bytes());
                hash.update(n);
                hash.update(e);
            }
            Self::P256(point) => hash.update([&[2], point.as_slice()].concat()),
            Self::Ed25519(key) => hash.update([&[3], key.as_slice()].concat()),
        }
        URL_SAFE_NO_PAD.encode(hash.finalize()).into()
    }
}

// === impl Algorithm ===

impl Algorithm {
    /// As tokens and keys name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::Rs256, Self::Es256, Self::EdDsa].into_iter().find(|algorithm| algorithm.name() == name)
    }
}
