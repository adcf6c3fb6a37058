//! Webhooks over TLS: a server is spoken to if its certificate is of an authority that is named, of its name, and valid.

use std::{fs, sync::Arc};

use envelope::{Disposition, RejectKind, Rejection, Taken};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{config, post, sink};
use crate::{
    tls::testing::{Authority, Signed},
    webhook::WebhookConfig,
};

fn acceptor(own: &Signed) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    TlsAcceptor::from(Arc::new(server.with_single_cert(chain, key).unwrap()))
}

/// Answers one request with 200; what of it came.
async fn answers(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"{}") {
        match stream.read_buf(&mut text).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    if text.ends_with(b"{}") {
        let _ = stream.write_all(b"HTTP/1.1 200 x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        let _ = stream.shutdown().await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// What becomes of a message to a server with this certificate, and what the server read of it.
async fn meets(trusted: &Authority, own: &Signed, host: &str) -> (Result<Taken, Rejection>, String) {
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("authorities.pem");
    fs::write(&authorities, trusted.certificate()).unwrap();
    let sink = sink(&WebhookConfig { authorities, plain_text: false, ..config() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("POST https://{host}:{}/in", listener.local_addr().unwrap().port());
    let accepted = async {
        let (stream, _) = listener.accept().await.unwrap();
        match acceptor(own).accept(stream).await {
            Ok(stream) => answers(stream).await,
            Err(_) => String::new(),
        }
    };
    tokio::join!(post(&sink, &to), accepted)
}

#[tokio::test]
async fn a_server_whose_certificate_holds_gets_the_message_encrypted() {
    let authority = Authority::new("a");
    for host in ["localhost", "127.0.0.1"] {
        let (said, read) = meets(&authority, &authority.server(1), host).await;
        assert_eq!(said.unwrap(), Taken::ByPeer, "{host}");
        assert!(read.starts_with("POST /in HTTP/1.1\r\n"), "{host}: {read}");
    }
}

#[tokio::test]
async fn a_server_that_can_not_be_trusted_reads_nothing_and_the_message_waits() {
    let (authority, other) = (Authority::new("a"), Authority::new("b"));
    for (own, why) in [
        (other.server(1), "UnknownIssuer"),
        (authority.server_of(&["other.example"], 2, false), "not valid for name \"localhost\""),
        (authority.server_of(&["localhost"], 3, true), "expired"),
        (authority.client("localhost", 4, false), "extended key usage"),
    ] {
        let (said, read) = meets(&authority, &own, "localhost").await;
        let no = said.unwrap_err();
        assert_eq!((no.kind, no.disposition()), (RejectKind::Unavailable, Disposition::Retry), "{no}");
        assert!(no.detail.starts_with("no TLS: ") && no.detail.contains(why), "{why}: {no}");
        assert_eq!(read, "", "{why}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_reads_nothing_of_the_message() {
    let authority = Authority::new("a");
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("authorities.pem");
    fs::write(&authorities, authority.certificate()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("POST https://localhost:{}/in", listener.local_addr().unwrap().port());
    let sink = sink(&WebhookConfig { authorities, ..config() });
    let accepted = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = [0; 4_096];
        let bytes = stream.read(&mut read).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&read[..bytes]).into_owned()
    };
    let (said, read) = tokio::join!(post(&sink, &to), accepted);
    let no = said.unwrap_err();
    assert_eq!(no.disposition(), Disposition::Retry);
    assert!(no.detail.starts_with("no TLS: "), "{no}");
    assert!(!read.contains("POST") && !read.contains("webhook"), "{read}");
}

#[tokio::test]
async fn authorities_that_can_not_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("POST https://localhost:{}/in", listener.local_addr().unwrap().port());
    let authorities = folder.path().join("authorities.pem");
    let sink = sink(&WebhookConfig { authorities: authorities.clone(), ..config() });
    let missing = post(&sink, &to).await.unwrap_err();
    fs::write(&authorities, "no certificate").unwrap();
    let empty = post(&sink, &to).await.unwrap_err();
    for (no, why) in [(missing, "No such file"), (empty, "holds no certificate")] {
        assert_eq!(no.disposition(), Disposition::Retry, "{no}");
        assert!(no.detail.contains("authorities.pem") && no.detail.contains(why), "{no}");
    }
}
