//! Reads what a running gateway has stored, over its WebSocket: a client like any other, with nothing durable.

use std::{ops::ControlFlow, time::Duration};

use bytes::Bytes;
use clap::Args;
use envelope::{Envelope, Filter, Json, cloudevents, json::Node};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{Failure, client::Client};

/// Where the envelopes are.
#[derive(Debug, Args)]
pub(super) struct Stored {
    #[command(flatten)]
    client: Client,
    /// Only envelopes of this topic filter
    #[arg(long, default_value = "#", value_parser = filter)]
    filter: Filter,
}

/// The most envelopes that are on their way to us, unacked.
const CREDIT: u32 = 256;
/// When nothing has come for so long, everything stored has been read.
const IDLE: Duration = Duration::from_secs(2);

fn filter(text: &str) -> Result<Filter, String> {
    Filter::new(text.to_owned()).map_err(|error| error.to_string())
}

// === impl Stored ===

impl Stored {
    /// Shows each envelope that is stored, oldest first, to `each`, until that has seen enough.
    pub(super) async fn read(&self, mut each: impl FnMut(Envelope) -> ControlFlow<()>) -> Result<(), Failure> {
        let mut socket = self.client.open().await?;
        let filters = [self.filter.as_str()];
        let ask = json!({ "op": "subscribe", "ref": "s", "filters": filters, "start": "earliest", "credit": CREDIT });
        socket.send(Message::text(ask.to_string())).await?;
        while let Ok(Some(message)) = timeout(IDLE, socket.next()).await {
            let Message::Text(text) = message? else { continue };
            let json = Json::parse(Bytes::from(text))?;
            let root = json.root();
            let text = |name| root.get(name).and_then(Node::as_str);
            match (text("op"), root.get("envelope"), text("position")) {
                (Some("message"), Some(envelope), Some(position)) => {
                    let envelope = Json::parse(Bytes::copy_from_slice(envelope.source().as_bytes()))?;
                    if each(cloudevents::parse_json(&envelope)?).is_break() {
                        break;
                    }
                    let ack = json!({ "op": "ack", "sub": "s", "positions": [position] });
                    socket.send(Message::text(ack.to_string())).await?;
                }
                (Some("error" | "closed"), ..) => {
                    let why = text("detail").unwrap_or("the subscription ended");
                    return Err(format!("the gateway refused: {}", why.escape_debug()).into());
                }
                _ => {}
            }
        }
        // a close that does not get through changes nothing: everything is read
        socket.close(None).await.or(Ok(()))
    }
}
