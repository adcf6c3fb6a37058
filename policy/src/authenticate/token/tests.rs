use std::{sync::LazyLock, time::Duration};

use proptest::prelude::*;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use serde_json::{Value, json};

use super::*;
use crate::PolicyConfig;

const ISSUER: &str = "https://login.example";
const NOW: u64 = 1_800_000_000;

/// One key of each kind.
struct Signers {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

static SIGNERS: LazyLock<Signers> = LazyLock::new(Signers::new);

impl Signers {
    fn new() -> Self {
        let random = SystemRandom::new();
        let p256 = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            // made for these tests; opens nothing
            rsa: RsaKeyPair::from_pkcs8(include_bytes!("test-rsa.pk8")).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, p256.as_ref(), &random)
                .unwrap(),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "RS256" => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(message).as_ref().to_vec(),
            other => panic!("{other}"),
        }
    }

    fn key_set(&self) -> Value {
        let signature::RsaPublicKeyComponents { n, e } =
            signature::RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let point = self.p256.public_key().as_ref();
        json!({ "keys": [
            { "kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": b64(n), "e": b64(e) },
            { "kty": "EC", "kid": "e", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]) },
            { "kty": "OKP", "kid": "d", "crv": "Ed25519", "x": b64(self.ed25519.public_key().as_ref()) },
            { "kty": "EC", "kid": "other", "crv": "P-384", "x": "AA", "y": "AA" },
        ] })
    }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn issuers_with(more: &str, keys: Keys) -> Issuers {
    let text = format!(
        "access: {{ attributes: {{ limit: integer }} }}\ntokens:\n  corp:\n    issuer: {ISSUER}\n    audience: [openmesh, mesh]\n    \
         keys: {{ file: keys.json }}\n    roles: groups\n    attributes: {{ limit: spend }}\n{more}"
    );
    let config = PolicyConfig::parse("policy.yaml", &text).unwrap();
    Issuers::new(config.tokens.into_iter().map(|config| (config, keys.clone(), revoked())))
}

fn revoked() -> Arc<Revoked> {
    Arc::new(Revoked::parse("revoked.yaml", "ids: [f3a9]\nsubjects: [eve]\n").unwrap())
}

fn keys() -> Keys {
    Keys::Read(Arc::new(KeySet::parse(SIGNERS.key_set().to_string().as_bytes()).unwrap()))
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "openmesh", "sub": "ada", "exp": NOW + 600, "groups": ["operator", "a"], "spend": 1000 })
}

fn token(header: &Value, claims: &Value) -> String {
    let algorithm = header["alg"].as_str().unwrap();
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let signature = SIGNERS.sign(algorithm, signed.as_bytes());
    format!("{signed}.{}", b64(signature))
}

fn verify(issuers: &Issuers, token: &str) -> Result<Principal, Rejection> {
    issuers.verify(&"plant-a".into(), token, Timestamp::from_micros(NOW * 1_000_000))
}

fn refused(token: &str) -> String {
    let rejection = verify(&issuers_with("", keys()), token).unwrap_err();
    assert_eq!(rejection.kind, RejectKind::Unauthenticated);
    rejection.detail
}

#[test]
fn a_token_of_each_algorithm_is_its_subject() {
    for (algorithm, kid) in [("RS256", "r"), ("ES256", "e"), ("EdDSA", "d")] {
        for header in [json!({ "alg": algorithm }), json!({ "alg": algorithm, "kid": kid, "typ": "JWT" })] {
            let ada = verify(&issuers_with("", keys()), &token(&header, &claims())).unwrap();
            assert_eq!((&*ada.id, &*ada.domain), ("ada", "plant-a"));
            assert_eq!(ada.roles, ["a".into(), "operator".into()]);
            assert_eq!(ada.attributes["limit"], Attribute::Integer(1_000));
            assert_eq!(ada.expires, Some(Timestamp::from_micros((NOW + 660) * 1_000_000)), "its end and the leeway");
        }
    }
}

const RSA: &str = r#"{"keys":[{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}]}"#;
const P256: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
const ED25519: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const BY_RSA: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const BY_P256: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// RFC 7515, appendices A.2 and A.3: the signature holds, the end counts, and then there is no audience.
#[test]
fn the_tokens_of_rfc_7515_are_read_as_it_says() {
    let text = "tokens: { joe: { issuer: joe, audience: openmesh, keys: { file: keys.json } } }";
    for (keys, header, signature) in [(RSA, "eyJhbGciOiJSUzI1NiJ9", BY_RSA), (P256, "eyJhbGciOiJFUzI1NiJ9", BY_P256)] {
        let said = |keys: &str, token: &str, second: u64| {
            let config = PolicyConfig::parse("policy.yaml", text).unwrap().tokens.remove(0);
            let keys = Keys::Read(Arc::new(KeySet::parse(keys.as_bytes()).unwrap()));
            let issuers = Issuers::new([(config, keys, Arc::default())]);
            issuers.verify(&"plant-a".into(), token, Timestamp::from_micros(second * 1_000_000)).unwrap_err().detail
        };
        let token = format!("{header}.{JOE}.{signature}");
        assert_eq!(said(keys, &token, 1_300_819_379), "the token is for another audience");
        assert_eq!(said(keys, &token, 1_300_819_380 + 60), "the token has ended");
        // the same claims with a member more
        let forged = token.replace(JOE, &b64(r#"{"iss":"joe","exp":1300819380,"aud":"openmesh","sub":"root"}"#));
        assert_eq!(said(keys, &forged, 1_300_819_379), "the token's signature does not hold");
        assert_eq!(said(ED25519, &token, 1_300_819_379), "the issuer has no such key for this algorithm");
    }
    // appendix A.1 has a shared key, in a set of which nothing is taken
    let shared = r#"{"keys":[{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
    assert_eq!(KeySet::parse(shared.as_bytes()).unwrap_err(), KeySetError::Private(0));
}

/// RFC 8037, appendix A.4: its payload is no JSON, so only the signature can be looked at.
#[test]
fn the_signature_of_rfc_8037_holds() {
    let set = KeySet::parse(ED25519.as_bytes()).unwrap();
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = set.candidates(None, Algorithm::EdDsa).next().unwrap();
    assert!(key.verifies(signed.as_bytes(), &signature));
    assert!(!key.verifies(&signed.as_bytes()[1..], &signature));
}

/// RFC 7515, appendix A.5, and what else has no signature.
#[test]
fn a_token_without_a_signature_is_refused() {
    for alg in ["none", "None", "NONE", ""] {
        let unsigned = format!("{}.{}.", b64(json!({ "alg": alg }).to_string()), b64(claims().to_string()));
        assert_eq!(refused(&unsigned), "no token that can be read");
        assert_eq!(refused(&format!("{unsigned}AAAA")), "the token's algorithm is not accepted");
    }
    let rfc = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
    assert_eq!(refused(rfc), "no token that can be read");
}

#[test]
fn a_token_that_was_revoked_by_its_id_or_its_subject_is_refused() {
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        token(&json!({ "alg": "EdDSA" }), &claims)
    };
    assert_eq!(refused(&with("jti", json!("f3a9"))), "the token was revoked");
    assert_eq!(refused(&with("sub", json!("eve"))), "the token was revoked");
    assert!(verify(&issuers_with("", keys()), &with("jti", json!("f3a"))).is_ok());
    let no_text = "the token's \"jti\" is no text of at most 256 bytes";
    for id in [json!(7), json!("x".repeat(257)), Value::Null] {
        assert_eq!(refused(&with("jti", id)), no_text, "one that could not be revoked");
    }
}

#[test]
fn a_list_of_what_was_revoked_is_read_strictly() {
    assert_eq!(Revoked::parse("r.yaml", ""), Ok(Revoked::default()));
    let long = format!("ids: [\"{}\"]\n", "x".repeat(257));
    for (text, place, what) in [
        ("id: [a]\n", "r.yaml:1:1", "unknown key \"id\""),
        ("ids: a\n", "r.yaml:1:6", "list"),
        ("ids: [a, 7]\n", "r.yaml:1:10", "a string"),
        ("subjects: [\"\"]\n", "r.yaml:1:12", "not empty"),
        (long.as_str(), "r.yaml:1:7", "limit is 256"),
    ] {
        let said = Revoked::parse("r.yaml", text).unwrap_err().to_string();
        assert!(said.contains(place) && said.contains(what), "{text}: {said}");
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let set = SIGNERS.key_set();
    let n = URL_SAFE_NO_PAD.decode(set["keys"][0]["n"].as_str().unwrap()).unwrap();
    for secret in [n, set.to_string().into_bytes(), set["keys"][0].to_string().into_bytes()] {
        let signed =
            format!("{}.{}", b64(json!({ "alg": "HS256", "kid": "r" }).to_string()), b64(claims().to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        assert_eq!(refused(&format!("{signed}.{}", b64(tag))), "the token's algorithm is not accepted");
    }
}

#[test]
fn a_key_has_one_algorithm_whatever_the_token_says() {
    // signed with the P-256 key, said to be EdDSA by the name of the P-256 key, and the other way round
    let lie = |says: &str, by: &str, kid: &str| {
        let signed = format!("{}.{}", b64(json!({ "alg": says, "kid": kid }).to_string()), b64(claims().to_string()));
        format!("{signed}.{}", b64(SIGNERS.sign(by, signed.as_bytes())))
    };
    assert_eq!(refused(&lie("EdDSA", "ES256", "e")), "the issuer has no such key for this algorithm");
    assert_eq!(refused(&lie("EdDSA", "ES256", "d")), "the token's signature does not hold");
    assert_eq!(refused(&lie("RS256", "EdDSA", "d")), "the issuer has no such key for this algorithm");
    let only = issuers_with("    algorithms: [EdDSA]\n", keys());
    let rs256 = token(&json!({ "alg": "RS256" }), &claims());
    assert_eq!(verify(&only, &rs256).unwrap_err().detail, "the token's algorithm is not accepted");
}

#[test]
fn another_key_than_the_issuers_is_refused_even_if_it_travels_with_the_token() {
    let other = Signers::new();
    let jwk = other.key_set()["keys"][2].clone();
    let header = json!({ "alg": "EdDSA", "kid": "d", "jwk": jwk, "jku": "https://evil.example/keys", "x5u": "https://evil.example" });
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims().to_string()));
    assert_eq!(
        refused(&format!("{signed}.{}", b64(other.sign("EdDSA", signed.as_bytes())))),
        "the token's signature does not hold"
    );
}

#[test]
fn claims_that_do_not_hold_are_refused() {
    for (name, value, why) in [
        ("iss", json!("https://evil.example"), "no issuer"),
        ("iss", json!([ISSUER]), "no issuer"),
        ("iss", json!("https://login.example/"), "no issuer"),
        ("aud", json!("other"), "another audience"),
        ("aud", json!(["other", "openmes"]), "another audience"),
        ("aud", Value::Null, "another audience"),
        ("exp", json!(NOW - 61), "has ended"),
        ("exp", json!(NOW - 60), "has ended"),
        ("exp", Value::Null, "no time"),
        ("exp", json!("1900000000"), "no time"),
        ("exp", json!(-1), "no time"),
        ("nbf", json!(NOW + 61), "not valid yet"),
        ("iat", json!(NOW + 61), "not valid yet"),
        ("nbf", json!("now"), "no time"),
        ("sub", json!(""), "is not 1 to 128"),
        ("sub", json!("anonymous"), "prove nothing"),
        ("sub", json!("telemetry/#"), "is not 1 to 128"),
        ("sub", json!("+"), "is not 1 to 128"),
        ("sub", json!(7), "no text"),
        ("groups", json!([7]), "no roles"),
        ("groups", json!({}), "no roles"),
        ("groups", json!(vec!["r"; 1]), ""),
        ("groups", json!((0..65).map(|n| n.to_string()).collect::<Vec<_>>()), "no roles"),
        ("spend", json!("1000"), "not an integer"),
        ("spend", json!(0.5), "not an integer"),
    ] {
        let mut claims = claims();
        claims[name] = value.clone();
        let token = token(&json!({ "alg": "EdDSA" }), &claims);
        match why {
            "" => assert!(verify(&issuers_with("", keys()), &token).is_ok()),
            why => assert!(refused(&token).contains(why), "{name} {value}: {}", refused(&token)),
        }
    }
    let mut without_end = claims();
    without_end.as_object_mut().unwrap().remove("exp");
    assert_eq!(refused(&token(&json!({ "alg": "EdDSA" }), &without_end)), "the token never ends");
}

#[test]
fn clocks_may_be_apart_by_the_leeway() {
    for (name, value) in [("exp", NOW - 59), ("nbf", NOW + 60), ("iat", NOW + 60)] {
        let mut claims = claims();
        claims[name] = json!(value);
        assert!(verify(&issuers_with("", keys()), &token(&json!({ "alg": "EdDSA" }), &claims)).is_ok(), "{name}");
        let strict = issuers_with("    leeway: 0s\n", keys());
        assert!(verify(&strict, &token(&json!({ "alg": "EdDSA" }), &claims)).is_err(), "{name}");
    }
}

#[test]
fn what_has_two_readings_or_must_be_understood_is_refused() {
    let sign = |header: &str, claims: &str| {
        let signed = format!("{}.{}", b64(header), b64(claims));
        format!("{signed}.{}", b64(SIGNERS.sign("EdDSA", signed.as_bytes())))
    };
    let plain = claims().to_string();
    assert!(verify(&issuers_with("", keys()), &sign(r#"{"alg":"EdDSA"}"#, &plain)).is_ok());
    for (header, claims, why) in [
        (r#"{"alg":"EdDSA","alg":"EdDSA"}"#, plain.as_str(), "can be read"),
        (r#"{"alg":"EdDSA"}"#, &plain.replacen('{', r#"{"sub":"root","#, 1), "can be read"),
        (r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#, &plain, "critical"),
        (r#"{"alg":"EdDSA","b64":false,"crit":["b64"]}"#, &plain, "critical"),
        (r#"{"alg":"EdDSA","typ":"secevent+jwt"}"#, &plain, "another type"),
        (r#"{"alg":"EdDSA","typ":7}"#, &plain, "another type"),
        (r#"{"alg":"EdDSA","kid":7}"#, &plain, "kid"),
        (r#"{"alg":["EdDSA"]}"#, &plain, "algorithm"),
        (r#"{}"#, &plain, "algorithm"),
        (r#"[]"#, &plain, "can be read"),
        (r#"{"alg":"EdDSA"}"#, "[]", "can be read"),
        (r#"{"alg":"EdDSA"}"#, "", "can be read"),
    ] {
        let said = refused(&sign(header, claims));
        assert!(said.contains(why), "{header} {claims}: {said}");
    }
}

#[test]
fn what_is_no_token_is_refused_whatever_its_size() {
    let good = token(&json!({ "alg": "EdDSA" }), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b".to_owned(),
        format!("{good}="),
        format!("{good}.a"),
        format!(".{good}"),
        format!("{signed}.{signature}\n"),
        format!("{signed}=.{signature}"),
        "a".repeat(10 << 20),
        format!("{}.{}.{}", "a".repeat(1 << 20), "b".repeat(1 << 20), "c".repeat(1 << 20)),
        format!("{}.{}.AAAA", b64("[".repeat(3_000)), b64("{}")),
    ] {
        assert_eq!(refused(&bad), "no token that can be read", "{}", bad.get(..80).unwrap_or(&bad));
    }
}

#[test]
fn keys_that_are_not_there_yet_are_a_retry_and_a_new_key_is_asked_for() {
    let fetched = Fetched::default();
    let at = fetched.at(&"https://login.example/keys".parse().unwrap());
    let issuers = issuers_with("", Keys::Fetched(at.clone()));
    let good = token(&json!({ "alg": "EdDSA", "kid": "d" }), &claims());
    assert_eq!(verify(&issuers, &good).unwrap_err().kind, RejectKind::Unavailable);
    let mut set = SIGNERS.key_set();
    set["keys"].as_array_mut().unwrap().remove(2);
    at.put(KeySet::parse(set.to_string().as_bytes()).unwrap());
    assert_eq!(verify(&issuers, &good).unwrap_err().detail, "the issuer has no such key for this algorithm");
    assert!(futures_util::FutureExt::now_or_never(fetched.wanted()).is_some() && at.is_wanted(), "it is asked for");
    assert!(verify(&issuers, &good).is_err());
    assert!(!at.is_wanted(), "and not again at once");
    at.put(KeySet::parse(SIGNERS.key_set().to_string().as_bytes()).unwrap());
    let ada = verify(&issuers, &good).unwrap();
    assert!(issuers.accept(&ada));
    at.put(KeySet::parse(set.to_string().as_bytes()).unwrap());
    assert!(!issuers.accept(&ada), "its key was taken back");
}

#[test]
fn a_token_stands_as_long_as_its_section_says_the_same() {
    let good = token(&json!({ "alg": "EdDSA" }), &claims());
    let ada = verify(&issuers_with("", keys()), &good).unwrap();
    assert!(issuers_with("", keys()).accept(&ada));
    assert!(!issuers_with("    trust: 5\n", keys()).accept(&ada));
    assert!(!Issuers::default().accept(&ada));
    assert!(!issuers_with("", keys()).accept(&Principal::new("ada", "plant-a")));
}

#[test]
fn a_document_that_is_no_key_set_is_refused() {
    let parse = |text: &str| KeySet::parse(text.as_bytes()).unwrap_err();
    assert!(matches!(parse("<html>"), KeySetError::NotJson(_)));
    assert!(matches!(parse("{}"), KeySetError::NotASet(_)));
    assert!(matches!(parse(r#"{"keys":{}}"#), KeySetError::NotASet(_)));
    assert!(matches!(parse(r#"{"keys":[7]}"#), KeySetError::NotASet(_)));
    assert_eq!(parse(r#"{"keys":[]}"#), KeySetError::NoKey);
    assert_eq!(parse(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#), KeySetError::Private(0));
    let mut private = SIGNERS.key_set();
    private["keys"][1]["d"] = json!("AA");
    assert_eq!(parse(&private.to_string()), KeySetError::Private(1));
    let many = json!({ "keys": vec![SIGNERS.key_set()["keys"][2].clone(); 65] });
    assert_eq!(parse(&many.to_string()), KeySetError::TooMany(65));
    assert!(matches!(parse(&" ".repeat(MAX_DOCUMENT + 1)), KeySetError::TooLong(_)));
}

#[test]
fn keys_for_other_uses_and_weak_ones_are_left_out() {
    let set = SIGNERS.key_set();
    let parsed = KeySet::parse(set.to_string().as_bytes()).unwrap();
    assert_eq!((parsed.keys.len(), parsed.left_out), (3, 1));
    for (at, name, value) in [
        (0, "use", json!("enc")),
        (0, "alg", json!("RS512")),
        (0, "alg", json!("HS256")),
        (0, "key_ops", json!(["encrypt"])),
        (0, "n", json!(b64([0xff; 128]))),
        (1, "x", json!(b64([1; 31]))),
        (2, "x", json!("not base64!")),
        (2, "kid", json!(7)),
    ] {
        let mut set = set.clone();
        set["keys"][at][name] = value.clone();
        let parsed = KeySet::parse(set.to_string().as_bytes()).unwrap();
        assert_eq!((parsed.keys.len(), parsed.left_out), (2, 2), "{name} {value}");
    }
}

#[test]
fn a_section_that_is_not_understood_is_an_error_with_its_place() {
    let parse = |more: &str| {
        let text = format!("tokens:\n  corp: {{ issuer: i, audience: a, {more} }}\n");
        PolicyConfig::parse("policy.yaml", &text).map_err(|all| all.to_string())
    };
    let refresh = parse("keys: { url: https://login.example/keys, refresh: 1m }").unwrap();
    assert!(matches!(&refresh.tokens[0].keys, KeysFrom::Url { refresh, .. } if *refresh == Duration::from_secs(60)));
    assert!(parse("keys: { url: 'http://127.0.0.1:1/keys' }").is_ok());
    for (more, what) in [
        ("", "\"keys\" is missing"),
        ("keys: {}", "one place"),
        ("keys: { file: a, url: https://a/ }", "one place"),
        ("keys: { url: http://login.example/keys }", "by https"),
        ("keys: { url: http://127.0.0.1.evil.example/keys }", "by https"),
        ("keys: { url: ftp://login.example/keys }", "an https URL"),
        ("keys: { file: a }, algorithms: [HS256]", "HS256"),
        ("keys: { file: a }, algorithms: [none]", "none"),
        ("keys: { file: a }, algorithms: []", "no token is accepted"),
        ("keys: { file: a }, leeway: 1h", "1h"),
        ("keys: { file: a }, attributes: { limit: spend }", "not declared"),
    ] {
        let said = parse(more).unwrap_err();
        assert!(said.contains(what) && said.contains("policy.yaml:2:"), "{more}: {said}");
    }
    let twice = "tokens:\n  a: { issuer: i, audience: a, keys: { file: a } }\n  b: { issuer: i, audience: a, keys: { file: a } }\n";
    assert!(PolicyConfig::parse("policy.yaml", twice).unwrap_err().to_string().contains("policy.yaml:3:"));
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(token in ".{0,200}") {
        prop_assert!(verify(&issuers_with("", keys()), &token).is_err());
    }

    #[test]
    fn a_token_with_any_byte_changed_is_refused(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        let good = token(&json!({ "alg": "EdDSA" }), &claims());
        let at = at.index(good.len());
        let mut changed = good.clone();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != good);
        prop_assert!(verify(&issuers_with("", keys()), &changed).is_err());
    }
}
