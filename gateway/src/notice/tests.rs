//! Notices against a receiver on a port of its own, plain and with TLS.

use std::{path::PathBuf, time::Duration};

use envelope::{RejectKind, Route};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::UnboundedReceiver,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use yaml::{Resolve, Secret};

use bridges::sign::signature;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(30);

/// A post as it came.
struct Post {
    head: String,
    body: String,
}

// === impl Post ===

impl Post {
    fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    fn is_signed(&self) -> bool {
        let (id, seconds) = (self.header("webhook-id"), self.header("webhook-timestamp").parse().unwrap());
        let made = signature(&Secret::new(SECRET), id, seconds, self.body.as_bytes());
        // the head was read in lower case
        self.header("webhook-signature") == made.to_ascii_lowercase()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn read_post(stream: &mut (impl AsyncRead + Unpin)) -> Post {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        if body.len() == length {
            return Post { head, body: body.to_owned() };
        }
    }
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), status: u16) -> Post {
    let post = read_post(stream).await;
    let text = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap_or_default();
    post
}

/// A receiver that gives these answers, one after the other and the last for ever; and what it was posted.
async fn receiver(statuses: &'static [u16]) -> (u16, UnboundedReceiver<Post>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    #[expect(clippy::disallowed_methods, reason = "a test's own channel")]
    let (sender, posts) = mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    tokio::spawn(async move {
        for n in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let status = statuses.get(n).or(statuses.last()).unwrap();
            if sender.send(answer(&mut stream, *status).await).is_err() {
                return;
            }
        }
    });
    (port, posts)
}

fn config(url: &str) -> NoticeConfig {
    NoticeConfig {
        url: url.parse().unwrap(),
        secret: Secret::new(SECRET),
        authorities: PathBuf::from("/nowhere"),
        timeout: Duration::from_secs(5),
        retry_for: Duration::from_secs(60),
        queue: 16,
    }
}

fn refused(decided_by: &'static str, detail: &str) -> Verdict<Admission> {
    let rejection = Rejection::new(RejectKind::Malformed, decided_by, detail).at("/f");
    Verdict { route: Some(Route::new("m", "1")), answer: Err(rejection) }
}

async fn next(posts: &mut UnboundedReceiver<Post>) -> Post {
    timeout(PATIENCE, posts.recv()).await.unwrap().unwrap()
}

/// Tells of these refusals, and posts until `stop`.
fn told(config: NoticeConfig, details: &[&str], stop: &CancellationToken) {
    let (notices, queue) = Notices::with_room(config.queue);
    for detail in details {
        notices.tell(&"web".into(), &refused("conformance", detail));
    }
    let stop = stop.clone();
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    tokio::spawn(async move {
        // kept until the end: a queue without senders is an end too
        let _notices = notices;
        run(config, queue, stop).await;
    });
}

#[tokio::test]
async fn a_refusal_by_validation_is_posted_signed() {
    let (port, mut posts) = receiver(&[200]).await;
    let stop = CancellationToken::new();
    told(config(&format!("http://127.0.0.1:{port}/hook?a=b")), &["\"hot\" is not a number"], &stop);
    let post = next(&mut posts).await;
    assert!(post.head.starts_with("post /hook?a=b http/1.1"), "{}", post.head);
    assert!(post.is_signed());
    assert_eq!(post.json()["id"], post.header("webhook-id"));
    let notice = &post.json()["notices"][0];
    assert_eq!(
        (&notice["bridge"], &notice["mapping"], &notice["kind"]),
        (&"web".into(), &"m".into(), &"malformed".into())
    );
    assert_eq!((&notice["pointer"], &notice["decided_by"]), (&"/f".into(), &"conformance".into()));
    assert_eq!(notice["detail"], "\"hot\" is not a number");
    stop.cancel();
}

#[tokio::test]
async fn a_post_that_does_not_arrive_is_made_again_under_the_same_id_and_signed_anew() {
    let (port, mut posts) = receiver(&[503, 429, 204]).await;
    let stop = CancellationToken::new();
    told(config(&format!("http://localhost:{port}/")), &["a", "b"], &stop);
    let (first, second, third) = (next(&mut posts).await, next(&mut posts).await, next(&mut posts).await);
    assert!(first.body == second.body && second.body == third.body);
    assert_eq!(first.json()["notices"].as_array().unwrap().len(), 2, "what waits goes together");
    assert!(second.is_signed() && third.is_signed());
    stop.cancel();
}

#[tokio::test]
async fn what_the_receiver_refuses_for_good_is_not_tried_again() {
    let (port, mut posts) = receiver(&[400, 200]).await;
    let stop = CancellationToken::new();
    let config = config(&format!("http://127.0.0.1:{port}/"));
    let (notices, queue) = Notices::with_room(16);
    notices.tell(&"web".into(), &refused("conformance", "first"));
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let worker = tokio::spawn(run(config, queue, stop.clone()));
    assert_eq!(next(&mut posts).await.json()["notices"][0]["detail"], "first");
    notices.tell(&"web".into(), &refused("conformance", "second"));
    assert_eq!(next(&mut posts).await.json()["notices"][0]["detail"], "second");
    stop.cancel();
    timeout(PATIENCE, worker).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_left_is_posted_when_the_gateway_ends() {
    let (port, mut posts) = receiver(&[200]).await;
    let (notices, queue) = Notices::with_room(16);
    notices.tell(&"web".into(), &refused("conformance", "last words"));
    let stop = CancellationToken::new();
    stop.cancel();
    timeout(PATIENCE, run(config(&format!("http://127.0.0.1:{port}/")), queue, stop)).await.unwrap();
    assert_eq!(next(&mut posts).await.json()["notices"][0]["detail"], "last words");
}

#[test]
fn a_full_queue_drops_and_never_waits_and_other_refusals_are_not_told() {
    let (notices, mut queue) = Notices::with_room(2);
    for detail in ["a", "b", "c"] {
        notices.tell(&"web".into(), &refused("mapping.from.schema", detail));
    }
    notices.tell(&"web".into(), &refused("rate_limit", "x"));
    notices.tell(&"web".into(), &Verdict::yes(Admission::Filtered));
    let kept: Vec<_> = std::iter::from_fn(|| queue.try_recv().ok()).map(|notice| notice.detail).collect();
    assert_eq!(kept, ["a", "b"]);
}

#[tokio::test]
async fn tls_is_spoken_with_a_receiver_of_a_known_authority_and_with_no_other() {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("ca.pem");
    std::fs::write(&authorities, pair.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        answer(&mut stream, 200).await
    };
    let stop = CancellationToken::new();
    let config = NoticeConfig { authorities, ..config(&format!("https://localhost:{port}/hook")) };
    told(config.clone(), &["by tls"], &stop);
    let post = timeout(PATIENCE, served).await.unwrap();
    assert!(post.is_signed() && post.body.contains("by tls"));
    stop.cancel();

    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&config.authorities, other.cert.pem()).unwrap();
    let stop = CancellationToken::new();
    told(config, &["to nobody"], &stop);
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert!(acceptor.accept(stream).await.is_err(), "the handshake ends before anything is told");
    stop.cancel();
}

#[test]
fn only_what_can_be_told_in_confidence_is_configured() {
    let read = |text: &str| {
        let file = yaml::File::parse("gateway.yaml", text).unwrap();
        let resolve = Resolve { env: &|_| None, file: &|_| Ok(SECRET.to_owned()) };
        file.read(|root, problems| {
            let mut fields = yaml::Fields::of(root, problems)?;
            NoticeConfig::read(&mut fields, std::path::Path::new("config"), &resolve, problems)
        })
        .map_err(|errors| errors.to_string())
    };
    let whole = "notices: { url: \"https://hooks.example.org/a\", secret: \"${file:secret}\", timeout: 1s, retry_for: 1h, queue: 5 }\n";
    let config = read(whole).unwrap().unwrap();
    assert_eq!(
        (config.queue, config.url.scheme_str(), config.retry_for),
        (5, Some("https"), Duration::from_secs(3_600))
    );
    assert!(!format!("{config:?}").contains(SECRET));
    assert!(read("{}\n").unwrap().is_none());
    for local in ["http://127.0.0.1:80/", "http://localhost/", "http://[::1]:9/"] {
        assert!(read(&whole.replace("https://hooks.example.org/a", local)).is_ok(), "{local}");
    }
    for (url, says) in [
        ("http://hooks.example.org/", "readable on the way"),
        ("https://user:word@hooks.example.org/", "no place in it"),
        ("ftp://hooks.example.org/", "neither https nor http"),
        ("/hook", "no host"),
        ("https://", "no URL"),
    ] {
        let said = read(&whole.replace("https://hooks.example.org/a", url)).unwrap_err();
        assert!(said.contains(says), "{url}: {said}");
    }
    assert!(read(&whole.replace("\"${file:secret}\"", "short")).unwrap_err().contains("at least 32 bytes"));
    assert!(read(&whole.replace("queue: 5", "queue: 0")).unwrap_err().contains("out-of-range"));
}
