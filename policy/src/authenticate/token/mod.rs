//! JSON Web Tokens (RFC 7519), signed with RS256, ES256 or EdDSA, and nothing that is not said here.
//!
//! Verified without I/O: the keys are there, or they are not yet. See `fetched` for how they come.

mod config;
mod fetched;
mod jwks;
mod revoked;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use envelope::{Attribute, Json, Principal, Proof, RejectKind, Rejection, Timestamp, json};

pub use config::{KeysFrom, TokenConfig};
pub use fetched::{Fetched, FetchedKeys};
pub use jwks::{KeySet, KeySetError, MAX_DOCUMENT};
pub use revoked::Revoked;

use self::jwks::Algorithm;
use super::{
    DECIDED_BY,
    identity::{MAX_ROLES, check_id, is_role},
};

/// The longest token, in bytes.
const MAX_TOKEN: usize = 8_192;
/// The most keys that a token without a key's name is tried with.
const MAX_TRIED: usize = 8;

/// The issuers of one load of the policy file, with their keys.
#[derive(Debug, Default)]
pub struct Issuers(Vec<Issuer>);

#[derive(Debug)]
struct Issuer {
    config: Arc<TokenConfig>,
    version: u64,
    keys: Keys,
    revoked: Arc<Revoked>,
}

/// Where an issuer's keys are now.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Read from a file, together with the policy.
    Read(Arc<KeySet>),
    /// Fetched, and fetched again.
    Fetched(Arc<FetchedKeys>),
}

/// A token in its parts, nothing of it believed yet.
struct Parts<'t> {
    header: Json,
    claims: Json,
    signed: &'t str,
    signature: Vec<u8>,
}

// === impl Issuers ===

impl Issuers {
    /// The issuers of a policy file, each with its keys and what it has revoked.
    pub fn new(issuers: impl IntoIterator<Item = (Arc<TokenConfig>, Keys, Arc<Revoked>)>) -> Self {
        let issuer = |(config, keys, revoked): (Arc<TokenConfig>, Keys, Arc<Revoked>)| Issuer {
            version: config.version(),
            config,
            keys,
            revoked,
        };
        Self(issuers.into_iter().map(issuer).collect())
    }

    /// The keys that have to be fetched, and by which section.
    pub fn fetched(&self) -> impl Iterator<Item = (&Arc<FetchedKeys>, &Arc<TokenConfig>)> {
        self.0.iter().filter_map(|issuer| match &issuer.keys {
            Keys::Fetched(keys) => Some((keys, &issuer.config)),
            Keys::Read(_) => None,
        })
    }

    /// The issuers whose keys can't be had, and what that means.
    pub fn troubles(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.fetched().filter_map(|(keys, config)| Some((&*config.name, keys.trouble()?)))
    }

    /// Who brings this token. Refuses as `Unauthenticated`, but where the issuer's keys are not there yet.
    pub(super) fn verify(&self, domain: &Arc<str>, token: &str, now: Timestamp) -> Result<Principal, Rejection> {
        let parts = Parts::of(token).ok_or_else(|| refuse("no token that can be read"))?;
        let claimed = parts.claims.root().get("iss").and_then(json::Node::as_str);
        let issuer = self.0.iter().find(|issuer| Some(issuer.config.issuer.as_str()) == claimed);
        issuer.ok_or_else(|| refuse("no issuer whose tokens are accepted"))?.verify(domain, &parts, now)
    }

    /// Whether the token that this principal was verified by is still accepted.
    pub(super) fn accept(&self, principal: &Principal) -> bool {
        let Proof::Token { issuer: name, version, key, id } = &principal.proof else { return false };
        let issuer = self.0.iter().find(|issuer| issuer.config.name == *name && issuer.version == *version);
        // keys that are not there now say nothing about a token that was verified with one
        issuer.is_some_and(|issuer| {
            issuer.keys.now().is_none_or(|keys| keys.holds(key)) && !issuer.revoked.names(id.as_deref(), &principal.id)
        })
    }
}

// === impl Issuer ===

impl Issuer {
    fn verify(&self, domain: &Arc<str>, parts: &Parts<'_>, now: Timestamp) -> Result<Principal, Rejection> {
        let keys = self.keys.now().ok_or_else(|| {
            let detail = "the issuer's keys are not there yet";
            Rejection::new(RejectKind::Unavailable, DECIDED_BY, detail).after(fetched::RETRY)
        })?;
        let key = self.signed_by(&keys, parts)?;
        let claims = parts.claims.root();
        let expires = self.lives(claims, now)?;
        if !self.is_for_us(claims) {
            return Err(refuse("the token is for another audience"));
        }
        let id = claims.get(&self.config.principal).and_then(json::Node::as_str);
        let id = id.ok_or_else(|| refuse(format!("the token has no text {:?}", self.config.principal)))?;
        check_id(id).map_err(|why| refuse(format!("the token's {:?} {why}", self.config.principal)))?;
        let token = token_id(claims)?;
        if self.revoked.names(token.as_deref(), id) {
            return Err(refuse("the token was revoked"));
        }
        let proof = Proof::Token { issuer: self.config.name.clone(), version: self.version, key, id: token };
        Ok(Principal {
            roles: self.roles(claims)?,
            jurisdiction: self.config.jurisdiction.clone(),
            trust: self.config.trust,
            attributes: self.attributes(claims)?,
            proof,
            expires: Some(expires),
            ..Principal::new(id, domain.clone())
        })
    }

    /// The key that signed it, whatever the token says.
    fn signed_by(&self, keys: &KeySet, parts: &Parts<'_>) -> Result<Arc<str>, Rejection> {
        let header = parts.header.root();
        let text = |name| header.get(name).and_then(json::Node::as_str);
        // what must be understood is not
        if header.get("crit").is_some() {
            return Err(refuse("the token has critical headers, and none is known here"));
        }
        let is_token = |typ: &str| typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt");
        if header.get("typ").is_some() && !text("typ").is_some_and(is_token) {
            return Err(refuse("the token is of another type"));
        }
        let algorithm = text("alg").and_then(Algorithm::of).filter(|known| self.config.algorithms.contains(known));
        let algorithm = algorithm.ok_or_else(|| refuse("the token's algorithm is not accepted"))?;
        if header.get("kid").is_some() && text("kid").is_none() {
            return Err(refuse("the token's kid is no text"));
        }
        let mut named = false;
        for key in keys.candidates(text("kid"), algorithm).take(MAX_TRIED) {
            named = true;
            if key.verifies(parts.signed.as_bytes(), &parts.signature) {
                return Ok(key.thumbprint.clone());
            }
        }
        if named {
            return Err(refuse("the token's signature does not hold"));
        }
        self.keys.want();
        Err(refuse("the issuer has no such key for this algorithm"))
    }

    /// Between `nbf` and `exp`; when it ends. A token without an end is none.
    fn lives(&self, claims: json::Node<'_>, now: Timestamp) -> Result<Timestamp, Rejection> {
        let leeway = self.config.leeway;
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(node) => seconds(node).map(Some).ok_or_else(|| refuse(format!("the token's {name:?} is no time"))),
        };
        let end = time("exp")?.ok_or_else(|| refuse("the token never ends"))?.plus(leeway);
        if end <= now {
            return Err(refuse("the token has ended"));
        }
        let latest = now.plus(leeway);
        if time("nbf")?.is_some_and(|begin| begin > latest) || time("iat")?.is_some_and(|made| made > latest) {
            return Err(refuse("the token is not valid yet"));
        }
        Ok(end)
    }

    fn is_for_us(&self, claims: json::Node<'_>) -> bool {
        let ours =
            |node: json::Node<'_>| node.as_str().is_some_and(|aud| self.config.audience.iter().any(|own| own == aud));
        claims.get("aud").is_some_and(|aud| ours(aud) || aud.as_array().is_some_and(|mut all| all.any(ours)))
    }

    /// A claim of texts, or one text of words.
    fn roles(&self, claims: json::Node<'_>) -> Result<Vec<Arc<str>>, Rejection> {
        let mut roles: BTreeSet<Arc<str>> = self.config.grant.iter().cloned().collect();
        let Some((name, claim)) = self.config.roles.as_ref().and_then(|name| Some((name, claims.get(name)?))) else {
            return Ok(roles.into_iter().collect());
        };
        let bad = || refuse(format!("the token's {name:?} are no roles: at most {MAX_ROLES} texts"));
        let claimed: Vec<&str> = match (claim.as_str(), claim.as_array()) {
            (Some(words), _) => words.split(' ').filter(|word| !word.is_empty()).collect(),
            (None, Some(items)) => items.map(json::Node::as_str).collect::<Option<_>>().ok_or_else(bad)?,
            (None, None) => return Err(bad()),
        };
        if claimed.iter().any(|role| !is_role(role)) {
            return Err(bad());
        }
        roles.extend(claimed.into_iter().map(Arc::from));
        if roles.len() > MAX_ROLES { Err(bad()) } else { Ok(roles.into_iter().collect()) }
    }

    fn attributes(&self, claims: json::Node<'_>) -> Result<std::collections::BTreeMap<Arc<str>, Attribute>, Rejection> {
        let mut attributes = std::collections::BTreeMap::new();
        for (name, (kind, claim)) in &self.config.attributes {
            let Some(node) = claims.get(claim) else { continue };
            let value = kind.of_json(node);
            let value = value.ok_or_else(|| refuse(format!("the token's {claim:?} is not {}", kind.expected())))?;
            attributes.insert(name.clone(), value);
        }
        Ok(attributes)
    }
}

/// What a token is revoked by, if its issuer names it.
fn token_id(claims: json::Node<'_>) -> Result<Option<Arc<str>>, Rejection> {
    let Some(node) = claims.get("jti") else { return Ok(None) };
    let id = node.as_str().filter(|id| id.len() <= revoked::MAX_ID);
    let no_text = || refuse(format!("the token's \"jti\" is no text of at most {} bytes", revoked::MAX_ID));
    id.map(|id| Some(id.into())).ok_or_else(no_text)
}

/// Seconds since the Unix epoch, fractions allowed (RFC 7519, NumericDate).
fn seconds(node: json::Node<'_>) -> Option<Timestamp> {
    let seconds: f64 = node.as_number()?.parse().ok()?;
    (seconds >= 0.0).then(|| Timestamp::from_micros((seconds * 1e6) as u64))
}

// === impl Keys ===

impl Keys {
    fn now(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Read(keys) => Some(keys.clone()),
            Self::Fetched(keys) => keys.now(),
        }
    }

    /// A key is asked for that is not there: it may be new.
    fn want(&self) {
        if let Self::Fetched(keys) = self {
            keys.want();
        }
    }
}

// === impl Parts ===

impl<'t> Parts<'t> {
    /// Three parts in base64url without padding, two of them JSON objects without a name given twice.
    fn of(token: &'t str) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let object = |part: &str| {
            let json = Json::parse(Bytes::from(decode(part)?)).ok()?;
            json.root().as_object().is_some().then_some(json)
        };
        let signature = decode(signature).filter(|signature| !signature.is_empty())?;
        Some(Self { header: object(header)?, claims: object(claims)?, signed, signature })
    }
}

fn refuse(detail: impl Into<String>) -> Rejection {
    Rejection::new(RejectKind::Unauthenticated, DECIDED_BY, detail)
}
