//! Durable publish over HTTP against a bare axum handler that reads the body and answers 202, in the same run.
//!
//! `cargo bench -p integration --bench publish [-- SECONDS]`; needs wrk. Prints the median of 5 interleaved rounds, the
//! syncs a message, and the resident set of the gateway before the load and after it.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark fails by panic")]

use std::{env, fs, process::Command};

use integration::{Gateway, Site, client};

#[path = "support/bare.rs"]
mod bare;
#[path = "support/reading.rs"]
mod reading;

use bare::Bare;
use reading::READING;

const ROUNDS: usize = 5;

fn main() {
    bare::serve_if_asked();
    compare(env::args().find_map(|argument| argument.parse().ok()).unwrap_or(5));
}

fn compare(seconds: u64) {
    let site = Site::shipped();
    let script = site.scratch("post.lua");
    let headers = r#"wrk.headers["content-type"] = "application/json""#;
    fs::write(&script, format!("wrk.method = \"POST\"\nwrk.body = [[{READING}]]\n{headers}\n")).expect("the script");
    let load = |url: &str| {
        let output = Command::new("wrk")
            .args(["-t1", "-c64", "--latency", &format!("-d{seconds}s"), "-s"])
            .arg(&script)
            .arg(url)
            .output()
            .expect("wrk (apt install wrk)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains("Non-2xx"), "{text}");
        let field =
            |name: &str| text.lines().find_map(|l| l.trim().strip_prefix(name)).unwrap_or_default().trim().to_owned();
        (field("Requests/sec:").parse::<f64>().expect("a rate"), field("50%"), field("99%"))
    };
    let bare = Bare::start();
    let bare_url = bare.url("/telemetry/7/temperature");
    let gateway = Gateway::start(&site);
    let (idle, url) = (gateway.resident_kb(), site.url("/telemetry/7/temperature"));
    let answer = client::post(&url, READING);
    assert_eq!(answer.status, 202, "{}", answer.text);

    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let before = counters(&site);
    for round in 1..=ROUNDS {
        let (floor, floor_p50, floor_p99) = load(&bare_url);
        let (rate, p50, p99) = load(&url);
        println!(
            "round {round}: bare {floor:>8.0}/s (p50 {floor_p50} p99 {floor_p99})   durable {rate:>8.0}/s (p50 {p50} p99 {p99})   {:.2}",
            rate / floor
        );
        ours.push(rate);
        theirs.push(floor);
        ratios.push(rate / floor);
    }
    let after = counters(&site);
    let (groups, messages) = (after.0 - before.0, after.1 - before.1);
    println!("median: bare {:.0}/s, durable {:.0}/s, ratio {:.2}", median(theirs), median(ours), median(ratios));
    println!("syncs a message: {:.4} ({groups} groups, {messages} messages)", groups / messages);
    println!("resident set: idle {idle} kB, after the load {} kB", gateway.resident_kb());
    drop(bare);
    assert!(gateway.terminate().success());
}

/// (groups synced, envelopes stored) so far.
fn counters(site: &Site) -> (f64, f64) {
    let text = client::get(&site.admin_url("/metrics")).text;
    let sum = |name: &str| {
        let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
    };
    (sum("openmesh_backbone_groups_total"), sum("openmesh_backbone_records_total"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
