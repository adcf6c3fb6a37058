//! How many connections there may be: of one address so many, and a further one is closed at once.

use std::{net::SocketAddr, time::Duration};

use tokio::{io::AsyncWriteExt, net::TcpSocket, time::timeout};

use super::client::{Client, Ws};
use crate::{conformance::Rig, http::HttpConfig};

/// From another address of this host.
async fn from(own: &str, address: SocketAddr) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{own}:0").parse().unwrap()).unwrap();
    let stream = socket.connect(address).await.unwrap();
    Client::over(stream, address)
}

#[tokio::test]
async fn one_address_has_its_share_and_the_others_theirs() {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    config.server.max_connections_per_address = 2;
    let rig = Rig::start(&config).await;
    let mut busy = Client::connect(rig.address()).await;
    assert_eq!(busy.ask("POST /a", "x").await.status, 202);
    let ws = Ws::connect(rig.address()).await;
    for _ in 0..3 {
        assert!(Client::connect(rig.address()).await.is_closed().await, "a WebSocket counts as well");
    }
    assert_eq!(from("127.0.0.2", rig.address()).await.ask("POST /b", "x").await.status, 202);
    assert_eq!(busy.ask("POST /a", "x").await.status, 202);
    drop(ws);
    let freed = async {
        loop {
            let mut next = Client::connect(rig.address()).await;
            // it may be closed already
            _ = next.stream.write_all(b"BREW /c HTTP/1.1\r\nHost: elsewhere\r\n\r\n").await;
            if !next.is_closed().await {
                break;
            }
        }
    };
    timeout(Duration::from_secs(10), freed).await.expect("who left makes room for the next");
    rig.stop().await;
}

#[tokio::test]
async fn whoever_was_refused_takes_no_place_of_all() {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    (config.server.max_connections, config.server.max_connections_per_address) = (2, 1);
    let rig = Rig::start(&config).await;
    let mut first = Client::connect(rig.address()).await;
    assert_eq!(first.ask("POST /a", "x").await.status, 202);
    for _ in 0..5 {
        assert!(Client::connect(rig.address()).await.is_closed().await);
    }
    assert_eq!(from("127.0.0.2", rig.address()).await.ask("POST /b", "x").await.status, 202);
    rig.stop().await;
}
