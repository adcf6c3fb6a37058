//! What a reload costs those who publish: requests at a steady rate, while 1,000 mapping files are read, proven and put in force
//! again and again.
//!
//! `cargo bench -p integration --bench reload [-- RATE [SECONDS]]`, 2,000 a second for 10 s if left out. The goal: the p99 is
//! at most 5 ms above that without reloads. Median of 3 interleaved rounds.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark fails by panic")]

use std::{
    env,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use integration::{Gateway, Site, client::Client};

#[path = "support/paced.rs"]
mod paced;

use paced::{Times, http};

const ROUNDS: usize = 3;
const PATH: &str = "/telemetry/7/temperature";
const MAPPINGS: usize = 1_000;
const READING: &str = r#"{"f":68.5,"unit":"F"}"#;
const GOAL: Duration = Duration::from_millis(5);

fn main() {
    let numbers: Vec<u64> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    let rate = numbers.first().copied().unwrap_or(2_000);
    let count = rate * numbers.get(1).copied().unwrap_or(10);
    let site = Site::shipped();
    let may = "permit (principal in Role::\"operator\", action == Action::\"administer\", resource);\n";
    site.write("policies/bench.cedar", may);
    let key = key(&site);
    (0..MAPPINGS).for_each(|number| write_mapping(&site, number, 0));
    let gateway = Gateway::start(&site);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let still = http(site.http, PATH, |_| READING.to_owned(), rate, count);
        let (busy, reloads, longest) =
            reloading(&site, &key, || http(site.http, PATH, |_| READING.to_owned(), rate, count));
        println!("round {round}: without reloads {}", shown(still));
        println!("         with {reloads} reloads, of at most {longest:?}: {}", shown(busy));
        without.push(still);
        with.push(busy);
    }
    let p99 = |times: &[Times]| median(times.iter().map(|times| times.p99).collect());
    let (still, busy) = (p99(&without), p99(&with));
    let added = busy.saturating_sub(still);
    println!("median p99 at {rate}/s: {still:?} without, {busy:?} with reloads: {added:?} more; goal {GOAL:?}");
    let longest = |times: &[Times]| times.iter().map(|times| times.longest).max().unwrap_or_default();
    println!("longest: {:?} without, {:?} with reloads", longest(&without), longest(&with));
    assert!(gateway.terminate().success());
}

/// What the admin API lets in to reload.
fn key(site: &Site) -> String {
    let openmesh = |arguments: &[&str]| {
        let config = site.config().join("gateway.yaml");
        let output = Command::new(integration::gateway::binary()).args(arguments).arg("--config").arg(config).output();
        let output = output.expect("openmesh to run");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    openmesh(&["user", "add", "ada", "--role", "operator"]);
    format!("Bearer {}", openmesh(&["key", "new", "ada"]))
}

/// One of the mappings; each edition is another version of the same.
fn write_mapping(site: &Site, number: usize, edition: u64) {
    let text = format!(
        "# edition {edition}\nmapping: bench-{number}\n\
         from: {{ bridge: web, address: \"POST /bench/{number}/{{pump}}\", schema: schemas/machine-status.json }}\n\
         when: payload.state in [\"running\", \"idle\"]\n\
         envelope:\n  topic: bench/{number}/${{address.pump}}\n  schema: telemetry/status@v1.0.0\n  \
         data:\n    site: ${{payload.site}}\n    state: ${{payload.state}}\n    hours: '${{has(payload.hours) ? payload.hours : 0}}'\n"
    );
    site.write(&format!("mappings/bench-{number}.yaml"), &text);
}

/// Does something while one file after another changes and all are loaded again. How many reloads, and the longest.
fn reloading(site: &Site, key: &str, run: impl FnOnce() -> Times) -> (Times, u64, Duration) {
    let (ended, editions) = (AtomicBool::new(false), AtomicU64::new(1));
    thread::scope(|scope| {
        let reloads = scope.spawn(|| {
            let (mut reloads, mut longest) = (0_u64, Duration::ZERO);
            while !ended.load(Ordering::Relaxed) {
                write_mapping(site, reloads as usize % MAPPINGS, editions.fetch_add(1, Ordering::Relaxed));
                let began = Instant::now();
                let answer = Client::new().post(&site.admin_url("/reload"), &[("authorization", key)], b"");
                assert_eq!(answer.status, 200, "{answer:?}");
                longest = longest.max(began.elapsed());
                reloads += 1;
            }
            (reloads, longest)
        });
        let times = run();
        ended.store(true, Ordering::Relaxed);
        let (reloads, longest) = reloads.join().expect("reloads");
        assert!(reloads > 0, "nothing was reloaded");
        (times, reloads, longest)
    })
}

fn shown(times: Times) -> String {
    format!("p50 {:?} p99 {:?} longest {:?}", times.p50, times.p99, times.longest)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
