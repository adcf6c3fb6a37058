//! The crate as others use it: files in, messages through.

mod binary;
mod codecs;
mod described;
mod each;
mod echoes;
mod hostile;
mod keys;
mod loading;
mod messages;
mod one_to_one;
mod promises;
mod seeds;
mod sending;
mod shipped;
mod tables;
mod talk;

use std::{sync::Arc, time::SystemTime};

use envelope::{Envelope, Group, Identity, Inbound, Lane, MapResult, Mapper, Principal, Rejection};
use schema::{Schema, Schemas};

use crate::{Bridge, Context, Mappings, Outcome, Source, TableSource, Tables, load};

/// The keys that every mapping must have, and nothing else.
const LEAST: &str =
    "mapping: m\nfrom: { bridge: web, address: \"POST /t/{line}\" }\nenvelope: { topic: \"t/${address.line}\" }\n";

fn schemas() -> Schemas {
    let mut schemas = Schemas::default();
    let number = r#"{"type":"object","properties":{"f":{"type":"number"}},"required":["f"]}"#;
    let celsius = r#"{"type":"object","properties":{"celsius":{"type":"number"}},"required":["celsius"]}"#;
    for (name, text) in [("floor-reading", number), ("telemetry/reading@v1.0.0", celsius)] {
        schemas.insert(Schema::compile(name, text.as_bytes()).unwrap());
    }
    schemas
}

fn tables() -> Tables {
    let lines = "line,jurisdiction,limit:number,floor:integer,moved:boolean?\n7,no,80.50,1,\n9,se,12,-2,true\n";
    let file = TableSource { path: "tables/lines.csv", name: "lines", text: lines };
    let (tables, errors) = Tables::load(&[file]);
    assert_eq!(errors, []);
    tables
}

fn load_all(texts: &[&str]) -> Result<Mappings, yaml::Diagnostics> {
    let paths: Vec<String> = (0..texts.len()).map(|n| format!("{n}.yaml")).collect();
    let files: Vec<_> = paths.iter().zip(texts).map(|(path, text)| Source { path, text }).collect();
    let (schemas, tables) = (schemas(), tables());
    let bridges = [Bridge::named("web"), Bridge::named("floor")];
    let context = Context::new("plant-a", &bridges, &schemas, &tables);
    load(&files, &context)
}

fn loaded(text: &str) -> Mappings {
    load_all(&[text]).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Every error as `line:column code message`.
fn errors(texts: &[&str]) -> Vec<String> {
    let errors = load_all(texts).map(|_| ()).expect_err("loads");
    errors.iter().map(|e| format!("{}:{}:{} {} {}", e.path, e.line, e.column, e.code, e.message)).collect()
}

/// A mapping with this `envelope:` and an address with one capture.
fn with(from: &str, envelope: &str) -> String {
    format!("mapping: m\nfrom: {{ bridge: web, address: \"POST /t/{{line}}\"{from} }}\nenvelope:\n{envelope}\n")
}

fn inbound(address: &str, payload: impl Into<Vec<u8>>) -> Inbound {
    Inbound {
        bridge: "web".into(),
        address: address.into(),
        headers: Arc::new([("etag".to_owned(), "7".into())]),
        payload: payload.into().into(),
        lane: Lane(3),
        identity: Identity::Native("k1".into()),
        principal: Arc::new(Principal { id: "press 7".into(), ..Principal::anonymous("plant-a") }),
        peer: None,
        trace: None,
        retain: false,
        unacknowledged: false,
        hops: Vec::new(),
        received_at: SystemTime::UNIX_EPOCH,
    }
}

fn envelope(mappings: &Mappings, message: Inbound) -> Result<Envelope, Rejection> {
    match mappings.map(message) {
        MapResult::Mapped(mapped) => match mapped.group {
            Group::One(envelope) => Ok(envelope),
            Group::Many(_) => panic!("a group"),
        },
        MapResult::Filtered(_) => panic!("filtered"),
        MapResult::Refused(_, rejection) => Err(rejection),
    }
}

/// What `data` becomes of a payload at `POST /t/7`.
fn data(data: &str, payload: &str) -> Result<String, Rejection> {
    let mappings = loaded(&with("", &format!("  topic: t\n  data: {data}")));
    envelope(&mappings, inbound("POST /t/7", payload)).map(|e| String::from_utf8(e.data.bytes().to_vec()).unwrap())
}

fn outcomes(mappings: &Mappings) -> Vec<(String, usize, Outcome)> {
    mappings.run_tests().into_iter().map(|result| (result.name, result.line, result.outcome)).collect()
}
