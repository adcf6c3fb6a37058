//! Tokens whose keys are fetched: rotation, and an endpoint that fails.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{PATIENCE, Site, post_as, web};

/// A signing key and its name.
pub(crate) struct Signer(&'static str, Ed25519KeyPair);

impl Signer {
    pub(crate) fn new(kid: &'static str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(kid, Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    pub(crate) fn key_set(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.1.public_key());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": self.0, "x": x }] }).to_string()
    }

    fn authorization(&self) -> String {
        self.token(json!({ "sub": "ada" }))
    }

    /// With these claims beside those that every token has.
    pub(crate) fn token(&self, more: serde_json::Value) -> String {
        let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let mut claims = json!({ "iss": "https://login.example", "aud": "openmesh", "exp": 4_000_000_000_u64 });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let signed = format!("{}.{}", part(json!({ "alg": "EdDSA", "kid": self.0 })), part(claims));
        format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(self.1.sign(signed.as_bytes())))
    }
}

/// What an endpoint answers with, and how often it did.
#[derive(Clone, Default)]
struct Endpoint(Arc<(Mutex<String>, AtomicUsize)>);

impl Endpoint {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap() > 0 {
                    head.push(byte[0]);
                }
                let answer = this.0.0.lock().unwrap().clone();
                stream.write_all(answer.as_bytes()).await.unwrap();
                this.0.1.fetch_add(1, Ordering::Relaxed);
            }
        });
        url
    }

    fn answer(&self, status: &str, body: &str) {
        let length = body.len();
        *self.0.0.lock().unwrap() = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    }
}

#[tokio::test]
async fn keys_are_fetched_and_fetched_again_for_a_token_by_a_new_one_and_a_failure_keeps_those_before() {
    let (old, new, endpoint) = (Signer::new("old"), Signer::new("new"), Endpoint::default());
    endpoint.answer("200 OK", &old.key_set());
    let url = endpoint.start().await;
    let site = Site::shipped();
    site.write(
        "policy.yaml",
        &format!(
            "tokens:\n  corp: {{ issuer: https://login.example, audience: openmesh, keys: {{ url: '{url}' }} }}\n"
        ),
    );
    site.write("policies/ada.cedar", "permit(principal == Principal::\"ada\", action in Action::\"send\", resource);");
    let running = site.start().await;
    let send = async |signer: &Signer| {
        post_as(web(&running), Some(&signer.authorization()), "/telemetry/7/temperature", r#"{"f":50,"unit":"F"}"#)
            .await
    };
    let until_taken = async |signer: &Signer| {
        let taken = async { while send(signer).await.status != 202 {} };
        tokio::time::timeout(PATIENCE, taken).await.expect("it is taken");
    };
    until_taken(&old).await;
    // the issuer changes its key: the first token by it has the keys fetched before their time
    endpoint.answer("200 OK", &new.key_set());
    until_taken(&new).await;
    assert_eq!(send(&old).await.status, 401, "its key was taken back");
    // an answer that is none of these changes nothing, nor does one that moves elsewhere
    let fetched = endpoint.0.1.load(Ordering::Relaxed);
    assert!(fetched >= 2);
    endpoint.answer("302 Found", "");
    assert_eq!((send(&old).await.status, send(&new).await.status), (401, 202));
}
