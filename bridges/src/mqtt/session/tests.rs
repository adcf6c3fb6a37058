use bytes::Bytes;

use super::*;
use crate::mqtt::{codec::SnapshotError, packet::RetainHandling};

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
fn what_the_client_has_not_heard_of_is_known_after_a_restart() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        for connected in [false, true] {
            let mut session = Session::new();
            let first = offered(session.arrives(message(qos, 7), None));
            let second = offered(session.arrives(message(qos, 8), None));
            if !connected {
                session.disconnected();
            }
            let mut restored = restarted(&session, connected);
            assert_eq!(offered(restored.arrives(repeat(qos, 7), None)), first, "{qos:?}");
            assert!(!restored.take_begun_anew());
            assert_ne!(offered(restored.arrives(message(qos, 8), None)), second, "without DUP it is another one");
            assert!(restored.take_begun_anew(), "which is to be on disk");
        }
    }
}

#[test]
fn what_the_client_may_have_heard_of_is_never_taken_for_what_it_sends_after_a_crash() {
    let mut session = Session::new();
    let first = offered(session.arrives(message(Qos::AtLeastOnce, 7), None));
    assert!(session.frees(7, Qos::AtLeastOnce, true));
    // on disk; then PUBACK is sent, and the crash comes
    let mut restored = restarted(&session, true);
    let second = offered(restored.arrives(repeat(Qos::AtLeastOnce, 7), None));
    assert_ne!(second, first, "a message that came while the gateway was away");
    let mut again = restarted(&restored, true);
    assert_eq!(offered(again.arrives(repeat(Qos::AtLeastOnce, 7), None)), second);
}

#[test]
fn what_a_client_forgot_before_a_crash_is_never_again_a_message_of_its_identifier() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut session = Session::new();
        let first = offered(session.arrives(message(qos, 7), None));
        let mut restored = restarted(&session, true);
        let second = offered(restored.arrives(message(qos, 7), None));
        let mut again = restarted(&restored, true);
        assert_eq!(offered(again.arrives(repeat(qos, 7), None)), second);
        assert_ne!(second, first);
    }
}

#[test]
fn after_a_crash_an_identifier_begins_anew_once() {
    let mut session = Session::new();
    offered(session.arrives(message(Qos::AtLeastOnce, 7), None));
    let mut restored = restarted(&session, true);
    for round in 0..3 {
        offered(restored.arrives(message(Qos::AtLeastOnce, 7), None));
        assert_eq!(restored.take_begun_anew(), round == 0);
        restored.frees(7, Qos::AtLeastOnce, true);
        restored.heard(7, Qos::AtLeastOnce, true);
    }
}

#[test]
fn mqtt_4_4_0_1_what_was_not_acknowledged_is_sent_again_with_its_identifier() {
    let mut session = Session::new();
    session.subscribe(wanted("a/#"), None);
    let (one, _) = session.send(0, &position(1), Qos::AtLeastOnce).unwrap();
    let (two, _) = session.send(0, &position(2), Qos::ExactlyOnce).unwrap();
    let (three, _) = session.send(0, &position(3), Qos::ExactlyOnce).unwrap();
    assert_eq!(session.in_flight(), 3);
    assert_eq!(session.received(three, false), OnReceived::Release(0, position(3)));
    session.disconnected();
    assert_eq!(session.in_flight(), 0);
    assert_eq!(session.releases(), [three]);
    assert_eq!(session.send(0, &position(1), Qos::AtLeastOnce), Some((one, true)));
    assert_eq!(session.send(0, &position(2), Qos::ExactlyOnce), Some((two, true)));
    let (four, again) = session.send(0, &position(4), Qos::AtLeastOnce).unwrap();
    assert!(!again && ![one, two, three].contains(&four));
    assert_eq!(session.acked(one), Some((0, position(1))));
    assert!(session.completed(three) && !session.completed(three));
}

#[test]
fn outgoing_qos_2_survives_a_restart_with_its_identifiers() {
    let mut session = Session::new();
    session.subscribe(wanted("a/#"), Some(9));
    let (one, _) = session.send(0, &position(1), Qos::ExactlyOnce).unwrap();
    let (two, _) = session.send(0, &position(2), Qos::ExactlyOnce).unwrap();
    session.received(two, false);
    let mut restored = Session::restore(session.store(true)).unwrap();
    assert!(restored.has_taken(0, &position(2)) && !restored.has_taken(0, &position(1)));
    assert_eq!(restored.releases(), [two]);
    assert_eq!(restored.send(0, &position(1), Qos::ExactlyOnce), Some((one, true)));
    let subscribed = restored.subscription("a/#").unwrap();
    assert_eq!((subscribed.subscription_id, &subscribed.wanted), (Some(9), &wanted("a/#")));
}

#[test]
fn what_the_client_has_is_known_after_a_crash_until_the_store_has_settled_it() {
    let mut session = Session::new();
    session.subscribe(wanted("a/#"), None);
    let crashed = |session: &Session| Session::restore(session.store(true)).unwrap();
    let (one, _) = session.send(0, &position(1), Qos::ExactlyOnce).unwrap();
    session.received(one, false);
    session.settling(0, &position(1), 1);
    assert!(session.completed(one));
    let mut again = crashed(&session);
    assert!(again.has_taken(0, &position(1)), "its identifier is free, but the store may deliver it again");
    again.settling(0, &position(1), 1);
    assert!(crashed(&again).has_taken(0, &position(1)), "nor has the store heard the second time");
    again.closed(0, 0);
    assert!(again.has_taken(0, &position(1)), "it comes again over the next connection");
    session.settled(0, 1);
    assert!(!crashed(&session).has_taken(0, &position(1)));
    again.unsubscribe("a/#");
    assert!(!again.has_taken(0, &position(1)));
}

#[test]
fn of_what_the_client_has_no_more_is_kept_than_can_be_unsettled() {
    let mut session = Session::new();
    for n in 0..=MAX_TAKEN as u16 {
        let position = Position(Bytes::copy_from_slice(&n.to_be_bytes()));
        let (id, _) = session.send(0, &position, Qos::ExactlyOnce).unwrap();
        session.received(id, false);
    }
    let position = |n: u16| Position(Bytes::copy_from_slice(&n.to_be_bytes()));
    assert!(!session.has_taken(0, &position(0)) && session.has_taken(0, &position(1)));
}

#[test]
fn state_of_the_formats_before_is_read() {
    let mut session = Session::new();
    session.subscribe(wanted("a/#"), None);
    let (id, _) = session.send(0, &position(1), Qos::ExactlyOnce).unwrap();
    session.received(id, false);
    let written = session.store(true);
    // one run: a count, an identifier, and a generation of one byte
    let runs = 17..17 + 4 + 2 + 1;
    assert_eq!(&written[runs.clone()], [0, 0, 0, 1, 0, 0, 0]);
    // a base, and one that has its own; nothing of what is unheard of, which is a count
    let own = [0, 0, 0, 2, 0, 0, 0, 1, 0, 7, 0, 0, 0, 1];
    // without a count of what waits for PUBREL
    let end = written.len() - 1;
    let sixth = [&[6], &written[1..end - 4], &written[end..]].concat();
    assert!(Session::restore(sixth.into()).unwrap().has_taken(0, &position(1)));
    // and whether it was connected
    let written = written.slice(..end - 4);
    // a number, a count, and a subscription; its list of what is shown is a count
    let shown = runs.end + 4 + 4 + (4 + (4 + 3) + 4 + 4);
    let mut second = [&[2], &written[1..17], &own, &written[runs.end..shown], &written[shown + 4..]].concat();
    second.truncate(second.len() - 4);
    let mut restored = Session::restore(second.clone().into()).unwrap();
    assert!(restored.has_taken(0, &position(1)));
    let name = |of: &Session, generation: u32| {
        Identity::Native([&b"mqtt2"[..], of.id().as_bytes(), &[0, 7], &generation.to_be_bytes()].concat().into())
    };
    assert_eq!(offered(restored.arrives(repeat(Qos::ExactlyOnce, 7), None)), name(&session, 1));
    // without the list at its end: a count, and one entry with its length
    second.truncate(second.len() - 4 - (4 + 4 + position(1).0.len()));
    second[0] = 1;
    assert!(Session::restore(second.into()).unwrap().has_taken(0, &position(1)));
}

#[test]
fn what_a_client_repeats_after_a_restart_is_the_same_whatever_it_released_before() {
    let mut session = Session::new();
    for id in 1..=3_000 {
        offered(session.arrives(message(Qos::ExactlyOnce, id), None));
        session.heard(id, Qos::ExactlyOnce, true);
        if id % 3 != 0 {
            session.released(id);
        }
    }
    let stored = session.store(true);
    assert!(stored.len() < 16_384, "{}", stored.len());
    let mut restored = Session::restore(stored).unwrap();
    for id in (3..=2_997).step_by(3) {
        restored.released(id);
    }
    let again = offered(restored.arrives(repeat(Qos::ExactlyOnce, 3_000), None));
    let mut untouched = Session::restore(session.store(true)).unwrap();
    assert_eq!(again, offered(untouched.arrives(repeat(Qos::ExactlyOnce, 3_000), None)));
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
