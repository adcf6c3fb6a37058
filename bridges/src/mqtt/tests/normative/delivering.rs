use bytes::Bytes;
use envelope::{Delivery, Settlement, Timestamp};

use crate::{
    conformance::{Rig, delivery},
    mqtt::tests::client::{Client, Hello, ack, packet, publish, rig, subscribe, text},
};

fn give(rig: &Rig, numbers: impl IntoIterator<Item = u64>) {
    rig.outlet.give(numbers.into_iter().map(|n| delivery(n, "a/b", Bytes::from(n.to_string()))));
}

async fn subscribed(client: &mut Client, filters: &[(&str, u8)]) {
    assert_eq!(client.ask(&subscribe(true, 9, &[], filters)).await.unwrap().first, 0x90);
}

#[tokio::test]
async fn mqtt_4_6_0_5_and_6_messages_of_a_topic_come_in_their_order_at_every_qos() {
    let rig = rig().await;
    give(&rig, 1..=20);
    for qos in [0, 1, 2] {
        let mut client = Client::connect(rig.address(), &Hello::five("")).await;
        subscribed(&mut client, &[("a/+", qos)]).await;
        for n in 1..=20 {
            let publish = client.next().await.unwrap();
            assert_eq!(publish.published(true).3, n.to_string());
            assert_eq!(publish.first & 0x08, 0, "4.3.1-1, 4.3.2-2, 4.3.3-2: DUP is 0");
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_2_2_1_4_an_identifier_that_is_in_use_is_given_to_no_other_message() {
    let rig = rig().await;
    give(&rig, 1..=3);
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, &[("a/#", 1), ("+/b", 2)]).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(client.next().await.unwrap().published(true).1);
    }
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == 6 && ids[0] > 0, "{ids:?}; 3.3.4-2: one for each subscription");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_3_4_10_and_4_9_0_3_only_publishes_wait_for_the_quota() {
    let rig = rig().await;
    give(&rig, 1..=3);
    let hello = Hello { properties: vec![0x21, 0, 1], ..Hello::five("one") };
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, &[("a/#", 1)]).await;
    assert_eq!(client.next().await.unwrap().published(true).3, "1");
    assert_eq!(client.ask(&publish(0x02, "x", 7, &[0], "x")).await.unwrap().first, 0x40);
    assert_eq!(client.ask(&subscribe(true, 10, &[], &[("b", 1)])).await.unwrap().first, 0x90);
    assert_eq!(client.until_pong().await, []);
    client.send(&ack(0x40, 1)).await;
    assert_eq!(client.next().await.unwrap().published(true).3, "2");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_4_0_2_what_a_client_has_refused_does_not_come_again() {
    for (qos, answer) in [(1, 0x40), (2, 0x50)] {
        let rig = rig().await;
        give(&rig, [1]);
        let hello = Hello::five("same").staying();
        let mut client = Client::connect(rig.address(), &hello).await;
        subscribed(&mut client, &[("a/#", qos)]).await;
        client.next().await.unwrap();
        client.send(&packet(answer, &[&[0, 1, 0x99]])).await;
        rig.outlet.until(|state| state.settled.len() == 1).await;
        assert!(matches!(rig.outlet.state().settled[0].1, Settlement::DeadLettered(_)));
        rig.stop().await;
    }
}

#[tokio::test]
async fn mqtt_3_10_4_3_what_is_on_its_way_when_a_client_unsubscribes_is_completed() {
    let rig = rig().await;
    give(&rig, [1]);
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, &[("a/#", 2)]).await;
    assert_eq!(client.next().await.unwrap().first, 0x34);
    assert_eq!(client.ask(&packet(0xA2, &[&[0, 5, 0], &text("a/#")])).await.unwrap().first, 0xB0);
    let pubrel = client.ask(&ack(0x50, 1)).await.unwrap();
    assert_eq!((pubrel.first, pubrel.id(), pubrel.reason()), (0x62, 1, 0), "4.3.3-4");
    client.send(&ack(0x70, 1)).await;
    assert_eq!(client.ask(&ack(0x50, 1)).await.unwrap().reason(), 0x92, "it is over");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_2_26_and_27_aliases_are_sent_up_to_the_client_s_maximum_and_without_one_none() {
    let rig = rig().await;
    rig.outlet.give([delivery(1, "a", Bytes::new()), delivery(2, "b", Bytes::new()), delivery(3, "a", Bytes::new())]);
    let aliased = |properties: &[u8]| properties.windows(3).find(|three| three[..2] == [0x23, 0]).map(|three| three[2]);
    for (hello, expected) in [
        (Hello::five("none"), [None, None, None]),
        (Hello { properties: vec![0x22, 0, 1], ..Hello::five("one") }, [Some(1), None, Some(1)]),
    ] {
        let mut client = Client::connect(rig.address(), &hello).await;
        subscribed(&mut client, &[("+", 0)]).await;
        for alias in expected {
            let (_, _, properties, _) = client.next().await.unwrap().published(true);
            assert_eq!(aliased(&properties), alias);
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_3_4_3_and_5_each_copy_for_an_overlapping_subscription_has_that_one_s_identifier() {
    let rig = rig().await;
    give(&rig, [1]);
    let mut client = Client::five(&rig).await;
    for (filter, id) in [("a/+", &[0x0B, 77][..]), ("a/#", &[0x0B, 78]), ("+/b", &[])] {
        assert_eq!(client.ask(&subscribe(true, 9, id, &[(filter, 0)])).await.unwrap().first, 0x90);
        let (_, _, properties, payload) = client.next().await.unwrap().published(true);
        let has = |id: u8| properties.windows(2).any(|two| two == [0x0B, id]);
        assert_eq!((payload.as_str(), has(77), has(78)), ("1", id == [0x0B, 77], id == [0x0B, 78]), "{filter}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_3_1_3_dup_is_of_what_this_client_was_sent_and_not_of_what_came_before() {
    let rig = rig().await;
    rig.outlet.give([Delivery { redelivered: true, ..delivery(1, "a/b", "x".into()) }]);
    for qos in [1, 2] {
        let mut client = Client::connect(rig.address(), &Hello::five("")).await;
        subscribed(&mut client, &[("a/b", qos)]).await;
        assert_eq!(client.next().await.unwrap().first, 0x30 | qos << 1);
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_3_3_7_and_13_a_handshake_goes_on_though_its_message_has_expired_meanwhile() {
    let rig = rig().await;
    let end = Timestamp::now().plus(std::time::Duration::from_millis(500));
    let mut one = delivery(1, "a/b", "x".into());
    one.envelope.expirytime = Some(end);
    rig.outlet.give([one]);
    let mut client = Client::five(&rig).await;
    // of what comes, too: the interval is zero seconds
    let expiring = publish(0x04, "x", 7, &[5, 0x02, 0, 0, 0, 0], "x");
    assert_eq!(client.ask(&expiring).await.unwrap().first, 0x50);
    subscribed(&mut client, &[("a/b", 2)]).await;
    assert_eq!(client.next().await.unwrap().first, 0x34);
    while Timestamp::now() <= end {
        assert_eq!(client.until_pong().await, []);
    }
    assert_eq!(client.ask(&ack(0x62, 7)).await.unwrap().first, 0x70);
    let pubrel = client.ask(&ack(0x50, 1)).await.unwrap();
    assert_eq!((pubrel.first, pubrel.reason()), (0x62, 0));
    client.send(&ack(0x70, 1)).await;
    rig.outlet.until(|state| state.settled.len() == 1).await;
    assert_eq!(rig.outlet.state().settled[0].1, Settlement::Delivered);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_10_4_2_what_waits_when_a_client_unsubscribes_is_not_sent_any_more() {
    let rig = rig().await;
    give(&rig, 1..=3);
    let hello = Hello { properties: vec![0x21, 0, 1], ..Hello::five("one") };
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, &[("a/b", 1)]).await;
    let first = client.next().await.unwrap();
    assert_eq!(client.ask(&packet(0xA2, &[&[0, 5, 0], &text("a/b")])).await.unwrap().first, 0xB0);
    client.send(&ack(0x40, first.published(true).1)).await;
    assert_eq!(client.until_pong().await, [], "there is room for the next one, and nobody wants it");
    rig.stop().await;
}
