//! The suite, by request and by WebSocket.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::BoxFuture;

use super::client::{Client, Ws, member};
use crate::{
    conformance::{Heard, Peer, run},
    http::HttpConfig,
};

struct Requests;
struct Frames;

impl Peer for Requests {
    fn publish(&self, bridge: SocketAddr, text: &'static str) -> BoxFuture<'static, Heard> {
        Box::pin(async move {
            let answer = Client::connect(bridge).await.ask("POST /telemetry/7", text).await;
            match answer.status {
                202 => Heard::Taken,
                429 | 503 if answer.header("retry-after").is_some() => Heard::GivenBack,
                _ => Heard::Refused,
            }
        })
    }
}

impl Peer for Frames {
    fn publish(&self, bridge: SocketAddr, text: &'static str) -> BoxFuture<'static, Heard> {
        Box::pin(async move {
            let mut ws = Ws::connect(bridge).await;
            ws.send(format!(r#"{{"op":"publish","ref":"1","address":"POST /telemetry/7","text":"{text}"}}"#)).await;
            match ws.next().await {
                Some(frame) if frame.is_close() => Heard::GivenBack,
                Some(frame) if member(frame.to_text().unwrap(), "op").as_deref() == Some("receipt") => Heard::Taken,
                _ => Heard::Refused,
            }
        })
    }
}

fn config() -> HttpConfig {
    let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
    config.websocket.retry_for = Duration::from_millis(100);
    config
}

#[tokio::test]
async fn requests_pass_the_suite() {
    run(&config(), &Requests).await;
}

#[tokio::test]
async fn websockets_pass_the_suite() {
    run(&config(), &Frames).await;
}
