use crate::mqtt::tests::client::{Client, packet, rig, subscribe, text};

#[tokio::test]
async fn mqtt_3_8_4_6_and_3_9_3_1_and_2_and_2_2_1_6_suback_has_a_reason_for_each_filter_in_their_order() {
    let rig = rig().await;
    rig.outlet.forbid("not/for/you");
    let mut client = Client::five(&rig).await;
    let filters = [("a", 2), ("not/for/you", 1), ("b/#", 0), ("#/b", 1), ("c", 1)];
    let suback = client.ask(&subscribe(true, 0x1234, &[], &filters)).await.unwrap();
    assert_eq!((suback.first, suback.id()), (0x90, 0x1234), "3.8.4-1, 3.8.4-2");
    assert_eq!(suback.body[suback.body.len() - 5..], [2, 0x87, 0, 0x8F, 1]);
    let unsubscribe = packet(0xA2, &[&[0x12, 0x35, 0], &text("b/#"), &text("nothing"), &text("a"), &text("a")]);
    let unsuback = client.ask(&unsubscribe).await.unwrap();
    assert_eq!((unsuback.first, unsuback.id()), (0xB0, 0x1235), "3.10.4-4, 3.10.4-5");
    assert_eq!(unsuback.body[3..], [0, 0x11, 0, 0x11], "2.2.2-1, 3.10.4-6, 3.11.3-1, 3.11.3-2");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_7_1_1_and_2_wildcards_stand_alone_and_the_last_one_at_the_end() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    for (filter, reason) in [
        ("#", 0),
        ("a/#", 0),
        ("+", 0),
        ("+/+/#", 0),
        ("/+", 0),
        ("a//b", 0),
        ("/", 0),
        ("a#", 0x8F),
        ("a/#/b", 0x8F),
        ("#/", 0x8F),
        ("a+", 0x8F),
        ("a/+b/c", 0x8F),
        ("", 0x8F),
    ] {
        let suback = client.ask(&subscribe(true, 9, &[], &[(filter, 0)])).await.unwrap();
        assert_eq!(*suback.body.last().unwrap(), reason, "{filter:?}");
        client.ask(&packet(0xA2, &[&[0, 5, 0], &text(filter)])).await.unwrap();
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_10_4_1_filters_are_compared_character_by_character() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    client.ask(&subscribe(true, 9, &[], &[("a/+", 1), ("A/+", 1)])).await;
    let unsubscribe = |filter| packet(0xA2, &[&[0, 5, 0], &text(filter)]);
    for (filter, reason) in [("a/#", 0x11), ("a/b", 0x11), ("a/+/", 0x11), ("a/+", 0), ("a/+", 0x11), ("A/+", 0)] {
        assert_eq!(client.ask(&unsubscribe(filter)).await.unwrap().body, [0, 5, 0, reason], "{filter}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_8_3_1_and_3_10_3_1_filters_are_utf_8_without_a_null() {
    let rig = rig().await;
    for bytes in [
        packet(0x82, &[&[0, 9, 0], &[0, 2, 0xC3, 0x28], &[0]]),
        packet(0x82, &[&[0, 9, 0], &text("a\0"), &[0]]),
        packet(0xA2, &[&[0, 9, 0], &[0, 2, 0xC3, 0x28]]),
        packet(0x82, &[&[0, 0, 0], &text("a"), &[0]]),
    ] {
        let mut client = Client::connect(rig.address(), &super::super::client::Hello::five("")).await;
        client.send(&bytes).await;
        assert!(matches!(client.disconnected().await, Some(0x81 | 0x82)), "{bytes:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_12_4_1_a_ping_is_answered_in_both_versions() {
    let rig = rig().await;
    for mut client in [Client::five(&rig).await, Client::three(&rig).await] {
        let pong = client.ask(&[0xC0, 0]).await.unwrap();
        assert_eq!((pong.first, pong.body.len()), (0xD0, 0));
    }
    rig.stop().await;
}
