use crate::mqtt::tests::client::{Client, Hello, ack, packet, publish, rig, text};

#[tokio::test]
async fn mqtt_4_7_3_4_topics_are_taken_as_they_are_written_whatever_they_look_like() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    // 1.5.4-3: U+FEFF is a character; a composed and a decomposed é, and cases, are different
    let topics = ["\u{FEFF}a", "caf\u{E9}", "cafe\u{301}", "A", "a", " a ", "\u{10FFFF}", "a//b"];
    for (id, topic) in (1..).zip(topics) {
        assert_eq!(client.ask(&publish(0x02, topic, id, &[0], "x")).await.unwrap().first, 0x40, "{topic:?}");
    }
    let seen: Vec<_> = rig.seen().into_iter().flatten().map(|inbound| inbound.address.replace("/%/", "//")).collect();
    assert_eq!(seen, topics);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_7_3_3_a_topic_may_have_65535_bytes() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    let long = "x".repeat(65_535);
    assert_eq!(client.ask(&publish(0x02, &long, 1, &[0], "")).await.unwrap().first, 0x40);
    assert_eq!(rig.seen()[0][0].address.len(), 65_535);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_2_2_1_2_at_qos_0_there_is_no_identifier_and_mqtt_3_3_4_1_no_answer() {
    let rig = rig().await;
    let mut client = Client::three(&rig).await;
    client.send(&packet(0x30, &[&text("a"), &[0, 7]])).await;
    assert_eq!(client.until_pong().await, []);
    rig.until(|counts| counts.offered == 1).await;
    assert_eq!(&rig.seen()[0][0].payload[..], [0, 7], "it is the payload");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_3_3_9_after_a_pubrec_that_refuses_the_identifier_is_of_a_new_message() {
    let rig = rig().await;
    let mut refuse = true;
    rig.answer(move |_| {
        let no = envelope::Rejection::new(envelope::RejectKind::Malformed, "test", "no");
        if std::mem::take(&mut refuse) { Err(no) } else { Ok(envelope::Admission::Filtered) }
    });
    let mut client = Client::five(&rig).await;
    assert_eq!(client.ask(&publish(0x04, "a", 7, &[0], "x")).await.unwrap().reason(), 0x99);
    assert_eq!(client.ask(&publish(0x0C, "a", 7, &[0], "y")).await.unwrap().body, [0, 7]);
    let seen = rig.seen();
    assert_ne!(seen[0][0].identity, seen[1][0].identity);
    assert_eq!(client.ask(&ack(0x62, 7)).await.unwrap().first, 0x70, "4.3.3-11");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_3_2_7_a_topic_alias_is_of_its_connection() {
    let rig = rig().await;
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(rig.address(), &hello).await;
    client.ask(&publish(0x02, "a", 1, &[3, 0x23, 0, 1], "x")).await;
    client.close();
    let mut client = Client::connect(rig.address(), &hello).await;
    client.send(&publish(0x02, "", 2, &[3, 0x23, 0, 1], "x")).await;
    assert_eq!(client.disconnected().await, Some(0x82));
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_3_2_10_every_alias_up_to_the_maximum_is_taken() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    for alias in 1..=64_u8 {
        let topic = format!("t/{alias}");
        client.ask(&publish(0x02, &topic, alias.into(), &[3, 0x23, 0, alias], "x")).await.unwrap();
    }
    assert_eq!(client.ask(&publish(0x02, "", 65, &[3, 0x23, 0, 64], "x")).await.unwrap().first, 0x40);
    assert_eq!(&*rig.seen().last().unwrap()[0].address, "t/64");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_14_4_1_nothing_is_obeyed_behind_a_disconnect() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    client.send(&[vec![0xE0, 0], publish(0x02, "a", 1, &[0], "x")].concat()).await;
    assert_eq!(client.next().await, None, "3.14.4-2: it is closed without a word");
    rig.stop().await;
    assert_eq!(rig.counts().received, 0);
}
