//! The document of the listener's own endpoints, and what they hold their callers to.

use super::client::Client;
use crate::{conformance::Rig, http::HttpConfig};

const PATHS: [&str; 4] = ["/mesh/v1/events", "/mesh/v1/last/{topic}", "/mesh/v1/openapi.json", "/mesh/v1/ws"];

async fn rig() -> (Rig, Client) {
    let rig = Rig::start(&HttpConfig::new("127.0.0.1:0".parse().unwrap())).await;
    let client = Client::connect(rig.address()).await;
    (rig, client)
}

#[tokio::test]
async fn every_endpoint_is_in_the_document_and_what_is_absent_is_told_of_all() {
    let (rig, mut client) = rig().await;
    let answer = client.ask("GET /mesh/v1/openapi.json", "").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let absent = client.ask("GET /mesh/v1/nothing", "").await;
    assert_eq!(absent.status, 404);
    for path in PATHS {
        assert!(answer.body.contains(&format!("{path:?}:{{\"get\"")), "{path}: {}", answer.body);
        assert!(absent.body.contains(path), "{path}: {}", absent.body);
    }
    rig.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_asked_in_another_way_says_which_there_is() {
    let (rig, mut client) = rig().await;
    for path in PATHS {
        let answer = client.ask(&format!("PUT {}", path.replace("{topic}", "a/b")), "").await;
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.header("allow").is_some_and(|methods| methods.starts_with("get")), "{path}: {answer:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_websocket_whose_key_is_no_16_bytes_is_refused() {
    let (rig, mut client) = rig().await;
    for key in ["", "short", "dGhlIHNhbXBsZSBub25jZQ", "AAAA", "!!!!!!!!!!!!!!!!!!!!!!=="] {
        let head = format!(
            "GET /mesh/v1/ws\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: {key}"
        );
        let answer = client.ask(&head, "").await;
        assert_eq!(answer.status, 400, "{key:?}: {answer:?}");
    }
    rig.stop().await;
}
