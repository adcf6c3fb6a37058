//! A store in which somebody else has written: any row of any kind is changed, and nothing panics or hangs for that.
//!
//! It opens, or says what is wrong with it; what is open answers everything, rightly or with a refusal; `check` and `repair`
//! come to an end. The engine's checksums find bits that flip, so that a row like these takes a hand that writes rows.

#![allow(clippy::unwrap_used, reason = "a test fails by panic")]

use std::{
    fs, panic,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use backbone::{
    Backbone, DeadContent, DeadLetter, Embedded, EmbeddedConfig, MinFree, OpenError, Query, Retention,
    care::{self, Folder},
};
use bytes::Bytes;
use envelope::{
    AckPoint, Admitted, Batch, Conversation, Data, Envelope, EnvelopeId, Filter, Group, Identity, KeyWrite, Lane,
    Mapped, Principal, RejectKind, Route, Settlement, Start, Subscribe, Timestamp, Topic,
};
use fjall::{Database, KeyspaceCreateOptions};
use tokio::time::timeout;
use uuid::Uuid;

/// A few of each kind; 240 were run when this was written.
const ROUNDS: u64 = 24;
/// How long a step may take that has to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it is looked whether something comes.
const A_MOMENT: Duration = Duration::from_millis(20);
const KEYSPACES: [&str; 12] =
    ["log", "dedup", "ledger", "subscriptions", "last", "keys", "kept", "dead", "times", "ages", "index", "meta"];

/// A row: its keyspace, key and value.
type Row = (&'static str, Vec<u8>, Vec<u8>);

#[test]
fn whatever_is_written_in_a_row_the_store_says_so_or_goes_on() {
    let panics = Arc::<Mutex<Vec<String>>>::default();
    let all = panics.clone();
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        all.lock().unwrap().push(info.to_string());
        usual(info);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    runtime.block_on(fill(&whole));
    let rows = rows(&whole);
    let kinds: std::collections::BTreeSet<_> = rows.iter().map(|(keyspace, ..)| *keyspace).collect();
    assert_eq!(kinds.len(), KEYSPACES.len(), "a row of each kind: {kinds:?}");
    let mut opened = 0;
    for round in 0..ROUNDS {
        let (mut random, path) = (fastrand::Rng::with_seed(round), folder.path().join("hostile"));
        copy(&whole, &path);
        let keyspace = KEYSPACES[usize::try_from(round).unwrap() % KEYSPACES.len()];
        let of_it: Vec<_> = rows.iter().filter(|row| row.0 == keyspace).collect();
        let row = of_it[random.usize(..of_it.len())];
        let other = change(&path, row, &mut random);
        let said = runtime.block_on(async { timeout(PATIENCE, exercise(&path)).await });
        let said = said.unwrap_or_else(|_| panic!("round {round}: {row:02x?} as {other:02x?} hangs"));
        opened += usize::from(said);
        let panics = panics.lock().unwrap();
        assert!(panics.is_empty(), "round {round}: {row:02x?} as {other:02x?}: {panics:?}");
        fs::remove_dir_all(&path).unwrap();
    }
    assert!(opened > 0, "none opened");
    assert!(opened < usize::try_from(ROUNDS).unwrap(), "none was found to be broken");
}

/// Makes a store with rows of every kind.
async fn fill(path: &Path) {
    let store = Embedded::open(config(path)).unwrap();
    store.subscribe(subscribe(Some("s"))).await.unwrap();
    // as many as take rows of the index and of the times
    for first in (1..1_300).step_by(100) {
        assert!(publish(&store, first..first + 100).await);
    }
    let mut consumer = store.subscribe(subscribe(Some("s"))).await.unwrap();
    let some = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().into_vec();
    let settled = some.iter().zip(0..).map(|(delivery, n)| (delivery.position.clone(), settlement(n)));
    consumer.settle(settled.collect()).await.unwrap();
    let keys = store.keys("bridge/a");
    keys.write(vec![KeyWrite::put("k", "v"), KeyWrite::put("ends", "v").expiring(Duration::from_secs(900))])
        .await
        .unwrap();
    store.bury(letter()).await.unwrap();
    store.close().await.unwrap();
}

fn settlement(n: u32) -> Settlement {
    match n % 4 {
        0 => Settlement::DeadLettered(RejectKind::Malformed),
        1 => Settlement::Refused(RejectKind::Denied),
        2 => Settlement::Delivered,
        _ => Settlement::Again { after: Duration::ZERO },
    }
}

fn config(path: &Path) -> EmbeddedConfig {
    let retention = Retention { age: Some(Duration::from_secs(3_600)), bytes: None, records: Some(1_200) };
    EmbeddedConfig {
        min_free: MinFree { percent: 0, at_least: 0 },
        retention,
        max_deliveries: Some(3),
        ..EmbeddedConfig::new(path, "plant-a")
    }
}

fn subscribe(durable: Option<&str>) -> Subscribe {
    let filters = vec![Filter::new("#").unwrap()];
    Subscribe { filters, start: Start::Earliest, durable: durable.map(Into::into), credit: 64 }
}

fn letter() -> DeadLetter {
    let (address, identity) = (Arc::from("POST /a"), Bytes::from_static(b"k"));
    DeadLetter {
        id: 0,
        at: Timestamp::now(),
        kind: RejectKind::Malformed,
        detail: "no".to_owned(),
        bridge: "web".into(),
        mapping: "m".into(),
        principal: "p".into(),
        content: DeadContent::Withheld { address, identity, size: 7, hash: [7; 32] },
    }
}

/// Publishes some; whether all were taken.
async fn publish(store: &Embedded, ids: std::ops::Range<u128>) -> bool {
    store.ledger().received("web", u64::try_from(ids.end - ids.start).unwrap());
    let verdicts = store.publish(Batch::new(ids.map(message).collect()).unwrap()).await;
    verdicts.is_ok_and(|verdicts| verdicts.into_iter().all(|verdict| verdict.answer.is_ok()))
}

fn message(id: u128) -> Admitted {
    let mut envelope = Envelope::plain(
        EnvelopeId::new(Uuid::from_u128(id)),
        "mesh://plant-a/web/anonymous".into(),
        "mesh/opaque@v1.0.0".into(),
        Topic::new(format!("a/{}", id % 3)).unwrap(),
        Timestamp::now(),
        Data::Opaque(Bytes::from(id.to_string())),
    );
    envelope.conversation = Some(Box::new(Conversation { id: Some("c".into()), ..Conversation::default() }));
    sealed(Mapped {
        route: Route::new("r", "1"),
        ack: AckPoint::Durable,
        terms: Arc::default(),
        bridge: "web".into(),
        lane: Lane(0),
        principal: Arc::new(Principal::anonymous("plant-a")),
        identity: Identity::fresh(),
        // the first ones are last values whose records go
        retain: id < 10,
        group: Group::One(envelope),
    })
}

#[expect(clippy::disallowed_methods, reason = "there is no policy in these tests")]
fn sealed(mapped: Mapped) -> Admitted {
    Admitted::seal(mapped, 1)
}

fn database(path: &Path) -> Database {
    Database::builder(path).worker_threads(1).open().unwrap()
}

fn rows(path: &Path) -> Vec<Row> {
    let database = database(path);
    let mut rows = Vec::new();
    for name in KEYSPACES {
        let keyspace = database.keyspace(name, KeyspaceCreateOptions::default).unwrap();
        for entry in keyspace.iter() {
            let (key, value) = entry.into_inner().unwrap();
            rows.push((name, key.to_vec(), value.to_vec()));
        }
    }
    rows
}

/// Writes something else in place of the row, at its key or another one; what it says then.
fn change(path: &Path, (name, key, value): &Row, random: &mut fastrand::Rng) -> (Vec<u8>, Vec<u8>) {
    let (mut other, mut value) = (key.clone(), value.clone());
    let target = if random.u8(0..4) == 0 { &mut other } else { &mut value };
    for _ in 0..random.u8(1..4) {
        let at = random.usize(..=target.len());
        match random.u8(0..6) {
            0 => target.truncate(at),
            1 => target.insert(at, random.u8(..)),
            2 if at < target.len() => target[at] = random.u8(..),
            // the greatest number there is, where one may be
            3 if at < target.len() => drop(target.splice(at..=at, [vec![0xff; 9], vec![1]].concat())),
            4 if at < target.len() => target[at] ^= 1 << random.u8(0..8),
            _ => target.extend([0xff; 8]),
        }
    }
    let database = database(path);
    let keyspace = database.keyspace(name, KeyspaceCreateOptions::default).unwrap();
    keyspace.remove(key.as_slice()).unwrap();
    if !other.is_empty() {
        keyspace.insert(other.as_slice(), value.as_slice()).unwrap();
    }
    database.persist(fjall::PersistMode::SyncAll).unwrap();
    (other, value)
}

/// Does with it whatever can be done; whether it opened.
async fn exercise(path: &Path) -> bool {
    let owned = path.to_owned();
    let open = move || loop {
        match Embedded::open(config(&owned)) {
            Err(OpenError::Locked { .. }) => std::thread::yield_now(),
            opened => return opened,
        }
    };
    let opened = tokio::task::spawn_blocking(open).await.unwrap();
    let is_open = opened.is_ok();
    match opened {
        Ok(store) => use_it(store).await,
        Err(error) => assert!(error.to_string().starts_with("store "), "{error}"),
    }
    let owned = path.to_owned();
    tokio::task::spawn_blocking(move || care_for(&owned)).await.unwrap();
    is_open
}

async fn use_it(store: Embedded) {
    let report = store.report();
    // what is out of balance is said
    _ = report.check();
    for name in [Some("s"), None, Some("new")] {
        let Ok(mut consumer) = store.subscribe(subscribe(name)).await else { continue };
        let mut seen = 0;
        while seen < 256
            && let Ok(Ok(some)) = timeout(A_MOMENT, consumer.next()).await
        {
            seen += some.len();
            let settled = some.into_vec().into_iter().zip(1..).map(|(delivery, n)| (delivery.position, settlement(n)));
            _ = consumer.settle(settled.collect()).await;
        }
    }
    publish(&store, 7..8).await;
    publish(&store, 10_000..10_001).await;
    _ = store.last(Filter::new("#").unwrap(), None, 100).await;
    let keys = store.keys("bridge/a");
    _ = keys.get("k").await;
    _ = keys.list("", None, 100).await;
    _ = keys.write(vec![KeyWrite::put("k", "w"), KeyWrite::delete("ends")]).await;
    for letter in store.dead_letters(0, 100).await.unwrap_or_default() {
        _ = store.replay_dead_letter(letter.id).await;
        _ = store.drop_dead_letters(vec![letter.id]).await;
    }
    for (topic, conversation) in [(Some("a/1"), None), (None, Some("c")), (None, None)] {
        let topic = topic.map(|topic| Filter::new(topic).unwrap());
        let query = Query { topic, conversation: conversation.map(Into::into), most: 100, ..Query::default() };
        _ = store.query(query).await;
    }
    _ = store.drop_subscription("s").await;
    publish(&store, 10_001..10_002).await;
    _ = store.report().check();
    _ = store.verify().await;
    _ = store.close().await;
}

fn care_for(path: &Path) {
    let folder = loop {
        match Folder::open(path) {
            Err(OpenError::Locked { .. }) => std::thread::yield_now(),
            opened => break opened,
        }
    };
    let Ok(folder) = folder else { return };
    _ = folder.inspect();
    _ = folder.check();
    _ = folder.export(1, &mut std::io::sink());
    drop(folder);
    if let Ok(repaired) = care::repair(path) {
        fs::remove_dir_all(repaired.before).unwrap();
        // there is one only if there was a reason
        _ = fs::remove_file(repaired.quarantine);
        let folder = Folder::open(path).unwrap();
        assert!(folder.check().is_ok());
        drop(folder);
        // counts that nobody knows any more are not made up, but it opens
        Embedded::open(config(path)).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}
