//! The store as its users see it.

mod ahead;
mod care;
mod durability;
mod early;
mod failure;
mod fan_out;
mod fixtures;
mod formats;
mod inbox;
mod keys;
mod last;
mod model;
mod orders;
mod owners;
mod query;
mod retention;
mod subscription;
mod times;
mod waiting;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use envelope::{
    AckPoint, Admission, Admitted, Batch, Data, Deliveries, Delivery, Envelope, EnvelopeId, Filter, Group, Identity,
    Lane, Mapped, Position, Principal, Receipt, Rejection, Route, Settlement, Start, Subscribe, Timestamp, Topic,
};
use uuid::Uuid;

use crate::{Backbone, Embedded, EmbeddedConfig, OpenError, writer::Hooks};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(path: &Path) -> EmbeddedConfig {
    EmbeddedConfig { min_free: crate::MinFree { percent: 0, at_least: 0 }, ..EmbeddedConfig::new(path, "plant-a") }
}

/// Opens the store; the process before it may still be letting go of the folder.
fn open(path: &Path) -> Embedded {
    open_with(config(path), Hooks::default)
}

fn open_with(config: EmbeddedConfig, hooks: impl Fn() -> Hooks) -> Embedded {
    let started = std::time::Instant::now();
    loop {
        match Embedded::open_with(config.clone(), hooks()) {
            Ok(store) => return store,
            Err(OpenError::Locked { .. }) if started.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn envelope(id: u128, topic: &str) -> Envelope {
    Envelope::plain(
        EnvelopeId::new(Uuid::from_u128(id)),
        "mesh://plant-a/web/anonymous".into(),
        "mesh/opaque@v1.0.0".into(),
        Topic::new(topic).unwrap(),
        Timestamp::now(),
        Data::Opaque(Bytes::from(id.to_string())),
    )
}

fn admitted(group: Group, ack: AckPoint) -> Admitted {
    let mapped = Mapped {
        route: Route::new("r", "1"),
        ack,
        terms: Arc::default(),
        bridge: "web".into(),
        lane: Lane(0),
        principal: Arc::new(Principal::anonymous("plant-a")),
        identity: Identity::fresh(),
        retain: false,
        group,
    };
    sealed(mapped, 1)
}

#[expect(clippy::disallowed_methods, reason = "there is no policy in these tests")]
fn sealed(mapped: Mapped, epoch: u64) -> Admitted {
    Admitted::seal(mapped, epoch)
}

fn message(id: u128, topic: &str) -> Admitted {
    admitted(Group::One(envelope(id, topic)), AckPoint::Durable)
}

/// As a bridge does it: counts, then publishes.
async fn offer(store: &Embedded, messages: Vec<Admitted>) -> Result<Vec<Result<Receipt, Rejection>>, Rejection> {
    store.ledger().received("web", messages.len() as u64);
    let verdicts = store.publish(Batch::new(messages).unwrap()).await?;
    Ok(verdicts
        .into_iter()
        .map(|verdict| {
            verdict.answer.map(|admission| match admission {
                Admission::Stored(receipt) => receipt,
                Admission::Filtered => panic!("the store filters nothing"),
            })
        })
        .collect())
}

async fn put(store: &Embedded, id: u128, topic: &str) -> Receipt {
    offer(store, vec![message(id, topic)]).await.unwrap().remove(0).unwrap()
}

fn subscribe(filter: &str, durable: Option<&str>, start: Start, credit: u32) -> Subscribe {
    Subscribe { filters: vec![Filter::new(filter).unwrap()], start, durable: durable.map(Into::into), credit }
}

async fn consumer(store: &Embedded, durable: &str, credit: u32) -> Box<dyn Deliveries> {
    store.subscribe(subscribe("#", Some(durable), Start::Earliest, credit)).await.unwrap()
}

/// The next batch, within the tests' patience.
async fn next(consumer: &mut Box<dyn Deliveries>) -> Vec<Delivery> {
    tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().into_vec()
}

/// The next `count` deliveries.
async fn take(consumer: &mut Box<dyn Deliveries>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(next(consumer).await);
    }
    assert_eq!(taken.len(), count);
    taken
}

async fn settle(consumer: &mut Box<dyn Deliveries>, deliveries: &[Delivery], how: Settlement) {
    let settled: Vec<(Position, Settlement)> =
        deliveries.iter().map(|delivery| (delivery.position.clone(), how.clone())).collect();
    consumer.settle(settled).await.unwrap();
}

fn ids(deliveries: &[Delivery]) -> Vec<u128> {
    deliveries.iter().map(|delivery| delivery.envelope.id.uuid().as_u128()).collect()
}

/// Whether nothing comes: the consumer is polled until it has nothing to do but wait.
async fn is_idle(consumer: &mut Box<dyn Deliveries>) -> bool {
    tokio::time::timeout(Duration::from_millis(100), consumer.next()).await.is_err()
}

fn assert_balanced(store: &Embedded) {
    assert_eq!(store.report().check(), [""; 0]);
}
