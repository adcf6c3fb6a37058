//! How long a durable publish takes at a rate that is given, whatever it takes: requests are sent when they are due, and
//! their time runs from then. Beside it, in the same run, a bare handler and a bare loop that appends to a file and syncs.
//!
//! `cargo bench -p integration --bench open_loop [-- RATE [SECONDS]]`, 5,000 a second for 4 s if left out. The goal: the p99
//! of durable publish is at most that of the bare handler plus three times that of the append loop. Median of 5
//! interleaved rounds.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark fails by panic")]

use std::{
    env,
    fs::File,
    io::Write,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use integration::{Gateway, Site};

#[path = "support/bare.rs"]
mod bare;
#[path = "support/paced.rs"]
mod paced;
#[path = "support/reading.rs"]
mod reading;

use bare::Bare;
use paced::{Times, http, until};
use reading::READING;

const ROUNDS: usize = 5;

fn main() {
    bare::serve_if_asked();
    let numbers: Vec<u64> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    let rate = numbers.first().copied().unwrap_or(5_000);
    let count = rate * numbers.get(1).copied().unwrap_or(4);
    let site = Site::shipped();
    let (bare, gateway) = (Bare::start(), Gateway::start(&site));
    let (mut bares, mut loops, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let floor = http(bare.at, READING, rate, count);
        let append = append_loop(&site, rate, count);
        let durable = http(site.http, READING, rate, count);
        println!(
            "round {round}: bare p50 {:?} p99 {:?}   append loop p50 {:?} p99 {:?}   durable p50 {:?} p99 {:?}",
            floor.p50, floor.p99, append.p50, append.p99, durable.p50, durable.p99
        );
        bares.push(floor.p99);
        loops.push(append.p99);
        ours.push(durable.p99);
    }
    let (floor, append, durable) = (median(bares), median(loops), median(ours));
    let goal = floor + append * 3;
    println!("median p99 at {rate}/s: bare {floor:?}, append loop {append:?}, durable {durable:?}; goal {goal:?}");
    println!("durable / goal: {:.2}", durable.as_secs_f64() / goal.as_secs_f64());
    assert!(gateway.terminate().success());
}

/// The physical limit of an acknowledged append: what has come is written and synced, together.
fn append_loop(site: &Site, rate: u64, count: u64) -> Times {
    let mut file = File::create(site.scratch("append")).expect("a file");
    let (send, receive) = mpsc::sync_channel::<Instant>(65_536);
    let writer = thread::spawn(move || {
        let (mut times, mut group, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        while let Ok(first) = receive.recv() {
            group.clear();
            group.push(first);
            group.extend(receive.try_iter());
            bytes.clear();
            group.iter().for_each(|_| bytes.extend_from_slice(READING.as_bytes()));
            file.write_all(&bytes).expect("an append");
            file.sync_data().expect("a sync");
            times.extend(group.iter().map(Instant::elapsed));
        }
        times
    });
    let start = Instant::now();
    for n in 0..count {
        let due = start + Duration::from_secs_f64(n as f64 / rate as f64);
        until(due);
        send.send(due).expect("the writer");
    }
    drop(send);
    Times::of(writer.join().expect("the writer's times"))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
