use crate::mqtt::tests::client::{Client, Hello, config, packet, publish, rig, subscribe, text};

/// A CONNECT of MQTT 5.0 with these flags, and what follows its properties.
fn connect(flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    packet(0x10, &[&text("MQTT"), &[5, flags, 0, 60, 0], &payload.concat()])
}

#[tokio::test]
async fn mqtt_3_1_4_1_a_connect_that_is_not_as_the_standard_says_is_closed_without_a_session() {
    let rig = rig().await;
    let (id, ill) = (text("a"), [0, 2, 0xC3, 0x28]);
    let will = [&[0][..], &text("gone"), &text("bye")].concat();
    let cases: [(&str, Vec<u8>); 21] = [
        ("3.1.2-1: another name", packet(0x10, &[&text("mqtt"), &[5, 2, 0, 60, 0], &id])),
        ("3.1.2-3: the reserved flag", connect(0x03, &[&id])),
        ("3.1.2-9: a will flag without a will", connect(0x06, &[&id])),
        ("3.1.2-11: a will's QoS without a will", connect(0x0A, &[&id])),
        ("3.1.2-12: a will's QoS 3", connect(0x1E, &[&id, &will])),
        ("3.1.2-13: a will's RETAIN without a will", connect(0x22, &[&id])),
        ("3.1.2-16: a user name without its flag", connect(0x02, &[&id, &text("u")])),
        ("3.1.2-17: a user name's flag without one", connect(0x82, &[&id])),
        ("3.1.2-18: a password without its flag", connect(0x82, &[&id, &text("u"), &text("p")])),
        ("3.1.2-19: a password's flag without one", connect(0x42, &[&id])),
        ("3.1.3-3: no client identifier", connect(0x02, &[])),
        ("3.1.3-4: a client identifier that is not UTF-8", connect(0x02, &[&ill])),
        ("3.1.3-11: a will's topic that is not UTF-8", connect(0x06, &[&id, &[0], &ill, &text("bye")])),
        ("3.1.3-12: a user name that is not UTF-8", connect(0x82, &[&id, &ill])),
        ("1.5.4-2: U+0000 in a client identifier", connect(0x02, &[&text("a\0b")])),
        ("4.7.0-1: a will's topic with a wildcard", connect(0x06, &[&id, &[0], &text("a/#"), &text("bye")])),
        (
            "2.1.3-1: flags of CONNECT",
            connect(0x02, &[&id]).into_iter().enumerate().map(|(n, byte)| byte | u8::from(n == 0)).collect(),
        ),
        ("3.1.2.11: a receive maximum of 0", packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60, 3, 0x21, 0, 0], &id])),
        (
            "3.1.2.11: a maximum packet size of 0",
            packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60, 5, 0x27, 0, 0, 0, 0], &id]),
        ),
        ("2.2.2: a property twice", packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60, 4, 0x17, 1, 0x17, 1], &id])),
        (
            "1.5.7-1: a user property that is not UTF-8",
            packet(0x10, &[&text("MQTT"), &[5, 2, 0, 60, 8, 0x26], &ill, &text("v"), &id]),
        ),
    ];
    for (what, bytes) in cases {
        let mut client = Client::open(rig.address()).await;
        assert_eq!(client.ask(&bytes).await, None, "{what}");
    }
    rig.until(|counts| counts.on_record.len() == 21).await;
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_4_6_and_3_14_0_1_what_follows_a_connect_that_is_rejected_is_not_processed() {
    let rig = rig().await;
    let hello = Hello { username: Some("ada"), password: Some("wrong"), ..Hello::five("a") };
    let mut client = Client::open(rig.address()).await;
    let bytes = [hello.bytes(), publish(0x02, "a", 1, &[0], "x"), subscribe(true, 2, &[], &[("#", 0)])].concat();
    let connack = client.ask(&bytes).await.unwrap();
    assert_eq!((connack.first, &connack.body[..2]), (0x20, &[0, 0x86][..]), "3.2.2-6: no session is present");
    assert_eq!(client.next().await, None, "3.2.2-7: it is closed");
    rig.stop().await;
    assert_eq!((rig.counts().received, rig.outlet.state().opened.len()), (0, 0));
}

#[tokio::test]
async fn mqtt_3_2_0_1_and_2_and_3_1_4_5_connack_comes_first_and_once_whatever_is_sent_with_connect() {
    let rig = rig().await;
    let mut client = Client::open(rig.address()).await;
    client.send(&[Hello::five("a").bytes(), vec![0xC0, 0], publish(0x02, "a", 1, &[0], "x")].concat()).await;
    let answers = [client.next().await.unwrap(), client.next().await.unwrap(), client.next().await.unwrap()];
    assert_eq!(answers.map(|answer| answer.first), [0x20, 0xD0, 0x40]);
    assert_eq!(client.until_pong().await, []);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_3_5_every_client_identifier_of_the_standard_is_taken_and_longer_ones_too() {
    let rig = rig().await;
    for id in [
        "0123456789abcdefghijklm",
        "nopqrstuvwxyzABCDEFGHIJ",
        "KLMNOPQRSTUVWXYZ",
        "ä/long one: with what is not in the list",
    ] {
        Client::connect(rig.address(), &Hello::five(id)).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_2_2_16_a_client_identifier_that_is_assigned_is_nobody_else_s() {
    let rig = rig().await;
    let assigned = |connack: &[u8]| {
        let at = connack.windows(9).position(|window| window == b"openmesh-").unwrap();
        connack[at..at + 41].to_vec()
    };
    let (mut first, one) = Client::connected(rig.address(), &Hello::five("")).await;
    let (_second, two) = Client::connected(rig.address(), &Hello::five("")).await;
    assert_ne!(assigned(&one.body), assigned(&two.body));
    assert_eq!(first.until_pong().await, [], "nobody took it over");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_2_14_and_15_a_will_is_retained_if_its_client_said_so() {
    let rig = rig().await;
    let will = [&[0][..], &text("gone"), &text("bye")].concat();
    for (n, (flags, retain)) in [(0x08, false), (0x28, true)].into_iter().enumerate() {
        let hello = Hello { will: Some((flags, will.clone())), ..Hello::five("a") };
        Client::connect(rig.address(), &hello).await.close();
        rig.until(|counts| counts.offered == n as u64 + 1).await;
        assert_eq!(rig.seen()[n][0].retain, retain);
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_2_24_no_packet_is_larger_than_the_client_takes() {
    let rig = rig().await;
    rig.outlet.forbid("not/for/you");
    rig.answer(|_| Err(envelope::Rejection::new(envelope::RejectKind::Denied, "test", "because ".repeat(20))));
    let small = |bytes: u8| Hello { properties: vec![0x27, 0, 0, 0, bytes], ..Hello::five("small") };
    let mut tiny = Client::open(rig.address()).await;
    assert_eq!(tiny.ask(&small(5).bytes()).await.unwrap().body, [0, 0x95, 0], "3.2.2-19: nor is CONNACK");
    let mut client = Client::connect(rig.address(), &small(40)).await;
    let puback = client.ask(&publish(0x02, "a", 7, &[0], "x")).await.unwrap();
    assert_eq!((puback.first, &puback.body[..]), (0x40, &[0, 7, 0x87][..]), "3.4.2-2");
    let pubrec = client.ask(&publish(0x04, "a", 7, &[0], "x")).await.unwrap();
    assert_eq!((pubrec.first, &pubrec.body[..]), (0x50, &[0, 7, 0x87][..]), "3.5.2-2");
    let suback = client.ask(&subscribe(true, 9, &[], &[("not/for/you", 0)])).await.unwrap();
    assert_eq!((suback.first, &suback.body[..]), (0x90, &[0, 9, 0, 0x87][..]), "3.9.2-1");
    let many: Vec<(&str, u8)> = (0..40).map(|_| ("#/x", 0)).collect();
    client.send(&subscribe(true, 9, &[], &many)).await;
    let disconnect = client.next().await.unwrap();
    assert_eq!((disconnect.first, &disconnect.body[..]), (0xE0, &[0x95, 0][..]), "3.14.2-3");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_2_1_3_1_reserved_flags_of_every_packet_are_what_the_standard_says() {
    let rig = rig().await;
    let id = [0, 1];
    let cases: [(&str, Vec<u8>); 11] = [
        ("PUBACK", packet(0x41, &[&id])),
        ("PUBREC", packet(0x52, &[&id])),
        ("3.6.1-1: PUBREL", packet(0x60, &[&id])),
        ("PUBCOMP", packet(0x78, &[&id])),
        ("3.8.1-1: SUBSCRIBE", packet(0x83, &[&id, &[0], &text("a"), &[0]])),
        ("3.10.1-1: UNSUBSCRIBE", packet(0xA0, &[&id, &[0], &text("a")])),
        ("PINGREQ", vec![0xC1, 0]),
        ("3.14.1-1: DISCONNECT", vec![0xE1, 0]),
        ("3.15.1-1: AUTH", vec![0xF1, 0]),
        ("a PINGREQ with a body", vec![0xC0, 1, 0]),
        ("a PUBACK without an identifier", vec![0x40, 0]),
    ];
    for (what, bytes) in cases {
        let mut client = Client::connect(rig.address(), &Hello::five("")).await;
        client.send(&bytes).await;
        assert_eq!(client.disconnected().await, Some(0x81), "{what}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_2_2_10_subscriptions_are_granted_at_qos_that_may_not_be_published_at() {
    let mut config = config();
    config.max_qos = envelope::Qos::AtMostOnce;
    let rig = crate::conformance::Rig::start(&config).await;
    let (mut client, connack) = Client::connected(rig.address(), &Hello::five("a")).await;
    assert!(connack.body.windows(2).any(|two| two == [0x24, 0]), "3.2.2-9");
    let suback = client.ask(&subscribe(true, 9, &[], &[("a", 1), ("b", 2)])).await.unwrap();
    assert_eq!(suback.body, [0, 9, 0, 1, 2]);
    rig.stop().await;
}

/// The identifiers of CONNACK's properties.
fn properties_of(connack: &[u8]) -> Vec<u8> {
    let mut rest = &connack[3..3 + usize::from(connack[2])];
    let mut found = Vec::new();
    while let [id, behind @ ..] = rest {
        found.push(*id);
        let text = |bytes: &[u8]| 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let length = match id {
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => 1,
            0x13 | 0x21 | 0x22 => 2,
            0x11 | 0x27 => 4,
            0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => text(behind),
            other => panic!("{other:#x} in {connack:?}"),
        };
        rest = &behind[length..];
    }
    found
}

#[tokio::test]
async fn mqtt_3_1_2_28_and_4_12_0_6_connack_has_no_response_information_and_nothing_of_authentication() {
    let rig = rig().await;
    for properties in [vec![], vec![0x19, 0], vec![0x19, 1]] {
        let (mut client, connack) = Client::connected(rig.address(), &Hello { properties, ..Hello::five("") }).await;
        let found = properties_of(&connack.body);
        assert!(found.contains(&0x12) && [0x15, 0x16, 0x1A].iter().all(|id| !found.contains(id)), "{found:x?}");
        assert_eq!(client.until_pong().await, [], "nor does an AUTH follow");
    }
    rig.stop().await;
}
