//! The ingress stack without disk: account, limits, the shipped `plant-temperature` mapping with its input schema, loop
//! guard, conformance with the output schema, admit, and the real ledger; below it a store that only answers.
//!
//! `cargo bench -p integration --bench stack`: one core, the median of 5 rounds for batches of 1 and of 64.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark fails by panic")]

use std::{
    fs,
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use backbone::{Backbone, Embedded, EmbeddedConfig};
use bytes::Bytes;
use envelope::{
    Admission, Admitted, Batch, Identity, Inbound, Ingress, Lane, Principal, Receipt, Rejection, Settled, Store,
    Verdict, Verdicts,
};
use integration::site::repository;
use policy::{AccessConfig, Epoch, Flow, IngressConfig, Policies, PolicyConfig, PolicySource, Trail};
use schema::{Schema, Schemas};
use tower::{Service, ServiceExt};

const READING: &[u8] = br#"{"f":71.96,"unit":"F","sensor":"TX-4411-09"}"#;
const ROUNDS: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let backbone = Embedded::open(EmbeddedConfig::new(folder.path(), "plant-a")).expect("a store");
    let mut ingress = stack(&backbone);
    for batch in [1, 64] {
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            rates.push(round(&mut ingress, batch).await);
        }
        rates.sort_by(f64::total_cmp);
        let median = rates[ROUNDS / 2];
        println!("batches of {batch:>2}: {median:>9.0} messages/s and core, {:.0} ns each", 1e9 / median);
    }
}

async fn round(ingress: &mut Ingress, size: usize) -> f64 {
    let proto = inbound();
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(1) {
        for _ in 0..64 {
            let batch =
                Batch::new((0..size).map(|_| Inbound { identity: Identity::fresh(), ..proto.clone() }).collect());
            let batch = batch.expect("a message");
            let verdicts = ingress.ready().await.expect("ready").call(batch).await.expect("verdicts");
            assert!(verdicts.iter().all(|verdict| verdict.answer.is_ok()), "{verdicts:?}");
            count += black_box(verdicts).len();
        }
    }
    count as f64 / begin.elapsed().as_secs_f64()
}

fn stack(backbone: &Embedded) -> Ingress {
    let config = repository().join("config");
    let read = |path: &str| fs::read_to_string(config.join(path)).expect("a shipped file");
    let mut schemas = Schemas::default();
    for name in ["floor-reading", "telemetry/reading@v1.0.0"] {
        let text = read(&format!("schemas/{name}.json"));
        schemas.insert(Schema::compile(name, text.as_bytes()).expect("a valid schema"));
    }
    let path = "mappings/plant-temperature.yaml";
    let text = read(path);
    let bridges = [mapping::Bridge::named("web")];
    let context = mapping::Context::new("plant-a", &bridges, &schemas, mapping::Tables::none());
    let mappings = mapping::load(&[mapping::Source { path, text: &text }], &context).expect("a valid mapping");
    let policy = PolicyConfig::parse("policy.yaml", "anonymous: true").expect("a valid policy");
    let epoch =
        Epoch::new(1, "plant-a".into(), Arc::new(mappings), Arc::new(schemas), policy).with_policies(everything());
    let limits = IngressConfig {
        dead_letters: None,
        trail: Arc::new(Trail::ingress("web".into(), None)),
        flow: Flow::Push,
        max_payload_bytes: 1 << 20,
        max_in_flight: NonZeroU32::MIN.saturating_add(63),
        meters: Arc::default(),
        desk: None,
    };
    policy::ingress(Store::new(tower::service_fn(answer)), &limits, epoch.into_current(), backbone.ledger())
}

async fn answer(batch: Batch<Admitted>) -> Result<Verdicts<Admission>, Rejection> {
    let stored = |admitted: Admitted| {
        let id = admitted.mapped().group.as_slice()[0].id;
        Verdict::yes(Admission::Stored(Receipt {
            id,
            position: None,
            duplicate: false,
            settled: Settled::Now,
            reply: None,
        }))
    };
    Ok(batch.into_vec().into_iter().map(stored).collect())
}

fn inbound() -> Inbound {
    Inbound {
        bridge: "web".into(),
        address: "POST /telemetry/7/temperature".into(),
        headers: Arc::new([]),
        payload: Bytes::from_static(READING),
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

/// Policies that permit all of it, without reading it.
fn everything() -> Arc<Policies> {
    let text = "permit(principal, action, resource);";
    Arc::new(Policies::load(&[PolicySource { path: "all.cedar", name: "all", text }], &AccessConfig::default()).0)
}
