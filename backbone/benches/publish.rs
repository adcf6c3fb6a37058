//! Durable publishes against a bare loop that appends and syncs groups of the same bytes, in the same run.
//!
//! `cargo bench -p backbone` prints, for 64 callers with batches of 1 and of 64, messages a second of both, their
//! ratio, syncs a message, and the memory that is resident at the end of the run.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    time::{Duration, Instant},
};

use backbone::{Backbone, Embedded, EmbeddedConfig};
use tokio::{sync::oneshot, task::JoinSet};

#[path = "support/batch.rs"]
mod support;

use support::batch;

const CALLERS: usize = 64;
const RUN: Duration = Duration::from_secs(4);
const RECORD: usize = 560;

struct Figures {
    messages: u64,
    syncs: u64,
    took: Duration,
    /// Of the process at its end, in MB.
    resident: f64,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(idle());
    for size in [1, 64] {
        for round in 1..=3 {
            let folder = tempfile::tempdir().unwrap();
            let bare = runtime.block_on(bare(folder.path(), size));
            let store = runtime.block_on(embedded(&folder.path().join("store"), size));
            let ratio = store.rate() / bare.rate() * 100.0;
            println!(
                "{CALLERS} callers x {size}, run {round}: embedded {:.0}/s ({:.4} syncs a message), bare {:.0}/s ({:.4}), ratio {ratio:.0} %, {:.0} MB resident",
                store.rate(),
                store.syncs_a_message(),
                bare.rate(),
                bare.syncs_a_message(),
                store.resident,
            );
        }
    }
}

// === impl Figures ===

impl Figures {
    fn rate(&self) -> f64 {
        self.messages as f64 / self.took.as_secs_f64()
    }

    fn syncs_a_message(&self) -> f64 {
        self.syncs as f64 / self.messages as f64
    }
}

/// What an open store without traffic takes.
async fn idle() {
    let folder = tempfile::tempdir().unwrap();
    let before = resident();
    let store = Embedded::open(EmbeddedConfig::new(folder.path(), "plant-a")).unwrap();
    store.publish(batch(1)).await.unwrap();
    println!("an idle store takes {:.1} MB of memory", resident() - before);
    store.close().await.unwrap();
}

/// The process's memory in MB; 0 where there is no `/proc`.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<f64>().unwrap_or(0.0) / 1_000.0
}

async fn embedded(path: &Path, size: usize) -> Figures {
    let store = Embedded::open(EmbeddedConfig::new(path, "plant-a")).unwrap();
    let (started, mut callers) = (Instant::now(), JoinSet::new());
    for _ in 0..CALLERS {
        let store = store.clone();
        callers.spawn(async move {
            while started.elapsed() < RUN {
                store.publish(batch(size)).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    let took = started.elapsed();
    let report = store.report().store;
    let resident = resident();
    store.close().await.unwrap();
    Figures { messages: report.stored, syncs: report.groups, took, resident }
}

/// The least that a durable append can be: the same queue, groups and answers, and nothing else.
async fn bare(folder: &Path, size: usize) -> Figures {
    let (sender, jobs) = mpsc::sync_channel::<(Vec<u8>, oneshot::Sender<()>)>(1_024);
    let syncs = Arc::new(AtomicU64::new(0));
    let (counted, mut file) = (syncs.clone(), File::create(folder.join("bare")).unwrap());
    let writer = std::thread::spawn(move || {
        while let Ok((first, reply)) = jobs.recv() {
            let (mut bytes, mut replies) = (first, vec![reply]);
            while bytes.len() < 1 << 20 && replies.len() < 1_024 / size {
                let Ok((more, reply)) = jobs.try_recv() else { break };
                bytes.extend_from_slice(&more);
                replies.push(reply);
            }
            file.write_all(&bytes).unwrap();
            file.sync_data().unwrap();
            counted.fetch_add(1, SeqCst);
            replies.into_iter().for_each(|reply| reply.send(()).unwrap());
        }
    });
    let (started, mut callers) = (Instant::now(), JoinSet::new());
    for _ in 0..CALLERS {
        let sender = sender.clone();
        callers.spawn(async move {
            let mut messages = 0;
            while started.elapsed() < RUN {
                // The callers' own work is the same for both.
                std::hint::black_box(batch(size));
                let (reply, answer) = oneshot::channel();
                sender.send((vec![7; RECORD * size], reply)).unwrap();
                answer.await.unwrap();
                messages += size as u64;
            }
            messages
        });
    }
    drop(sender);
    let messages = callers.join_all().await.into_iter().sum();
    let took = started.elapsed();
    writer.join().unwrap();
    Figures { messages, syncs: syncs.load(SeqCst), took, resident: resident() }
}
