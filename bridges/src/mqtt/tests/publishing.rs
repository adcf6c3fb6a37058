//! Publishing: what becomes an inbound, and what the sender hears.

use std::time::Duration;

use bytes::Bytes;
use envelope::{Admission, Identity, IdentityParts, Receipt, RejectKind, Rejection, Settled, Ticket};

use super::client::{Client, Hello, ack, config, publish, rig, text};
use crate::conformance::Rig;

fn refuse(rig: &Rig, kind: RejectKind) {
    rig.answer(move |_| Err(Rejection::new(kind, "test", "because")));
}

#[tokio::test]
async fn mqtt_4_3_2_4_puback_comes_when_the_mesh_has_taken_the_message_and_not_before() {
    let rig = rig().await;
    rig.hold();
    let mut client = Client::five(&rig).await;
    client.send(&publish(0x02, "a", 7, &[0], "x")).await;
    rig.until(|counts| counts.offered == 1).await;
    assert_eq!(client.until_pong().await, [], "pings are answered meanwhile, the message is not");
    rig.release();
    let puback = client.next().await.unwrap();
    assert_eq!((puback.first, puback.id(), puback.body.len()), (0x40, 7, 2));
    rig.stop().await;
}

#[tokio::test]
async fn an_inbound_has_the_topic_the_headers_and_the_identity_of_its_session() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    let properties = [
        &[0x03][..],
        &text("application/json"),
        &[0x26],
        &text("X-Line"),
        &text("7"),
        &[0x26],
        &text("content-type"),
        &text("forged"),
        &[0x02, 0, 0, 0, 9],
        &[0x08],
        &text("answers/1"),
        &[0x09],
        &text("c1"),
        &[0x01, 1],
        &[0x26],
        &text("traceparent"),
        &text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]
    .concat();
    let properties = [&[properties.len() as u8 | 0x80, (properties.len() >> 7) as u8][..], &properties].concat();
    client.ask(&publish(0x02, "/plant//50%", 7, &properties, "{}")).await;
    let inbound = rig.seen()[0][0].clone();
    assert_eq!(&*inbound.address, "%/plant/%/50%25");
    assert_eq!(inbound.payload, "{}");
    let mut headers = inbound.headers.to_vec();
    headers.retain(|(name, _)| name != "traceparent");
    let expected = [
        ("content-type", "application/json"),
        ("response-topic", "answers/1"),
        ("correlation-data", "c1"),
        ("message-expiry-interval", "9"),
        ("payload-format-indicator", "1"),
        ("x-line", "7"),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), Bytes::from(value))));
    assert!(inbound.trace.is_some() && matches!(inbound.identity, Identity::Native(_)));
    rig.stop().await;
}

#[tokio::test]
async fn what_one_read_brings_is_one_batch_in_order_and_so_are_its_answers() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    let burst: Vec<u8> = (1..=20).flat_map(|id| publish(0x02, "a", id, &[0], "x")).collect();
    client.send(&burst).await;
    for id in 1..=20 {
        assert_eq!(client.next().await.unwrap().id(), id);
    }
    assert!(rig.seen().len() <= 2, "{} calls", rig.seen().len());
    assert_eq!(rig.counts().received, 20);
    rig.stop().await;
}

#[tokio::test]
async fn a_final_refusal_has_its_reason_code_in_mqtt_5() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    for (kind, reason) in [
        (RejectKind::Denied, 0x87),
        (RejectKind::Malformed, 0x99),
        (RejectKind::Unmapped, 0x90),
        (RejectKind::TooLarge, 0x83),
    ] {
        refuse(&rig, kind);
        for (flags, first) in [(0x02, 0x40), (0x04, 0x50)] {
            let answer = client.ask(&publish(flags, "a", 7, &[0], "x")).await.unwrap();
            assert_eq!((answer.first, answer.reason()), (first, reason), "{kind}");
            let detail = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(detail.contains("test: because"), "{detail}");
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_2_29_who_wants_no_problem_information_gets_no_reason_string() {
    let rig = rig().await;
    refuse(&rig, RejectKind::Denied);
    let hello = Hello { properties: vec![0x17, 0], ..Hello::five("quiet") };
    let mut client = Client::connect(rig.address(), &hello).await;
    let answer = client.ask(&publish(0x02, "a", 7, &[0], "x")).await.unwrap();
    assert_eq!(answer.body, [0, 7, 0x87]);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_1_acks_a_final_refusal_because_it_has_no_other_word() {
    let rig = rig().await;
    refuse(&rig, RejectKind::Denied);
    let mut client = Client::three(&rig).await;
    assert_eq!(client.ask(&publish(0x02, "a", 7, &[], "x")).await.unwrap().body, [0, 7]);
    let pubrec = client.ask(&publish(0x04, "a", 8, &[], "x")).await.unwrap();
    assert_eq!((pubrec.first, &pubrec.body[..]), (0x50, &[0, 8][..]));
    assert_eq!(client.ask(&ack(0x62, 8)).await.unwrap().first, 0x70);
    rig.stop().await;
}

#[tokio::test]
async fn what_may_pass_later_is_kept_and_offered_again_with_all_behind_it_in_order() {
    let rig = rig().await;
    let (mut left, mut behind) = (3, false);
    rig.answer(move |inbound| {
        if inbound.payload == "2" {
            behind = left > 0;
        }
        if inbound.payload == "2" && left > 0 {
            left -= 1;
            return Err(Rejection::new(RejectKind::Unavailable, "test", "away"));
        }
        if behind && inbound.payload == "3" {
            return Err(Rejection::new(RejectKind::Behind, "test", "behind"));
        }
        Ok(Admission::Filtered)
    });
    let mut client = Client::five(&rig).await;
    let burst: Vec<u8> =
        ["1", "2", "3"].iter().zip(1..).flat_map(|(text, id)| publish(0x02, "a", id, &[0], text)).collect();
    client.send(&burst).await;
    for id in 1..=3 {
        let answer = client.next().await.unwrap();
        assert_eq!((answer.id(), answer.reason()), (id, 0));
    }
    let counts = rig.counts();
    assert_eq!((counts.received, counts.returned.len()), (3, 0));
    rig.stop().await;
}

#[tokio::test]
async fn what_is_not_taken_for_retry_for_is_given_back_by_closing_unacked() {
    let mut config = config();
    config.retry_for = Duration::from_millis(100);
    let rig = Rig::start(&config).await;
    refuse(&rig, RejectKind::Unavailable);
    let mut client = Client::five(&rig).await;
    client.send(&publish(0x02, "a", 7, &[0], "x")).await;
    assert_eq!(client.disconnected().await, Some(0x89));
    rig.until(|counts| counts.returned == [RejectKind::Unavailable]).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_client_of_mqtt_5_hears_that_it_is_over_its_rate_only_past_max_delay() {
    let mut config = config();
    config.max_delay = Duration::from_millis(100);
    let rig = Rig::start(&config).await;
    refuse(&rig, RejectKind::RateLimited);
    let mut client = Client::five(&rig).await;
    let answer = client.ask(&publish(0x02, "a", 7, &[0], "x")).await.unwrap();
    assert_eq!((answer.first, answer.reason()), (0x40, 0x97));
    rig.until(|counts| counts.returned == [RejectKind::RateLimited]).await;
    assert!(rig.counts().offered > 1, "it was offered again before");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_3_3_8_to_12_qos_2_is_taken_once_and_a_repeat_on_its_way_is_not_answered() {
    let rig = rig().await;
    rig.hold();
    let mut client = Client::five(&rig).await;
    client.send(&publish(0x04, "a", 7, &[0], "x")).await;
    rig.until(|counts| counts.offered == 1).await;
    client.send(&publish(0x0C, "a", 7, &[0], "x")).await;
    assert_eq!(client.until_pong().await, []);
    rig.release();
    assert_eq!(client.next().await.unwrap().first, 0x50);
    let again = client.ask(&publish(0x0C, "a", 7, &[0], "x")).await.unwrap();
    assert_eq!((again.first, again.id()), (0x50, 7));
    assert_eq!(client.ask(&ack(0x62, 7)).await.unwrap().body, [0, 7]);
    assert_eq!(client.ask(&ack(0x62, 7)).await.unwrap().body, [0, 7, 0x92], "it is released already");
    assert_eq!(rig.counts().received, 1);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_3_2_12_a_topic_alias_stands_for_its_topic_on_this_connection() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    client.ask(&publish(0x02, "long/topic", 1, &[3, 0x23, 0, 5], "x")).await;
    client.ask(&publish(0x02, "", 2, &[3, 0x23, 0, 5], "y")).await;
    client.ask(&publish(0x02, "other", 3, &[3, 0x23, 0, 5], "z")).await;
    client.ask(&publish(0x02, "", 4, &[3, 0x23, 0, 5], "z")).await;
    let addresses: Vec<_> = rig.seen().into_iter().flatten().map(|inbound| inbound.address.to_string()).collect();
    assert_eq!(addresses, ["long/topic", "long/topic", "other", "other"]);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_3_1_5_retain_asks_for_the_last_value_of_the_topic() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    client.ask(&publish(0x03, "a", 1, &[0], "x")).await;
    client.ask(&publish(0x02, "a", 2, &[0], "x")).await;
    let retain: Vec<_> = rig.seen().into_iter().flatten().map(|inbound| inbound.retain).collect();
    assert_eq!(retain, [true, false]);
    rig.stop().await;
}

#[tokio::test]
async fn what_was_read_before_a_client_left_is_taken_all_the_same() {
    let rig = rig().await;
    let mut client = Client::three(&rig).await;
    let bytes = [publish(0, "a", 0, &[], "x"), publish(0, "a", 0, &[], "y"), vec![0xE0, 0]].concat();
    client.send(&bytes).await;
    client.close();
    rig.until(|counts| counts.offered == 2).await;
    rig.stop().await;
}

#[tokio::test]
async fn more_than_is_taken_at_once_is_taken_before_the_end_and_so_is_the_disconnect_behind_it() {
    let rig = rig().await;
    for level in [4, 5] {
        let will = [if level == 5 { vec![0] } else { Vec::new() }, text("will"), text("gone")].concat();
        let hello = Hello { level, will: Some((0, will)), ..Hello::five("a") };
        let mut client = Client::connect(rig.address(), &hello).await;
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        let mut bytes = publish(0, "a", 0, properties, "x").repeat(3_000);
        bytes.extend([0xE0, 0]);
        client.send(&bytes).await;
        client.close();
        let of_all = if level == 4 { 3_000 } else { 6_000 };
        rig.until(|counts| counts.received == of_all && counts.offered == of_all).await;
    }
    rig.stop().await;
    let seen: Vec<_> = rig.seen().into_iter().flatten().collect();
    assert!(seen.len() == 6_000 && seen.iter().all(|inbound| &*inbound.address == "a"), "no will");
}

#[tokio::test]
async fn mqtt_3_14_4_3_a_store_that_fails_publishes_no_will_of_a_client_that_has_left() {
    let rig = rig().await;
    let will = [vec![0], text("will"), text("gone")].concat();
    let hello = Hello { will: Some((0, will)), ..Hello::five("a").staying() };
    let mut client = Client::connect(rig.address(), &hello).await;
    client.ask(&publish(0x04, "a", 7, &[0], "x")).await.unwrap();
    rig.keys.refuse(true);
    client.send(&[ack(0x62, 7), vec![0xE0, 0]].concat()).await;
    while client.next().await.is_some() {}
    rig.stop().await;
    let seen: Vec<_> = rig.seen().into_iter().flatten().map(|inbound| inbound.address.to_string()).collect();
    assert_eq!(seen, ["a"]);
}

#[tokio::test]
async fn a_large_message_arrives_whole_and_its_bytes_are_counted_while_it_does() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    let payload = "x".repeat(1_000_000);
    let bytes = publish(0x02, "a", 1, &[0], &payload);
    client.send(&bytes[..100_000]).await;
    rig.until_in_flight().await;
    client.send(&bytes[100_000..]).await;
    assert_eq!(client.next().await.unwrap().first, 0x40);
    assert_eq!(rig.seen()[0][0].payload.len(), payload.len());
    rig.stop().await;
}

fn stored(settled: Settled) -> Result<Admission, Rejection> {
    let parts = IdentityParts { domain: "test", bridge: "web", principal: "a", route: "r" };
    let id = Identity::fresh().envelope_id(parts);
    Ok(Admission::Stored(Receipt { id, position: None, duplicate: false, settled, reply: None }))
}

#[tokio::test]
async fn an_ack_point_beyond_the_store_is_waited_for_and_mqtt_4_6_0_2_answers_keep_their_order() {
    let rig = rig().await;
    rig.answer(|inbound| match &inbound.payload[..] {
        b"kept" => stored(Settled::Later(Ticket(0))),
        b"broken" => stored(Settled::Later(Ticket(1))),
        b"never" => stored(Settled::Never),
        _ => stored(Settled::Now),
    });
    let mut client = Client::five(&rig).await;
    let sent = ["kept", "now", "broken", "never", "now"];
    let bytes: Vec<u8> = sent.iter().zip(1..).flat_map(|(text, id)| publish(0x02, "a", id, &[0], text)).collect();
    client.send(&bytes).await;
    let mut heard = Vec::new();
    for _ in sent {
        let ack = client.next().await.unwrap();
        heard.push((ack.first, ack.body[1], ack.reason()));
    }
    let expected = [(0x40, 1, 0), (0x40, 2, 0), (0x40, 3, 0x83), (0x40, 4, 0x83), (0x40, 5, 0)];
    assert_eq!(heard, expected);
    assert_eq!(rig.counts().returned, []);
    rig.stop().await;
}

#[tokio::test]
async fn what_is_stored_and_refused_all_the_same_is_not_the_next_message_of_its_identifier() {
    for settled in [Settled::Never, Settled::Later(Ticket(1))] {
        let rig = rig().await;
        rig.answer(move |_| stored(settled));
        let hello = Hello::five("same").staying();
        let mut client = Client::connect(rig.address(), &hello).await;
        for payload in ["x", "y"] {
            let pubrec = client.ask(&publish(0x04, "a", 7, &[0], payload)).await.unwrap();
            assert_eq!((pubrec.first, pubrec.reason()), (0x50, 0x83));
        }
        let again = rig.restart(&config()).await;
        let mut client = Client::connect(again.address(), &hello).await;
        client.ask(&publish(0x04, "a", 7, &[0], "z")).await.unwrap();
        let seen: Vec<_> = rig.seen().into_iter().chain(again.seen()).flatten().map(|one| one.identity).collect();
        assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "{seen:?}");
        rig.stop().await;
        again.stop().await;
    }
}

#[tokio::test]
async fn an_identifier_that_begins_anew_is_on_disk_before_its_message_is_offered() {
    let first = rig().await;
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(first.address(), &hello).await;
    first.answer(|_| stored(Settled::Later(Ticket(9))));
    client.send(&publish(0x04, "a", 7, &[0], "x")).await;
    assert_eq!(client.disconnected().await, Some(0x89));
    first.answer(|_| stored(Settled::Now));
    let mut client = Client::connect(first.address(), &hello).await;
    client.ask(&publish(0x04, "a", 7, &[0], "y")).await.unwrap();
    let second = first.restart(&config()).await;
    let mut client = Client::connect(second.address(), &hello).await;
    client.ask(&ack(0x62, 7)).await.unwrap();
    client.ask(&publish(0x04, "a", 7, &[0], "z")).await.unwrap();
    let seen: Vec<_> = first.seen().into_iter().chain(second.seen()).flatten().map(|one| one.identity).collect();
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "{seen:?}");
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn mqtt_3_2_2_11_who_publishes_over_maximum_qos_is_disconnected() {
    let mut config = config();
    config.max_qos = envelope::Qos::AtLeastOnce;
    let rig = Rig::start(&config).await;
    let (mut client, connack) = Client::connected(rig.address(), &Hello::five("a")).await;
    assert!(connack.body.windows(2).any(|two| two == [0x24, 1]), "{connack:?}");
    assert_eq!(client.ask(&publish(0x02, "a", 7, &[0], "x")).await.unwrap().first, 0x40);
    client.send(&publish(0x04, "a", 7, &[0], "x")).await;
    assert_eq!(client.disconnected().await, Some(0x9B));
    let mut client = Client::three(&rig).await;
    assert_eq!(client.ask(&publish(0x04, "a", 7, &[], "x")).await, None);
    let will = [&[0][..], &text("gone"), &text("bye")].concat();
    let hello = Hello { will: Some((0x10, will)), ..Hello::five("b") };
    let connack = Client::open(rig.address()).await.ask(&hello.bytes()).await.unwrap();
    assert_eq!((connack.first, connack.body[1]), (0x20, 0x9B), "MQTT-3.2.2-12: nor a will");
    assert_eq!(rig.counts().received, 1);
    rig.stop().await;
}

#[tokio::test]
async fn what_does_not_reach_its_ack_point_in_time_is_not_acknowledged_and_is_the_same_when_it_comes_again() {
    let rig = rig().await;
    rig.answer(|_| stored(Settled::Later(Ticket(9))));
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(rig.address(), &hello).await;
    client.send(&publish(0x02, "a", 7, &[0], "x")).await;
    assert_eq!(client.disconnected().await, Some(0x89));
    rig.answer(|_| stored(Settled::Now));
    let mut client = Client::connect(rig.address(), &hello).await;
    assert_eq!(client.ask(&publish(0x0A, "a", 7, &[0], "x")).await.unwrap().first, 0x40);
    let seen: Vec<_> = rig.seen().into_iter().flatten().collect();
    assert_eq!(seen[0].identity, seen[1].identity);
    rig.stop().await;
}
