//! Packs a store into one file, to be kept as what a gateway of this format wrote: see `fixtures/README.md`.
//!
//! `store_fixture FILE` makes a small store and packs that; `store_fixture FILE FOLDER` packs one that is there and in no use.

use std::{env, error::Error, fs, io::Write, path::Path, sync::Arc, time::Duration};

use backbone::{Backbone, DeadContent, DeadLetter, Embedded, EmbeddedConfig, MinFree};
use bytes::Bytes;
use envelope::{
    AckPoint, Admitted, Batch, Conversation, Data, Envelope, EnvelopeId, Filter, Group, Identity, KeyWrite, Lane,
    Mapped, Principal, RejectKind, Rejection, Route, Settlement, Start, Subscribe, Timestamp, Topic,
};
use uuid::Uuid;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = env::args_os().skip(1);
    let file = arguments.next().ok_or("usage: store_fixture FILE [FOLDER]")?;
    let mut out = fs::File::create_new(file)?;
    match arguments.next() {
        Some(folder) => pack(Path::new(&folder), "", &mut out)?,
        None => {
            let folder = tempfile::tempdir()?;
            make(folder.path()).await?;
            pack(folder.path(), "", &mut out)?;
        }
    }
    Ok(out.sync_all()?)
}

/// A store with rows in every keyspace that a small one has rows in.
async fn make(path: &Path) -> Result<(), Failure> {
    let min_free = MinFree { percent: 0, at_least: 0 };
    let config = EmbeddedConfig { min_free, ..EmbeddedConfig::new(path, "plant-a") };
    let store = Embedded::open(config)?;
    let filters = vec![Filter::new("a/#")?];
    let what = Subscribe { filters, start: Start::Earliest, durable: Some("s".into()), credit: 16 };
    let mut reader = store.subscribe(what).await?;
    let ledger = store.ledger();
    ledger.received("web", 8);
    let messages = (1..=6).map(|id| message(id, if id == 6 { "b" } else { "a/1" })).collect::<Result<Vec<_>, _>>()?;
    let stored = store.publish(Batch::new(messages).ok_or("no messages")?).await?;
    let again = store.publish(Batch::one(message(2, "a/1")?)).await?;
    for verdict in stored.into_iter().chain(again) {
        verdict.answer?;
    }
    let refusal = Rejection::new(RejectKind::Malformed, "conformance", "no");
    ledger.refused("web", Some(&Route::new("r", "1")), &refusal);
    let mut taken = Vec::new();
    while taken.len() < 5 {
        taken.extend(reader.next().await?.into_vec());
    }
    let settled = taken.iter().zip([
        Settlement::Delivered,
        Settlement::LeftOut,
        Settlement::DeadLettered(RejectKind::Unavailable),
    ]);
    reader.settle(settled.map(|(delivery, how)| (delivery.position.clone(), how)).collect()).await?;
    let keys = store.keys("bridge/web");
    let forever = Duration::from_secs(100 * 365 * 86_400);
    keys.write(vec![
        KeyWrite::put("one", Bytes::from_static(b"1")),
        KeyWrite { ttl: Some(forever), ..KeyWrite::put("two", Bytes::from_static(b"2")) },
    ])
    .await?;
    store.bury(letter()).await?;
    drop(reader);
    Ok(store.close().await?)
}

fn letter() -> DeadLetter {
    let content = DeadContent::Inbound {
        address: "POST /a".into(),
        identity: Bytes::from_static(b"k"),
        payload: Bytes::from_static(b"{}"),
    };
    DeadLetter {
        id: 0,
        at: Timestamp::from_micros(1_700_000_000_000_000),
        kind: RejectKind::Malformed,
        detail: "no".to_owned(),
        bridge: "web".into(),
        mapping: "r".into(),
        principal: "anonymous".into(),
        content,
    }
}

/// The one on `b` is its topic's last value.
#[expect(clippy::disallowed_methods, reason = "there is no policy here")]
fn message(id: u128, topic: &str) -> Result<Admitted, Failure> {
    let name = EnvelopeId::new(Uuid::from_u128(id));
    let (source, kind) = ("mesh://plant-a/web/anonymous".into(), "mesh/opaque@v1.0.0".into());
    let at = Timestamp::from_micros(1_700_000_000_000_000);
    let data = Data::Opaque(Bytes::from(id.to_string()));
    let envelope = Envelope {
        conversation: Some(Box::new(Conversation { id: Some("talk-1".into()), ..Conversation::default() })),
        ..Envelope::plain(name, source, kind, Topic::new(topic)?, at, data)
    };
    let mapped = Mapped {
        route: Route::new("r", "1"),
        ack: AckPoint::Durable,
        terms: Arc::default(),
        bridge: "web".into(),
        lane: Lane(0),
        principal: Arc::new(Principal::anonymous("plant-a")),
        identity: Identity::Native(Bytes::from(id.to_string())),
        retain: topic == "b",
        group: Group::One(envelope),
    };
    Ok(Admitted::seal(mapped, 1))
}

/// A line and the bytes of each entry, in the order of their names.
fn pack(folder: &Path, below: &str, out: &mut impl Write) -> Result<(), Failure> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().map_err(|name| format!("{} is no text", name.display()))?;
        if entry.file_type()?.is_dir() {
            writeln!(out, "{below}{name}/ 0 0")?;
            pack(&entry.path(), &format!("{below}{name}/"), out)?;
            continue;
        }
        let bytes = fs::read(entry.path())?;
        let kept = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        writeln!(out, "{below}{name} {} {kept}", bytes.len())?;
        out.write_all(&bytes[..kept])?;
    }
    Ok(())
}
