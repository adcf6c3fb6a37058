//! `openmesh deadletter` and `openmesh subscription`: what an operator does to the store of a gateway that runs, by its
//! admin API.

use std::io::Write;

use clap::Subcommand;
use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    Failure,
    ask::{Gateway, clean, clean_json},
};

/// Messages that nobody got.
#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// Lists them, the oldest first
    List {
        /// Only letters behind this number
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Prints the page as it was answered, in JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Shows one with its data, in JSON
    Show {
        /// Its number
        id: u64,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Has envelopes delivered again, through everything that a delivery passes; the letters go
    Replay {
        /// Their numbers
        #[arg(required = true)]
        ids: Vec<u64>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Drops letters for good
    Drop {
        /// Their numbers
        #[arg(required = true)]
        ids: Vec<u64>,
        #[command(flatten)]
        gateway: Gateway,
    },
}

/// Durable subscriptions.
#[derive(Debug, Subcommand)]
pub(super) enum Subscriptions {
    /// Lists them with what is pending for each
    List {
        /// Prints what was answered, in JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Ends one, with all that is pending for it
    Drop {
        /// Its name
        name: String,
        #[command(flatten)]
        gateway: Gateway,
    },
}

// === impl DeadLetters ===

impl DeadLetters {
    pub(super) async fn run(&self, out: &mut (impl Write + Send)) -> Result<(), Failure> {
        match self {
            Self::List { after, json, gateway } => {
                let answer = gateway.ask(Method::GET, &format!("/dead-letters?after={after}"), StatusCode::OK).await?;
                if *json {
                    return print(&answer, out);
                }
                for letter in answer["letters"].as_array().into_iter().flatten() {
                    let of = letter.get("subscription").or(letter.get("address")).map(text).unwrap_or_default();
                    let [at, kind, mapping] = ["at", "kind", "mapping"].map(|key| text(&letter[key]));
                    let [principal, what, detail] = ["principal", "what", "detail"].map(|key| text(&letter[key]));
                    writeln!(
                        out,
                        "{}  {at}  {kind}  {mapping}  {principal}  {what} {of}  {detail}",
                        letter["id"].as_u64().unwrap_or(0)
                    )?;
                }
            }
            Self::Show { id, gateway } => {
                // as it was answered: another reading would round its numbers
                let letter = gateway.text(Method::GET, &format!("/dead-letters/{id}"), StatusCode::OK).await?;
                writeln!(out, "{}", clean_json(&letter))?;
            }
            Self::Replay { ids, gateway } => {
                for id in ids {
                    gateway.ask(Method::POST, &format!("/dead-letters/{id}/replay"), StatusCode::OK).await?;
                    writeln!(out, "{id} is delivered again")?;
                }
            }
            Self::Drop { ids, gateway } => {
                for id in ids {
                    gateway.ask(Method::DELETE, &format!("/dead-letters/{id}"), StatusCode::OK).await?;
                    writeln!(out, "{id} is dropped")?;
                }
            }
        }
        Ok(())
    }
}

// === impl Subscriptions ===

impl Subscriptions {
    pub(super) async fn run(&self, out: &mut (impl Write + Send)) -> Result<(), Failure> {
        match self {
            Self::List { json, gateway } => {
                let answer = gateway.ask(Method::GET, "/subscriptions", StatusCode::OK).await?;
                if *json {
                    return print(&answer, out);
                }
                for (name, counts) in answer["subscriptions"].as_object().into_iter().flatten() {
                    let state = match (&counts["attached"], counts["idle_since"].as_str()) {
                        (Value::Bool(true), _) => "in use".to_owned(),
                        (_, Some(since)) => format!("nobody's since {}", clean(since)),
                        (_, None) => "nobody's".to_owned(),
                    };
                    let [pending, delivered] = ["pending", "delivered"].map(|key| counts[key].as_i64().unwrap_or(0));
                    writeln!(out, "{}  {pending} pending  {delivered} delivered  {state}", clean(name))?;
                }
            }
            Self::Drop { name, gateway } => {
                gateway.ask(Method::DELETE, &format!("/subscriptions/{}", segment(name)), StatusCode::OK).await?;
                writeln!(out, "{name} is dropped")?;
            }
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    value.as_str().map(clean).unwrap_or_default()
}

fn print(answer: &Value, out: &mut impl Write) -> Result<(), Failure> {
    Ok(writeln!(out, "{}", clean_json(&format!("{answer:#}")))?)
}

/// A name as one segment of a path (RFC 3986).
fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(segment("mapping:a/b é"), "mapping%3Aa%2Fb%20%C3%A9");
    }
}
