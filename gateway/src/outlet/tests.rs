use std::sync::Mutex;

use backbone::{DeadLetter, LedgerReport, Page, Query, Status, Subscriber};
use bytes::Bytes;
use envelope::{
    Admission, Admitted, Data, Envelope, EnvelopeId, Inbound, KeyValue, Lane, Ledger, MapResult, Mapper, RejectKind,
    Start, Timestamp,
};
use futures_util::FutureExt;
use policy::{AccessConfig, Epoch, Policies, PolicyConfig, PolicySource};

use super::*;

type Settled = Arc<Mutex<Vec<(Position, Settlement)>>>;

/// Hands out one batch, then nothing; settling takes two polls.
struct Scripted {
    batch: Option<Batch<Delivery>>,
    settled: Settled,
}

impl Deliveries for Scripted {
    fn next(&mut self) -> BoxFuture<'_, Result<Batch<Delivery>, Rejection>> {
        match self.batch.take() {
            Some(batch) => Box::pin(async { Ok(batch) }),
            None => Box::pin(std::future::pending()),
        }
    }

    fn settle(&mut self, settled: Vec<(Position, Settlement)>) -> BoxFuture<'_, Result<(), Rejection>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.settled.lock().unwrap().extend(settled);
            Ok(())
        })
    }

    fn grant(&mut self, _: u32) {}

    fn early(&mut self, _: bool) {}
}

/// Only its subscriptions are asked for.
struct OneSubscription(Mutex<Option<Scripted>>);

impl Backbone for OneSubscription {
    fn publish(&self, _: Batch<Admitted>) -> BoxFuture<'static, Result<Verdicts<Admission>, Rejection>> {
        unreachable!("nothing is published")
    }

    fn subscribe_for(&self, _: Subscriber, _: Subscribe) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
        let scripted = self.0.lock().unwrap().take().unwrap();
        Box::pin(async { Ok(Box::new(scripted) as Box<dyn Deliveries>) })
    }

    fn last(&self, _: Filter, _: Option<Topic>, _: usize) -> BoxFuture<'static, Result<LastValues, Rejection>> {
        let values = self.0.lock().unwrap().take().and_then(|scripted| scripted.batch).unwrap().into_vec();
        Box::pin(async { Ok(LastValues { values, next: Some(Topic::new("t").unwrap()) }) })
    }

    fn last_values(&self) -> u64 {
        unreachable!("nothing is kept")
    }

    fn query(&self, _: Query) -> BoxFuture<'static, Result<Page, Rejection>> {
        unreachable!("nothing is looked for")
    }

    fn keys(&self, _: &str) -> Arc<dyn KeyValue> {
        unreachable!("nothing is kept")
    }

    fn ledger(&self) -> Arc<dyn Ledger> {
        unreachable!("nothing is counted")
    }

    fn standing(&self, _: &str, _: &Topic, _: &Position) -> Option<backbone::Standing> {
        None
    }

    fn dead_letters(&self, _: u64, _: usize) -> BoxFuture<'static, Result<Vec<DeadLetter>, Rejection>> {
        unreachable!("nothing is dead")
    }

    fn bury(&self, _: DeadLetter) -> BoxFuture<'static, Result<bool, Rejection>> {
        unreachable!("nothing is dead")
    }

    fn drop_dead_letters(&self, _: Vec<u64>) -> BoxFuture<'static, Result<usize, Rejection>> {
        unreachable!("nothing is dead")
    }

    fn replay_dead_letter(&self, _: u64) -> BoxFuture<'static, Result<bool, Rejection>> {
        unreachable!("nothing is dead")
    }

    fn drop_subscription(&self, _: &str) -> BoxFuture<'static, Result<bool, Rejection>> {
        unreachable!("nothing is dropped")
    }

    fn report(&self) -> LedgerReport {
        LedgerReport::default()
    }

    fn status(&self) -> Status {
        Status::Ready
    }

    fn close(&self) -> BoxFuture<'static, Result<(), Rejection>> {
        Box::pin(async { Ok(()) })
    }
}

struct Nothing;

impl Mapper for Nothing {
    fn map(&self, _: Inbound) -> MapResult {
        MapResult::Refused(None, Rejection::new(RejectKind::Unmapped, "mapping", "nothing is mapped"))
    }
}

fn delivery(position: &'static str, kind: &str) -> Delivery {
    let envelope = Envelope::plain(
        EnvelopeId::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap(),
        "mesh://a/web/p".into(),
        kind.into(),
        Topic::new("t").unwrap(),
        Timestamp::now(),
        Data::Opaque(Bytes::from_static(b"{}")),
    );
    let position = Position(Bytes::from_static(position.as_bytes()));
    Delivery { position, redelivered: false, is_last: false, retained: false, envelope, lane: Lane(0) }
}

fn epoch(number: u64, policies: &str) -> Epoch {
    let policy = PolicyConfig { anonymous: true, ..PolicyConfig::default() };
    let source = PolicySource { path: "a.cedar", name: "a", text: policies };
    let (policies, found) = Policies::load(&[source], &AccessConfig::default());
    assert!(found.is_empty(), "{found:?}");
    Epoch::new(number, "a".into(), Arc::new(Nothing), Arc::default(), policy).with_policies(Arc::new(policies))
}

const ALL: &str = "permit(principal, action, resource);";

/// A subscription to one delivery that passes and one whose schema nobody knows any more.
async fn subscription() -> (Box<dyn Deliveries>, Settled) {
    let (opened, settled) = subscription_by(epoch(1, ALL).into_current()).await;
    (opened.unwrap(), settled)
}

async fn subscription_by(current: Current) -> (Result<Box<dyn Deliveries>, Rejection>, Settled) {
    let (outlet, settled) = outlet(current);
    let what = Subscribe { filters: vec![all()], start: Start::Earliest, durable: None, credit: 8 };
    (outlet.open(Arc::new(Principal::anonymous("a")), what).await, settled)
}

fn all() -> Filter {
    Filter::new("#").unwrap()
}

fn outlet(current: Current) -> (GatewayOutlet, Settled) {
    let settled = Settled::default();
    let batch = Batch::new(vec![delivery("1", "gone@v1.0.0"), delivery("2", "mesh/opaque@v1.0.0")]);
    let scripted = Scripted { batch, settled: settled.clone() };
    let backbone = Arc::new(OneSubscription(Mutex::new(Some(scripted))));
    let trail = Arc::new(Trail::egress("web".into(), None));
    (GatewayOutlet::new(backbone, current, trail, Arc::default()), settled)
}

#[tokio::test]
async fn what_policy_refuses_is_settled_so_and_never_handed_over() {
    let (mut deliveries, settled) = subscription().await;
    let batch = deliveries.next().await.unwrap();
    assert_eq!(batch.as_slice().len(), 1);
    assert_eq!(&*batch.as_slice()[0].position.0, b"2");
    let refused = Settlement::Refused(RejectKind::Malformed);
    assert_eq!(*settled.lock().unwrap(), [(Position(Bytes::from_static(b"1")), refused)]);
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let (mut deliveries, settled) = subscription().await;
    assert!(deliveries.next().now_or_never().is_none(), "it waits for the settlement");
    assert!(settled.lock().unwrap().is_empty());
    assert_eq!(&*deliveries.next().await.unwrap().as_slice()[0].position.0, b"2");
    assert_eq!(settled.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_may_not_be_read_is_not_opened() {
    let current = epoch(1, "permit(principal, action, resource in Topic::\"b\");").into_current();
    let refused = subscription_by(current).await.0.err().unwrap();
    let detail = "no policy permits \"anonymous\" to subscribe to \"#\"";
    assert_eq!((refused.kind, refused.detail.as_str()), (RejectKind::Denied, detail));
}

#[tokio::test]
async fn a_right_that_is_taken_ends_a_subscription_that_waits() {
    let current = epoch(1, ALL).into_current();
    let (opened, _) = subscription_by(current.clone()).await;
    let mut deliveries = opened.unwrap();
    deliveries.next().await.unwrap();
    assert!(deliveries.next().now_or_never().is_none(), "nothing is there");
    current.store(Arc::new(epoch(2, ALL)));
    assert!(deliveries.next().now_or_never().is_none(), "it may still");
    let forbid = "@id(\"not-now\") forbid(principal, action, resource);";
    current.store(Arc::new(epoch(3, &format!("{ALL} {forbid}"))));
    let ended = tokio::time::timeout(Duration::from_secs(10), deliveries.next()).await.expect("it ends");
    assert_eq!(ended.unwrap_err().decider(), "a#not-now");
}

#[tokio::test]
async fn last_values_are_those_that_the_principal_may_read() {
    let principal = || Arc::new(Principal::anonymous("a"));
    let (outlet, _) = outlet(epoch(1, ALL).into_current());
    let page = outlet.last(principal(), all(), None, 8).await.unwrap();
    assert_eq!(page.values.iter().map(|value| &*value.position.0).collect::<Vec<_>>(), [b"2"]);
    assert_eq!(page.next, Some(Topic::new("t").unwrap()));

    let (outlet, _) = self::outlet(epoch(1, "permit(principal, action, resource in Topic::\"b\");").into_current());
    let refused = outlet.last(principal(), all(), None, 8).await.unwrap_err();
    assert_eq!(refused.kind, RejectKind::Denied);
}

#[tokio::test]
async fn what_several_share_passes_policy_for_the_one_who_gets_it() {
    let principal = Arc::new(Principal::anonymous("a"));
    let current = epoch(1, ALL).into_current();
    let (outlet, _) = outlet(current.clone());
    let what = Subscribe { filters: vec![all()], start: Start::New, durable: Some("s".into()), credit: 8 };
    let mut deliveries = outlet.open_shared(&principal, what).await.unwrap();
    let batch = || Batch::new(vec![delivery("1", "gone@v1.0.0"), delivery("2", "mesh/opaque@v1.0.0")]).unwrap();
    assert_eq!(deliveries.next().await.unwrap().as_slice().len(), 2, "nothing is decided yet");
    let verdicts = outlet.pass(principal.clone(), all(), batch()).await.unwrap();
    let passed: Vec<_> = verdicts.into_iter().map(|verdict| verdict.answer.map_err(|no| no.kind).is_ok()).collect();
    assert_eq!(passed, [false, true]);
    let outlet: Arc<dyn Outlet> = Arc::new(outlet);
    assert!(outlet.may_open(&principal, &all()).is_ok());
    current.store(Arc::new(epoch(2, "permit(principal, action, resource in Topic::\"b\");")));
    assert_eq!(outlet.may_open(&principal, &all()).unwrap_err().kind, RejectKind::Denied);
    assert_eq!(outlet.pass(principal, all(), batch()).await.unwrap_err().kind, RejectKind::Denied);
}
