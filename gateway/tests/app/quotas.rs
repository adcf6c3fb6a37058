//! How many subscriptions one principal may have, in each protocol's own words.

use std::net::SocketAddr;

use serde_json::json;
use tokio::time::timeout;

use crate::{
    mqtt::{Client, Wire},
    support::{PATIENCE, Site, Socket, bridge, get, web},
};

fn site(limits: &str) -> Site {
    let site = Site::shipped();
    let floor = "  floor: { mqtt: { listen: 127.0.0.1:0, prefix: devices } }\n";
    site.write("gateway.yaml", &site.config_text(&format!("{floor}limits: {{ {limits} }}\n")));
    site
}

/// What a WebSocket that subscribes hears.
async fn subscribes(address: SocketAddr, durable: Option<&str>) -> (Socket, serde_json::Value) {
    let mut socket = Socket::subscribe(address, "a/#", "earliest", durable).await;
    let answer = socket.next().await;
    (socket, answer)
}

#[tokio::test]
async fn one_principal_has_so_many_subscriptions_and_hears_of_it_in_each_protocol() {
    let site = site("max_subscriptions_per_principal: 2");
    let running = site.start().await;
    let (address, floor) = (web(&running), bridge(&running, "floor"));
    let (first, answer) = subscribes(address, None).await;
    assert_eq!(answer["op"], "subscribed", "{answer}");
    let mut five = Client::over(Wire::tcp(floor).await, 5, None).await.unwrap();
    assert_eq!(five.subscribe("a/#").await.code, 1);

    let (_refused, answer) = subscribes(address, None).await;
    assert_eq!((&answer["op"], &answer["status"]), (&json!("error"), &json!(429)), "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("a principal may have 2 subscriptions"), "{answer}");
    let events = get(address, "/mesh/v1/events?filter=a").await;
    assert_eq!((events.status, events.json()["decided_by"].clone()), (429, json!("subscription_quota")));
    assert_eq!(five.subscribe("b/#").await.code, 0x97);
    let mut four = Client::over(Wire::tcp(floor).await, 4, None).await.unwrap();
    assert_eq!(four.subscribe("b/#").await.code, 0x80);

    drop(first);
    let freed = async { while four.subscribe("b/#").await.code != 1 {} };
    timeout(PATIENCE, freed).await.expect("what has ended makes room");
    drop(running.drain().await);
}

#[tokio::test]
async fn one_principal_has_so_many_durable_names_over_a_restart_too() {
    let site = site("max_durables_per_principal: 1");
    let running = site.start().await;
    let (_, answer) = subscribes(web(&running), Some("one")).await;
    assert_eq!(answer["op"], "subscribed", "{answer}");
    drop(running.drain().await);

    let running = site.start().await;
    let (_, answer) = subscribes(web(&running), Some("two")).await;
    assert_eq!((&answer["op"], &answer["status"]), (&json!("error"), &json!(429)), "{answer}");
    let (_one, answer) = subscribes(web(&running), Some("one")).await;
    assert_eq!(answer["op"], "subscribed", "{answer}");
    let (_plain, answer) = subscribes(web(&running), None).await;
    assert_eq!(answer["op"], "subscribed", "{answer}");
    drop(running.drain().await);
}
