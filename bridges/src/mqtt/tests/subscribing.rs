//! Subscribing: what a client gets of the mesh, and what becomes of it there.

use bytes::Bytes;
use envelope::{Conversation, Origin, Priority, RejectKind, Settlement, Timestamp};

use super::client::{Client, Hello, Packet, ack, packet, publish, rig, subscribe, text};
use crate::conformance::{Rig, delivery};

fn give(rig: &Rig, texts: &[&'static str]) {
    rig.outlet.give(texts.iter().zip(1..).map(|(text, n)| delivery(n, "telemetry/7", Bytes::from(*text))));
}

async fn subscribed(client: &mut Client, five: bool, filters: &[(&str, u8)]) -> Vec<u8> {
    let suback = client.ask(&subscribe(five, 9, &[], filters)).await.unwrap();
    assert_eq!((suback.first, suback.id()), (0x90, 9));
    suback.body[suback.body.len() - filters.len()..].to_vec()
}

#[tokio::test]
async fn mqtt_3_8_4_5_and_7_and_3_3_2_3_a_subscription_is_answered_filter_by_filter_and_then_served() {
    for five in [true, false] {
        let rig = rig().await;
        give(&rig, &["one", "two"]);
        let mut client = if five { Client::five(&rig).await } else { Client::three(&rig).await };
        rig.outlet.forbid("secret/#");
        let answers = subscribed(&mut client, five, &[("telemetry/+", 1), ("secret/#", 1), ("a/#/b", 0)]).await;
        assert_eq!(answers, if five { [1, 0x87, 0x8F] } else { [1, 0x80, 0x80] });
        for (expected, id) in [("one", 1), ("two", 2)] {
            let (topic, got, _, payload) = client.next().await.unwrap().published(five);
            assert_eq!((topic.as_str(), got, payload.as_str()), ("telemetry/7", id, expected));
            client.send(&ack(0x40, id)).await;
        }
        rig.outlet.until(|state| state.settled.len() == 2).await;
        assert!(rig.outlet.state().settled.iter().all(|(_, settled)| *settled == Settlement::Delivered));
        rig.stop().await;
    }
}

#[tokio::test]
async fn qos_0_is_settled_once_it_is_written() {
    let rig = rig().await;
    give(&rig, &["one"]);
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, true, &[("telemetry/#", 0)]).await;
    let packet = client.next().await.unwrap();
    assert_eq!((packet.first, packet.published(true).1), (0x30, 0));
    rig.outlet.until(|state| state.settled.len() == 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_3_4_9_and_4_9_0_1_and_2_no_more_is_in_flight_than_the_client_takes() {
    let rig = rig().await;
    give(&rig, &["one", "two", "three"]);
    let hello = Hello { properties: vec![0x21, 0, 2], ..Hello::five("two") };
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, true, &[("telemetry/#", 1)]).await;
    let before = client.until_pong().await;
    assert_eq!(before.len(), 2, "{before:?}");
    client.send(&ack(0x40, 1)).await;
    assert_eq!(client.next().await.unwrap().published(true).3, "three");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_3_3_4_to_6_and_2_2_1_5_qos_2_to_a_client_is_settled_at_pubrec_and_ends_with_pubcomp() {
    let rig = rig().await;
    give(&rig, &["one"]);
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, true, &[("telemetry/#", 2)]).await;
    let publish = client.next().await.unwrap();
    assert_eq!((publish.first, publish.published(true).1), (0x34, 1));
    for _ in 0..2 {
        let pubrel = client.ask(&ack(0x50, 1)).await.unwrap();
        assert_eq!((pubrel.first, pubrel.id(), pubrel.reason()), (0x62, 1, 0));
    }
    rig.outlet.until(|state| state.settled.len() == 1).await;
    client.send(&ack(0x70, 1)).await;
    let unknown = client.ask(&ack(0x50, 1)).await.unwrap();
    assert_eq!((unknown.first, unknown.reason()), (0x62, 0x92));
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_refuses_a_delivery_does_not_get_it_again() {
    let rig = rig().await;
    give(&rig, &["one"]);
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, true, &[("telemetry/#", 1)]).await;
    client.next().await.unwrap();
    client.send(&packet(0x40, &[&[0, 1, 0x99]])).await;
    rig.outlet.until(|state| state.settled.len() == 1).await;
    assert_eq!(rig.outlet.state().settled[0].1, Settlement::DeadLettered(RejectKind::Malformed));
    rig.stop().await;
}

#[tokio::test]
async fn attributes_of_the_envelope_are_properties_of_the_message() {
    let rig = rig().await;
    let mut one = delivery(1, "telemetry/%/50%25", Bytes::from("{}"));
    one.envelope.expirytime = Some(Timestamp::now().plus(std::time::Duration::from_secs(60)));
    one.envelope.conversation = Some(Box::new(Conversation {
        id: Some("c1".into()),
        replyto: Some("answers/%25".into()),
        replyby: Some(Timestamp::from_micros(0)),
        recipients: vec!["ada".into(), "bob b".into()],
        ..Conversation::default()
    }));
    one.envelope.residency = vec!["eu".into()];
    one.envelope.priority = Some(Priority::Command);
    one.envelope.hops = vec!["far".into()];
    one.envelope.origin = Some(Box::new(Origin { id: Some("7".into()), source: Some("press".into()) }));
    rig.outlet.give([one]);
    let mut client = Client::five(&rig).await;
    client.ask(&subscribe(true, 9, &[0x0B, 77], &[("telemetry//50%", 0)])).await;
    let (topic, _, properties, _) = client.next().await.unwrap().published(true);
    assert_eq!(topic, "telemetry//50%");
    let has = |wanted: &[u8]| properties.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(&[&[0x03][..], &text("application/json")].concat()), "content type");
    assert!(has(&[&[0x08][..], &text("answers/%")].concat()), "response topic");
    assert!(has(&[&[0x09][..], &text("c1")].concat()), "correlation data");
    assert!(has(&[0x0B, 77]), "subscription identifier");
    assert!(has(&[0x02, 0, 0, 0, 60]), "message expiry");
    for (name, value) in [
        ("type", "mesh/opaque@v1.0.0"),
        ("replyby", &Timestamp::from_micros(0).to_string()),
        ("recipients", "ada bob%20b"),
        ("residency", "eu"),
        ("priority", "command"),
        ("originid", "7"),
        ("originsource", "press"),
        // the domain of the listener is behind those that it was in before
        ("hops", "far test"),
    ] {
        assert!(has(&[&[0x26][..], &text(name), &text(value)].concat()), "{name}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_8_3_3_with_no_local_a_client_does_not_hear_itself_over_its_next_connection_either() {
    for again in [false, true] {
        let rig = rig().await;
        let session = || Hello { clean: !again, properties: vec![0x11, 0, 0, 1, 0], ..Hello::five("nl") };
        let mut client = Client::connect(rig.address(), &session()).await;
        // what is published from here on is known, because a subscription asks for it
        subscribed(&mut client, true, &[("own/#", 0x04)]).await;
        client.ask(&publish(0x02, "a", 1, &[0], "x")).await;
        let parts = envelope::IdentityParts { domain: "test", bridge: "web", principal: "anonymous", route: "test" };
        let mut mine = delivery(1, "mesh/1", Bytes::from("mine"));
        mine.envelope.id = rig.seen()[0][0].identity.envelope_id(parts);
        if again {
            drop(client);
            client = Client::connect(rig.address(), &session()).await;
        }
        let theirs = delivery(2, "mesh/1", Bytes::from("theirs"));
        rig.outlet.give([mine, theirs]);
        subscribed(&mut client, true, &[("mesh/#", 0x05)]).await;
        assert_eq!(client.next().await.unwrap().published(true).3, "theirs");
        rig.stop().await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_4_what_says_that_it_is_utf_8_and_is_so_has_the_payload_format_indicator() {
    let rig = rig().await;
    let said = |n, content_type: Option<&str>, payload: &'static [u8]| {
        let mut one = delivery(n, "telemetry/7", Bytes::from(payload));
        one.envelope.datacontenttype = content_type.map(Into::into);
        one
    };
    rig.outlet.give([
        said(1, Some("text/plain; charset=utf-8"), b"yes"),
        said(2, Some("text/csv;header=present;charset=\"UTF-8\""), b"yes"),
        said(3, Some("text/plain; charset=utf-8"), b"no\xff"),
        said(4, Some("text/plain"), b"no"),
        said(5, None, b"no"),
    ]);
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, true, &[("telemetry/#", 1)]).await;
    for (expected, id) in [true, true, false, false, false].into_iter().zip(1..) {
        let packet = client.next().await.unwrap();
        // behind the topic, the identifier and the length of the properties, which is one or two bytes
        let properties = &packet.body[2 + "telemetry/7".len() + 2..];
        let skip = if properties[0] & 0x80 == 0 { 1 } else { 2 };
        assert_eq!(properties[skip..skip + 2] == [0x01, 1], expected, "{:?}", packet.body);
        client.send(&ack(0x40, id)).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_10_4_2_after_unsubscribe_nothing_more_comes() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, true, &[("telemetry/#", 1)]).await;
    let unsubscribe = packet(0xA2, &[&[0, 5, 0], &text("telemetry/#"), &text("never/was")]);
    let unsuback = client.ask(&unsubscribe).await.unwrap();
    assert_eq!((unsuback.first, &unsuback.body[..]), (0xB0, &[0, 5, 0, 0, 0x11][..]));
    rig.outlet.until(|state| state.ended == 1).await;
    let mut client = Client::three(&rig).await;
    let unsuback = client.ask(&packet(0xA2, &[&[0, 5], &text("never/was")])).await.unwrap();
    assert_eq!(unsuback.body, [0, 5]);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_2_25_a_message_larger_than_the_client_takes_is_not_sent() {
    let rig = rig().await;
    give(&rig, &["this is far too long for a client of sixty-four bytes", "two"]);
    let hello = Hello { properties: vec![0x27, 0, 0, 0, 64], level: 5, ..Hello::five("small") };
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, true, &[("telemetry/#", 1)]).await;
    rig.outlet.until(|state| state.settled.len() == 2).await;
    assert!(rig.outlet.state().settled.iter().all(|(_, s)| *s == Settlement::DeadLettered(RejectKind::TooLarge)));
    assert_eq!(client.until_pong().await, []);
    rig.stop().await;
}

#[tokio::test]
async fn topics_get_an_alias_where_the_client_takes_one() {
    let rig = rig().await;
    give(&rig, &["one", "two"]);
    let hello = Hello { properties: vec![0x22, 0, 1], ..Hello::five("alias") };
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, true, &[("telemetry/#", 0)]).await;
    let got: Vec<Packet> = [client.next().await.unwrap(), client.next().await.unwrap()].into();
    let topics: Vec<_> = got.iter().map(|packet| packet.published(true).0).collect();
    assert_eq!(topics, ["telemetry/7", ""]);
    assert!(got.iter().all(|packet| packet.published(true).2.windows(3).any(|three| three == [0x23, 0, 1])));
    rig.stop().await;
}

#[tokio::test]
async fn at_qos_2_there_is_no_alias() {
    let rig = rig().await;
    give(&rig, &["one", "two"]);
    let hello = Hello { properties: vec![0x22, 0, 1], ..Hello::five("alias") };
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, true, &[("telemetry/#", 2)]).await;
    for _ in 0..2 {
        assert_eq!(client.next().await.unwrap().published(true).0, "telemetry/7");
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_8_4_4_what_waits_goes_out_though_the_subscription_is_lowered_to_qos_0() {
    let rig = rig().await;
    give(&rig, &["one", "two", "three"]);
    let hello = Hello { properties: vec![0x21, 0, 1, 0x11, 0, 0, 0xFF, 0xFF], clean: false, ..Hello::five("same") };
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, true, &[("telemetry/#", 1)]).await;
    let first = client.next().await.unwrap();
    assert_eq!(first.first, 0x32, "and the others wait for its PUBACK");
    client.send(&subscribe(true, 9, &[], &[("telemetry/#", 0x20)])).await;
    client.send(&ack(0x40, first.published(true).1)).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(client.next().await.unwrap());
    }
    seen.sort_by_key(|packet| packet.first == 0x90);
    let texts: Vec<_> = seen[..2].iter().map(|packet| (packet.first, packet.published(true).3)).collect();
    assert_eq!(texts, [(0x30, "two".to_owned()), (0x30, "three".to_owned())]);
    assert_eq!(rig.outlet.state().opened.len(), 1, "it is the same subscription");
    let name = rig.outlet.state().opened[0].1.durable.clone().unwrap();
    client.close();
    rig.outlet.until(|state| state.forgotten == [name.clone()]).await;
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_8_4_4_a_subscription_that_is_raised_from_qos_0_goes_on_until_it_has_a_position() {
    let rig = rig().await;
    give(&rig, &["one", "two"]);
    let mut client = Client::connect(rig.address(), &Hello::five("same").staying()).await;
    subscribed(&mut client, true, &[("telemetry/#", 0)]).await;
    assert_eq!((client.next().await.unwrap().first, client.next().await.unwrap().first), (0x30, 0x30));
    give_more(&rig);
    subscribed(&mut client, true, &[("telemetry/#", 0x21)]).await;
    let (third, text) = {
        let packet = client.next().await.unwrap();
        (packet.first, packet.published(true).3)
    };
    assert_eq!((third, text.as_str()), (0x32, "three"), "and what the client has does not come again");
    let opened = rig.outlet.state();
    assert!(opened.opened.len() == 2 && opened.opened[1].1.durable.is_some() && opened.ended == 1);
    rig.stop().await;
}

fn give_more(rig: &Rig) {
    rig.outlet.give([delivery(3, "telemetry/7", Bytes::from("three"))]);
}

#[tokio::test]
async fn what_a_client_may_not_read_any_more_stays_closed_and_it_has_the_rest_of_its_session() {
    let rig = rig().await;
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, true, &[("secret/#", 1), ("telemetry/#", 1)]).await;
    let name = rig.outlet.state().opened[0].1.durable.clone().unwrap();
    client.close();
    rig.outlet.until(|state| state.ended == 2).await;
    rig.outlet.forbid("secret/#");
    give(&rig, &["one"]);
    let mut client = Client::connect(rig.address(), &hello).await;
    assert_eq!(client.next().await.unwrap().published(true).3, "one");
    let unsuback = client.ask(&packet(0xA2, &[&[0, 5, 0], &text("secret/#")])).await.unwrap();
    assert_eq!(unsuback.body, [0, 5, 0, 0]);
    assert_eq!(rig.outlet.state().forgotten, [name]);
    rig.stop().await;
}

#[tokio::test]
async fn an_alias_stands_for_nothing_before_the_client_was_told_of_it() {
    let rig = rig().await;
    rig.outlet.give([delivery(1, "telemetry/7", vec![b'x'; 2_000].into()), delivery(2, "telemetry/7", "two".into())]);
    let hello = Hello { properties: vec![0x22, 0, 1, 0x27, 0, 0, 0x04, 0], ..Hello::five("alias") };
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, true, &[("telemetry/#", 0)]).await;
    let (topic, _, _, payload) = client.next().await.unwrap().published(true);
    assert_eq!((topic.as_str(), payload.as_str()), ("telemetry/7", "two"));
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_8_4_3_subscribing_again_changes_the_options_and_misses_nothing() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, true, &[("telemetry/#", 1)]).await;
    subscribed(&mut client, true, &[("telemetry/#", 2)]).await;
    assert_eq!(rig.outlet.state().opened.len(), 1, "it is the same subscription");
    rig.stop().await;
}

#[tokio::test]
async fn a_subscription_that_is_raised_from_qos_0_loses_nothing_more() {
    let mut config = super::client::config();
    config.session.max_queued = 1;
    let rig = super::client::rig_of(&config).await;
    rig.outlet.give([retained(1, "a", "1"), retained(2, "b", "2"), retained(3, "c", "3")]);
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, true, &[("#", 0x20)]).await;
    assert_eq!(client.next().await.unwrap().published(true).3, "3", "at QoS 0 a slow client gets the newest");
    client.send(&subscribe(true, 9, &[], &[("#", 0x01)])).await;
    assert_eq!(client.next().await.unwrap().first, 0x90);
    for expected in ["1", "2", "3"] {
        let value = client.next().await.unwrap();
        assert_eq!((value.first, value.published(true).3.as_str()), (0x33, expected));
    }
    assert_eq!(rig.outlet.state().opened.len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn only_a_subscription_at_qos_0_does_not_wait_for_the_disk() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, true, &[("a", 1), ("b", 2)]).await;
    subscribed(&mut client, true, &[("c", 0)]).await;
    rig.outlet.until(|state| state.early == [true]).await;
    subscribed(&mut client, true, &[("c", 1)]).await;
    rig.outlet.until(|state| state.early == [true, false]).await;
    assert_eq!(rig.outlet.state().opened.len(), 3, "it is the same subscription");
    rig.stop().await;
}

fn retained(n: u64, topic: &'static str, text: &'static str) -> envelope::Delivery {
    envelope::Delivery { retained: true, ..delivery(n, topic, Bytes::from(text)) }
}

#[tokio::test]
async fn mqtt_3_3_1_9_to_11_a_subscription_begins_with_the_last_values_as_its_retain_handling_says() {
    for (options, expected) in [(0x01, true), (0x11, true), (0x21, false)] {
        let rig = rig().await;
        rig.outlet.give([retained(1, "a", "old"), retained(2, "a", "kept"), retained(3, "b", "")]);
        let mut client = Client::five(&rig).await;
        subscribed(&mut client, true, &[("#", options)]).await;
        let first = client.next().await.unwrap();
        assert_eq!(first.first & 0x01, u8::from(expected), "RETAIN");
        assert_eq!(first.published(true).3, if expected { "kept" } else { "old" }, "a value never goes back");
        rig.stop().await;
    }
}

#[tokio::test]
async fn mqtt_3_8_4_4_subscribing_again_brings_the_last_values_again_unless_it_is_not_to() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, true, &[("a", 0x01)]).await;
    rig.outlet.give([retained(1, "a", "kept")]);
    subscribed(&mut client, true, &[("a", 0x11)]).await;
    assert_eq!(client.until_pong().await, [], "it is not new");
    subscribed(&mut client, true, &[("a", 0x01)]).await;
    let again = client.next().await.unwrap();
    assert_eq!((again.first & 0x01, again.published(true).3.as_str()), (1, "kept"));
    rig.stop().await;
}

#[tokio::test]
async fn in_mqtt_3_1_1_subscribing_again_always_brings_the_last_values_again() {
    let rig = rig().await;
    let mut client = Client::three(&rig).await;
    rig.outlet.give([retained(1, "a", "kept")]);
    for _ in 0..2 {
        subscribed(&mut client, false, &[("a", 1)]).await;
        let value = client.next().await.unwrap();
        assert_eq!((value.first & 0x01, value.published(false).3.as_str()), (1, "kept"));
        client.send(&ack(0x40, value.published(false).1)).await;
    }
    assert_eq!(rig.outlet.state().opened.len(), 1, "it is the same subscription");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_3_1_12_and_13_retain_is_0_for_what_comes_later_but_with_retain_as_published() {
    for (options, retain) in [(0x21, 0), (0x29, 1)] {
        let rig = rig().await;
        rig.outlet.give([retained(1, "a", "later")]);
        let mut client = Client::five(&rig).await;
        subscribed(&mut client, true, &[("a", options)]).await;
        assert_eq!(client.next().await.unwrap().first & 0x01, retain);
        rig.stop().await;
    }
}

#[tokio::test]
async fn subscriptions_are_bounded() {
    let mut config = super::client::config();
    config.session.max_subscriptions = 2;
    let rig = super::client::rig_of(&config).await;
    let mut client = Client::five(&rig).await;
    assert_eq!(subscribed(&mut client, true, &[("a", 0), ("b", 0), ("c", 0), ("a", 0)]).await, [0, 0, 0x97, 0]);
    rig.stop().await;
}
