//! What the listener says of itself, and what clients see below a prefix.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use envelope::Conversation;

use super::client::{Client, Hello, config, publish, rig, rig_of, subscribe, text};
use crate::conformance::delivery;

#[tokio::test]
async fn who_may_read_it_gets_the_values_of_sys_and_then_what_changes() {
    let mut config = config();
    config.sys_interval = Duration::from_millis(50);
    let rig = rig_of(&config).await;
    let mut client = Client::five(&rig).await;
    client.ask(&publish(0x02, "a", 1, &[0], "x")).await;
    let suback = client.ask(&subscribe(true, 9, &[], &[("$SYS/#", 2)])).await.unwrap();
    assert_eq!(suback.body, [0, 9, 0, 0], "at QoS 0");
    let mut values = BTreeMap::new();
    for _ in 0..8 {
        let value = client.next().await.unwrap();
        assert_eq!(value.first, 0x31, "as last values");
        let (topic, _, _, payload) = value.published(true);
        values.insert(topic, payload);
    }
    assert_eq!(values["$SYS/broker/version"], concat!("openmesh ", env!("CARGO_PKG_VERSION")));
    for (topic, value) in [("clients/connected", "1"), ("clients/total", "1"), ("messages/received", "1")] {
        assert_eq!(values[&format!("$SYS/broker/{topic}")], value, "{topic}");
    }
    assert!(values.contains_key("$SYS/broker/uptime") && values.contains_key("$SYS/broker/retained messages/count"));
    let other = Client::connect(rig.address(), &Hello::five("other")).await;
    loop {
        let (topic, _, _, payload) = client.next().await.unwrap().published(true);
        if topic == "$SYS/broker/clients/connected" {
            assert_eq!(payload, "2");
            break;
        }
    }
    drop(other);
    assert!(rig.outlet.state().opened.is_empty(), "nothing of it is stored");
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_7_2_1_sys_is_read_by_its_name_and_with_a_right_to_it() {
    let rig = rig().await;
    rig.outlet.forbid("$SYS/#");
    let mut client = Client::three(&rig).await;
    let suback = client.ask(&subscribe(false, 9, &[], &[("$SYS/#", 0), ("$SYS/broker/version", 0), ("#", 0)])).await;
    assert_eq!(suback.unwrap().body, [0, 9, 0x80, 0, 0]);
    let (topic, _, _, _) = client.next().await.unwrap().published(false);
    assert_eq!(topic, "$SYS/broker/version");
    assert_eq!(client.until_pong().await, []);
    rig.stop().await;
}

#[tokio::test]
async fn with_a_prefix_clients_see_topics_without_it_and_no_others() {
    let mut config = config();
    config.prefix = Some("floor".into());
    let rig = rig_of(&config).await;
    let mut one = delivery(1, "floor/a/%", Bytes::from("1"));
    let id = Conversation::id_of(&[0, 255]);
    one.envelope.conversation =
        Some(Box::new(Conversation { id: Some(id), replyto: Some("floor/answers".into()), ..Conversation::default() }));
    rig.outlet.give([one, delivery(2, "floor", Bytes::from("2")), delivery(3, "other/a", Bytes::from("3"))]);
    let mut client = Client::five(&rig).await;
    client.ask(&subscribe(true, 9, &[], &[("#", 1)])).await;
    let (topic, _, properties, payload) = client.next().await.unwrap().published(true);
    assert_eq!((topic.as_str(), payload.as_str()), ("a/", "1"));
    let has = |wanted: &[u8]| properties.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(&[&[0x08][..], &text("answers")].concat()), "response topic");
    assert!(has(&[0x09, 0, 2, 0, 255]), "correlation data");
    rig.outlet.until(|state| state.settled.len() == 1).await;
    assert_eq!(client.until_pong().await, [], "what stands above the prefix is not seen");
    assert_eq!(rig.outlet.state().opened[0].1.filters[0].as_str(), "floor/#");
    client.ask(&publish(0x02, "b", 1, &[0], "x")).await;
    assert_eq!(&*rig.seen()[0][0].address, "b", "mappings of the bridge see what the client wrote");
    rig.stop().await;
}
