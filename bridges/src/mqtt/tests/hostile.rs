//! Bytes and sequences that no client should send: the standard's answer, and nobody else notices.

use std::time::Duration;

use super::client::{Client, Hello, ack, config, packet, publish, rig, subscribe, text};
use crate::conformance::Rig;

/// The reason that a client of MQTT 5.0 is disconnected with after it sent this.
async fn after(rig: &Rig, bytes: &[u8]) -> Option<u8> {
    let mut client = Client::connect(rig.address(), &Hello::five("")).await;
    client.send(bytes).await;
    client.disconnected().await
}

/// A PUBLISH with a property of text that is not UTF-8.
fn publish_ill(property: u8) -> Vec<u8> {
    publish(0x02, "a", 1, &[5, property, 0, 2, 0xC3, 0x28], "x")
}

#[tokio::test]
async fn who_waits_for_room_for_a_large_packet_is_let_in_no_more_all_the_same() {
    let rig = rig().await;
    let all = rig.fill();
    let hello = Hello { username: Some("ada"), password: Some("right"), ..Hello::five("a") };
    let mut client = Client::connect(rig.address(), &hello).await;
    let large = publish(0x02, "a", 1, &[0], &"x".repeat(100_000));
    client.send(&large[..20_000]).await;
    rig.revoke("ada");
    assert_eq!(client.disconnected().await, Some(0x87));
    drop(all);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_13_1_1_and_4_13_2_1_what_breaks_the_protocol_is_answered_with_its_reason_and_closed() {
    let rig = rig().await;
    let mut bystander = Client::five(&rig).await;
    let second = Hello::five("again").bytes();
    let cases: [(&str, Vec<u8>, u8); 29] = [
        ("MQTT-3.1.0-2: a second CONNECT", second, 0x82),
        ("a SUBACK from a client", vec![0x90, 3, 0, 1, 0], 0x82),
        ("a CONNACK from a client", vec![0x20, 2, 0, 0], 0x82),
        ("packet type 0", vec![0x00, 0], 0x81),
        ("MQTT-3.8.1-1: flags of SUBSCRIBE", packet(0x80, &[&[0, 1, 0], &text("a"), &[0]]), 0x81),
        ("a length of 268 MB", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], 0x95),
        ("a length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], 0x81),
        ("MQTT-1.5.5-1: a padded length", vec![0xC0, 0x80, 0], 0x81),
        ("MQTT-3.3.1-4: QoS 3", publish(0x06, "a", 1, &[0], "x"), 0x81),
        ("MQTT-3.3.1-2: DUP at QoS 0", publish(0x08, "a", 0, &[0], "x"), 0x81),
        ("MQTT-2.2.1-3: packet identifier 0", publish(0x02, "a", 0, &[0], "x"), 0x82),
        ("MQTT-3.3.2-2: a wildcard in a topic", publish(0x02, "a/+", 1, &[0], "x"), 0x90),
        ("MQTT-4.7.3-1: an empty topic", publish(0x02, "", 1, &[0], "x"), 0x82),
        ("MQTT-1.5.4-2: U+0000 in a topic", publish(0x02, "a\0b", 1, &[0], "x"), 0x81),
        ("MQTT-3.3.2-13: a response topic that is not UTF-8", publish_ill(0x08), 0x81),
        ("MQTT-3.3.2-19: a content type that is not UTF-8", publish_ill(0x03), 0x81),
        ("MQTT-1.5.4-1, 3.3.2-1: a topic that is not UTF-8", vec![0x30, 4, 0, 1, 0xFF, 0], 0x81),
        ("MQTT-3.3.2-8: alias 0", publish(0x02, "a", 1, &[3, 0x23, 0, 0], "x"), 0x94),
        ("MQTT-3.3.2-9: an alias over the maximum", publish(0x02, "a", 1, &[3, 0x23, 0, 65], "x"), 0x94),
        ("an alias that stands for nothing", publish(0x02, "", 1, &[3, 0x23, 0, 9], "x"), 0x82),
        ("MQTT-3.3.4-6: a subscription identifier", publish(0x02, "a", 1, &[2, 0x0B, 1], "x"), 0x81),
        ("MQTT-3.3.2-14: a wildcard in a response topic", publish(0x02, "a", 1, &[4, 0x08, 0, 1, b'#'], "x"), 0x82),
        ("a property twice", publish(0x02, "a", 1, &[4, 0x01, 1, 0x01, 1], "x"), 0x82),
        ("MQTT-3.8.3-2: no filter", vec![0x82, 3, 0, 1, 0], 0x82),
        ("MQTT-3.8.3-5: reserved options", subscribe(true, 1, &[], &[("a", 0xC0)]), 0x81),
        ("MQTT-3.8.3-4: No Local on a shared subscription", subscribe(true, 1, &[], &[("$share/g/a", 0x04)]), 0x82),
        ("subscription identifier 0", subscribe(true, 1, &[0x0B, 0], &[("a", 0)]), 0x82),
        ("MQTT-3.10.3-2: no filter to unsubscribe from", vec![0xA2, 3, 0, 1, 0], 0x82),
        ("more in a packet than it says", packet(0x40, &[&[0, 1, 0, 0, 9]]), 0x81),
    ];
    for (what, bytes, reason) in cases {
        assert_eq!(after(&rig, &bytes).await, Some(reason), "{what}");
    }
    assert_eq!(bystander.until_pong().await, [], "nobody else notices");
    assert_eq!(rig.counts().received, 0);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_1_has_no_disconnect_and_is_closed() {
    let rig = rig().await;
    let options = |options: u8| subscribe(false, 1, &[], &[("a", options)]);
    for bytes in [
        publish(0x02, "a/#", 1, &[], "x"),
        vec![0xF0, 0],
        vec![0xE0, 1, 0],
        vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F],
        // the options of MQTT 5.0 are reserved bits here (3.1.1: MQTT-3-8.3-4)
        options(0x03),
        options(0x04),
        options(0x08),
        options(0x10),
        options(0x20),
        options(0x40),
        options(0x80),
    ] {
        let mut client = Client::connect(rig.address(), &Hello::three("")).await;
        client.send(&bytes).await;
        assert_eq!(client.next().await, None, "{bytes:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_0_1_a_first_packet_that_is_no_connect_is_closed_without_a_word() {
    let rig = rig().await;
    let flags = |flags: u8| packet(0x10, &[&text("MQTT"), &[5, flags], &[0, 0, 0], &text("a")]);
    for bytes in [
        publish(0, "a", 0, &[0], "x"),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 0, 0],
        vec![0x11, 0],
        flags(0x01),
        flags(0x08),
        packet(0x10, &[&text("MQTT"), &[4, 0x42], &[0, 0], &text("a"), &text("b")]),
        packet(0x10, &[&text("HTTP"), &[5, 2], &[0, 0, 0], &text("a")]),
    ] {
        let mut client = Client::open(rig.address()).await;
        assert_eq!(client.ask(&bytes).await, None, "{bytes:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn who_never_connects_is_closed_in_time() {
    let mut config = config();
    config.connect_timeout = Duration::from_millis(200);
    let rig = Rig::start(&config).await;
    let mut silent = Client::open(rig.address()).await;
    let mut half = Client::open(rig.address()).await;
    half.send(&Hello::five("half").bytes()[..9]).await;
    assert_eq!((silent.next().await, half.next().await), (None, None));
    rig.stop().await;
}

#[tokio::test]
async fn half_a_packet_and_then_silence_ends_with_the_keep_alive() {
    let rig = rig().await;
    let mut client = Client::connect(rig.address(), &Hello { keep_alive: 1, ..Hello::five("a") }).await;
    client.send(&publish(0x02, "a", 1, &[0], "payload")[..5]).await;
    assert_eq!(client.disconnected().await, Some(0x8D));
    assert_eq!(rig.counts().received, 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_large_packet_that_does_not_come_gives_its_bytes_back_in_time() {
    let mut config = config();
    config.packet_timeout = Duration::from_millis(300);
    let rig = Rig::start(&config).await;
    let mut client = Client::five(&rig).await;
    let bytes = publish(0x02, "a", 1, &[0], &"x".repeat(1_000_000));
    client.send(&bytes[..5]).await;
    rig.until_in_flight().await;
    assert_eq!(client.disconnected().await, Some(0x97));
    let mut client = Client::five(&rig).await;
    client.send(&bytes).await;
    assert_eq!(client.next().await.unwrap().first, 0x40);
    rig.stop().await;
}

#[tokio::test]
async fn a_large_packet_that_is_no_new_message_keeps_no_bytes() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    for flags in [0x04, 0x0C] {
        let bytes = publish(flags, "a", 7, &[0], &"x".repeat(1_000_000));
        client.send(&bytes[..5]).await;
        rig.until_in_flight().await;
        assert_eq!(client.ask(&bytes[5..]).await.unwrap().first, 0x50);
        assert!(rig.is_empty());
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_3_4_7_more_in_flight_than_receive_maximum_is_the_end() {
    let mut config = config();
    config.receive_maximum = 3;
    let rig = Rig::start(&config).await;
    rig.hold();
    let mut client = Client::five(&rig).await;
    let burst: Vec<u8> = (1..=4).flat_map(|id| publish(0x02, "a", id, &[0], "x")).collect();
    client.send(&burst).await;
    rig.release();
    assert_eq!(client.disconnected().await, Some(0x93));
    rig.stop().await;
}

#[tokio::test]
async fn with_all_identifiers_in_flight_a_repeat_is_answered_again_and_what_is_released_is_free() {
    let mut config = config();
    config.receive_maximum = u16::MAX;
    let rig = Rig::start(&config).await;
    let mut client = Client::five(&rig).await;
    // nothing is ever released
    for from in (1..=u16::MAX).step_by(512) {
        let ids = from..=from.saturating_add(511);
        let burst: Vec<u8> = ids.clone().flat_map(|id| publish(0x04, "a", id, &[0], "x")).collect();
        client.send(&burst).await;
        for id in ids {
            let received = client.next().await.unwrap();
            assert_eq!((received.first, received.id()), (0x50, id));
        }
    }
    let again = client.ask(&publish(0x0C, "a", 7, &[0], "x")).await.unwrap();
    assert_eq!((again.first, again.id()), (0x50, 7), "it is known, and not offered again");
    assert_eq!(rig.counts().offered, u64::from(u16::MAX));
    let done = client.ask(&ack(0x62, 7)).await.unwrap();
    assert_eq!((done.first, done.id()), (0x70, 7));
    let next = client.ask(&publish(0x04, "a", 7, &[0], "x")).await.unwrap();
    assert_eq!((next.first, next.id()), (0x50, 7), "its identifier is free again");
    rig.stop().await;
    assert_eq!(rig.counts().offered, u64::from(u16::MAX) + 1);
}

#[tokio::test]
async fn answers_to_what_was_never_sent_change_nothing() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    client.send(&[ack(0x40, 9), ack(0x70, 9)].concat()).await;
    assert_eq!(client.until_pong().await, []);
    assert_eq!(client.ask(&ack(0x50, 9)).await.unwrap().body, [0, 9, 0x92], "3.6.2-1");
    assert_eq!(client.ask(&ack(0x62, 9)).await.unwrap().body, [0, 9, 0x92], "3.7.2-1");
    rig.stop().await;
}

#[tokio::test]
async fn a_flood_at_qos_0_is_read_no_faster_than_the_mesh_takes_it() {
    let rig = rig().await;
    rig.hold();
    let mut client = Client::five(&rig).await;
    let burst: Vec<u8> = (0..64).flat_map(|_| publish(0, "a", 0, &[0], &"x".repeat(4_096))).collect();
    for _ in 0..4 {
        client.send(&burst).await;
    }
    rig.until(|counts| counts.received > 0).await;
    let taken = rig.counts().received;
    assert!(taken < 256, "{taken} of 256 were read while none was taken");
    rig.release();
    rig.until(|counts| counts.offered == 256).await;
    rig.stop().await;
}

#[tokio::test]
async fn what_stands_beside_the_payload_counts_too() {
    let rig = rig().await;
    rig.hold();
    let mut client = Client::five(&rig).await;
    let note = [&[0x26][..], &text("k"), &text(&"x".repeat(2_000))].concat();
    let properties = [&[note.len() as u8 | 0x80, (note.len() >> 7) as u8][..], &note].concat();
    let message = publish(0, "a", 0, &properties, "");
    client.send(&message.repeat(300)).await;
    // what a lane holds, and the batch that it is asked for
    rig.until(|counts| counts.received > 65_536 / message.len() as u64).await;
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
    let received = rig.counts().received;
    assert!(received < 100, "{received} messages of {} bytes are taken in", message.len());
    rig.release();
    rig.until(|counts| counts.offered == 300).await;
    rig.stop().await;
}
