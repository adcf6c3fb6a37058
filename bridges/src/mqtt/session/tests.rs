use bytes::Bytes;

use super::*;
use crate::mqtt::{codec::SnapshotError, packet::RetainHandling};

mod restarts;

fn offered(arrival: Result<Arrival, Broken>) -> Identity {
    match arrival.unwrap() {
        Arrival::Offer(identity) => identity,
        other => panic!("{other:?}"),
    }
}

fn message(qos: Qos, id: u16) -> Arriving {
    Arriving { qos, id, dup: false }
}

fn repeat(qos: Qos, id: u16) -> Arriving {
    Arriving { qos, id, dup: true }
}

fn position(n: u8) -> Position {
    Position(Bytes::copy_from_slice(&[n]))
}

fn wanted(filter: &'static str) -> Wanted {
    Wanted {
        filter: ByteString::from_static(filter),
        qos: Qos::ExactlyOnce,
        no_local: true,
        retain_as_published: false,
        retain_handling: RetainHandling::IfNew,
    }
}

#[test]
fn a_subscription_is_known_by_each_of_its_numbers_and_by_none_that_is_over() {
    let mut session = Session::new();
    let (own, _) = session.subscribe(wanted("a"), None);
    let (other, _) = session.subscribe(wanted("b"), None);
    let (shown, over) = (session.show("a", "one").unwrap(), session.show("a", "two").unwrap());
    session.hide("a", "two");
    assert!(session.unsubscribe("b").is_some());
    for session in [&session, &Session::restore(session.store(true)).unwrap()] {
        let filter = |number| session.known(number).map(|known| known.wanted.filter.to_string());
        assert_eq!((filter(own), filter(shown)), (Some("a".to_owned()), Some("a".to_owned())));
        assert_eq!((filter(other), filter(over)), (None, None));
    }
    session.unsubscribe("a");
    assert!(session.known(own).is_none() && session.known(shown).is_none());
}

#[test]
fn a_subscription_has_nothing_of_the_packet_that_it_came_in() {
    let packet = Bytes::from(b"a packet".to_vec());
    let mut session = Session::new();
    for _ in 0..2 {
        let filter = ByteString::try_from(packet.slice(2..)).unwrap();
        session.subscribe(Wanted { filter, ..wanted("packet") }, None);
    }
    assert!(packet.is_unique() && session.subscription("packet").is_some());
}

#[test]
fn a_repeat_of_what_is_on_its_way_says_nothing() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut session = Session::new();
        offered(session.arrives(message(qos, 1), None));
        assert_eq!(session.arrives(message(qos, 1), None), Ok(Arrival::Pending));
    }
}

#[test]
fn mqtt_4_3_2_5_after_puback_the_same_identifier_is_a_new_message() {
    let mut session = Session::new();
    let first = offered(session.arrives(message(Qos::AtLeastOnce, 1), None));
    assert!(session.frees(1, Qos::AtLeastOnce, true));
    session.heard(1, Qos::AtLeastOnce, true);
    assert_ne!(offered(session.arrives(message(Qos::AtLeastOnce, 1), None)), first);
}

#[test]
fn what_the_client_has_not_heard_of_keeps_its_identity_over_a_reconnect() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut session = Session::new();
        let first = offered(session.arrives(message(qos, 1), None));
        session.disconnected();
        assert_eq!(offered(session.arrives(repeat(qos, 1), None)), first);
    }
}

#[test]
fn a_client_that_has_forgotten_what_it_sent_begins_anew() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut session = Session::new();
        let first = offered(session.arrives(message(qos, 1), None));
        session.disconnected();
        assert_ne!(offered(session.arrives(message(qos, 1), None)), first);
    }
}

#[test]
fn what_a_client_has_forgotten_at_qos_2_is_never_again_a_message_of_its_identifier() {
    let mut session = Session::new();
    let first = offered(session.arrives(message(Qos::ExactlyOnce, 1), None));
    session.disconnected();
    offered(session.arrives(message(Qos::AtLeastOnce, 1), None));
    assert!(session.take_begun_anew() && !session.take_begun_anew(), "that is to be on disk");
    let mut restored = Session::restore(session.store(true)).unwrap();
    assert_ne!(offered(restored.arrives(message(Qos::ExactlyOnce, 1), None)), first);
}

#[test]
fn mqtt_4_3_3_10_a_repeat_before_pubrel_is_answered_and_not_offered_again() {
    let mut session = Session::new();
    offered(session.arrives(message(Qos::ExactlyOnce, 1), None));
    session.heard(1, Qos::ExactlyOnce, true);
    assert_eq!(session.arrives(message(Qos::ExactlyOnce, 1), None), Ok(Arrival::Received));
    session.disconnected();
    assert_eq!(session.arrives(repeat(Qos::ExactlyOnce, 1), None), Ok(Arrival::Received));
}

#[test]
fn mqtt_3_3_1_1_without_dup_over_another_connection_what_waits_for_pubrel_is_another_message() {
    for restarts in [None, Some(false), Some(true)] {
        let mut session = Session::new();
        let first = offered(session.arrives(message(Qos::ExactlyOnce, 1), None));
        session.heard(1, Qos::ExactlyOnce, true);
        let connected = restarts.unwrap_or_default();
        if !connected {
            session.disconnected();
        }
        let mut session = if restarts.is_some() { restarted(&session, connected) } else { session };
        assert_ne!(offered(session.arrives(message(Qos::ExactlyOnce, 1), None)), first, "{restarts:?}");
        assert!(session.take_begun_anew(), "that is to be on disk");
    }
}

#[test]
fn what_waits_for_pubrel_is_known_after_a_restart() {
    let mut session = Session::new();
    for id in [1, 2] {
        offered(session.arrives(message(Qos::ExactlyOnce, id), None));
        session.heard(id, Qos::ExactlyOnce, true);
    }
    session.disconnected();
    let mut restored = restarted(&session, false);
    assert_eq!(restored.arrives(repeat(Qos::ExactlyOnce, 1), None), Ok(Arrival::Received));
    assert_eq!(restored.released(2), OnRelease::Done);
}

#[test]
fn mqtt_4_3_3_12_after_pubcomp_the_same_identifier_is_a_new_message() {
    let mut session = Session::new();
    let first = offered(session.arrives(message(Qos::ExactlyOnce, 1), None));
    session.heard(1, Qos::ExactlyOnce, true);
    assert_eq!(session.released(1), OnRelease::Done);
    assert_eq!(session.released(1), OnRelease::Unknown, "it is released once");
    assert_ne!(offered(session.arrives(message(Qos::ExactlyOnce, 1), None)), first);
}

#[test]
fn a_refused_message_of_qos_2_frees_its_identifier() {
    let mut session = Session::new();
    offered(session.arrives(message(Qos::ExactlyOnce, 1), Some(1)));
    assert!(session.frees(1, Qos::ExactlyOnce, false));
    session.heard(1, Qos::ExactlyOnce, false);
    offered(session.arrives(message(Qos::ExactlyOnce, 2), Some(1)));
}

#[test]
fn mqtt_3_3_4_7_more_than_receive_maximum_in_flight_breaks_the_connection() {
    let mut session = Session::new();
    offered(session.arrives(message(Qos::AtLeastOnce, 1), Some(2)));
    offered(session.arrives(message(Qos::ExactlyOnce, 2), Some(2)));
    let over = session.arrives(message(Qos::AtLeastOnce, 3), Some(2)).unwrap_err();
    assert_eq!(over.reason, Reason::RECEIVE_MAXIMUM_EXCEEDED);
    assert_eq!(session.arrives(message(Qos::AtLeastOnce, 1), Some(2)), Ok(Arrival::Pending), "a repeat is none more");
}

#[test]
fn mqtt_4_9_0_what_was_sent_over_an_earlier_connection_does_not_count_before_it_is_sent_again() {
    let mut session = Session::new();
    for id in [1, 2] {
        offered(session.arrives(message(Qos::ExactlyOnce, id), Some(2)));
        session.heard(id, Qos::ExactlyOnce, true);
    }
    session.disconnected();
    offered(session.arrives(message(Qos::ExactlyOnce, 3), Some(2)));
    assert_eq!(session.arrives(repeat(Qos::ExactlyOnce, 1), Some(2)), Ok(Arrival::Received));
    let over = session.arrives(repeat(Qos::ExactlyOnce, 2), Some(2)).unwrap_err();
    assert_eq!(over.reason, Reason::RECEIVE_MAXIMUM_EXCEEDED);
    session.released(1);
    assert_eq!(session.arrives(repeat(Qos::ExactlyOnce, 2), Some(2)), Ok(Arrival::Received));
    assert!(session.arrives(message(Qos::ExactlyOnce, 4), Some(2)).is_err());
}

#[test]
fn a_client_that_takes_any_identifier_needs_few_bytes_after_a_restart_once_it_repeats_nothing() {
    let mut session = Session::new();
    session.disconnected();
    let waits = offered(session.arrives(message(Qos::ExactlyOnce, 40_000), None));
    session.disconnected();
    for connected in [false, true] {
        let mut restored = restarted(&session, connected);
        let mut random = fastrand::Rng::with_seed(7);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..20_000 {
            let id = random.u16(1..40_000);
            let Identity::Native(name) = offered(restored.arrives(message(Qos::AtLeastOnce, id), None)) else {
                panic!("it has a name")
            };
            assert!(seen.insert(name), "{id} is a message that was before");
            restored.frees(id, Qos::AtLeastOnce, true);
            restored.heard(id, Qos::AtLeastOnce, true);
        }
        assert!(restored.crashed_at.is_none());
        assert!(restored.store(true).len() < 16_384, "{}", restored.store(true).len());
        if !connected {
            assert_eq!(offered(restored.arrives(repeat(Qos::ExactlyOnce, 40_000), None)), waits, "it is known");
        }
    }
}

#[test]
fn what_does_not_come_again_keeps_no_identifier_for_ever() {
    let mut session = Session::new();
    session.subscribe(wanted("a/#"), None);
    for round in 0..20_u16 {
        for n in 0..200 {
            session.send(0, &numbered(round * 200 + n), Qos::ExactlyOnce).unwrap();
        }
        session.disconnected();
        // what has expired does not come again
        let released = session.releases();
        released.iter().for_each(|id| assert!(session.completed(*id)));
    }
    let most = super::outbound::MAX_STALE + 2 * 200;
    assert!(session.outbound.sent.len() <= most, "{}", session.outbound.sent.len());
}

#[test]
fn what_may_come_again_keeps_its_identifier_however_often_the_connection_breaks() {
    let mut session = Session::new();
    session.subscribe(wanted("a/#"), None);
    let all: Vec<_> = (0..5_000).map(|n| session.send(0, &numbered(n), Qos::ExactlyOnce).unwrap().0).collect();
    for _ in 0..5 {
        session.disconnected();
        assert_eq!(session.send(0, &numbered(0), Qos::ExactlyOnce), Some((all[0], true)));
    }
    session.disconnected();
    for n in 0..5_000 {
        assert_eq!(session.send(0, &numbered(n), Qos::ExactlyOnce), Some((all[usize::from(n)], true)));
    }
}

#[test]
fn an_identifier_at_another_qos_breaks_the_connection() {
    let mut session = Session::new();
    offered(session.arrives(message(Qos::AtLeastOnce, 1), None));
    assert!(session.arrives(message(Qos::ExactlyOnce, 1), None).is_err());
}

#[test]
fn qos_2_has_the_same_identity_after_a_restart_until_it_is_released() {
    let mut session = Session::new();
    let first = offered(session.arrives(message(Qos::ExactlyOnce, 7), None));
    let mut restored = Session::restore(session.store(true)).unwrap();
    assert_eq!(offered(restored.arrives(repeat(Qos::ExactlyOnce, 7), None)), first);
    restored.heard(7, Qos::ExactlyOnce, true);
    restored.released(7);
    let mut again = Session::restore(restored.store(true)).unwrap();
    assert_ne!(offered(again.arrives(message(Qos::ExactlyOnce, 7), None)), first);
}

#[test]
fn an_identifier_that_is_released_after_a_restart_is_free_for_another_message() {
    let mut session = Session::new();
    let first = offered(session.arrives(message(Qos::ExactlyOnce, 7), None));
    session.heard(7, Qos::ExactlyOnce, true);
    let mut restored = Session::restore(session.store(true)).unwrap();
    assert_eq!(restored.released(7), OnRelease::Unknown);
    let mut again = Session::restore(restored.store(true)).unwrap();
    assert_ne!(offered(again.arrives(message(Qos::ExactlyOnce, 7), None)), first);
}

#[test]
fn what_is_on_its_way_is_not_released() {
    let mut session = Session::new();
    let first = offered(session.arrives(message(Qos::ExactlyOnce, 7), None));
    assert_eq!(session.released(7), OnRelease::InUse);
    session.disconnected();
    assert_eq!(session.released(7), OnRelease::InUse);
    assert_eq!(offered(session.arrives(repeat(Qos::ExactlyOnce, 7), None)), first);
}

/// The gateway crashes under the client, or after it is gone.
fn restarted(session: &Session, connected: bool) -> Session {
    Session::restore(session.store(connected)).unwrap()
}

#[test]
fn a_pubrec_says_what_it_is_of() {
    let mut session = Session::new();
    let (one, _) = session.send(0, &position(1), Qos::ExactlyOnce).unwrap();
    assert_eq!(session.received(one, true), OnReceived::Refused(0, position(1)));
    assert_eq!(session.received(one, false), OnReceived::Unknown);
    let (two, _) = session.send(0, &position(2), Qos::ExactlyOnce).unwrap();
    assert_eq!(session.received(two, false), OnReceived::Release(0, position(2)));
    assert_eq!(session.received(two, false), OnReceived::Again);
    assert_eq!(session.acked(two), None, "PUBACK is no answer to QoS 2");
}

#[test]
fn identifiers_run_out_at_65535_and_come_back() {
    let mut session = Session::new();
    for n in 0..u16::MAX {
        let position = Position(Bytes::copy_from_slice(&n.to_be_bytes()));
        assert!(session.send(0, &position, Qos::AtLeastOnce).is_some());
    }
    assert_eq!(session.send(0, &position(0), Qos::AtLeastOnce), None);
    session.acked(77);
    assert_eq!(session.send(0, &position(0), Qos::AtLeastOnce), Some((77, false)));
}

fn numbered(n: u16) -> Position {
    Position(Bytes::copy_from_slice(&n.to_be_bytes()))
}

#[test]
fn identifiers_of_a_subscription_that_is_gone_come_back() {
    let mut session = Session::new();
    let (number, _) = session.subscribe(wanted("a"), None);
    let (one, _) = session.send(number, &position(1), Qos::AtLeastOnce).unwrap();
    let (two, _) = session.send(number, &position(2), Qos::ExactlyOnce).unwrap();
    let (three, _) = session.send(number, &position(3), Qos::ExactlyOnce).unwrap();
    session.received(three, false);
    session.disconnected();
    session.unsubscribe("a");
    let mut restored = Session::restore(session.store(true)).unwrap();
    assert_eq!(restored.releases(), [two, three], "a client that has it is told that it is over");
    assert_eq!(session.releases(), [two, three]);
    let ids: Vec<_> = (0..u16::MAX - 2).map(|n| session.send(9, &numbered(n), Qos::AtLeastOnce).unwrap().0).collect();
    assert!(ids.contains(&one) && !ids.contains(&two) && !ids.contains(&three));
    assert!(session.completed(two) && session.completed(three));
    assert_eq!(session.send(9, &numbered(u16::MAX), Qos::AtLeastOnce), Some((two, false)));
}

#[test]
fn what_is_in_flight_when_its_subscription_ends_keeps_its_identifier_until_the_connection_does() {
    let mut session = Session::new();
    let (number, _) = session.subscribe(wanted("a"), None);
    let (one, _) = session.send(number, &position(1), Qos::AtLeastOnce).unwrap();
    let (two, _) = session.send(number, &position(2), Qos::ExactlyOnce).unwrap();
    session.unsubscribe("a");
    let (three, _) = session.send(9, &position(3), Qos::ExactlyOnce).unwrap();
    assert!(![one, two].contains(&three) && session.in_flight() == 3);
    assert_eq!(session.acked(one), Some((number, position(1))));
    session.disconnected();
    assert_eq!((session.releases(), session.in_flight()), (vec![two, three], 2), "none of them has a subscription");
}

#[test]
fn identifiers_that_nothing_came_for_again_are_free_once_all_are_taken() {
    let mut session = Session::new();
    let (number, _) = session.subscribe(wanted("a"), None);
    let (exactly, _) = session.send(number, &numbered(0), Qos::ExactlyOnce).unwrap();
    (1..u16::MAX).for_each(|n| assert!(session.send(number, &numbered(n), Qos::AtLeastOnce).is_some()));
    session.disconnected();
    let (again, dup) = session.send(number, &numbered(7), Qos::AtLeastOnce).unwrap();
    assert!(dup);
    assert_eq!(session.send(number, &numbered(u16::MAX), Qos::AtLeastOnce), None);
    assert_eq!(session.reclaim(), [exactly]);
    assert!(session.reclaim().is_empty(), "it is released once a connection");
    let ids: Vec<_> = (0..u16::MAX - 2).map(|n| session.send(9, &numbered(n), Qos::AtLeastOnce).unwrap().0).collect();
    assert!(!ids.contains(&exactly) && !ids.contains(&again));
}

#[test]
fn mqtt_3_8_4_3_a_subscription_to_the_same_filter_replaces_the_first() {
    let mut session = Session::new();
    let (number, new) = session.subscribe(wanted("a"), Some(1));
    let again = session.subscribe(Wanted { qos: Qos::AtMostOnce, ..wanted("a") }, None);
    assert!(new && again == (number, false));
    assert_eq!(session.subscription("a").unwrap().wanted.qos, Qos::AtMostOnce);
    assert_eq!(session.subscription("a").unwrap().subscription_id, None);
    assert!(session.unsubscribe("a").is_some() && session.unsubscribe("a").is_none());
}

#[test]
fn damaged_state_is_refused_and_never_a_panic() {
    let mut session = Session::new();
    session.subscribe(wanted("a/#"), Some(9));
    session.send(0, &position(1), Qos::ExactlyOnce);
    let whole = session.store(true);
    for end in 0..whole.len() {
        assert!(Session::restore(whole.slice(..end)).is_err(), "cut at {end}");
    }
    let mut newer = whole.to_vec();
    newer[0] = 9;
    assert_eq!(Session::restore(newer.into()).err(), Some(SnapshotError::Format(9)));
}
