//! Mapping a 313-byte reading against a typed floor written by hand: `cargo bench -p mapping`.
//!
//! The floor decodes the same text with sonic-rs into a struct that borrows from it and writes the same output with
//! `write!`. It checks less: it takes duplicate keys, knows one address and makes no envelope. Five interleaved rounds,
//! the median of each.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    hint::black_box,
    io::Write,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use envelope::{Group, Identity, Inbound, Lane, MapResult, Mapper, Principal};
use mapping::{Bridge, Context, Mappings, Source, Tables, load};
use schema::Schemas;
use serde::Deserialize;

const READING: &str = r#"{"id":"r-000017","site":"oslo-1","line":"press-4","sensor":{"serial":"TX-88-1207","firmware":"2.4.1","calibrated":"2026-03-14"},"f":182.75,"unit":"F","pressure":{"value":12.10,"unit":"bar"},"status":"ok","sequence":1152921504606846977,"tags":["furnace","east"],"operator":"m.hansen","note":"inlet valve replaced"}"#;

const MAPPING: &str = r#"
mapping: reading
from: { bridge: web, address: "POST /telemetry/{line}" }
envelope:
  topic: telemetry/${address.line}/temperature
  performative: inform
  key: ${address.line}
  data:
    id: ${payload.id}
    where: ${payload.site + "/" + payload.line}
    celsius: ${(payload.f - 32) * 5 / 9}
    alarm: "${payload.status == 'ok' ? 'none' : payload.status}"
    sequence: ${payload.sequence}
    sensor: ${payload.sensor}
"#;

const ROUNDS: usize = 5;
const MESSAGES: u32 = 200_000;
const BATCH: u32 = 64;

#[derive(Deserialize)]
struct Reading<'a> {
    id: &'a str,
    site: &'a str,
    line: &'a str,
    f: f64,
    status: &'a str,
    sequence: u64,
    #[serde(borrow)]
    sensor: sonic_rs::LazyValue<'a>,
}

fn floor(text: &[u8]) -> Vec<u8> {
    let reading: Reading<'_> = sonic_rs::from_slice(text).unwrap();
    let mut out = Vec::with_capacity(text.len());
    let Reading { id, site, line, f, status, sequence, sensor } = reading;
    let celsius = (f - 32.0) * 5.0 / 9.0;
    let alarm = if status == "ok" { "none" } else { status };
    let sensor = sensor.as_raw_str();
    write!(
        out,
        r#"{{"id":"{id}","where":"{site}/{line}","celsius":{celsius},"alarm":"{alarm}","sequence":{sequence},"sensor":{sensor}}}"#
    )
    .unwrap();
    out
}

fn inbound() -> Inbound {
    Inbound {
        bridge: "web".into(),
        address: "POST /telemetry/press-4".into(),
        headers: Arc::new([]),
        payload: Bytes::from_static(READING.as_bytes()),
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

fn mapped(mappings: &Mappings, inbound: Inbound) -> Bytes {
    match mappings.map(inbound) {
        MapResult::Mapped(mapped) => match mapped.group {
            Group::One(envelope) => envelope.data.bytes(),
            Group::Many(_) => Bytes::new(),
        },
        other => panic!("{other:?}"),
    }
}

/// Nanoseconds a call. Messages are made a batch ahead, outside the time: a live one is handed over, not cloned.
fn measure<M: Clone>(message: &M, mut call: impl FnMut(M)) -> f64 {
    let mut spent = Duration::ZERO;
    for _ in 0..MESSAGES / BATCH {
        let batch = vec![message.clone(); BATCH as usize];
        let start = Instant::now();
        batch.into_iter().for_each(&mut call);
        spent += start.elapsed();
    }
    spent.as_nanos() as f64 / f64::from(MESSAGES / BATCH * BATCH)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    let schemas = Schemas::default();
    let bridges = [Bridge::named("web")];
    let context = Context::new("plant-a", &bridges, &schemas, Tables::none());
    let mappings = load(&[Source { path: "reading.yaml", text: MAPPING }], &context).unwrap();
    let message = inbound();
    let (by_hand, by_plan) = (floor(READING.as_bytes()), mapped(&mappings, message.clone()));
    assert_eq!(String::from_utf8_lossy(&by_hand), String::from_utf8_lossy(&by_plan), "both write the same");
    let (mut floors, mut plans) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floors.push(measure(&READING.as_bytes(), |text| {
            black_box(floor(black_box(text)));
        }));
        plans.push(measure(&message, |message| {
            black_box(mapped(&mappings, black_box(message)));
        }));
    }
    let (floor, plan) = (median(floors), median(plans));
    println!("reading of {} bytes, median of {ROUNDS} interleaved rounds of {MESSAGES}", READING.len());
    println!("floor by hand  {floor:7.0} ns");
    println!("mapping        {plan:7.0} ns, envelope included");
    println!("ratio          {:7.2}", plan / floor);
}
