//! What a duplicate hears of its original after a restart, when only the store knows.

use std::path::Path;

use backbone::{Embedded, EmbeddedConfig, OpenError};
use bytes::Bytes;
use envelope::{
    AckPoint, Data, Deliveries, Filter, Group, Identity, Principal, Route, Settlement, Start, Subscribe, Timestamp,
};

use super::*;
use crate::egress::PassThrough;

const PATIENCE: Duration = Duration::from_secs(20);
const DURABLE: &str = "mapping:tells";

/// The store, and a table that knows nothing: a gateway that has just started.
struct Site {
    store: Arc<dyn Backbone>,
    tickets: Tickets,
    _folder: tempfile::TempDir,
}

fn open(path: &Path) -> Arc<dyn Backbone> {
    let config = EmbeddedConfig {
        min_free: backbone::MinFree { percent: 0, at_least: 0 },
        ..EmbeddedConfig::new(path, "plant-a")
    };
    let store: Result<Embedded, OpenError> = Embedded::open(config);
    Arc::new(store.unwrap())
}

fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    Site { store: open(folder.path()), tickets: tickets().0, _folder: folder }
}

fn taker() -> Taker {
    Taker { durable: DURABLE.into(), filter: Filter::new("alerts/#").unwrap() }
}

fn envelope(id: EnvelopeId) -> Envelope {
    Envelope::plain(
        id,
        "mesh://plant-a/web/anonymous".into(),
        "mesh/opaque@v1.0.0".into(),
        Topic::new("alerts/a").unwrap(),
        Timestamp::now(),
        Data::Opaque(Bytes::new()),
    )
}

fn group(count: u32) -> Group {
    match count {
        1 => Group::One(envelope(id(1))),
        _ => Group::Many((0..count).map(|item| envelope(id(1).item(item))).collect()),
    }
}

#[expect(clippy::disallowed_methods, reason = "there is no policy in these tests")]
fn admitted(ack: AckPoint, group: Group) -> Admitted {
    let mapped = Mapped {
        route: Route::new("alerts", "1"),
        ack,
        terms: Arc::default(),
        bridge: "web".into(),
        lane: Lane(0),
        principal: Arc::new(Principal::anonymous("plant-a")),
        identity: Identity::fresh(),
        retain: false,
        group,
    };
    Admitted::seal(mapped, 1)
}

impl Site {
    /// What ends its stacks.
    fn end(&self) -> Store {
        Store { backbone: self.store.clone(), through: PassThrough::new(self.store.ledger()) }
    }

    async fn subscribe(&self, filter: &str) -> Box<dyn Deliveries> {
        let filters = vec![Filter::new(filter).unwrap()];
        let what = Subscribe { filters, start: Start::New, durable: Some(DURABLE.into()), credit: 16 };
        self.store.subscribe(what).await.unwrap()
    }

    /// Offers it once more; whether the sender's yes is there, is never to come, or is waited for.
    async fn again(&self, count: u32, taker: Taker) -> Option<Reached> {
        self.tickets.takers(vec![taker]);
        let batch = Batch::one(admitted(AckPoint::Delivered, group(count)));
        let verdicts = self.tickets.publish(&self.end(), batch).await.unwrap();
        let Ok(Admission::Stored(receipt)) = &verdicts[0].answer else { panic!("{verdicts:?}") };
        assert!(receipt.duplicate);
        let Settled::Later(ticket) = receipt.settled else { panic!("{receipt:?}") };
        let decided = self.tickets.table().get(id(1).uuid()).unwrap().fate.borrow().is_some();
        if decided { Some(self.tickets.reached(ticket).await) } else { None }
    }

    async fn store(&self, group: Group) {
        let verdicts = self.store.publish(Batch::one(admitted(AckPoint::Durable, group))).await.unwrap();
        assert!(verdicts[0].answer.is_ok(), "{verdicts:?}");
    }
}

async fn settle(deliveries: &mut Box<dyn Deliveries>, most: usize, how: Settlement) {
    let batch = tokio::time::timeout(PATIENCE, deliveries.next()).await.unwrap().unwrap().into_vec();
    let settled = batch.iter().take(most).map(|delivery| (delivery.position.clone(), how.clone())).collect();
    deliveries.settle(settled).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_is_a_yes_and_what_is_pending_is_waited_for() {
    let site = site();
    let mut deliveries = site.subscribe("alerts/#").await;
    site.store(group(1)).await;
    assert_eq!(site.again(1, taker()).await, None);
    site.tickets.table().remove(id(1).uuid());
    settle(&mut deliveries, 1, Settlement::Delivered).await;
    assert_eq!(site.again(1, taker()).await, Some(Reached::Yes));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_is_no_yes() {
    let site = site();
    let mut deliveries = site.subscribe("alerts/#").await;
    site.store(Group::One(Envelope { expirytime: Some(Timestamp::from_micros(1)), ..envelope(id(1)) })).await;
    site.store(Group::One(envelope(id(2)))).await;
    settle(&mut deliveries, 1, Settlement::Delivered).await;
    assert_eq!(site.store.report().subscriptions[DURABLE].expired, 1);
    assert_eq!(site.again(1, taker()).await, Some(Reached::Never));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_mapping_left_out_is_no_yes() {
    for (how, reached) in [(Settlement::LeftOut, Reached::Never), (Settlement::Delivered, Reached::Yes)] {
        let site = site();
        let mut deliveries = site.subscribe("alerts/#").await;
        site.store(group(1)).await;
        settle(&mut deliveries, 1, how.clone()).await;
        assert_eq!(site.again(1, taker()).await, Some(reached), "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_its_mapping_selected_it_is_no_yes() {
    let site = site();
    site.store(group(1)).await;
    let _deliveries = site.subscribe("alerts/#").await;
    assert_eq!(site.again(1, taker()).await, Some(Reached::Never));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mapping_selected_only_after_a_change_is_no_yes() {
    let site = site();
    let mut deliveries = site.subscribe("other/#").await;
    site.store(group(1)).await;
    site.store(Group::One(Envelope { subject: Topic::new("other/a").unwrap(), ..envelope(id(2)) })).await;
    settle(&mut deliveries, 1, Settlement::Delivered).await;
    // the mapping has changed, and its subscription not yet
    assert_eq!(site.again(1, taker()).await, Some(Reached::Never));
    site.tickets.table().remove(id(1).uuid());
    drop(deliveries);
    let _deliveries = site.subscribe("alerts/#").await;
    assert_eq!(site.again(1, taker()).await, Some(Reached::Never));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_envelopes_the_first_does_not_speak_for_the_others() {
    let site = site();
    let mut deliveries = site.subscribe("alerts/#").await;
    site.store(group(2)).await;
    assert_eq!(site.again(2, taker()).await, None);
    site.tickets.table().remove(id(1).uuid());
    settle(&mut deliveries, 1, Settlement::Delivered).await;
    assert_eq!(site.again(2, taker()).await, Some(Reached::Never));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_is_offered_again_with_its_lane_and_the_rest_of_the_batch_is_stored() {
    let site = site();
    let deadline = Instant::now() + LONG;
    for number in 0..MAX_WAITING as u128 {
        let entry = Entry::new([(id(100 + number), 1)].into(), None, deadline);
        assert!(site.tickets.table().enter(id(100 + number).uuid(), entry));
    }
    let mut offered = Vec::new();
    for (number, ack, lane) in [
        (1, AckPoint::Durable, 1),
        (2, AckPoint::Delivered, 2),
        (3, AckPoint::Durable, 1),
        (4, AckPoint::Durable, 2),
        (5, AckPoint::Durable, 3),
    ] {
        let (mut mapped, epoch) = admitted(ack, Group::One(envelope(id(number)))).into_parts();
        mapped.lane = Lane(lane);
        #[expect(clippy::disallowed_methods, reason = "there is no policy in these tests")]
        offered.push(Admitted::seal(mapped, epoch));
    }
    let verdicts = site.tickets.publish(&site.end(), Batch::new(offered).unwrap()).await.unwrap();
    let kinds: Vec<_> = verdicts.iter().map(|verdict| verdict.answer.as_ref().err().map(|no| no.kind)).collect();
    assert_eq!(kinds, [None, Some(RejectKind::Overloaded), None, Some(RejectKind::Behind), None]);
    assert_eq!(site.store.report().store.stored, 3);
}
