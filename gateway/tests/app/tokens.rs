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
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    authority::Authority,
    support::{PATIENCE, Site, Socket, get, post_as, web},
};

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

/// What an endpoint answers with, and how often it did; it says nothing at all while that is empty.
#[derive(Clone, Default)]
struct Endpoint(Arc<(Mutex<String>, AtomicUsize)>);

/// Bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Endpoint {
    async fn start(&self) -> String {
        self.start_with(None).await
    }

    async fn start_with(&self, tls: Option<TlsAcceptor>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/keys", listener.local_addr().unwrap());
        let this = self.clone();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream: Box<dyn Stream> = match &tls {
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                    None => Box::new(stream),
                };
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap() > 0 {
                    head.push(byte[0]);
                }
                let answer = this.0.0.lock().unwrap().clone();
                this.0.1.fetch_add(1, Ordering::Relaxed);
                if answer.is_empty() {
                    silent.push(stream);
                    continue;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
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

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_it_changes_and_end_what_was_opened_with_one_that_is_gone() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let site = Site::shipped();
    site.write(
        "policy.yaml",
        "tokens:\n  corp: { issuer: https://login.example, audience: openmesh, keys: { file: corp.json } }\n",
    );
    site.write("policies/corp.json", &old.key_set());
    site.write("policies/ada.cedar", "permit(principal == Principal::\"ada\", action in Action::\"send\", resource);");
    let running = site.start().await;
    let send = async |signer: &Signer| {
        post_as(web(&running), Some(&signer.authorization()), "/telemetry/7/temperature", r#"{"f":50,"unit":"F"}"#)
            .await
            .status
    };
    let mut socket = Socket::open_as(web(&running), Some(&old.authorization())).await.unwrap();
    assert_eq!((send(&old).await, send(&new).await), (202, 401));
    // both, while the issuer changes over
    let both: serde_json::Value = serde_json::from_str(&old.key_set()).unwrap();
    let other: serde_json::Value = serde_json::from_str(&new.key_set()).unwrap();
    site.write("policies/corp.json", &json!({ "keys": [both["keys"][0], other["keys"][0]] }).to_string());
    assert!(matches!(running.reload().await, gateway::Reloaded::Changed(_)));
    assert_eq!((send(&old).await, send(&new).await), (202, 202));
    // a set that can't be used changes nothing
    site.write("policies/corp.json", r#"{"keys": []}"#);
    assert!(matches!(running.reload().await, gateway::Reloaded::Refused(_)));
    assert_eq!((send(&old).await, send(&new).await), (202, 202));
    site.write("policies/corp.json", &new.key_set());
    assert!(matches!(running.reload().await, gateway::Reloaded::Changed(_)));
    assert_eq!((send(&old).await, send(&new).await), (401, 202));
    assert_eq!(socket.closed().await, (1008, "the credentials were revoked or changed".to_owned()));
}

#[tokio::test]
async fn keys_come_by_https_from_whom_the_authorities_vouch_for_and_a_dead_endpoint_is_told() {
    let (signer, authority, endpoint) = (Signer::new("k"), Authority::new(), Endpoint::default());
    endpoint.answer("200 OK", &signer.key_set());
    let tls = TlsAcceptor::from(authority.server().server_config());
    let url = endpoint.start_with(Some(tls)).await;
    let dead = {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("https://{}/keys", gone.local_addr().unwrap())
    };
    let site = Site::shipped();
    let authorities = site.config().with_file_name("authority.pem");
    site.write("authority.pem", &Authority::new().certificate());
    let issuer = |name: &str, issuer: &str, url: &str| {
        let authorities = authorities.display();
        format!(
            "  {name}: {{ issuer: '{issuer}', audience: openmesh, keys: {{ url: '{url}', refresh: 10s, authorities: '{authorities}' }} }}\n"
        )
    };
    let policy = |more: &str| format!("tokens:\n{}{more}", issuer("corp", "https://login.example", &url));
    site.write("policy.yaml", &policy(&issuer("gone", "https://gone.example", &dead)));
    site.write("policies/ada.cedar", "permit(principal == Principal::\"ada\", action in Action::\"send\", resource);");
    let running = site.start().await;
    let admin = running.addresses().admin;
    let until_told = async |wanted: &[&str]| {
        let told = async {
            loop {
                let ready = get(admin, "/readyz").await;
                assert_eq!(ready.status, 200, "messages are taken");
                let said: Vec<_> = ready.json()["tokens"].as_array().cloned().unwrap_or_default();
                if said.iter().map(|line| line.as_str().unwrap()).eq(wanted.iter().copied()) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("it is never told: {wanted:?}"));
    };
    let none = |name: &str| format!("issuer \"{name}\": its keys can't be fetched, and none of its tokens is accepted");
    until_told(&[&none("corp"), &none("gone")]).await;
    assert_eq!(endpoint.0.1.load(Ordering::Relaxed), 0, "nothing was said to whom nobody vouches for");
    let send = async || {
        let token = signer.authorization();
        post_as(web(&running), Some(&token), "/telemetry/7/temperature", r#"{"f":50,"unit":"F"}"#).await.status
    };
    assert_eq!(send().await, 503, "it may come again");

    // what the configuration says otherwise is fetched at once
    site.write("authority.pem", &authority.certificate());
    let slow = Endpoint::default();
    let slow_url = slow.start().await;
    site.write(
        "policy.yaml",
        &policy(&issuer("slow", "https://slow.example", &slow_url)).replace("refresh: 10s", "refresh: 11s"),
    );
    running.reload().await;
    let taken = async { while send().await != 202 {} };
    tokio::time::timeout(PATIENCE, taken).await.expect("its keys are there");
    until_told(&["issuer \"slow\": its keys are not there yet"]).await;
    let asked = async {
        while slow.0.1.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("the slow endpoint is asked");
    assert_eq!(send().await, 202, "nobody waits for an endpoint that does not answer");
    endpoint.answer("500 Internal Server Error", "");
    until_told(&["issuer \"corp\": its keys can't be fetched, those before stay", &none("slow")]).await;
    assert_eq!(send().await, 202, "the last good keys are kept");
}
