//! A whole plan against the same written by hand: `cargo bench -p mapping --bench plan`.
//!
//! One message with a guard, names, a table look-up and arithmetic; and one that `each` makes a hundred envelopes of. By
//! hand is a typed struct that sonic-rs fills from the text, a `HashMap`, `write!`, and the same envelopes. It checks
//! less: it takes duplicate keys, knows one address and bounds nothing. Five interleaved rounds, the median of each.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    collections::HashMap,
    hint::black_box,
    io::Write,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use envelope::{
    Data, Envelope, Group, Identity, IdentityParts, Inbound, Lane, MapResult, Mapper, Principal, Timestamp, Topic,
    TraceContext,
};
use mapping::{Bridge, Context, Mappings, Source, TableSource, Tables, load};
use schema::Schemas;
use serde::Deserialize;

const ORDER: &str = r#"{"id":"o-000017","site":"oslo-1","kind":"order","customer":{"id":4711,"name":"Ida Hansen"},"sku":"A-0042","pieces":12,"placed":"2026-11-23T10:00:00Z","note":"by noon","tags":["express","fragile"],"warehouse":"north"}"#;

const ONE: &str = r#"
mapping: one
from: { bridge: web, address: "POST /orders/{shop}" }
when: has(payload.kind) && payload.kind == "order" && payload.pieces > 0
let:
  price: table("articles.price", payload.sku)
  total: payload.pieces * price
envelope:
  topic: orders/${address.shop}/${payload.warehouse}
  performative: request
  key: ${payload.site + "/" + payload.id}
  data:
    id: ${payload.id}
    article: ${table("articles.name", payload.sku)}
    total: ${total}
    large: ${total >= 100}
    customer: ${payload.customer}
"#;

const EACH: &str = r#"
mapping: each
from: { bridge: web, address: "POST /readings/{line}" }
each: payload.readings
envelope:
  topic: telemetry/${address.line}/${item.sensor}
  performative: inform
  key: ${item.sensor}
  data: { celsius: "${(item.f - 32) * 5 / 9}", sensor: "${item.sensor}", at: "${index}", site: "${payload.site}" }
"#;

const ROUNDS: usize = 5;
const ITEMS: usize = 100;

#[derive(Deserialize)]
struct Order<'a> {
    id: &'a str,
    site: &'a str,
    kind: Option<&'a str>,
    sku: &'a str,
    pieces: f64,
    warehouse: &'a str,
    #[serde(borrow)]
    customer: sonic_rs::LazyValue<'a>,
}

#[derive(Deserialize)]
struct Readings<'a> {
    site: &'a str,
    #[serde(borrow)]
    readings: Vec<Reading<'a>>,
}

#[derive(Deserialize)]
struct Reading<'a> {
    sensor: &'a str,
    f: f64,
}

struct Article {
    name: String,
    price: f64,
}

fn made(inbound: &Inbound, topic: String, key: &str, data: Vec<u8>, performative: &str, item: Option<u32>) -> Envelope {
    let parts = IdentityParts { domain: "plant-a", bridge: "web", principal: "anonymous", route: "by-hand" };
    let id = inbound.identity.envelope_id(parts);
    Envelope {
        datacontenttype: Some("application/json".into()),
        performative: Some(performative.into()),
        partitionkey: Some(key.into()),
        trace: Some(TraceContext::root()),
        ..Envelope::plain(
            item.map_or(id, |item| id.item(item)),
            "mesh://plant-a/web/anonymous".into(),
            "mesh/opaque@v1.0.0".into(),
            Topic::new(topic).unwrap(),
            Timestamp::from(inbound.received_at),
            Data::Opaque(data.into()),
        )
    }
}

fn one_by_hand(inbound: &Inbound, articles: &HashMap<String, Article>) -> Group {
    let order: Order<'_> = sonic_rs::from_slice(&inbound.payload).unwrap();
    assert!(order.kind == Some("order") && order.pieces > 0.0);
    let shop = inbound.address.split('/').nth(2).unwrap();
    let article = &articles[order.sku];
    let total = order.pieces * article.price;
    let mut data = Vec::with_capacity(inbound.payload.len());
    let (id, name, customer) = (order.id, &article.name, order.customer.as_raw_str());
    write!(
        data,
        r#"{{"id":"{id}","article":"{name}","total":{total},"large":{},"customer":{customer}}}"#,
        total >= 100.0
    )
    .unwrap();
    let (topic, key) = (format!("orders/{shop}/{}", order.warehouse), format!("{}/{id}", order.site));
    Group::One(made(inbound, topic, &key, data, "request", None))
}

fn each_by_hand(inbound: &Inbound) -> Group {
    let all: Readings<'_> = sonic_rs::from_slice(&inbound.payload).unwrap();
    let line = inbound.address.split('/').nth(2).unwrap();
    let envelopes = all.readings.iter().zip(0_u32..).map(|(reading, at)| {
        let (sensor, celsius) = (reading.sensor, (reading.f - 32.0) * 5.0 / 9.0);
        let mut data = Vec::with_capacity(96);
        write!(data, r#"{{"celsius":{celsius},"sensor":"{sensor}","at":{at},"site":"{}"}}"#, all.site).unwrap();
        made(inbound, format!("telemetry/{line}/{sensor}"), sensor, data, "inform", Some(at))
    });
    Group::Many(envelopes.collect())
}

fn inbound(address: &str, payload: String) -> Inbound {
    Inbound {
        bridge: "web".into(),
        address: address.into(),
        headers: Arc::new([]),
        payload: payload.into(),
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

fn by_plan(mappings: &Mappings, inbound: Inbound) -> Group {
    match mappings.map(inbound) {
        MapResult::Mapped(mapped) => mapped.group,
        other => panic!("{other:?}"),
    }
}

fn texts(group: &Group) -> Vec<(String, Bytes)> {
    group.as_slice().iter().map(|envelope| (envelope.subject.to_string(), envelope.data.bytes())).collect()
}

/// Nanoseconds a call.
fn measure(message: &Inbound, calls: u32, mut call: impl FnMut(Inbound) -> Group) -> f64 {
    let mut spent = Duration::ZERO;
    for _ in 0..calls / 16 {
        let batch = vec![message.clone(); 16];
        let start = Instant::now();
        for message in batch {
            black_box(call(black_box(message)));
        }
        spent += start.elapsed();
    }
    spent.as_nanos() as f64 / f64::from(calls / 16 * 16)
}

fn compare(
    what: &str,
    message: &Inbound,
    calls: u32,
    hand: impl Fn(Inbound) -> Group,
    plan: impl Fn(Inbound) -> Group,
) {
    assert_eq!(texts(&hand(message.clone())), texts(&plan(message.clone())), "both make the same");
    let (mut hands, mut plans) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        hands.push(measure(message, calls, &hand));
        plans.push(measure(message, calls, &plan));
    }
    let median = |all: &mut Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (hand, plan) = (median(&mut hands), median(&mut plans));
    println!("{what}: by hand {hand:8.0} ns, mapping {plan:8.0} ns, ratio {:.2}", plan / hand);
}

fn main() {
    let rows: Vec<_> =
        (0..10_000).map(|n| (format!("A-{n:04}"), format!("Article {n}"), f64::from(n) / 4.0 + 0.25)).collect();
    let csv: String = rows.iter().map(|(sku, name, price)| format!("{sku},{name},{price}\n")).collect();
    let csv = format!("sku,name,price:number\n{csv}");
    let (tables, errors) = Tables::load(&[TableSource { path: "articles.csv", name: "articles", text: &csv }]);
    assert!(errors.is_empty());
    let articles: HashMap<_, _> = rows.into_iter().map(|(sku, name, price)| (sku, Article { name, price })).collect();
    let (schemas, bridges) = (Schemas::default(), [Bridge::named("web")]);
    let context = Context::new("plant-a", &bridges, &schemas, &tables);
    let mappings =
        load(&[Source { path: "one.yaml", text: ONE }, Source { path: "each.yaml", text: EACH }], &context).unwrap();

    let order = inbound("POST /orders/oslo", ORDER.to_owned());
    let what = format!("guard, names, table, arithmetic; {} bytes", ORDER.len());
    compare(&what, &order, 200_000, |m| one_by_hand(&m, &articles), |m| by_plan(&mappings, m));

    let readings: Vec<_> = (0..ITEMS).map(|n| format!(r#"{{"sensor":"s-{n:03}","f":{}}}"#, 50.5 + n as f64)).collect();
    let payload = format!(r#"{{"site":"oslo-1","readings":[{}]}}"#, readings.join(","));
    let what = format!("each of {ITEMS}; {} bytes", payload.len());
    let readings = inbound("POST /readings/press-4", payload);
    compare(&what, &readings, 4_000, |m| each_by_hand(&m), |m| by_plan(&mappings, m));
}
