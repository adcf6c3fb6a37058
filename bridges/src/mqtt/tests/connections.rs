//! How many connections there may be: at the limit of all the next waits, and one address has its share.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpSocket, time::timeout};

use super::client::{Client, Hello, config};
use crate::conformance::Rig;

/// From another address of this host.
async fn from(own: &str, address: SocketAddr) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{own}:0").parse().unwrap()).unwrap();
    Client::over(socket.connect(address).await.unwrap())
}

#[tokio::test]
async fn a_crowd_that_never_connects_is_closed_in_time_and_keeps_nobody_out_for_longer() {
    let mut config = config();
    config.connect_timeout = Duration::from_millis(300);
    config.max_connections = 500;
    let rig = Rig::start(&config).await;
    let mut crowd = Vec::new();
    for _ in 0..500 {
        crowd.push(Client::open(rig.address()).await);
    }
    let mut client = Client::open(rig.address()).await;
    assert_eq!(client.ask(&Hello::five("last").bytes()).await.unwrap().first, 0x20);
    for silent in &mut crowd {
        assert_eq!(silent.next().await, None);
    }
    rig.stop().await;
}

#[tokio::test]
async fn at_the_limit_of_connections_the_next_waits_for_one_to_close() {
    let mut config = config();
    config.max_connections = 1;
    let rig = Rig::start(&config).await;
    let first = Client::five(&rig).await;
    let mut second = Client::open(rig.address()).await;
    second.send(&Hello::five("second").bytes()).await;
    first.close();
    assert_eq!(second.next().await.unwrap().first, 0x20);
    rig.stop().await;
}

#[tokio::test]
async fn one_address_has_its_share_and_the_others_theirs() {
    let mut config = config();
    (config.max_connections, config.max_connections_per_address) = (4, 2);
    let rig = Rig::start(&config).await;
    let (first, mut second) = (Client::five(&rig).await, Client::open(rig.address()).await);
    assert_eq!(second.ask(&Hello::five("second").bytes()).await.unwrap().first, 0x20);
    for _ in 0..5 {
        assert_eq!(Client::open(rig.address()).await.next().await, None, "closed at once");
    }
    let mut other = from("127.0.0.2", rig.address()).await;
    assert_eq!(other.ask(&Hello::five("other").bytes()).await.unwrap().first, 0x20);
    first.close();
    let freed = async {
        let mut next = Client::open(rig.address()).await;
        while next.ask(&Hello::five("next").bytes()).await.is_none() {
            next = Client::open(rig.address()).await;
        }
    };
    timeout(Duration::from_secs(10), freed).await.expect("who left makes room for the next");
    rig.stop().await;
}
