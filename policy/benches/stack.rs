//! What the ingress stack costs by itself: a mapper that maps everything to one topic, a store that keeps nothing.
//!
//! `cargo bench -p policy`. "whole policy" has limits of the address, the principal, its domain and the topic, residency with
//! a default label, and the schema; "100 policies" is that by a hundred Cedar policies, of which ten read the data of what
//! is sent to the topic, or to another one. The last lines are a million principals, each with a budget of its own; memory is what
//! the process has more of afterwards (`VmRSS`). Times are those of the processor, by `/proc/thread-self/schedstat`: what other
//! processes take of a shared machine is not counted.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::expect_used, reason = "a benchmark that can't run says so")]

use std::{
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime},
};

use envelope::{
    AckPoint, Admission, Admitted, Batch, Data, Envelope, EnvelopeId, Group, Identity, Inbound, Ingress, Lane, Ledger,
    MapResult, Mapped, Mapper, Principal, Proof, Receipt, RejectKind, Rejection, Route, Settled, Store, Timestamp,
    Topic, Verdict,
};
use futures_util::FutureExt;
use policy::{
    AccessConfig, Epoch, Fetched, Flow, IngressConfig, Issuers, Keys, Policies, PolicyConfig, PolicySource, Trail,
    ingress,
};
use schema::{Schema, Schemas};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

const MESSAGES: usize = 1 << 19;
const RUNS: usize = 5;
const PRINCIPALS: usize = 1_000_000;
const READING_TYPE: &str = "telemetry/reading@v1.0.0";
const WHOLE: &str = "anonymous: true
residency: { default: [no] }
limits:
  address: { messages_per_second: 1000000000 }
  domain: { messages_per_second: 1000000000, bytes_per_second: 100GB }
  principal: { messages_per_second: 1000000000 }
  topics: { \"telemetry/#\": { messages_per_second: 1000000000 } }
";
/// One message in half a minute, which is longer than the bench takes: a message larger than the burst is owed in full.
const ONE_EACH: &str = "anonymous: true
limits: { principal: { bytes_per_second: 1, burst_bytes: 1 } }
";
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
            Identity::Native(_) | Identity::Keyed { .. } => return MapResult::Filtered(self.route.clone()),
        };
        let envelope = Envelope::plain(
            id,
            self.source.clone(),
            self.kind.clone(),
            self.topic.clone(),
            Timestamp::from(inbound.received_at),
            Data::Opaque(inbound.payload),
        );
        let Inbound { bridge, lane, principal, identity, .. } = inbound;
        let group = Group::One(envelope);
        let route = self.route.clone();
        MapResult::Mapped(Mapped {
            route,
            ack: AckPoint::Durable,
            terms: Arc::default(),
            bridge,
            lane,
            principal,
            identity,
            retain: false,
            group,
        })
    }
}

impl Ledger for NoLedger {
    fn received(&self, _: &str, _: u64) {}
    fn refused(&self, _: &str, _: Option<&Route>, _: &Rejection) {}
    fn passed(&self, _: &str, _: &Route) {}
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
    report("Push, with a schema", 64, &stack(Flow::Push, READING_TYPE));
    for size in [1, 64] {
        report("whole policy", size, &stack_with(Flow::Push, READING_TYPE, WHOLE));
    }
    for (what, topic) in [("100 policies, none reads it", "orders"), ("100 policies, 10 read it", "telemetry")] {
        for size in [1, 64] {
            report(what, size, &stack_by(Flow::Push, READING_TYPE, WHOLE, hundred(topic)));
        }
    }
    principals();
}

/// Memory and time of a million principals, one after the other.
fn principals() {
    let all = sensors();
    let stack = stack_with(Flow::Push, "mesh/opaque@v1.0.0", ONE_EACH);
    let mut ingress = stack.clone();
    let mut offer = || {
        let mut passed = 0;
        for some in all.chunks(64) {
            let of = |(n, principal): (usize, &Arc<Principal>)| Inbound {
                principal: principal.clone(),
                lane: Lane(n as u64),
                ..message()
            };
            let batch = Batch::new(some.iter().enumerate().map(of).collect()).expect("not empty");
            let ready = ingress.ready().now_or_never().expect("is ready at once").expect("is not broken");
            let verdicts = ready.call(batch).now_or_never().expect("answers at once").expect("answers");
            passed += verdicts.iter().filter(|verdict| verdict.answer.is_ok()).count();
        }
        passed
    };
    let (before, start) = (resident(), processor());
    let passed = offer();
    let each = (processor() - start).as_nanos() as f64 / PRINCIPALS as f64;
    println!(
        "{PRINCIPALS} principals: {passed} pass, {each:.0} ns a message, {} MB more",
        (resident() - before) / 1_000
    );
    println!("the same again: {} pass, for the meters forgot them; the others are refused", offer());
}

/// What this thread has had of a processor.
fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number"))
}

/// Kilobytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number")
}

fn report(what: &str, size: usize, ingress: &Ingress) {
    let mut times: Vec<_> = (0..RUNS).map(|_| run(ingress, size)).collect();
    times.sort_unstable();
    let each = times[RUNS / 2].as_nanos() as f64 / MESSAGES as f64;
    println!("{what:<28} batches of {size:>2}: {each:>6.0} ns a message, {:>10.0} messages/s", 1e9 / each);
}

fn message() -> Inbound {
    Inbound {
        bridge: "web".into(),
        address: "POST /telemetry/7".into(),
        headers: Arc::default(),
        payload: r#"{"celsius": 21.5, "line": "7"}"#.into(),
        lane: Lane(7),
        identity: Identity::fresh(),
        principal: Arc::new(Principal::anonymous("plant-a")),
        peer: Some([192, 0, 2, 1].into()),
        trace: None,
        retain: false,
        unacknowledged: false,
        hops: Vec::new(),
        received_at: SystemTime::now(),
    }
}

/// The time the stack takes for [`MESSAGES`]; making the batches is not counted.
fn run(ingress: &Ingress, size: usize) -> Duration {
    let message = message();
    let mut ingress = ingress.clone();
    let mut took = Duration::ZERO;
    for _ in 0..MESSAGES / size / 64 {
        let batches: Vec<_> = (0..64).filter_map(|_| Batch::new(vec![message.clone(); size])).collect();
        let start = processor();
        for batch in batches {
            let ready = ingress.ready().now_or_never().expect("is ready at once").expect("is not broken");
            let verdicts = ready.call(batch).now_or_never().expect("answers at once").expect("answers");
            assert!(verdicts.iter().all(|verdict| verdict.answer.is_ok()));
            black_box(verdicts);
        }
        took += processor() - start;
    }
    took
}

fn stack(flow: Flow, kind: &str) -> Ingress {
    stack_with(flow, kind, "anonymous: true")
}

fn stack_with(flow: Flow, kind: &str, policy: &str) -> Ingress {
    stack_by(flow, kind, policy, everything())
}

fn stack_by(flow: Flow, kind: &str, policy: &str, policies: Arc<Policies>) -> Ingress {
    let mut schemas = Schemas::default();
    schemas.insert(Schema::compile("telemetry/reading@v1.0.0", READING).expect("a valid schema"));
    let mapper = ToOneTopic {
        route: Route::new("plant-temperature", "1"),
        topic: Topic::new("telemetry/7/temperature").expect("a valid topic"),
        source: "mesh://plant-a/web/anonymous".into(),
        kind: kind.into(),
    };
    let access = PolicyConfig::parse("policy.yaml", policy).expect("a valid policy");
    let epoch = Epoch::new(1, "plant-a".into(), Arc::new(mapper), Arc::new(schemas), access);
    let current = epoch.within(["no".into()].into()).with_policies(policies).with_issuers(issuers()).into_current();
    let trail = Arc::new(Trail::ingress("web".into(), None));
    let max_in_flight = NonZeroU32::MIN.saturating_add(255);
    let config = IngressConfig {
        flow,
        max_payload_bytes: 1 << 20,
        max_in_flight,
        meters: Arc::default(),
        trail,
        dead_letters: None,
        desk: None,
    };
    ingress(nowhere(), &config, current, Arc::new(NoLedger))
}

fn nowhere() -> Store {
    let answer = |admitted: &Admitted| {
        let id = admitted.mapped().group.as_slice()[0].id;
        Verdict::yes(Admission::Stored(Receipt {
            id,
            position: None,
            duplicate: false,
            settled: Settled::Now,
            reply: None,
        }))
    };
    BoxCloneSyncService::new(tower::service_fn(move |batch: Batch<Admitted>| {
        std::future::ready(Ok::<_, Rejection>(batch.as_slice().iter().map(answer).collect()))
    }))
}

/// 100 policies: one permits, 89 are about something else, and 10 read the data of what is sent below `topic`.
fn hundred(topic: &str) -> Arc<Policies> {
    let mut text = "permit(principal, action in Action::\"send\", resource in Topic::\"telemetry\");\n".to_owned();
    for n in 0..89 {
        text += &format!("permit(principal in Role::\"role-{n}\", action, resource in Topic::\"area-{n}\");\n");
    }
    for n in 0..10 {
        text += &format!(
            "forbid(principal, action in Action::\"send\", resource in Topic::\"{topic}\") when {{ \
             context.data has celsius && context.data.celsius.greaterThan(decimal(\"{}.5\")) }};\n",
            1_000 + n
        );
    }
    let access =
        PolicyConfig::parse("policy.yaml", "access: { data: { celsius: decimal } }").expect("a valid policy").access;
    let (policies, wrong) = Policies::load(&[PolicySource { path: "100.cedar", name: "100", text: &text }], &access);
    assert!(wrong.is_empty() && policies.len() == 100, "{wrong:?}");
    Arc::new(policies)
}

const ISSUER: &str = "tokens: { bench: { issuer: i, audience: a, keys: { url: https://issuer.example } } }";

/// One whose keys are nowhere: the tokens of the principals below can't be doubted.
fn issuers() -> Issuers {
    let config = PolicyConfig::parse("policy.yaml", ISSUER).expect("a valid policy").tokens.remove(0);
    let keys = Keys::Fetched(Fetched::default().at(&"https://issuer.example".parse().expect("a URL")));
    Issuers::new([(config, keys, Arc::default())])
}

fn sensors() -> Vec<Arc<Principal>> {
    let config = PolicyConfig::parse("policy.yaml", ISSUER).expect("a valid policy").tokens.remove(0);
    let proof = Proof::Token { issuer: "bench".into(), version: config.version(), key: "k".into(), id: None };
    let sensor = |n| Principal { proof: proof.clone(), ..Principal::new(format!("sensor-{n:07}"), "plant-a") };
    (0..PRINCIPALS).map(|n| Arc::new(sensor(n))).collect()
}

/// Policies that permit all of it, without reading it.
fn everything() -> Arc<Policies> {
    let text = "permit(principal, action, resource);";
    Arc::new(Policies::load(&[PolicySource { path: "all.cedar", name: "all", text }], &AccessConfig::default()).0)
}
