//! What a session knows after a restart, in order or by a crash, and in which formats it was kept.

use super::*;

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
    // without a count of what is over
    let end = written.len() - 1;
    let seventh = [&[7], &written[1..end - 4], &written[end..]].concat();
    assert!(Session::restore(seventh.into()).unwrap().has_taken(0, &position(1)));
    // nor one of what waits for PUBREL
    let written = [&written[..end - 4], &written[end..]].concat();
    let end = end - 4;
    let sixth = [&[6], &written[1..end - 4], &written[end..]].concat();
    assert!(Session::restore(sixth.into()).unwrap().has_taken(0, &position(1)));
    // and whether it was connected
    let written = &written[..end - 4];
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
fn which_positions_are_to_be_ended_is_known_after_a_restart() {
    let mut session = Session::new();
    (0..3).for_each(|number| session.is_over(number, true));
    session.is_over(1, false);
    let restored = Session::restore(session.store(false)).unwrap();
    assert_eq!(restored.over().collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_subscription_whose_position_is_to_be_ended_has_another_number_after_a_restart() {
    let mut session = Session::new();
    for filter in ["a", "b"] {
        let wanted = Wanted {
            filter: filter.into(),
            qos: Qos::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
        };
        session.subscribe(wanted, None);
    }
    let shown = session.show("b", "display").unwrap();
    for number in [0, shown] {
        session.is_over(number, true);
    }
    let restored = Session::restore(session.store(true)).unwrap();
    assert_eq!(restored.over().collect::<Vec<_>>(), [0, shown]);
    let numbers: Vec<_> = restored.subscriptions().flat_map(Subscribed::numbers).collect();
    assert_eq!(numbers, [3, 1, 4]);
    assert_eq!(restored.known(4).map(|known| &*known.wanted.filter), Some("b"));
    assert!(restored.known(0).is_none() && restored.known(shown).is_none());
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
