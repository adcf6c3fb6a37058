//! The limits in the stack, as a sender meets them.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use envelope::{Batch, Inbound, Principal, QuotaUnit, RejectKind, Rejection};

use crate::tests::world::{Told, World, epoch_of, inbound, vouched, words};

fn world(limits: &str) -> World {
    let world = World::new();
    limit(&world, 1, limits);
    world
}

fn limit(world: &World, epoch: u64, limits: &str) {
    world.current.store(Arc::new(epoch_of(epoch, Told, &format!("anonymous: true\nlimits:\n{limits}"))));
}

fn from(principal: &str, domain: &str) -> Inbound {
    let principal = Principal { id: principal.into(), ..Principal::anonymous(domain) };
    Inbound { principal: vouched(principal), ..inbound(1, "pass") }
}

fn refusal(world: &World, inbound: Inbound) -> Option<Rejection> {
    world.offer(Batch::one(inbound)).pop().unwrap().answer.err()
}

fn passes(world: &World, inbound: Inbound) -> bool {
    refusal(world, inbound).is_none()
}

#[test]
fn who_is_over_hears_which_rate_and_when_to_come_again() {
    let world = world("  principal: { messages_per_second: 2, burst_messages: 3 }\n");
    for _ in 0..3 {
        assert!(passes(&world, from("a", "d")));
    }
    let rejection = refusal(&world, from("a", "d")).unwrap();
    assert_eq!((rejection.kind, rejection.decided_by), (RejectKind::RateLimited, "principal_limit"));
    assert_eq!(rejection.detail, "principal \"a\" is over 2 messages a second with a burst of 3");
    assert!(rejection.retry_after.is_some_and(|wait| wait <= Duration::from_millis(500) && !wait.is_zero()));
    let quota = rejection.quota.unwrap();
    assert_eq!((quota.per_second, quota.unit), (2, QuotaUnit::Messages));
    assert!(passes(&world, from("b", "d")), "another has its own budget");
    assert!(passes(&world, from("a", "other")), "and so has one of that name of another domain");
}

#[test]
fn a_principal_named_like_a_wildcard_is_a_name() {
    let world = world("  principal: { messages_per_second: 1 }\n  principals: { \"#\": { messages_per_second: 5 } }\n");
    assert!(passes(&world, from("a", "d")));
    assert!(!passes(&world, from("a", "d")));
    assert_eq!((0..9).filter(|_| passes(&world, from("#", "d"))).count(), 5);
}

#[test]
fn all_levels_hold_and_what_the_domain_refuses_costs_its_sender_nothing() {
    let world = world("  domain: { messages_per_second: 3 }\n  principal: { messages_per_second: 2 }\n");
    assert!(passes(&world, from("a", "d")) && passes(&world, from("a", "d")));
    assert_eq!(refusal(&world, from("a", "d")).unwrap().decided_by, "principal_limit");
    assert!(passes(&world, from("b", "d")));
    for _ in 0..5 {
        assert_eq!(refusal(&world, from("b", "d")).unwrap().decided_by, "domain_limit");
    }
    limit(&world, 2, "  principal: { messages_per_second: 2 }\n");
    assert!(passes(&world, from("b", "d")), "one of its two is left");
}

#[test]
fn bytes_are_counted_and_a_message_over_the_burst_is_owed() {
    let world = world("  principal: { bytes_per_second: 10 }\n");
    let sized = |size: usize| Inbound { payload: vec![b'x'; size].into(), ..from("a", "d") };
    assert!(passes(&world, sized(20)));
    let rejection = refusal(&world, sized(1)).unwrap();
    assert_eq!(rejection.quota.unwrap().unit, QuotaUnit::Bytes);
    assert!(rejection.retry_after.unwrap() > Duration::from_secs(1), "what was over the burst is paid first");
}

#[test]
fn an_address_is_held_before_it_is_asked_who_it_is() {
    let world = world("  address: { messages_per_second: 2 }\n");
    let at = |peer: IpAddr, name| Inbound { peer: Some(peer), ..from(name, "d") };
    let v4 = IpAddr::from([192, 0, 2, 1]);
    assert!(passes(&world, at(v4, "a")) && passes(&world, at(v4, "b")));
    assert_eq!(refusal(&world, at(v4, "c")).unwrap().decided_by, "peer_limit");
    let mapped = IpAddr::V6(Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201]));
    assert!(!passes(&world, at(mapped, "a")), "the same address in other clothes");
    let v6 = |last: u16| IpAddr::V6(Ipv6Addr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]));
    assert!(passes(&world, at(v6(1), "a")) && passes(&world, at(v6(2), "a")));
    assert!(!passes(&world, at(v6(3), "a")), "a /64 is one peer");
    assert!(passes(&world, from("a", "d")), "what has no address has no such limit");
}

#[test]
fn a_topic_limit_is_shared_as_it_says() {
    let one = |each: &str| world(&format!("  topics: {{ \"telemetry/#\": {{ messages_per_second: 1{each} }} }}\n"));
    let all = one("");
    assert!(passes(&all, from("a", "d")));
    assert_eq!(refusal(&all, from("b", "d")).unwrap().decided_by, "topic_limit");
    let apart = one(", each: principal");
    assert!(passes(&apart, from("a", "d")) && passes(&apart, from("b", "d")) && !passes(&apart, from("a", "d")));
}

#[test]
fn a_group_over_a_topic_limit_takes_nothing_of_it() {
    let world = world("  topics: { \"#\": { messages_per_second: 4 } }\n");
    let group = |items: &str| Inbound { address: format!("each {items}").into(), ..from("a", "d") };
    assert!(passes(&world, group("3")));
    assert!(!passes(&world, group("2")));
    assert!(passes(&world, group("1")));
    assert!(world.kept.take().len() == 2);
}

#[test]
fn what_was_sent_is_remembered_over_a_reload() {
    let world = world("  principal: { messages_per_second: 1, burst_messages: 2 }\n");
    assert!(passes(&world, from("a", "d")) && passes(&world, from("a", "d")));
    limit(&world, 2, "  principal: { messages_per_second: 1, burst_messages: 3 }\n");
    assert!(passes(&world, from("a", "d")) && !passes(&world, from("a", "d")), "only what the new burst has more");
}

#[test]
fn a_message_over_its_rate_stops_its_lane_and_no_other() {
    let world = world("  principal: { messages_per_second: 2 }\n");
    let lane = |lane, name| Inbound { lane: envelope::Lane(lane), ..from(name, "d") };
    let batch = vec![lane(1, "a"), lane(1, "a"), lane(1, "a"), lane(1, "a"), lane(2, "b")];
    let said = words(world.offer(Batch::new(batch).unwrap()));
    assert_eq!(said, ["stored", "stored", "rate-limited", "behind", "stored"]);
    assert!(world.counts.get().is_empty(), "a message under retry is in flight, not refused");
}
