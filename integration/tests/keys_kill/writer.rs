//! The process that is killed: it writes keys and says a line before and after each write.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use backbone::Backbone;
use envelope::{KeyValue, KeyWrite, RejectKind, Timestamp};

use crate::{OWNER, open};

/// How many compare and set the same key.
const RIVALS: usize = 4;
/// A key ends in the midst of the kills, or never while the test runs.
pub(crate) const TTLS: [Duration; 2] = [Duration::from_millis(400), Duration::from_secs(3_600)];

/// Writes until it is killed.
pub(crate) fn run(folder: &Path) {
    let store = open(folder);
    let keys = store.keys(OWNER);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let begins = keys.write(vec![KeyWrite::put("begin", "")]).await.expect("the first write");
        println!("begin {begins}");
        let steps = Arc::new(AtomicU64::new(begins * 1_000_000));
        let rivals = (0..RIVALS).map(|_| rival(keys.clone()));
        let parts = (
            futures_util::future::join(alone(keys.clone()), watch(keys.clone(), begins)),
            pairs(keys.clone()),
            ending(keys.clone(), steps),
            futures_util::future::join_all(rivals),
        );
        futures_util::join!(parts.0, parts.1, parts.2, parts.3);
    });
}

/// Counts one key up; what is behind the times is refused.
async fn alone(keys: Arc<dyn KeyValue>) {
    let mut before = keys.get("alone").await.expect("a read");
    loop {
        let value = before.as_ref().map_or(0, |entry| number(&entry.value)) + 1;
        println!("alone? {value}");
        let write = match &before {
            None => KeyWrite::create("alone", value.to_string()),
            Some(entry) => KeyWrite::replace("alone", entry.revision, value.to_string()),
        };
        let revision = keys.write(vec![write.clone()]).await.expect("nobody else writes it");
        println!("alone {value} {revision}");
        let refused = keys.write(vec![write]).await.expect_err("a write that expects what is no more");
        assert_eq!(refused.kind, RejectKind::Conflict);
        before = keys.get("alone").await.expect("a read");
    }
}

/// Says what it is told of the key that is counted up: every value, and nothing that a kill can take back.
async fn watch(keys: Arc<dyn KeyValue>, after: u64) {
    let mut watch = keys.watch("alone", after).expect("a revision that is made");
    let mut last = None;
    loop {
        for change in watch.next().await.expect("it keeps up") {
            let value = change.value.as_deref().map(number).expect("nobody deletes it");
            assert!(last.replace(value).is_none_or(|last| last + 1 == value), "{value} was told behind {last:?}");
            println!("watched {value} {}", change.revision);
        }
    }
}

/// Counts the key up that all rivals count up.
async fn rival(keys: Arc<dyn KeyValue>) {
    loop {
        let before = keys.get("rivals").await.expect("a read");
        let value = before.as_ref().map_or(0, |entry| number(&entry.value)) + 1;
        let write = match before {
            None => KeyWrite::create("rivals", value.to_string()),
            Some(entry) => KeyWrite::replace("rivals", entry.revision, value.to_string()),
        };
        match keys.write(vec![write]).await {
            Ok(revision) => println!("rivals {value} {revision}"),
            Err(refused) => assert_eq!(refused.kind, RejectKind::Conflict),
        }
    }
}

/// Writes two keys at once.
async fn pairs(keys: Arc<dyn KeyValue>) {
    for n in 0_u64.. {
        let value = n.to_string();
        let both = vec![KeyWrite::put("pair/left", value.clone()), KeyWrite::put("pair/right", value)];
        let revision = keys.write(both).await.expect("a write");
        println!("pair {n} {revision}");
    }
}

/// Writes keys that end, soon or late, each of another name; some are deleted.
async fn ending(keys: Arc<dyn KeyValue>, steps: Arc<AtomicU64>) {
    loop {
        let n = steps.fetch_add(1, Ordering::Relaxed);
        let (key, which) = (format!("ending/{n}"), usize::from(n.is_multiple_of(8)));
        let before = Timestamp::now().as_micros();
        let write = KeyWrite::create(key.clone(), n.to_string()).expiring(TTLS[which]);
        keys.write(vec![write]).await.expect("a name of its own");
        println!("ending {n} {which} {before} {}", Timestamp::now().as_micros());
        if n % 16 == 8 {
            println!("deleted? {n}");
            keys.write(vec![KeyWrite::delete(key)]).await.expect("a delete");
            println!("deleted {n}");
        }
    }
}

/// Of a value.
pub(crate) fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).expect("a number")
}
