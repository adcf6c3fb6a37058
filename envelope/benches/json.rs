//! What one parse of a reading of 313 bytes costs, beside the two libraries it could be left to.
//!
//! `cargo bench -p envelope --bench json`; nanoseconds a text, median of 5 interleaved rounds. The others build a tree
//! too, but sonic-rs keeps duplicate keys and has no bound on depth, and neither keeps a number's source text.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use envelope::{Envelope, EnvelopeId, Json, Timestamp, Topic, cloudevents::write_json};

const READING: &str = r#"{"site":"plant-a","line":"7","machine":"press-12","sensor":{"id":"t-0017","kind":"thermocouple","unit":"F","precision":0.25},"timestamp":"2026-11-23T01:53:45.123Z","sequence":1844,"f":162.5,"min":158.1,"max":166.75,"ok":true,"quality":"good","position":{"x":12.5,"y":-3.75,"z":0.0},"tags":["heat","press"],"n":12}"#;

const ROUNDS: usize = 5;
const TEXTS: u32 = 200_000;

fn main() {
    assert_eq!(READING.len(), 313);
    let text = Bytes::from_static(READING.as_bytes());
    let json = Json::parse(text.clone()).expect("the reading is JSON");
    let envelope = envelope(json);
    let mut out = Vec::with_capacity(1_024);
    let mut runs: [(&str, &mut dyn FnMut()); 4] = [
        ("envelope::Json::parse", &mut || drop(black_box(Json::parse(black_box(text.clone()))))),
        ("sonic_rs::Value", &mut || drop(black_box(sonic_rs::from_slice::<sonic_rs::Value>(black_box(&text))))),
        ("serde_json::Value", &mut || drop(black_box(serde_json::from_slice::<serde_json::Value>(black_box(&text))))),
        ("cloudevents::write_json", &mut || {
            out.clear();
            write_json(black_box(&envelope), &mut out);
            black_box(&out);
        }),
    ];
    let mut rounds = vec![Vec::new(); runs.len()];
    for _ in 0..ROUNDS {
        for ((_, run), times) in runs.iter_mut().zip(&mut rounds) {
            let start = Instant::now();
            (0..TEXTS).for_each(|_| run());
            times.push(start.elapsed().as_nanos() / u128::from(TEXTS));
        }
    }
    for ((name, _), times) in runs.iter().zip(&mut rounds) {
        times.sort_unstable();
        println!("{name:24} {:6} ns", times[ROUNDS / 2]);
    }
}

fn envelope(json: Json) -> Envelope {
    Envelope {
        datacontenttype: Some("application/json".into()),
        dataschema: Some("mesh://plant-a/schemas/telemetry/reading@v1.0.0".into()),
        performative: Some("inform".into()),
        partitionkey: Some("7".into()),
        residency: vec!["no".into()],
        ..Envelope::plain(
            EnvelopeId::parse("0192f8a0-0000-7000-8000-000000000001").expect("an id"),
            "mesh://plant-a/web/anonymous".into(),
            "telemetry/reading@v1.0.0".into(),
            Topic::new("telemetry/7/temperature").expect("a topic"),
            Timestamp::now(),
            envelope::Data::Json(std::sync::Arc::new(json)),
        )
    }
}
