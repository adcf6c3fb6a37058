//! Replay of what is stored to one reader, alone and while publishing goes on.
//!
//! `cargo bench -p backbone --bench replay [-- RECORDS]`: stores RECORDS (1,000,000) envelopes, reads them from the
//! beginning, opens a subscription at a time in the middle, then reads all again while callers publish. Prints envelopes a
//! second of each, and what was published meanwhile against publishing alone.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use backbone::{Backbone, Embedded, EmbeddedConfig};
use envelope::{Filter, Settlement, Start, Subscribe, Timestamp};
use tikv_jemallocator::Jemalloc;
use tokio::task::JoinSet;

#[path = "support/batch.rs"]
mod support;

use support::batch;

/// As the gateway has it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const CALLERS: usize = 8;
const BATCH: usize = 64;
const ALONE: Duration = Duration::from_secs(3);

fn main() {
    let records = env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(records));
}

async fn run(records: u64) {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedConfig::new(folder.path(), "plant-a")).unwrap();
    let store = open();
    let started = Instant::now();
    while store.report().store.stored < records {
        store.publish(batch(1_024)).await.unwrap();
    }
    println!("stored {records} in {:.1} s", started.elapsed().as_secs_f64());
    let middle = Timestamp::now();
    store.close().await.unwrap();
    drop(store);
    let started = Instant::now();
    let store = open();
    println!("opened in {:.2} s", started.elapsed().as_secs_f64());

    println!("replay alone: {:.0}/s", replay(&store, Start::Earliest, records).await);
    let alone = publish_for(&store, ALONE).await;
    let started = Instant::now();
    replay(&store, Start::Time(middle), 1).await;
    println!("the first one from a time on: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);

    let stop = Arc::new(AtomicBool::new(false));
    let (publisher, stopped) = (store.clone(), stop.clone());
    let mut publishing = JoinSet::new();
    publishing.spawn(async move { publish_until(&publisher, &stopped).await });
    let rate = replay(&store, Start::Earliest, records).await;
    stop.store(true, SeqCst);
    let meanwhile = publishing.join_all().await[0];
    println!("replay while publishing: {rate:.0}/s");
    println!("published alone {alone:.0}/s, meanwhile {meanwhile:.0}/s, ratio {:.2}", meanwhile / alone);
    store.close().await.unwrap();
}

/// Envelopes a second to one reader that settles what it has.
async fn replay(store: &Embedded, start: Start, count: u64) -> f64 {
    let what = Subscribe { filters: vec![Filter::new("#").unwrap()], start, durable: None, credit: 4_096 };
    let mut reader = store.subscribe(what).await.unwrap();
    let (started, mut read) = (Instant::now(), 0);
    while read < count {
        let batch = reader.next().await.unwrap().into_vec();
        read += batch.len() as u64;
        reader.settle(batch.into_iter().map(|one| (one.position, Settlement::Delivered)).collect()).await.unwrap();
    }
    read as f64 / started.elapsed().as_secs_f64()
}

async fn publish_for(store: &Embedded, time: Duration) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let ends = async move {
        tokio::time::sleep(time).await;
        stop.store(true, SeqCst);
    };
    tokio::join!(publish_until(store, &stopped), ends).0
}

/// Envelopes a second.
async fn publish_until(store: &Embedded, stop: &Arc<AtomicBool>) -> f64 {
    let (started, before) = (Instant::now(), store.report().store.stored);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, stop) = (store.clone(), stop.clone());
        callers.spawn(async move {
            while !stop.load(SeqCst) {
                store.publish(batch(BATCH)).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    (store.report().store.stored - before) as f64 / started.elapsed().as_secs_f64()
}
