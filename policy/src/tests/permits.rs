//! Who holds one of `max_in_flight`, and for how long.

use envelope::RejectKind;
use futures_util::FutureExt;
use tower::Service;

use super::world::{World, batch, is_ready, now, words};
use crate::Flow;

#[tokio::test]
async fn a_full_push_stack_answers_at_once_when_to_come_back() {
    let world = World::closed(Flow::Push, 1);
    let (mut first, mut second) = (world.ingress.clone(), world.ingress.clone());
    let answer = now(&mut first).call(batch([(1, "pass")]));

    let verdicts = now(&mut second).call(batch([(2, "pass"), (2, "pass")])).now_or_never().unwrap().unwrap();
    assert_eq!(verdicts.len(), 2);
    for verdict in verdicts {
        let rejection = verdict.answer.unwrap_err();
        assert_eq!((rejection.kind, rejection.decided_by), (RejectKind::Overloaded, "shed"));
        assert!(rejection.retry_after.is_some_and(|after| !after.is_zero()));
    }
    assert!(world.counts.get().is_empty(), "a message under retry is in flight, not refused");

    world.open.add_permits(2);
    assert_eq!(words(answer.await.unwrap()), ["stored"]);
    assert_eq!(words(now(&mut second).call(batch([(2, "pass")])).await.unwrap()), ["stored"]);
}

#[tokio::test]
async fn a_full_pull_stack_waits() {
    let world = World::closed(Flow::Pull, 1);
    let (mut first, mut second) = (world.ingress.clone(), world.ingress.clone());
    let answer = now(&mut first).call(batch([(1, "pass")]));
    assert!(!is_ready(&mut second));

    world.open.add_permits(2);
    assert_eq!(words(answer.await.unwrap()), ["stored"]);
    assert_eq!(words(now(&mut second).call(batch([(2, "pass")])).await.unwrap()), ["stored"]);
}

#[test]
fn a_permit_comes_back_when_the_call_is_dropped() {
    for flow in [Flow::Push, Flow::Pull] {
        let world = World::closed(flow, 1);
        let mut ingress = world.ingress.clone();
        drop(now(&mut ingress).call(batch([(1, "pass")])));
        world.open.add_permits(1);
        assert_eq!(words(world.offer(batch([(1, "pass")]))), ["stored"]);
    }
}

#[test]
fn a_permit_comes_back_when_a_layer_above_answers_by_itself() {
    for flow in [Flow::Push, Flow::Pull] {
        let world = World::closed(flow, 1);
        let mut refused = world.ingress.clone();
        let verdicts = now(&mut refused).call(batch([(1, "too-large")])).now_or_never().unwrap().unwrap();
        assert_eq!(words(verdicts), ["too-large"]);
        world.open.add_permits(1);
        assert_eq!(words(world.offer(batch([(1, "pass")]))), ["stored"], "{flow:?}: while the other is still there");
        drop(refused);
    }
}

#[test]
fn who_was_shed_does_not_queue_for_the_next_permit() {
    let world = World::closed(Flow::Push, 1);
    let (mut first, mut shed) = (world.ingress.clone(), world.ingress.clone());
    let answer = now(&mut first).call(batch([(1, "pass")]));
    let verdicts = now(&mut shed).call(batch([(2, "pass")])).now_or_never().unwrap().unwrap();
    assert_eq!(words(verdicts), ["overloaded"]);

    world.open.add_permits(2);
    assert_eq!(words(answer.now_or_never().unwrap().unwrap()), ["stored"]);
    assert_eq!(words(world.offer(batch([(3, "pass")]))), ["stored"], "while the one that was shed is idle");
    drop(shed);
}

#[test]
fn more_idle_connections_than_permits_do_not_freeze_a_busy_one() {
    const LIMIT: u32 = 4;
    for flow in [Flow::Push, Flow::Pull] {
        let world = World::closed(flow, LIMIT);
        world.open.add_permits(1_000);
        // Each was active once: stored, refused above the limit, refused below it. Now it waits for bytes.
        let idle: Vec<_> = (0..=LIMIT)
            .map(|n| {
                let mut ingress = world.ingress.clone();
                for address in ["pass", "refuse", "too-large"] {
                    let verdicts = now(&mut ingress).call(batch([(u64::from(n), address)]));
                    drop(verdicts.now_or_never().unwrap().unwrap());
                }
                ingress
            })
            .collect();
        let mut busy = world.ingress.clone();
        for _ in 0..100 {
            let verdicts = now(&mut busy).call(batch([(99, "pass")])).now_or_never().unwrap().unwrap();
            assert_eq!(words(verdicts), ["stored"], "{flow:?}");
        }
        drop(idle);
    }
}
