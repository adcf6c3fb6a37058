//! How long a durable publish takes at a rate that is given, whatever it takes: requests are sent when they are due, and
//! their time runs from then. Beside it, in the same run, a bare handler and a bare loop that appends to a file and syncs.
//!
//! `cargo bench -p integration --bench open_loop [-- RATE [SECONDS]]`, 5,000 a second for 4 s if left out. The goal: the p99
//! of durable publish is at most that of the bare handler plus three times that of the append loop. Median of 5
//! interleaved rounds.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark fails by panic")]

use std::{env, time::Duration};

use integration::{Gateway, Site};

#[path = "support/append.rs"]
mod append;
#[path = "support/bare.rs"]
mod bare;
#[path = "support/paced.rs"]
mod paced;
#[path = "support/reading.rs"]
mod reading;

use append::append_loop;
use bare::Bare;
use paced::http;
use reading::READING;

const ROUNDS: usize = 5;
const PATH: &str = "/telemetry/7/temperature";

fn main() {
    bare::serve_if_asked();
    let numbers: Vec<u64> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    let rate = numbers.first().copied().unwrap_or(5_000);
    let count = rate * numbers.get(1).copied().unwrap_or(4);
    let site = Site::shipped();
    let (bare, gateway) = (Bare::start(), Gateway::start(&site));
    let (mut bares, mut loops, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let floor = http(bare.at, PATH, |_| READING.to_owned(), rate, count);
        let append = append_loop(&site.scratch("append"), READING, rate, count);
        let durable = http(site.http, PATH, |_| READING.to_owned(), rate, count);
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
