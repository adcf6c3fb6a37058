//! What the ingress stack costs by itself: a mapper that maps everything to one topic, a store that keeps nothing.
//!
//! `cargo bench -p policy`. The last line holds the data to a small schema, which parses it too.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::expect_used, reason = "a benchmark that can't run says so")]

use std::{
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use envelope::{
    AckPoint, Admission, Admitted, Batch, Data, Envelope, EnvelopeId, Group, Identity, Inbound, Ingress, Lane, Ledger,
    MapResult, Mapped, Mapper, Principal, Receipt, RejectKind, Rejection, Route, Settled, Store, Timestamp, Topic,
    Verdict,
};
use futures_util::FutureExt;
use policy::{Epoch, Flow, IngressConfig, PolicyConfig, Trail, ingress};
use schema::{Schema, Schemas};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

const MESSAGES: usize = 1 << 19;
const RUNS: usize = 5;
const READING: &[u8] = br#"{"type": "object", "required": ["celsius", "line"], "properties": {
    "celsius": {"type": "number", "minimum": -273.15}, "line": {"type": "string", "maxLength": 32}}}"#;

struct ToOneTopic {
    route: Route,
    topic: Topic,
    source: Arc<str>,
    kind: Arc<str>,
}

struct NoLedger;

impl Mapper for ToOneTopic {
    fn map(&self, inbound: Inbound) -> MapResult {
        let id = match &inbound.identity {
            Identity::Fresh(uuid) => EnvelopeId::new(*uuid),
            Identity::Native(_) => return MapResult::Filtered(self.route.clone()),
        };
        let envelope = Envelope {
            id,
            source: self.source.clone(),
            kind: self.kind.clone(),
            subject: self.topic.clone(),
            time: Timestamp::from(inbound.received_at),
            expirytime: None,
            datacontenttype: None,
            dataschema: None,
            data: Data::Opaque(inbound.payload),
            performative: None,
            partitionkey: None,
            residency: Vec::new(),
            classification: None,
            hops: Vec::new(),
            trace: None,
            conversation: None,
            origin: None,
        };
        let Inbound { bridge, lane, principal, identity, .. } = inbound;
        let group = Group::One(envelope);
        let route = self.route.clone();
        MapResult::Mapped(Mapped { route, ack: AckPoint::Durable, bridge, lane, principal, identity, group })
    }
}

impl Ledger for NoLedger {
    fn received(&self, _: &str, _: u64) {}
    fn refused(&self, _: &str, _: Option<&Route>, _: RejectKind) {}
    fn filtered(&self, _: &str, _: &Route) {}
    fn returned(&self, _: &str, _: RejectKind) {}
}

fn main() {
    // `cargo test --benches` builds it, and has no need of figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    for flow in [Flow::Push, Flow::Pull] {
        for size in [1, 64] {
            report(&format!("{flow:?}, opaque"), size, &stack(flow, "mesh/opaque@v1.0.0"));
        }
    }
    report("Push, with a schema", 64, &stack(Flow::Push, "telemetry/reading@v1.0.0"));
}

fn report(what: &str, size: usize, ingress: &Ingress) {
    let mut times: Vec<_> = (0..RUNS).map(|_| run(ingress, size)).collect();
    times.sort_unstable();
    let each = times[RUNS / 2].as_nanos() as f64 / MESSAGES as f64;
    println!("{what:<20} batches of {size:>2}: {each:>6.0} ns a message, {:>10.0} messages/s", 1e9 / each);
}

/// The time the stack takes for [`MESSAGES`]; making the batches is not counted.
fn run(ingress: &Ingress, size: usize) -> Duration {
    let message = Inbound {
        bridge: "web".into(),
        address: "POST /telemetry/7".into(),
        headers: Arc::default(),
        payload: r#"{"celsius": 21.5, "line": "7"}"#.into(),
        lane: Lane(7),
        identity: Identity::fresh(),
        principal: Arc::new(Principal::anonymous("plant-a")),
        peer: None,
        trace: None,
        received_at: SystemTime::now(),
    };
    let mut ingress = ingress.clone();
    let mut took = Duration::ZERO;
    for _ in 0..MESSAGES / size / 64 {
        let batches: Vec<_> = (0..64).filter_map(|_| Batch::new(vec![message.clone(); size])).collect();
        let start = Instant::now();
        for batch in batches {
            let ready = ingress.ready().now_or_never().expect("is ready at once").expect("is not broken");
            let verdicts = ready.call(batch).now_or_never().expect("answers at once").expect("answers");
            assert!(verdicts.iter().all(|verdict| verdict.answer.is_ok()));
            black_box(verdicts);
        }
        took += start.elapsed();
    }
    took
}

fn stack(flow: Flow, kind: &str) -> Ingress {
    let mut schemas = Schemas::default();
    schemas.insert(Schema::compile("telemetry/reading@v1.0.0", READING).expect("a valid schema"));
    let mapper = ToOneTopic {
        route: Route::new("plant-temperature", "1"),
        topic: Topic::new("telemetry/7/temperature").expect("a valid topic"),
        source: "mesh://plant-a/web/anonymous".into(),
        kind: kind.into(),
    };
    let access = PolicyConfig { anonymous: true, ..PolicyConfig::default() };
    let current = Epoch::new(1, "plant-a".into(), Arc::new(mapper), Arc::new(schemas), access).into_current();
    let trail = Arc::new(Trail::ingress("web".into(), None));
    let max_in_flight = NonZeroU32::MIN.saturating_add(255);
    let config = IngressConfig { flow, max_payload_bytes: 1 << 20, max_in_flight, meters: Arc::default(), trail };
    ingress(nowhere(), &config, current, Arc::new(NoLedger))
}

fn nowhere() -> Store {
    let answer = |admitted: &Admitted| {
        let id = admitted.mapped().group.as_slice()[0].id;
        Verdict::yes(Admission::Stored(Receipt { id, position: None, duplicate: false, settled: Settled::Now }))
    };
    BoxCloneSyncService::new(tower::service_fn(move |batch: Batch<Admitted>| {
        std::future::ready(Ok::<_, Rejection>(batch.as_slice().iter().map(answer).collect()))
    }))
}
