//! Connecting: who is let in, and which session it gets.

use std::time::Duration;

use envelope::{KeyValue, Settlement};

use super::client::{Client, Hello, ack, config, packet, publish, rig, subscribe, text};
use crate::conformance::{HARD_TIMEOUT, Rig, delivery};

async fn connack(rig: &Rig, hello: &Hello) -> (u8, u8) {
    let mut client = Client::open(rig.address()).await;
    let connack = client.ask(&hello.bytes()).await.unwrap();
    assert_eq!(connack.first, 0x20);
    if connack.body[1] != 0 {
        assert_eq!(client.next().await, None, "who is not let in is closed");
    }
    (connack.body[0], connack.body[1])
}

#[tokio::test]
async fn mqtt_3_2_2_1_to_3_and_3_1_2_4_to_6_session_present_says_whether_the_session_was_there() {
    let rig = rig().await;
    for level in [4, 5] {
        let hello = Hello { level, id: if level == 4 { "four" } else { "five" }, ..Hello::five("") }.staying();
        assert_eq!(connack(&rig, &hello).await, (0, 0));
        assert_eq!(connack(&rig, &hello).await, (1, 0));
        let clean = Hello { clean: true, properties: Vec::new(), ..hello.clone() };
        assert_eq!(connack(&rig, &clean).await, (0, 0), "a clean start begins anew");
        assert_eq!(connack(&rig, &hello).await, (0, 0), "and what began so ended with its connection");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_session_that_could_not_be_stored_is_not_there_the_next_time() {
    let rig = rig().await;
    let hello = Hello::five("same").staying();
    rig.keys.refuse(true);
    assert_eq!(connack(&rig, &hello).await, (0, 0x88));
    rig.keys.refuse(false);
    assert_eq!(connack(&rig, &hello).await, (0, 0), "the client has never heard of one");
    rig.keys.refuse(true);
    assert_eq!(connack(&rig, &hello).await, (0, 0x88));
    rig.keys.refuse(false);
    assert_eq!(connack(&rig, &hello).await, (1, 0), "of this one it has");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_4_3_a_second_connection_takes_over_and_the_first_hears_of_it() {
    let rig = rig().await;
    for (level, heard) in [(5, Some(0x8E)), (4, None)] {
        let id = if level == 5 { "five" } else { "four" };
        let hello = Hello { level, ..Hello::five(id) }.staying();
        let mut first = Client::connect(rig.address(), &hello).await;
        let (mut second, connack) = Client::connected(rig.address(), &hello).await;
        assert_eq!(connack.body[0], 1);
        assert_eq!(first.disconnected().await, heard, "MQTT 3.1.1 has no word for it");
        assert_eq!(second.until_pong().await, []);
    }
    rig.stop().await;
}

#[tokio::test]
async fn another_principal_with_the_same_client_identifier_has_a_session_of_its_own() {
    let rig = rig().await;
    let ada = Hello { username: Some("ada"), password: Some("right"), ..Hello::five("same").staying() };
    let bob = Hello { username: Some("bob"), ..ada.clone() };
    let mut first = Client::connect(rig.address(), &ada).await;
    assert_eq!(connack(&rig, &bob).await, (0, 0));
    assert_eq!(first.until_pong().await, []);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_4_2_and_3_2_2_8_wrong_credentials_are_answered_and_the_connection_closed() {
    let rig = rig().await;
    for (level, reason) in [(5, 0x86), (4, 4)] {
        let hello = Hello { level, username: Some("ada"), password: Some("wrong"), ..Hello::five("a") };
        let mut client = Client::open(rig.address()).await;
        assert_eq!(client.ask(&hello.bytes()).await.unwrap().body[1], reason);
        assert_eq!(client.next().await, None);
    }
    rig.until(|counts| counts.on_record.len() == 2).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_principal_that_is_let_in_no_more_is_disconnected() {
    let rig = rig().await;
    let hello = Hello { username: Some("ada"), password: Some("right"), ..Hello::five("a") };
    let mut client = Client::connect(rig.address(), &hello).await;
    rig.revoke("ada");
    assert_eq!(client.disconnected().await, Some(0x87));
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_3_6_to_8_a_client_without_an_identifier_is_given_one() {
    let rig = rig().await;
    let (_client, connack) = Client::connected(rig.address(), &Hello::five("")).await;
    let assigned = connack.body.windows(9).any(|window| window == b"openmesh-");
    assert!(assigned && connack.body.contains(&0x12), "{connack:?}");
    let stays = Hello { clean: false, ..Hello::three("") };
    assert_eq!(self::connack(&rig, &stays).await, (0, 2), "not one that is to stay, in MQTT 3.1.1");
    rig.stop().await;
}

#[tokio::test]
async fn connack_says_what_the_listener_keeps_to() {
    let mut config = config();
    config.session.max_expiry = Duration::from_secs(100);
    config.max_keep_alive = Duration::from_secs(50);
    config.receive_maximum = 7;
    let rig = Rig::start(&config).await;
    let hello = Hello { keep_alive: 0, ..Hello::five("a").staying() };
    let (_client, connack) = Client::connected(rig.address(), &hello).await;
    let says = |wanted: &[u8]| connack.body.windows(wanted.len()).any(|window| window == wanted);
    assert!(says(&[0x11, 0, 0, 0, 100]), "session expiry");
    assert!(says(&[0x13, 0, 50]), "server keep alive");
    assert!(says(&[0x21, 0, 7]), "receive maximum");
    assert!(says(&[0x22, 0, 64]), "topic alias maximum");
    assert!(says(&[0x27, 0, 0x11, 0, 0]), "maximum packet size");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_12_0_1_enhanced_authentication_is_refused_and_the_connection_closed() {
    let rig = rig().await;
    let method = [&[0x15][..], &super::client::text("SCRAM-SHA-1")].concat();
    assert_eq!(connack(&rig, &Hello { properties: method, ..Hello::five("a") }).await, (0, 0x8C));
    let mut client = Client::five(&rig).await;
    client.send(&[0xF0, 0]).await;
    assert_eq!(client.disconnected().await, Some(0x82));
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_2_2_another_version_is_told_which_are_spoken_and_closed() {
    let rig = rig().await;
    for level in [3, 6] {
        assert_eq!(connack(&rig, &Hello { level, ..Hello::five("a") }).await, (0, 1));
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_2_22_and_3_2_2_22_a_silent_client_is_disconnected_after_one_and_a_half_keep_alives() {
    let rig = rig().await;
    for (level, heard) in [(5, Some(0x8D)), (4, None)] {
        let began = std::time::Instant::now();
        let mut client = Client::connect(rig.address(), &Hello { level, keep_alive: 1, ..Hello::five("a") }).await;
        assert_eq!(client.disconnected().await, heard);
        assert!(began.elapsed() >= Duration::from_millis(1_400));
    }
    rig.stop().await;
}

#[tokio::test]
async fn in_mqtt_3_1_1_who_wants_no_keep_alive_may_be_silent_and_in_mqtt_5_it_is_given_one() {
    let mut config = config();
    config.max_keep_alive = Duration::from_secs(1);
    let rig = Rig::start(&config).await;
    let mut three = Client::connect(rig.address(), &Hello { keep_alive: 0, ..Hello::three("three") }).await;
    let mut five = Client::connect(rig.address(), &Hello { keep_alive: 0, ..Hello::five("five") }).await;
    assert_eq!(five.disconnected().await, Some(0x8D));
    assert_eq!(three.until_pong().await, [], "it was silent for longer");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_4_0_1_what_was_not_acknowledged_comes_again_with_dup_over_the_next_connection() {
    let rig = rig().await;
    rig.outlet.give([delivery(1, "a", "one".into())]);
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(rig.address(), &hello).await;
    client.ask(&subscribe(true, 9, &[], &[("a", 1)])).await;
    let first = client.next().await.unwrap();
    client.close();
    let mut client = Client::connect(rig.address(), &hello).await;
    let again = client.next().await.unwrap();
    assert_eq!((first.first, again.first), (0x32, 0x3A));
    assert_eq!(first.published(true).1, again.published(true).1);
    client.send(&ack(0x40, 1)).await;
    rig.outlet.until(|state| state.settled.iter().any(|(_, settled)| *settled == Settlement::Delivered)).await;
    let names: Vec<_> = rig.outlet.state().opened.into_iter().map(|(_, what)| what.durable).collect();
    assert!(names[0].is_some() && names[0] == names[1], "{names:?}");
    rig.stop().await;
}

#[tokio::test]
async fn a_message_whose_puback_was_lost_is_the_same_message_when_it_comes_again() {
    let rig = rig().await;
    rig.hold();
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(rig.address(), &hello).await;
    client.send(&publish(0x02, "a", 7, &[0], "x")).await;
    rig.until(|counts| counts.offered == 1).await;
    let mut bystander = Client::five(&rig).await;
    client.close();
    // by now the bridge has seen that the client is gone
    bystander.until_pong().await;
    bystander.until_pong().await;
    rig.release();
    let mut client = Client::connect(rig.address(), &hello).await;
    client.ask(&publish(0x0A, "a", 7, &[0], "x")).await.unwrap();
    let seen: Vec<_> = rig.seen().into_iter().flatten().collect();
    assert_eq!((seen.len(), &seen[0].identity), (2, &seen[1].identity));
    client.ask(&publish(0x02, "a", 7, &[0], "y")).await.unwrap();
    assert_ne!(rig.seen()[2][0].identity, seen[0].identity, "once it is acknowledged, it is another one");
    rig.stop().await;
}

#[tokio::test]
async fn a_session_that_ends_with_its_connection_can_t_be_made_to_stay() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    client.send(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9]).await;
    assert_eq!(client.disconnected().await, Some(0x82));
    let mut client = Client::connect(rig.address(), &Hello::five("stays").staying()).await;
    client.send(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]).await;
    assert_eq!(client.next().await, None);
    assert_eq!(connack(&rig, &Hello::five("stays").staying()).await, (0, 0), "but ended by DISCONNECT it can be");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_1_0_1_and_4_5_0_1_a_session_is_taken_up_after_a_restart_with_its_subscriptions_and_identifiers() {
    let first = rig().await;
    first.outlet.give([delivery(1, "a", "one".into())]);
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(first.address(), &hello).await;
    client.ask(&subscribe(true, 9, &[], &[("a", 0x22)])).await;
    let sent = client.next().await.unwrap();
    client.ask(&publish(0x04, "b", 7, &[0], "x")).await;
    let second = first.restart(&config()).await;
    second.outlet.only_retained();
    second.outlet.give([delivery(1, "a", "one".into())]);
    let (mut client, connack) = Client::connected(second.address(), &hello).await;
    assert_eq!(connack.body[0], 1);
    let again = client.next().await.unwrap();
    assert_eq!((again.first, again.published(true).1), (0x3C, sent.published(true).1));
    client.ask(&publish(0x0C, "b", 7, &[0], "x")).await;
    assert_eq!(first.seen()[0][0].identity, second.seen()[0][0].identity, "exactly once");
    let names = |rig: &Rig| rig.outlet.state().opened[0].1.durable.clone();
    assert_eq!(names(&first), names(&second));
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn what_is_released_after_a_restart_makes_room_for_another_message_over_the_next_one_too() {
    let first = rig().await;
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(first.address(), &hello).await;
    assert_eq!(client.ask(&publish(0x04, "b", 7, &[0], "x")).await.unwrap().first, 0x50);
    let second = first.restart(&config()).await;
    let mut client = Client::connect(second.address(), &hello).await;
    assert_eq!(client.ask(&ack(0x62, 7)).await.unwrap().first, 0x70);
    let third = second.restart(&config()).await;
    let mut client = Client::connect(third.address(), &hello).await;
    client.ask(&publish(0x04, "b", 7, &[0], "y")).await.unwrap();
    assert_ne!(first.seen()[0][0].identity, third.seen()[0][0].identity, "the store would call it a duplicate");
    first.stop().await;
    second.stop().await;
    third.stop().await;
}

#[tokio::test]
async fn a_session_that_ends_is_forgotten_on_disk_too() {
    let first = rig().await;
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(first.address(), &hello).await;
    client.ask(&subscribe(true, 9, &[], &[("a", 1)])).await;
    client.send(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]).await;
    first.outlet.until(|state| state.ended == 1).await;
    let name = first.outlet.state().opened[0].1.durable.clone().unwrap();
    first.outlet.until(|state| state.forgotten == std::slice::from_ref(&name)).await;
    first.stop().await;
    let second = first.restart(&config()).await;
    assert_eq!(connack(&second, &hello).await, (0, 0));
    second.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_session_comes_over_a_connection_that_is_its_last_too() {
    let rig = rig().await;
    rig.outlet.give([delivery(1, "a", "one".into())]);
    let stays = Hello::five("same").staying();
    let mut client = Client::connect(rig.address(), &stays).await;
    client.ask(&subscribe(true, 9, &[], &[("a", 1)])).await;
    client.next().await.unwrap();
    client.close();
    let last = Hello { clean: false, ..Hello::five("same") };
    let (mut client, connack) = Client::connected(rig.address(), &last).await;
    assert_eq!(connack.body[0], 1);
    assert_eq!(client.next().await.unwrap().published(true).3, "one");
    let names: Vec<_> = rig.outlet.state().opened.into_iter().map(|(_, what)| what.durable).collect();
    assert!(names[0].is_some() && names[0] == names[1], "it begins where the one before ended: {names:?}");
    client.close();
    rig.outlet.until(|state| state.forgotten.first() == names[0].as_ref()).await;
    assert_eq!(self::connack(&rig, &stays).await, (0, 0));
    rig.stop().await;
}

#[tokio::test]
async fn a_crash_brings_back_neither_a_session_that_was_to_end_nor_what_it_had_released() {
    let first = rig().await;
    let stays = Hello::five("same").staying();
    Client::connect(first.address(), &stays).await.ask(&subscribe(true, 9, &[], &[("a", 1)])).await;
    let mut client = Client::connect(first.address(), &Hello { clean: false, ..Hello::five("same") }).await;
    client.ask(&publish(0x04, "b", 7, &[0], "x")).await;
    client.ask(&ack(0x62, 7)).await;
    let second = first.restart(&config()).await;
    let (mut client, connack) = Client::connected(second.address(), &stays).await;
    assert_eq!(connack.body[0], 0);
    client.ask(&publish(0x04, "b", 7, &[0], "y")).await;
    assert_ne!(first.seen()[0][0].identity, second.seen()[0][0].identity);
    let name = first.outlet.state().opened[0].1.durable.clone();
    second.outlet.until(|state| state.forgotten.first() == name.as_ref()).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_subscription_that_ends_leaves_no_position_behind() {
    let rig = rig().await;
    let mut client = Client::connect(rig.address(), &Hello::five("same").staying()).await;
    client.ask(&subscribe(true, 1, &[], &[("a", 1), ("b", 2), ("c", 0)])).await;
    let names: Vec<_> = rig.outlet.state().opened.into_iter().map(|(_, what)| what.durable).collect();
    let [Some(a), Some(b), None] = &names[..] else { panic!("{names:?}") };
    client.ask(&packet(0xA2, &[&2_u16.to_be_bytes(), &[0], &text("a"), &text("c")])).await;
    assert_eq!(rig.outlet.state().forgotten, std::slice::from_ref(a), "before UNSUBACK");
    client.ask(&subscribe(true, 3, &[], &[("b", 0)])).await;
    assert_eq!(rig.outlet.state().forgotten, std::slice::from_ref(a), "what waits there goes out at QoS 0");
    client.close();
    rig.outlet.until(|state| state.forgotten == [a.clone(), b.clone()]).await;
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_1_0_2_a_session_that_a_clean_start_ends_or_that_expires_leaves_no_position_behind() {
    let mut config = config();
    config.session.max_expiry = Duration::from_secs(1);
    let rig = Rig::start(&config).await;
    let hello = Hello::five("same").staying();
    for (ended, next) in [(1, Hello::five("same")), (2, Hello::five("other"))] {
        let mut client = Client::connect(rig.address(), &hello).await;
        client.ask(&subscribe(true, 1, &[], &[("a", 1)])).await;
        client.close();
        let _next = Client::connect(rig.address(), &next).await;
        rig.outlet.until(|state| state.forgotten.len() == ended).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_session_that_could_not_be_ended_is_ended_later_and_known_until_then() {
    let rig = rig().await;
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(rig.address(), &hello).await;
    client.ask(&subscribe(true, 9, &[], &[("a", 1)])).await;
    let name = rig.outlet.state().opened[0].1.durable.clone().unwrap();
    rig.outlet.keep_all(true);
    client.send(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]).await;
    assert_eq!(client.next().await, None);
    // its slot is free once it is over
    assert_eq!(connack(&rig, &Hello::five("same")).await, (0, 0));
    let kept = rig.keys.list("session/", None, 9).await.unwrap().entries;
    assert_eq!(kept.len(), 1, "or nobody would know of its position");
    rig.outlet.keep_all(false);
    rig.outlet.until(|state| state.forgotten == [name.clone()]).await;
    let forgotten = async {
        while !rig.keys.list("session/", None, 9).await.unwrap().entries.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HARD_TIMEOUT, forgotten).await.expect("it to be forgotten");
    rig.stop().await;
}

#[tokio::test]
async fn a_subscription_whose_position_could_not_be_ended_is_over_and_its_position_ends_later_over_restarts_too() {
    let first = rig().await;
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(first.address(), &hello).await;
    client.ask(&subscribe(true, 9, &[], &[("a", 1), ("b", 1)])).await;
    let names: Vec<_> = first.outlet.state().opened.into_iter().filter_map(|(_, what)| what.durable).collect();
    first.outlet.keep_all(true);
    let unsubscribe = |id: u8, filter| packet(0xA2, &[&[0, id], &[0], &text(filter)]);
    assert_eq!(client.ask(&unsubscribe(1, "a")).await.unwrap().body, [0, 1, 0, 0]);
    first.outlet.keep_all(false);
    first.outlet.until(|state| state.forgotten == names[..1]).await;
    first.outlet.keep_all(true);
    assert_eq!(client.ask(&unsubscribe(2, "b")).await.unwrap().body, [0, 2, 0, 0]);
    let second = first.restart(&config()).await;
    second.outlet.until(|state| state.forgotten.contains(&names[1])).await;
    let mut client = Client::connect(second.address(), &hello).await;
    client.until_pong().await;
    assert_eq!(second.outlet.state().opened.len(), 0, "nothing is subscribed to");
    assert_eq!(client.ask(&unsubscribe(3, "b")).await.unwrap().body, [0, 3, 0, 0x11]);
    let third = second.restart(&config()).await;
    let mut client = Client::connect(third.address(), &hello).await;
    client.until_pong().await;
    assert_eq!(third.outlet.state().forgotten.len(), 0, "what has ended is known no more");
    for rig in [first, second, third] {
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_position_that_could_not_be_ended_when_its_subscription_was_lowered_to_qos_0_ends_later_over_restarts_too() {
    let first = rig().await;
    let hello = Hello::five("same").staying();
    let lowers = |id: u16| subscribe(true, id, &[], &[("a", 0)]);
    let raises = |id: u16| subscribe(true, id, &[], &[("a", 1)]);
    let names =
        |rig: &Rig| -> Vec<_> { rig.outlet.state().opened.into_iter().filter_map(|(_, what)| what.durable).collect() };
    let mut client = Client::connect(first.address(), &hello).await;
    client.ask(&raises(1)).await;
    client.ask(&lowers(2)).await;
    // what waits at it goes out: it is not ended before its connection is over, whatever else is
    client.ask(&packet(0xA2, &[&[0, 3], &[0], &text("b")])).await;
    assert_eq!(first.outlet.state().forgotten.len(), 0);
    first.outlet.keep_all(true);
    client.send(&[0xE0, 0]).await;
    assert_eq!(client.next().await, None);
    let mut client = Client::connect(first.address(), &hello).await;
    // raised meanwhile it has a position that is not the one which is to be ended
    client.ask(&raises(1)).await;
    let of_first = names(&first);
    assert_eq!(of_first.len(), 2);
    assert_ne!(of_first[0], of_first[1]);
    first.outlet.keep_all(false);
    first.outlet.until(|state| state.forgotten == of_first[..1]).await;
    // lowered when the gateway crashes
    client.ask(&lowers(2)).await;
    let second = first.restart(&config()).await;
    second.outlet.until(|state| state.forgotten.contains(&of_first[1])).await;
    let mut client = Client::connect(second.address(), &hello).await;
    client.ask(&raises(1)).await;
    let of_second = names(&second);
    assert!(of_second.len() == 1 && !of_first.contains(&of_second[0]), "{of_second:?}");
    // lowered, and raised again: nothing of it is over
    client.ask(&lowers(2)).await;
    client.ask(&raises(3)).await;
    let third = second.restart(&config()).await;
    let mut client = Client::connect(third.address(), &hello).await;
    client.until_pong().await;
    assert_eq!((names(&third), third.outlet.state().forgotten.len()), (of_second, 0));
    for rig in [first, second, third] {
        rig.stop().await;
    }
}

#[tokio::test]
async fn at_the_drain_a_client_of_mqtt_5_is_told_so() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    rig.drain();
    assert_eq!(client.disconnected().await, Some(0x8B));
    rig.stop().await;
}
