//! MQTT over TLS: the certificate of a client is who it is, unless it brings a name and a password.

use std::{fs, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::client::{Hello, config, publish};
use crate::{
    conformance::Rig,
    tls::{ClientsConfig, TlsConfig, testing::Authority},
};

const HARD_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_client_is_who_its_certificate_or_its_password_says() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("plant"));
    authority.server(1).write(dir.path(), "own");
    fs::write(dir.path().join("clients.pem"), authority.certificate()).unwrap();
    let clients = ClientsConfig { authorities: dir.path().join("clients.pem"), revoked: None, optional: false };
    let tls =
        TlsConfig { certificate: dir.path().join("own.pem"), key: dir.path().join("own.key"), clients: Some(clients) };
    let rig = Rig::start(&crate::mqtt::MqttConfig { tls: Some(tls), ..config() }).await;
    let own = authority.client("press", 2, false);
    let named = Hello { username: Some("ada"), password: Some("right"), ..Hello::five("b") };
    for hello in [Hello::five("a"), named] {
        let socket = TcpStream::connect(rig.address()).await.unwrap();
        let connector = TlsConnector::from(authority.client_config(Some(&own)));
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = timeout(HARD_TIMEOUT, connector.connect(name, socket)).await.unwrap().unwrap();
        let bytes = [hello.bytes(), publish(0x02, "a", 1, &[0], "x")].concat();
        stream.write_all(&bytes).await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(&[0x40, 2, 0, 1]) {
            assert!(timeout(HARD_TIMEOUT, stream.read_buf(&mut heard)).await.unwrap().unwrap() > 0, "{heard:?}");
        }
    }
    let who: Vec<_> = rig.seen().into_iter().flatten().map(|inbound| inbound.principal.id.to_string()).collect();
    assert_eq!(who, ["certificate", "ada"]);
    rig.stop().await;
}
