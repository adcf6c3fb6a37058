//! Hostile input for policy: what the fuzz targets call with any bytes, as each file and each credential that is read. Each
//! entry panics where a promise is broken.

#![allow(clippy::expect_used, reason = "a promise that is broken is to panic here")]

use std::sync::{Arc, LazyLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use envelope::{Data, Envelope, EnvelopeId, Filter, Principal, Timestamp, Topic};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::{
    Action, Attributes, Decision, Issuers, KeyHash, KeySet, Keys, Policies, PolicyConfig, PolicySource, Revoked,
    StoredPassword, UsersFile, authenticate, certificate_names,
};

const DOMAIN: &str = "plant-a";
const ISSUER: &str = "https://login.example";
/// In seconds since 1970.
const NOW: u64 = 1_800_000_000;
/// What the token of [`claims`] begins with, and the key that signs it.
const HEADER: &str = r#"{"alg":"EdDSA","kid":"d"}"#;
const SEED: [u8; 32] = [7; 32];

static POLICY: LazyLock<PolicyConfig> = LazyLock::new(|| {
    let text = format!(
        "access:\n  attributes: {{ limit: integer, team: text, share: decimal }}\n  data: {{ amount: integer }}\n\
         tokens:\n  corp:\n    issuer: {ISSUER}\n    audience: openmesh\n    keys: {{ file: keys.json }}\n    roles: groups\n    \
         attributes: {{ limit: spend, share: part }}\n"
    );
    PolicyConfig::parse("policy.yaml", &text).expect("a policy")
});

/// A policy file: it is read, or all that is wrong has a place; and who it lets in unasked it says.
///
/// # Panics
/// If it lets in who it does not name.
pub fn policy_file(text: &str) {
    match PolicyConfig::parse("policy.yaml", text) {
        Ok(config) => assert!(!config.anonymous || text.contains("anonymous"), "{text:?}"),
        Err(errors) => assert!(errors.to_string().contains("policy.yaml"), "{errors}"),
    }
}

/// Cedar policies: what is taken decides the same thing each time, and permits nothing if no policy is a permit.
///
/// # Panics
/// If it does.
pub fn cedar(text: &str) {
    let source = PolicySource { path: "policies/a.cedar", name: "a", text };
    let (policies, found) = Policies::load(&[source], &POLICY.access);
    if !found.is_empty() {
        assert!(found.iter().all(|problem| !problem.to_string().is_empty()));
        return;
    }
    let ada = Principal { roles: vec!["buyer".into()], trust: 50, ..Principal::new("ada", DOMAIN) };
    for principal in [Arc::new(ada), Arc::new(Principal::anonymous(DOMAIN))] {
        for (topic, data) in [("a", r#"{"amount":7}"#), ("a/b/c", "{}"), ("r\u{e4}ume", "no JSON")] {
            let message = message(topic, data);
            let open = Filter::new(format!("{topic}/#")).expect("a filter");
            let decide = || {
                [
                    policies.may_send(&principal, &message, "web"),
                    policies.may_read(&principal, &message, "web"),
                    policies.may_open(&principal, &open, "web"),
                    policies.may_administer(&principal, Action::View, DOMAIN),
                ]
            };
            let first = decide();
            assert_eq!(first, decide(), "{text:?} on {topic}");
            let permits = first.iter().any(|decision| matches!(decision, Decision::Permitted(_)));
            assert!(!permits || text.contains("permit"), "{text:?} on {topic}: {first:?}");
        }
    }
}

fn message(topic: &str, data: &str) -> Envelope {
    Envelope::plain(
        EnvelopeId::parse("0190163d-8694-739b-aea5-966c26f8ad91").expect("an id"),
        "mesh://plant-a/web/ada".into(),
        "mesh/opaque@v1.0.0".into(),
        Topic::new(topic).expect("a topic"),
        Timestamp::from_micros(0),
        Data::Opaque(Bytes::copy_from_slice(data.as_bytes())),
    )
}

/// The file of users, and that of what was revoked: what is read is written so that it reads back as the same.
///
/// # Panics
/// If it is not.
pub fn users(text: &str) {
    _ = Revoked::parse("revoked.yaml", text);
    let attributes: &Attributes = &POLICY.access.attributes;
    let Ok(file) = UsersFile::parse("users.yaml", text, attributes) else { return };
    let written = file.to_string();
    let again = UsersFile::parse("users.yaml", &written, attributes).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again, file, "{written}");
    _ = file.principals(&DOMAIN.into());
}

/// The value of an `Authorization` header, and what protocols have that know a name and a password only.
///
/// # Panics
/// If a name becomes another one.
pub fn headers(bytes: &[u8]) {
    authenticate::fuzz_header(bytes);
    let Some((length, rest)) = bytes.split_first() else { return };
    let (name, password) = rest.split_at(rest.len().min(usize::from(*length)));
    if let Ok(name) = std::str::from_utf8(name) {
        authenticate::fuzz_password(name, password);
    }
}

/// A token that nobody has signed lets nobody in.
///
/// # Panics
/// If it does.
pub fn tokens(text: &str) {
    let issuers = issuers(&Ed25519KeyPair::from_seed_unchecked(&[8; 32]).expect("a key"));
    assert!(verify(&issuers, text).is_err(), "{text:?}");
}

/// Claims that the issuer has signed: who is let in by them is named by them, for a time.
///
/// # Panics
/// If one is not.
pub fn claims(claims: &[u8]) {
    let key = Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a key");
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    let Ok(principal) = verify(&issuers(&key), &format!("{signed}.{signature}")) else { return };
    let text = String::from_utf8_lossy(claims);
    assert!(principal.expires.is_some_and(|end| end > Timestamp::from_micros(NOW * 1_000_000)), "{text:?}");
    assert!(!principal.id.is_empty() && !principal.id.starts_with('$') && *principal.id != *Principal::ANONYMOUS);
    assert!(principal.roles.is_sorted() && principal.roles.iter().all(|role| !role.chars().any(char::is_control)));
    assert!(principal.attributes.keys().all(|name| ["limit", "share"].contains(&&**name)), "{text:?}");
}

fn issuers(key: &Ed25519KeyPair) -> Issuers {
    let public = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
    let set = format!(r#"{{"keys":[{{"kty":"OKP","kid":"d","crv":"Ed25519","x":"{public}"}}]}}"#);
    let keys = Keys::Read(Arc::new(KeySet::parse(set.as_bytes()).expect("a key set")));
    let config = POLICY.tokens.iter().cloned();
    Issuers::new(config.map(|config| (config, keys.clone(), Arc::default())))
}

fn verify(issuers: &Issuers, token: &str) -> Result<Principal, envelope::Rejection> {
    authenticate::fuzz_token(issuers, DOMAIN, token, Timestamp::from_micros(NOW * 1_000_000))
}

/// A key set, a certificate, and the hashes of keys and passwords.
///
/// # Panics
/// If a set without keys is taken, or a hash reads back as another one.
pub fn material(bytes: &[u8]) {
    if let Ok(set) = KeySet::parse(bytes) {
        assert_ne!(set, KeySet::default());
    }
    _ = certificate_names(bytes);
    let text = String::from_utf8_lossy(bytes);
    if let Some(hash) = KeyHash::parse(&text) {
        assert_eq!(KeyHash::parse(&hash.to_string()), Some(hash));
    }
    if let Ok(password) = StoredPassword::parse(&text) {
        assert_eq!(password.as_str(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 5] = [
        "anonymous: true\nlimits: { per_principal: { messages: 10 } }\n",
        "access: { attributes: { limit: integer }, values: { night: true } }\nresidency: {}\npriority: {}\n",
        "permit (principal, action in Action::\"send\", resource in Topic::\"a\") when { principal.trust > 10 };",
        "@id(\"x\") forbid (principal == Principal::\"ada\", action, resource) unless { principal has team && principal.team == \"b\" };",
        "users:\n  ada: { roles: [a, b], trust: 50, attributes: { limit: 7 }, keys: { k3f9a2mwzx: { hash: \"sha256:00\" } } }\n",
    ];
    const CLAIMS: &str =
        r#"{"iss":"https://login.example","aud":"openmesh","sub":"ada","exp":1800000600,"groups":["a"],"spend":7}"#;

    #[test]
    fn whatever_is_changed_in_a_file_or_a_credential_the_promises_hold() {
        let mut random = fastrand(7);
        for round in 0..150 {
            for seed in FILES.into_iter().chain([CLAIMS, "Basic YWRhOnB3", "$argon2id$v=19$m=19456,t=2,p=1$YQ$YQ"]) {
                let mut bytes = seed.as_bytes().to_vec();
                for _ in 0..round % 4 {
                    let at = random(bytes.len() + 1);
                    match random(3) {
                        0 => bytes.insert(at, u8::try_from(random(256)).expect("a byte")),
                        1 if at < bytes.len() => bytes[at] ^= 1 << random(8),
                        _ => bytes.truncate(at),
                    }
                }
                let text = String::from_utf8_lossy(&bytes);
                policy_file(&text);
                cedar(&text);
                users(&text);
                tokens(&text);
                headers(&bytes);
                claims(&bytes);
                material(&bytes);
            }
        }
    }

    /// Numbers below a bound, from a seed.
    fn fastrand(mut state: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).expect("31 bits") % below
        }
    }

    #[test]
    fn the_seeds_are_what_they_are_called() {
        assert!(PolicyConfig::parse("policy.yaml", FILES[1]).is_ok());
        for cedar in &FILES[2..4] {
            let source = PolicySource { path: "policies/a.cedar", name: "a", text: cedar };
            assert_eq!(Policies::load(&[source], &POLICY.access).1.len(), 0, "{cedar}");
        }
        let key = Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a key");
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(CLAIMS));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        let ada = verify(&issuers(&key), &format!("{signed}.{signature}")).expect("a principal");
        assert_eq!((&*ada.id, ada.attributes.len()), ("ada", 1));
    }
}
