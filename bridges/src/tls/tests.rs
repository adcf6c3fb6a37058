//! A listener with TLS, as clients of all kinds meet it.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use rustls::{ClientConfig, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::service_fn;

use super::{
    TlsConfig,
    testing::{Authority, Signed},
};
use crate::{
    conformance::Rig,
    http::{HttpConfig, Listener, Peer, ServerConfig},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A listener that answers with the length of its peer's certificate.
struct Site {
    dir: TempDir,
    authority: Authority,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

fn config(dir: &Path, more: &str) -> Result<TlsConfig, String> {
    let text = format!("{{ certificate: own.pem, key: own.key{more} }}");
    let file = yaml::File::parse("gateway.yaml", text).unwrap();
    file.read(|node, problems| TlsConfig::read(node, dir, problems)).map_err(|all| all.to_string())
}

impl Site {
    async fn start(clients: &str, prepare: impl FnOnce(&Authority, &Path)) -> Self {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("plant"));
        authority.server(1).write(dir.path(), "own");
        fs::write(dir.path().join("clients.pem"), authority.certificate()).unwrap();
        prepare(&authority, dir.path());
        let tls = Some(config(dir.path(), clients).unwrap());
        let header_timeout = Duration::from_millis(300);
        let server = ServerConfig {
            tls,
            header_timeout,
            max_connections: 2,
            ..ServerConfig::new("127.0.0.1:0".parse().unwrap())
        };
        let listener = Listener::bind(server).await.unwrap();
        let address = listener.local_addr();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let service = |peer: Peer| {
            service_fn(move |_| -> BoxFuture<'static, _> {
                let text = peer.certificate.as_ref().map_or(0, |own| own.der().len()).to_string();
                Box::pin(std::future::ready(Ok(Response::new(Body::from(text)))))
            })
        };
        tasks.spawn(listener.serve("test", service, stop.clone(), tasks.clone()));
        Self { dir, authority, address, stop, tasks }
    }

    /// What the listener answers to this client.
    async fn ask(&self, own: Option<&Signed>) -> io::Result<String> {
        self.ask_by(self.authority.client_config(own)).await
    }

    async fn ask_by(&self, client: Arc<ClientConfig>) -> io::Result<String> {
        exchange(self.address, client, "GET /", "").await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait()).await.unwrap();
    }
}

/// The body of the answer.
async fn exchange(address: SocketAddr, client: Arc<ClientConfig>, target: &str, headers: &str) -> io::Result<String> {
    let exchange = async {
        let socket = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, socket).await?;
        let head = format!("{target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        // a certificate that is revoked between the handshake and the request gets no answer
        let (_, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(body.to_owned())
    };
    timeout(PATIENCE, exchange).await.unwrap()
}

const REQUIRED: &str = ", clients: { authorities: clients.pem }";
const REVOKED: &str = ", clients: { authorities: clients.pem, revoked: revoked.pem }";

#[tokio::test]
async fn both_versions_are_spoken_and_plain_text_is_not() {
    let site = Site::start("", |_, _| {}).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        let own = rustls::pki_types::pem::PemObject::from_pem_slice(site.authority.certificate().as_bytes()).unwrap();
        roots.add(own).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        assert_eq!(site.ask_by(Arc::new(client)).await.unwrap(), "0", "{version:?}");
    }
    let mut socket = TcpStream::connect(site.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, socket.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_err() || !answer.starts_with(b"HTTP"), "{answer:?}");
    site.stop().await;
}

#[tokio::test]
async fn only_a_certificate_of_the_authority_that_is_valid_now_gets_in() {
    let site = Site::start(REQUIRED, |_, _| {}).await;
    let good = site.authority.client("press-7", 10, false);
    let length: usize = site.ask(Some(&good)).await.unwrap().parse().unwrap();
    assert!(length > 100, "the service sees the certificate");
    assert!(site.ask(None).await.is_err(), "none");
    assert!(site.ask(Some(&site.authority.client("press-7", 11, true))).await.is_err(), "expired");
    assert!(site.ask(Some(&site.authority.server(12))).await.is_err(), "not meant for clients");
    let stranger = Authority::new("plant").client("press-7", 10, false);
    assert!(site.ask(Some(&stranger)).await.is_err(), "of another authority with the same name");
    site.stop().await;
}

#[tokio::test]
async fn a_certificate_says_who_a_message_is_of_unless_a_header_does() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("plant"));
    authority.server(1).write(dir.path(), "own");
    fs::write(dir.path().join("clients.pem"), authority.certificate()).unwrap();
    let mut http = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    http.server.tls = Some(config(dir.path(), REQUIRED).unwrap());
    let rig = Rig::start(&http).await;
    let client = authority.client_config(Some(&authority.client("press-7", 10, false)));
    for (headers, who) in [("", "certificate"), ("authorization: Bearer ann\r\n", "ann")] {
        exchange(rig.address(), client.clone(), "PUT /a", headers).await.unwrap();
        assert_eq!(&*rig.seen().pop().unwrap()[0].principal.id, who);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_revoked_certificate_does_not_get_in_and_another_of_its_owner_does() {
    let write = |authority: &Authority, dir: &Path| {
        let (old, new) = (authority.client("press-7", 10, false), authority.client("press-7", 11, false));
        fs::write(dir.join("revoked.pem"), authority.revoked(&[&old])).unwrap();
        old.write(dir, "old");
        new.write(dir, "new");
    };
    let site = Site::start(REVOKED, write).await;
    let old = Signed::read(site.dir.path(), "old");
    assert!(site.ask(Some(&old)).await.is_err());
    assert!(site.ask(Some(&Signed::read(site.dir.path(), "new"))).await.is_ok());
    site.stop().await;
}

#[tokio::test]
async fn an_optional_certificate_is_verified_if_there_is_one() {
    let site = Site::start(", clients: { authorities: clients.pem, optional: true }", |_, _| {}).await;
    assert_eq!(site.ask(None).await.unwrap(), "0");
    assert_ne!(site.ask(Some(&site.authority.client("a", 2, false))).await.unwrap(), "0");
    assert!(site.ask(Some(&site.authority.client("a", 2, true))).await.is_err());
    site.stop().await;
}

/// Asks until the answer is as wanted.
async fn until(site: &Site, own: &Signed, wanted: impl Fn(&io::Result<String>) -> bool) {
    let asked = async {
        while !wanted(&site.ask(Some(own)).await) {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, asked).await.is_ok(), "it stays as it was");
}

#[tokio::test]
async fn files_that_change_are_taken_up_by_the_next_connection() {
    let nothing = |authority: &Authority, dir: &Path| {
        fs::write(dir.join("revoked.pem"), authority.revoked(&[])).unwrap();
    };
    let site = Site::start(REVOKED, nothing).await;
    let client = site.authority.client("press-7", 10, false);
    assert!(site.ask(Some(&client)).await.is_ok());
    fs::write(site.dir.path().join("revoked.pem"), site.authority.revoked(&[&client])).unwrap();
    until(&site, &client, Result::is_err).await;

    // A key that is not the certificate's: what is in force stays.
    site.authority.server(5).write(site.dir.path(), "other");
    fs::copy(site.dir.path().join("other.key"), site.dir.path().join("own.key")).unwrap();
    fs::write(site.dir.path().join("revoked.pem"), site.authority.revoked(&[])).unwrap();
    assert!(config(site.dir.path(), REVOKED).unwrap_err().contains("own.pem with "));
    assert!(site.ask(Some(&client)).await.is_err());
    fs::copy(site.dir.path().join("other.pem"), site.dir.path().join("own.pem")).unwrap();
    until(&site, &client, Result::is_ok).await;
    site.stop().await;
}

/// A bridge with TLS, and a revocation list that has nobody yet.
async fn bridge() -> (TempDir, Authority, Rig, Signed) {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("plant"));
    authority.server(1).write(dir.path(), "own");
    fs::write(dir.path().join("clients.pem"), authority.certificate()).unwrap();
    fs::write(dir.path().join("revoked.pem"), authority.revoked(&[])).unwrap();
    let mut http = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    http.server.tls = Some(config(dir.path(), REVOKED).unwrap());
    let rig = Rig::start(&http).await;
    let client = authority.client("press-7", 10, false);
    (dir, authority, rig, client)
}

async fn connect(rig: &Rig, authority: &Authority, own: &Signed) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(rig.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(authority.client_config(Some(own))).connect(name, socket).await.unwrap()
}

#[tokio::test]
async fn a_certificate_that_is_revoked_closes_the_connections_that_it_opened_and_no_other() {
    let (dir, authority, rig, client) = bridge().await;
    let other = authority.client("press-8", 11, false);
    let url = format!("wss://{}/mesh/v1/ws", rig.address());
    let open = async |own: &Signed| {
        let stream = connect(&rig, &authority, own).await;
        tokio_tungstenite::client_async(url.as_str(), stream).await.unwrap().0
    };
    let (mut socket, mut stays) = (open(&client).await, open(&other).await);
    let mut requests = connect(&rig, &authority, &client).await;
    let head = format!("PUT /a HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\n\r\n", rig.address());
    requests.write_all(head.as_bytes()).await.unwrap();
    let mut answered = [0];
    requests.read_exact(&mut answered).await.unwrap();

    fs::write(dir.path().join("revoked.pem"), authority.revoked(&[&client])).unwrap();
    let closed = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    let Message::Close(Some(frame)) = closed else { panic!("{closed:?}") };
    assert_eq!(u16::from(frame.code), 1008);
    assert_eq!(frame.reason.as_str(), "the client certificate was revoked, or has ended");
    // what was answered is read, and then there is no more
    timeout(PATIENCE, requests.read_to_end(&mut Vec::new()))
        .await
        .expect("the connection of requests is closed too")
        .unwrap();
    stays.send(Message::Ping("still here".into())).await.unwrap();
    assert_eq!(timeout(PATIENCE, stays.next()).await.unwrap().unwrap().unwrap(), Message::Pong("still here".into()));
    drop(stays);
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_frees_its_place() {
    let site = Site::start("", |_, _| {}).await;
    let silent: Vec<_> = (0..2).map(|_| TcpStream::connect(site.address)).collect();
    let silent = futures_util::future::join_all(silent).await;
    assert_eq!(site.ask(None).await.unwrap(), "0", "there are two places only");
    drop(silent);
    site.stop().await;
}

#[test]
fn files_that_can_not_be_used_are_errors_that_name_them() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("plant"));
    let at = |name: &str| dir.path().join(name);
    assert!(config(dir.path(), "").unwrap_err().contains("own.pem: can't be read"));
    authority.server(1).write(dir.path(), "own");
    assert!(config(dir.path(), "").is_ok());
    fs::write(at("clients.pem"), authority.server(2).key).unwrap();
    let error = config(dir.path(), REQUIRED).unwrap_err();
    assert!(error.contains("clients.pem: holds no certificate") && !error.contains("PRIVATE"), "{error}");
    fs::write(at("clients.pem"), authority.certificate()).unwrap();
    fs::write(at("revoked.pem"), "revoked").unwrap();
    assert!(config(dir.path(), REVOKED).unwrap_err().contains("revoked.pem: holds no revocation list"));
    fs::write(at("own.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    assert!(config(dir.path(), "").unwrap_err().contains("own.pem with "));
    assert!(config(dir.path(), ", version: 1.1").unwrap_err().contains("unknown key \"version\""));
}
