//! Lanes: what waits, what rests, and in which order it comes out.

use std::time::Duration;

use bytes::Bytes;
use envelope::{Data, Delivery, Envelope, EnvelopeId, Lane, Position, Timestamp, Topic};
use tokio::time::Instant;

use super::lanes::Lanes;

fn delivery(lane: u64, number: u8) -> Delivery {
    let envelope = Envelope::plain(
        EnvelopeId::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap(),
        "mesh://a/web/p".into(),
        "mesh/opaque@v1.0.0".into(),
        Topic::new("t").unwrap(),
        Timestamp::now(),
        Data::Opaque(Bytes::new()),
    );
    let position = Position(Bytes::copy_from_slice(&[number]));
    Delivery { position, redelivered: false, is_last: false, retained: false, envelope, lane: Lane(lane) }
}

fn lanes(pushed: &[(u64, u8)]) -> Lanes {
    let mut lanes = Lanes::default();
    pushed.iter().for_each(|(lane, number)| lanes.push(delivery(*lane, *number)));
    lanes
}

fn numbers(taken: &[Delivery]) -> Vec<u8> {
    taken.iter().map(|delivery| delivery.position.0[0]).collect()
}

#[test]
fn a_lane_is_in_one_call_at_a_time() {
    let mut lanes = lanes(&[(1, 1), (1, 2), (2, 3)]);
    assert_eq!(numbers(&lanes.take(1)), [1]);
    assert_eq!(numbers(&lanes.take(1)), [3]);
    assert!(lanes.take(1).is_empty(), "the first lane is in a call");
    lanes.push(delivery(1, 4));
    assert!(lanes.take(9).is_empty());
    lanes.done(Lane(1));
    assert_eq!(numbers(&lanes.take(9)), [2, 4]);
    assert_eq!(lanes.waiting(), 0);
}

#[test]
fn a_call_takes_what_it_may_of_several_lanes() {
    let mut lanes = lanes(&[(1, 1), (2, 2), (1, 3), (3, 4)]);
    assert_eq!(numbers(&lanes.take(3)), [1, 3, 2]);
    assert_eq!(numbers(&lanes.take(3)), [4]);
}

#[test]
fn what_comes_back_rests_and_is_tried_first_and_alone() {
    let (mut lanes, now) = (lanes(&[(1, 1), (1, 2), (1, 3), (2, 4)]), Instant::now());
    let taken = lanes.take(2);
    assert_eq!(numbers(&taken), [1, 2]);
    lanes.again(Lane(1), taken, None, now);
    assert_eq!((lanes.resting(), lanes.waiting()), (1, 4));
    assert_eq!(lanes.failing_since(Lane(1)), Some(now));
    assert_eq!(numbers(&lanes.take(9)), [4], "other lanes go on");
    let wake = lanes.next_wake().unwrap();
    assert!((Duration::from_millis(50)..=Duration::from_millis(100)).contains(&(wake - now)));
    lanes.wake(wake - Duration::from_millis(1));
    assert!(lanes.take(9).is_empty());
    lanes.wake(wake);
    assert_eq!(numbers(&lanes.take(9)), [1]);
    lanes.done(Lane(1));
    assert_eq!(lanes.failing_since(Lane(1)), None);
    assert_eq!(numbers(&lanes.take(9)), [2, 3]);
}

#[test]
fn pauses_grow_to_a_bound_and_are_as_long_as_the_peer_asks() {
    let (mut lanes, mut now) = (lanes(&[(1, 1)]), Instant::now());
    let mut longest = Duration::ZERO;
    for _ in 0..30 {
        let taken = lanes.take(1);
        lanes.again(Lane(1), taken, None, now);
        let wake = lanes.next_wake().unwrap();
        longest = longest.max(wake - now);
        now = wake;
        lanes.wake(now);
    }
    assert!(longest > Duration::from_secs(15) && longest <= Duration::from_secs(30), "{longest:?}");
    let taken = lanes.take(1);
    lanes.again(Lane(1), taken, Some(Duration::from_secs(90)), now);
    assert_eq!(lanes.next_wake().unwrap() - now, Duration::from_secs(90));
}
