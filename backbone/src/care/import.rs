//! Reads what `export` wrote into a store, behind what is there: by an operator's word, not through policy.
//!
//! Each line is counted as a message of its bridge and mapping, so that the ledger balances; an envelope whose id the store
//! remembers is a duplicate, so that an import that was cut short can be begun again.

use std::{
    io::{self, BufRead},
    sync::Arc,
};

use bytes::Bytes;
use envelope::{
    AckPoint, Admission, Fingerprint, Group, Identity, Json, Lane, Ledger as _, Mapped, Principal, Rejection, Route,
    Timestamp, cloudevents, json::Node,
};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::CareError;
use crate::{
    Embedded,
    queue::{Job, Publish, closed},
};

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Envelopes that were stored.
    pub stored: u64,
    /// Envelopes that were there.
    pub duplicates: u64,
}

/// The most lines, and about the most bytes, that are stored together.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// The longest line.
const MAX_LINE: u64 = 32 << 20;

/// A line, read.
struct Imports {
    domain: Arc<str>,
    admitted_at: Timestamp,
    epoch: u64,
    mapped: Mapped,
}

/// Stores every line of `lines`, in order. What it answers is on disk.
pub async fn import(store: &Embedded, mut lines: impl BufRead + Send) -> Result<Imported, CareError> {
    let (mut imported, mut number) = (Imported::default(), 0);
    let (mut batch, mut bytes, mut first) = (Vec::new(), 0, 1);
    loop {
        let line = next_line(&mut lines, number + 1)?;
        if let Some(line) = &line {
            number += 1;
            bytes += line.len();
            if !line.trim_ascii().is_empty() {
                let wrong = |why| CareError::Line { line: number, why };
                batch.push(Imports::read(line.clone()).map_err(wrong)?);
            }
        }
        if batch.len() == BATCH || bytes >= BATCH_BYTES || (line.is_none() && !batch.is_empty()) {
            let refused = |rejection| CareError::Refused { line: first, rejection: Box::new(rejection) };
            publish(store, std::mem::take(&mut batch), &mut imported).await.map_err(refused)?;
            (bytes, first) = (0, number + 1);
        }
        if line.is_none() {
            return Ok(imported);
        }
    }
}

fn next_line(lines: &mut impl BufRead, number: u64) -> Result<Option<Bytes>, CareError> {
    let mut line = Vec::new();
    let mut limited = io::Read::take(lines, MAX_LINE);
    let read = limited.read_until(b'\n', &mut line);
    match read.map_err(|source| CareError::Io { what: "the import".to_owned(), source })? {
        0 => Ok(None),
        read if read as u64 == MAX_LINE && !line.ends_with(b"\n") => {
            Err(CareError::Line { line: number, why: format!("it is longer than {MAX_LINE} bytes") })
        }
        _ => Ok(Some(line.into())),
    }
}

async fn publish(store: &Embedded, batch: Vec<Imports>, imported: &mut Imported) -> Result<(), Rejection> {
    let books = &store.shared.books;
    let mut publish = Publish::default();
    for one in batch {
        books.received(&one.mapped.bridge, 1);
        publish.add(&one.domain, books, one.admitted_at, one.mapped, one.epoch);
    }
    let (reply, answer) = oneshot::channel();
    publish.reply = Some(reply);
    store.queue.send(Job::Publish(publish)).await?;
    for verdict in answer.await.map_err(|_| closed())?? {
        match verdict.answer? {
            Admission::Stored(receipt) if receipt.duplicate => imported.duplicates += 1,
            Admission::Stored(_) | Admission::Filtered => imported.stored += 1,
        }
    }
    Ok(())
}

// === impl Imports ===

impl Imports {
    fn read(line: Bytes) -> Result<Self, String> {
        let json = Json::parse(line).map_err(|error| error.to_string())?;
        let root = json.root();
        let text = |name: &str| {
            root.get(name).and_then(Node::as_str).ok_or_else(|| format!("{name:?} is missing or is no text"))
        };
        let envelope = root.get("envelope").ok_or("\"envelope\" is missing")?;
        let envelope = Json::parse(Bytes::copy_from_slice(envelope.source().as_bytes())).map_err(|e| e.to_string())?;
        let envelope = cloudevents::parse_json(&envelope).map_err(|error| format!("envelope: {error}"))?;
        let identity = match (root.get("native"), root.get("fresh")) {
            (Some(native), None) => named(bytes_of(native)?, root.get("fingerprint"))?,
            (None, Some(fresh)) => {
                let uuid = Uuid::from_slice(&bytes_of(fresh)?).map_err(|_| "\"fresh\" is no UUID")?;
                Identity::Fresh(uuid)
            }
            _ => return Err("it has to have one of \"native\" and \"fresh\"".to_owned()),
        };
        let number = |name: &str| {
            let number = root.get(name).and_then(|node| node.source().parse::<u64>().ok());
            number.ok_or_else(|| format!("{name:?} is missing or is no whole number"))
        };
        let admitted_at = Timestamp::parse(text("admitted_at")?).ok_or("\"admitted_at\" is no time")?;
        let domain = |name| text(name).map(Arc::<str>::from);
        Ok(Self {
            domain: domain("domain")?,
            admitted_at,
            epoch: number("epoch")?,
            mapped: Mapped {
                route: Route::new(text("mapping")?, text("mapping_version")?),
                ack: AckPoint::Durable,
                terms: Arc::default(),
                bridge: text("bridge")?.into(),
                lane: Lane(0),
                principal: Arc::new(Principal::new(text("principal")?, domain("principal_domain")?)),
                identity,
                retain: root.get("retained").and_then(Node::as_bool).unwrap_or(false),
                group: Group::One(envelope),
            },
        })
    }
}

fn named(name: Vec<u8>, print: Option<Node<'_>>) -> Result<Identity, String> {
    let Some(print) = print else { return Ok(Identity::Native(name.into())) };
    let print = bytes_of(print)?.try_into().map_err(|_| "\"fingerprint\" is not 16 bytes")?;
    Ok(Identity::Keyed { name: name.into(), print: Fingerprint(print) })
}

fn bytes_of(node: Node<'_>) -> Result<Vec<u8>, String> {
    let text = node.as_str().filter(|text| text.len().is_multiple_of(2) && text.is_ascii());
    let text = text.ok_or("an identity has to be hexadecimal digits")?;
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    pairs.collect::<Result<_, _>>().map_err(|_| "an identity has to be hexadecimal digits".to_owned())
}
