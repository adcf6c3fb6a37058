//! What is shed, and what stands for what, in the stack.

use std::num::NonZeroU32;

use envelope::{Batch, Inbound, Mapper as _};
use futures_util::{FutureExt, future::join_all};
use tower::Service;

use super::{latest::Name, *};
use crate::{
    Flow,
    tests::world::{Told, World, batch, epoch_of, inbound, now, words},
};

/// One of eight batches more waits with each of these.
fn fill(world: &World, batches: usize) -> Vec<impl Future + use<>> {
    (0..batches).map(|_| now(&mut world.ingress.clone()).call(batch([(9, "pass")]))).collect()
}

/// Of which class everything is.
fn world(class: &str) -> World {
    let world = World::closed(Flow::Push, 8);
    let policy = format!("anonymous: true\npriority: {{ {class}: [\"telemetry/#\"] }}\n");
    world.current.store(Arc::new(epoch_of(2, Told, &policy)));
    world
}

#[tokio::test]
async fn the_less_it_matters_the_sooner_it_is_shed() {
    // from the half, from three quarters, from nine tenths, and only when there is no place at all
    for (class, places) in [("bulk", 4), ("telemetry", 6), ("event", 8), ("command", 8)] {
        let world = world(class);
        let mut waiting = Vec::new();
        let mut taken = 0;
        for _ in 0..10 {
            let mut answer = Box::pin(now(&mut world.ingress.clone()).call(batch([(1, "pass")])));
            match answer.as_mut().now_or_never() {
                None => waiting.push(answer),
                Some(verdicts) => {
                    assert_eq!(words(verdicts.unwrap()), ["overloaded"], "{class}");
                    continue;
                }
            }
            taken += 1;
        }
        assert_eq!(taken, places, "{class}");
        world.open.add_permits(places);
        for answer in waiting {
            assert_eq!(words(answer.await.unwrap()), ["stored"]);
        }
    }
}

#[tokio::test]
async fn while_telemetry_is_shed_a_command_is_taken() {
    let world = World::closed(Flow::Push, 8);
    let policy = "anonymous: true\npriority: { telemetry: [\"telemetry/#\"] }\n";
    world.current.store(Arc::new(epoch_of(2, Told, policy)));
    let mut waiting: Vec<_> = fill(&world, 6).into_iter().map(Box::pin).collect();
    for answer in &mut waiting {
        assert!(answer.as_mut().now_or_never().is_none());
    }
    let shed = now(&mut world.ingress.clone()).call(batch([(1, "pass")])).await.unwrap();
    let rejection = shed[0].answer.as_ref().unwrap_err();
    assert_eq!((rejection.kind, &*rejection.decided_by.to_string()), (RejectKind::Overloaded, "shed"));
    assert!(rejection.detail.contains("class telemetry") && rejection.retry_after.is_some());
    let policy = "anonymous: true\npriority: { command: [\"telemetry/#\"] }\n";
    world.current.store(Arc::new(epoch_of(3, Told, policy)));
    world.open.add_permits(7);
    assert_eq!(words(now(&mut world.ingress.clone()).call(batch([(1, "pass")])).await.unwrap()), ["stored"]);
}

/// Of 32 batches 24 of telemetry wait for a store that answers nothing.
fn behind() -> (World, Vec<impl Future>) {
    let world = World::closed(Flow::Push, 32);
    let policy = "anonymous: true\npriority: { telemetry: [\"telemetry/#\"] }\n";
    world.current.store(Arc::new(epoch_of(2, Told, policy)));
    let mut waiting: Vec<_> = fill(&world, 24).into_iter().map(Box::pin).collect();
    assert!(waiting.iter_mut().all(|answer| answer.as_mut().now_or_never().is_none()));
    (world, waiting)
}

type Answer = Pin<Box<dyn Future<Output = Result<Verdicts<Admission>, Rejection>>>>;

/// Offers a batch; it is under way.
fn offer(world: &World, batch: Batch<Inbound>) -> Answer {
    let mut answer: Answer = Box::pin(now(&mut world.ingress.clone()).call(batch));
    assert!(answer.as_mut().now_or_never().is_none(), "it waits");
    answer
}

async fn said(answer: Answer) -> Vec<&'static str> {
    words(tokio::time::timeout(Duration::from_secs(60), answer).await.unwrap().unwrap())
}

#[tokio::test]
async fn while_the_store_is_behind_the_latest_of_a_topic_and_key_stands_for_those_before_it() {
    let (world, waiting) = behind();
    let offered = [[(1, "latest a")], [(2, "latest a")], [(3, "latest b")], [(4, "latest a")]];
    let answers: Vec<_> = offered.map(|one| offer(&world, batch(one))).into();
    assert_eq!(words(now(&mut world.ingress.clone()).call(batch([(5, "pass")])).await.unwrap()), ["overloaded"]);
    world.open.add_permits(100);
    join_all(waiting).await;
    let said: Vec<_> = join_all(answers.into_iter().map(said)).await.concat();
    assert_eq!(said, ["filtered", "filtered", "stored", "stored"]);
    assert_eq!(world.kept.take().len(), 26, "what was made old is not stored");
}

#[tokio::test]
async fn within_a_batch_too_the_latest_stands_for_those_before_it_if_all_have_to_wait() {
    let (world, waiting) = behind();
    let answer = offer(&world, batch([(1, "latest a"), (1, "latest b"), (1, "latest a"), (2, "latest b")]));
    world.open.add_permits(100);
    join_all(waiting).await;
    assert_eq!(said(answer).await, ["filtered", "filtered", "stored", "stored"]);
    let all = batch([(1, "latest a"), (1, "latest a")]);
    assert_eq!(words(now(&mut world.ingress.clone()).call(all).await.unwrap()), ["stored"; 2], "there is room again");
}

#[tokio::test]
async fn who_was_made_old_by_what_is_refused_hears_no_as_well() {
    let (world, waiting) = behind();
    let old = offer(&world, batch([(1, "latest a")]));
    let policy = "anonymous: true\npriority: { telemetry: [\"telemetry/#\"] }\nresidency: { default: us }\n";
    world.current.store(Arc::new(epoch_of(3, Told, policy)));
    let later = offer(&world, batch([(2, "latest a")]));
    let made_old = offer(&world, batch([(3, "latest b")]));
    drop(offer(&world, batch([(4, "latest b")])));
    world.open.add_permits(100);
    join_all(waiting).await;
    let said = join_all([old, later, made_old].map(said)).await.concat();
    assert_eq!(said, ["overloaded", "denied", "overloaded"]);
}

#[tokio::test]
async fn what_one_sender_says_makes_nothing_old_of_another_one() {
    let (world, waiting) = behind();
    let of = |name: &str| {
        let principal = envelope::Principal { id: name.into(), ..envelope::Principal::anonymous("plant-a") };
        Batch::one(Inbound { principal: Arc::new(principal), ..inbound(1, "latest a") })
    };
    let answers = [of("anonymous"), of("anonymous")].map(|one| offer(&world, one));
    world.open.add_permits(100);
    join_all(waiting).await;
    assert_eq!(join_all(answers.map(said)).await.concat(), ["filtered", "stored"]);
    let name = |name: &str| Name::of(&mapped(of(name)), PriorityClass::Telemetry).unwrap();
    assert!(name("a") == name("a") && name("a") != name("b"));
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_for_long_is_its_senders_again() {
    let (world, _waiting) = behind();
    let answers = [(1, "latest a"), (2, "latest a")].map(|one| offer(&world, batch([one])));
    let began = tokio::time::Instant::now();
    assert_eq!(join_all(answers.map(said)).await.concat(), ["overloaded", "overloaded"]);
    assert_eq!(began.elapsed().as_secs(), 5);
    world.open.add_permits(100);
    assert_eq!(world.kept.take().len(), 0);
}

#[tokio::test]
async fn who_waits_for_room_is_bounded_and_leaves_room_for_what_matters_more() {
    let (world, waiting) = behind();
    let others = ["latest a", "latest b", "latest c", "latest d"].map(|one| offer(&world, batch([(1, one)])));
    assert_eq!(words(now(&mut world.ingress.clone()).call(batch([(5, "latest e")])).await.unwrap()), ["overloaded"]);
    let instead = offer(&world, batch([(6, "latest a")]));
    let mut others = others.into_iter();
    assert_eq!(said(others.next().unwrap()).await, ["overloaded"], "the later one has its place");
    let policy = "anonymous: true\npriority: { command: [\"telemetry/#\"] }\n";
    world.current.store(Arc::new(epoch_of(3, Told, policy)));
    let command = offer(&world, batch([(7, "pass")]));
    world.open.add_permits(100);
    join_all(waiting).await;
    let said = join_all(others.chain([instead, command]).map(said)).await.concat();
    assert_eq!(said, ["stored"; 5]);
}

#[tokio::test]
async fn a_command_is_never_made_old_and_a_mapping_that_does_not_say_so_loses_nothing() {
    let world = world("command");
    let _waiting = fill(&world, 6);
    world.open.add_permits(8);
    let all = batch([(1, "latest a"), (1, "latest a"), (2, "pass"), (2, "pass")]);
    assert_eq!(words(now(&mut world.ingress.clone()).call(all).await.unwrap()), ["stored"; 4]);
}

fn mapped(batch: Batch<Inbound>) -> Mapped {
    let envelope::MapResult::Mapped(message) = Told.map(batch.into_vec().remove(0)) else { panic!("it maps") };
    message
}

#[test]
fn what_its_mapping_says_of_a_message_counts_before_its_topic() {
    let world = world("bulk");
    let epoch = world.current.load();
    let envelope::MapResult::Mapped(mut message) = Told.map(inbound(1, "pass")) else { panic!("it maps") };
    assert_eq!(epoch.access.priority.of(&message), PriorityClass::Bulk);
    if let envelope::Group::One(envelope) = &mut message.group {
        envelope.priority = Some(PriorityClass::Command);
    }
    assert_eq!(epoch.access.priority.of(&message), PriorityClass::Command);
}

#[test]
fn a_bridge_with_one_place_takes_everything_while_it_is_free() {
    let layer = ShedLayer::new("web", NonZeroU32::MIN.get());
    assert!(PriorityClass::ALL.iter().all(|class| layer.0.takes(*class, 0)));
}
