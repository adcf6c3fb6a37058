//! Many files: `cargo bench -p mapping --bench files`. Finding the mapping of an address among 10,000, and loading a set of 1,000
//! files with everything that is proven of them.
//!
//! The median of five rounds. A message that no mapping takes is measured too: it has to look everywhere.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use envelope::{Identity, Inbound, Lane, MapResult, Mapper, Principal};
use mapping::{Bridge, Context, Mappings, Source, Tables, load};
use schema::{Schema, Schemas};

const ROUNDS: usize = 5;
const MESSAGES: u32 = 100_000;

/// The smallest file there is: what is measured is finding it.
fn least(n: usize) -> String {
    format!(
        "mapping: m{n}\nfrom: {{ bridge: web, address: \"POST /plants/{{plant}}/lines/{n}/+\", decode: bytes }}\ndrop: true\n"
    )
}

/// A file as people write them.
fn usual(n: usize) -> String {
    format!(
        "mapping: m{n}
from: {{ bridge: web, address: \"POST /plants/{{plant}}/lines/{n}\", decode: json, schema: schemas/floor-reading.json }}
order: 1
let:
  celsius: (payload.f - 32) * 5 / 9
  place: address.plant + \"-{n}\"
envelope:
  topic: telemetry/${{place}}/temperature
  performative: inform
  schema: telemetry/reading@v1.0.0
  key: ${{place}}
  data: {{ celsius: \"${{celsius}}\", line: \"${{place}}\" }}
tests:
  - name: fahrenheit becomes celsius
    given: {{ address: POST /plants/oslo/lines/{n}, payload: {{ f: 50, unit: F }} }}
    expect: {{ data: {{ celsius: {{ near: 10.0 }}, line: oslo-{n} }} }}
"
    )
}

fn loaded(texts: &[String]) -> Mappings {
    let paths: Vec<_> = (0..texts.len()).map(|n| format!("{n}.yaml")).collect();
    let files: Vec<_> = paths.iter().zip(texts).map(|(path, text)| Source { path, text }).collect();
    let mut schemas = Schemas::default();
    for (name, text) in [
        ("floor-reading", include_str!("../../config/schemas/floor-reading.json")),
        ("telemetry/reading@v1.0.0", include_str!("../../config/schemas/telemetry/reading@v1.0.0.json")),
    ] {
        schemas.insert(Schema::compile(name, text.as_bytes()).unwrap());
    }
    let bridges = [Bridge::named("web")];
    load(&files, &Context::new("plant-a", &bridges, &schemas, Tables::none()))
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn inbound(address: &str) -> Inbound {
    Inbound {
        bridge: "web".into(),
        address: address.into(),
        headers: Arc::new([]),
        payload: "{}".into(),
        lane: Lane(0),
        identity: Identity::fresh(),
        principal: Arc::new(Principal::anonymous("plant-a")),
        peer: None,
        trace: None,
        retain: false,
        unacknowledged: false,
        hops: Vec::new(),
        received_at: SystemTime::now(),
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// A message each.
fn find(mappings: &Mappings, address: &str, found: bool) -> Duration {
    let message = inbound(address);
    let rounds = (0..ROUNDS).map(|_| {
        let mut spent = Duration::ZERO;
        for _ in 0..MESSAGES / 64 {
            let batch = vec![message.clone(); 64];
            let start = Instant::now();
            for message in batch {
                let taken = matches!(black_box(mappings.map(black_box(message))), MapResult::Filtered(_));
                assert_eq!(taken, found);
            }
            spent += start.elapsed();
        }
        spent / (MESSAGES / 64 * 64)
    });
    median(rounds.collect())
}

fn main() {
    let many: Vec<_> = (0..10_000).map(least).collect();
    let mappings = loaded(&many);
    for (what, address, found) in [
        ("the last of 10,000 mappings", "POST /plants/oslo/lines/9999/temp", true),
        ("none of 10,000 mappings", "POST /plants/oslo/lines/none/temp", false),
    ] {
        println!("{what}: {} ns a message", find(&mappings, address, found).as_nanos());
    }
    let usual: Vec<_> = (0..1_000).map(usual).collect();
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        black_box(loaded(black_box(&usual)));
        start.elapsed()
    });
    println!("loading and proving 1,000 files: {} ms", median(rounds.collect()).as_millis());
}
