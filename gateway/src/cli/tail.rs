//! `openmesh tail`: shows the envelopes of a filter as they pass, over the gateway's WebSocket.
//!
//! A client like any other: it speaks the frames of `/mesh/v1/ws`, acks what it has printed and holds nothing durable.
//! It does not reconnect: when the gateway is away, it says so and ends.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use envelope::{Filter, Json, json::Node};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::{self, Message};

use super::client::{Client, ClientError};

/// The most messages that are on their way to us, unacked.
const CREDIT: u32 = 256;
/// The most frames that are read before they are acked together.
const ACK_TOGETHER: usize = 64;

/// What to show.
#[derive(Debug, Args)]
pub(super) struct Tail {
    /// A topic filter: `+` for one segment, a last `#` for any number
    #[arg(value_parser = filter)]
    filter: Filter,
    #[command(flatten)]
    client: Client,
    /// Where to begin
    #[arg(long, value_enum, default_value_t = From::New)]
    from: From,
    /// Ends after so many envelopes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Prints each envelope as one line of CloudEvents JSON
    #[arg(long)]
    json: bool,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// With the oldest envelope stored
    Earliest,
    /// With what is stored from now on
    New,
}

/// Why it ended without having been asked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum TailError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the gateway is gone: {0}")]
    Gone(String),
    #[error("the gateway refused: {0}")]
    Subscribe(String),
    #[error("the gateway sent a frame that is none of ours: {0}")]
    Frame(String),
    #[error("can't print: {0}")]
    Print(#[from] io::Error),
}

/// What one frame brought.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    /// An envelope, as the line to print, and the position to ack.
    Envelope { line: String, position: Box<str> },
    /// Nothing for us.
    Other,
}

fn filter(text: &str) -> Result<Filter, String> {
    Filter::new(text.to_owned()).map_err(|error| error.to_string())
}

// === impl Tail ===

impl Tail {
    /// Prints until `count` envelopes are printed, or until the gateway is gone.
    pub(super) async fn run(&self, out: &mut (impl Write + Send)) -> Result<(), TailError> {
        let (mut send, receive) = self.client.open().await?.split();
        send.send(Message::text(self.subscribe())).await.map_err(gone)?;
        self.say_what_to_expect();
        let mut receive = receive.ready_chunks(ACK_TOGETHER);
        let mut left = self.count.unwrap_or(u64::MAX);
        while let Some(messages) = receive.next().await {
            let mut acked = Vec::new();
            for message in messages {
                if let Frame::Envelope { line, position } = self.read(message.map_err(gone)?)? {
                    writeln!(out, "{line}")?;
                    acked.push(position);
                    left -= 1;
                }
                if left == 0 {
                    break;
                }
            }
            out.flush()?;
            if !acked.is_empty() {
                let ack = json!({ "op": "ack", "sub": "tail", "positions": acked });
                send.send(Message::text(ack.to_string())).await.map_err(gone)?;
            }
            if left == 0 {
                // A close that does not get through changes nothing: all that was asked for is printed.
                return send.close().await.or(Ok(()));
            }
        }
        Err(TailError::Gone("the connection ended".to_owned()))
    }

    /// On a terminal, so that an empty one is no riddle.
    fn say_what_to_expect(&self) {
        let stderr = io::stderr();
        if self.from == From::New && stderr.is_terminal() {
            let filter = self.filter.as_str();
            // Only a courtesy: what counts is on stdout.
            let _ =
                writeln!(&stderr, "what passes on {filter} from now on; --from earliest begins with what is stored");
        }
    }

    fn subscribe(&self) -> String {
        let start = match self.from {
            From::Earliest => "earliest",
            From::New => "new",
        };
        let filters = [self.filter.as_str()];
        json!({ "op": "subscribe", "ref": "tail", "filters": filters, "start": start, "credit": CREDIT }).to_string()
    }

    fn read(&self, message: Message) -> Result<Frame, TailError> {
        match message {
            Message::Text(text) => self.frame(Bytes::from(text)),
            Message::Close(Some(frame)) => Err(TailError::Gone(format!("{} {}", frame.code, printable(&frame.reason)))),
            Message::Close(None) => Err(TailError::Gone("it closed the connection".to_owned())),
            // tungstenite answers pings by itself.
            Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => Ok(Frame::Other),
        }
    }

    fn frame(&self, text: Bytes) -> Result<Frame, TailError> {
        let json = Json::parse(text).map_err(|error| TailError::Frame(error.to_string()))?;
        let root = json.root();
        match text_of(root, "op") {
            Some("message") => {
                let absent = |name: &str| TailError::Frame(format!("a message without {name}"));
                let position = text_of(root, "position").ok_or_else(|| absent("position"))?;
                let envelope = root.get("envelope").ok_or_else(|| absent("envelope"))?;
                let redelivered = root.get("redelivered").and_then(Node::as_bool).unwrap_or(false);
                let line = if self.json { printable(envelope.source()) } else { readable(envelope, redelivered) };
                Ok(Frame::Envelope { line, position: position.into() })
            }
            Some("error") => Err(TailError::Subscribe(printable(reason(root)))),
            Some(_) => Ok(Frame::Other),
            None => Err(TailError::Frame("it has no op".to_owned())),
        }
    }
}

fn gone(error: tungstenite::Error) -> TailError {
    TailError::Gone(error.to_string())
}

fn text_of<'a>(node: Node<'a>, name: &str) -> Option<&'a str> {
    node.get(name).and_then(Node::as_str)
}

/// The sentence of an error frame, or the whole of it.
fn reason(error: Node<'_>) -> &str {
    text_of(error, "detail").unwrap_or(error.source())
}

/// `time  topic  performative  type  data`.
fn readable(envelope: Node<'_>, redelivered: bool) -> String {
    let mut line = String::new();
    for name in ["time", "subject", "performative", "type"] {
        if let Some(value) = text_of(envelope, name) {
            line.push_str(&printable(value));
            line.push_str("  ");
        }
    }
    let data = envelope.get("data").map(Node::source);
    let binary = || text_of(envelope, "data_base64").map(|text| format!("base64:{text}"));
    match data.map(str::to_owned).or_else(binary) {
        Some(data) => line.push_str(&printable(&data)),
        None => line.push('-'),
    }
    if redelivered {
        line.push_str("  (redelivered)");
    }
    line
}

/// On one line, and without what a terminal would obey.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if c.is_control() => drop(write!(line, "\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(json: bool) -> Tail {
        let filter = Filter::new("a/#").unwrap();
        Tail { filter, client: Client::nowhere(), from: From::New, count: None, json }
    }

    fn frame(json: bool, text: &str) -> Result<Frame, TailError> {
        tail(json).frame(Bytes::copy_from_slice(text.as_bytes()))
    }

    const MESSAGE: &str = r#"{"op":"message","sub":"tail","position":"07","redelivered":true,"envelope":{"specversion":"1.0",
        "subject":"a/b","time":"2026-01-01T00:00:00Z","type":"t@v1.0.0","performative":"inform","data":{"v":12.10}}}"#;

    #[test]
    fn an_envelope_is_one_readable_line_with_numbers_as_they_came() {
        let line = "2026-01-01T00:00:00Z  a/b  inform  t@v1.0.0  {\"v\":12.10}  (redelivered)".to_owned();
        assert_eq!(frame(false, MESSAGE).unwrap(), Frame::Envelope { line, position: "07".into() });
    }

    #[test]
    fn as_json_the_envelope_is_one_line() {
        let Frame::Envelope { line, .. } = frame(true, MESSAGE).unwrap() else { panic!("no envelope") };
        assert!(line.starts_with(r#"{"specversion":"1.0","#) && !line.contains('\n'), "{line}");
    }

    #[test]
    fn an_error_frame_ends_it_with_its_sentence() {
        let error = frame(false, r#"{"op":"error","kind":"denied","detail":"not for you"}"#).unwrap_err();
        assert_eq!(error.to_string(), "the gateway refused: not for you");
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}"), "a\\u001b[2Jb c\\u009b");
    }

    #[test]
    fn a_frame_of_something_else_is_refused() {
        assert!(frame(false, "{}").is_err());
        assert!(frame(false, "no json").is_err());
        assert!(frame(false, r#"{"op":"message"}"#).is_err());
    }
}
