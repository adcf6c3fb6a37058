//! Whether memory grows with what was published: the gateway's resident set after all messages against that after one
//! fifth of them.
//!
//! `cargo bench -p integration --bench soak [-- MESSAGES]`, 5,000,000 if left out; needs wrk. Ids are remembered for as many
//! messages as one tenth of them, so that the table of ids, which grows up to its bound, has reached it by the first look.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark fails by panic")]

use std::{env, fs, process::Command, time::Instant};

use integration::{Gateway, Site, client};

#[path = "support/reading.rs"]
mod reading;

use reading::READING;

/// Of a round, between two looks at what is stored.
const SECONDS: u64 = 5;

fn main() {
    let messages = env::args().find_map(|argument| argument.parse().ok()).unwrap_or(5_000_000_u64);
    let site = Site::shipped();
    let embedded =
        format!("embedded: {{ path: {}, dedup_window: {{ entries: {} }} }}", site.data().display(), messages / 10);
    let config = site.config().join("gateway.yaml");
    let text = fs::read_to_string(&config).expect("the config");
    let path = format!("embedded: {{ path: {} }}", site.data().display());
    assert!(text.contains(&path), "{text}");
    site.write("gateway.yaml", &text.replace(&path, &embedded));
    let script = site.scratch("post.lua");
    let headers = r#"wrk.headers["content-type"] = "application/json""#;
    fs::write(&script, format!("wrk.method = \"POST\"\nwrk.body = [[{READING}]]\n{headers}\n")).expect("the script");
    let (gateway, url) = (Gateway::start(&site), site.url("/telemetry/7/temperature"));
    println!("idle: {} kB", gateway.resident_kb());
    let (began, mut at_one_fifth, mut stored) = (Instant::now(), None, 0);
    while stored < messages {
        let seconds = format!("-d{SECONDS}s");
        let mut wrk = Command::new("wrk");
        let output =
            wrk.args(["-t1", "-c64", &seconds, "-s"]).arg(&script).arg(&url).output().expect("wrk (apt install wrk)");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("Non-2xx"), "{text}");
        let ledger = client::get(&site.admin_url("/ledger")).body;
        stored = ledger["store"]["stored"].as_u64().expect("what is stored");
        let kb = gateway.resident_kb();
        println!("{stored} after {:.0?}: {kb} kB", began.elapsed());
        if stored >= messages / 5 {
            let first = *at_one_fifth.get_or_insert(kb);
            println!("  {:.3} of that at one fifth", kb as f64 / first as f64);
        }
    }
    assert!(gateway.terminate().success());
}
