//! Shared subscriptions: one of the members gets each message.

use bytes::Bytes;
use envelope::{KeyValue, RejectKind, Settlement};

use super::client::{Client, Hello, ack, config, packet, rig, subscribe, text};
use crate::conformance::{HARD_TIMEOUT, Rig, delivery};

const JOBS: &str = "$share/workers/jobs/#";

fn give(rig: &Rig, numbers: impl IntoIterator<Item = u64>) {
    rig.outlet.give(numbers.into_iter().map(|n| delivery(n, "jobs/1", Bytes::from(n.to_string()))));
}

async fn subscribed(client: &mut Client, filter: &str, options: u8) -> u8 {
    let suback = client.ask(&subscribe(true, 9, &[], &[(filter, options)])).await.unwrap();
    assert_eq!(suback.first, 0x90);
    // behind a reason string, if there is one
    *suback.body.last().unwrap()
}

/// Payload and identifier of the next message, and its first byte.
async fn job(client: &mut Client) -> (String, u16, u8) {
    let publish = client.next().await.unwrap();
    let (_, id, _, payload) = publish.published(true);
    (payload, id, publish.first)
}

#[tokio::test]
async fn mqtt_4_8_2_3_each_message_goes_to_one_member_at_the_qos_that_it_was_granted() {
    let rig = rig().await;
    give(&rig, 1..=4);
    let hello = |id| Hello { properties: vec![0x21, 0, 2], ..Hello::five(id) };
    let (mut one, connack) = Client::connected(rig.address(), &hello("one")).await;
    assert!(connack.body.windows(2).any(|two| two == [0x2A, 1]), "shared subscriptions are available");
    let mut two = Client::connect(rig.address(), &hello("two")).await;
    assert_eq!(subscribed(&mut one, JOBS, 1).await, 1);
    let first = [job(&mut one).await, job(&mut one).await];
    assert_eq!(subscribed(&mut two, JOBS, 2).await, 2);
    let others = [job(&mut two).await, job(&mut two).await];
    assert_eq!(first.map(|(text, _, first)| (text, first)), [("1".into(), 0x32), ("2".into(), 0x32)]);
    assert_eq!(others.map(|(text, _, first)| (text, first)), [("3".into(), 0x34), ("4".into(), 0x34)]);
    let opened = rig.outlet.state().opened;
    assert_eq!(opened.len(), 1, "they share one position");
    assert_eq!(opened[0].1.durable.as_deref(), Some("mqtt:web:$share/workers/jobs/#"));
    one.send(&ack(0x40, 1)).await;
    rig.outlet.until(|state| state.settled.len() == 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_8_2_what_a_member_does_not_acknowledge_goes_to_another_when_it_is_gone() {
    let rig = rig().await;
    give(&rig, 1..=2);
    let mut one = Client::connect(rig.address(), &Hello::five("one").staying()).await;
    let mut two = Client::connect(rig.address(), &Hello { level: 4, ..Hello::five("two") }).await;
    subscribed(&mut one, JOBS, 1).await;
    assert_eq!((job(&mut one).await.0, job(&mut one).await.0), ("1".into(), "2".into()));
    one.send(&ack(0x40, 1)).await;
    rig.outlet.until(|state| state.settled.len() == 1).await;
    two.ask(&subscribe(false, 9, &[], &[(JOBS, 1)])).await;
    one.close();
    let again = two.next().await.unwrap();
    assert_eq!((again.first, again.published(false).3.as_str()), (0x32, "2"), "it was never sent to this one");
    two.send(&ack(0x40, again.published(false).1)).await;
    rig.outlet.until(|state| state.settled.len() == 2).await;
    // nothing is left of it in the session of the other
    let mut one = Client::connect(rig.address(), &Hello::five("one").staying()).await;
    assert_eq!(one.until_pong().await, []);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_8_2_4_a_delivery_at_qos_2_is_completed_with_its_member_over_a_restart() {
    let first = rig().await;
    give(&first, [1]);
    let hello = Hello::five("one").staying();
    let mut one = Client::connect(first.address(), &hello).await;
    subscribed(&mut one, JOBS, 2).await;
    let sent = job(&mut one).await;
    let mut two = Client::connect(first.address(), &Hello::five("two")).await;
    subscribed(&mut two, JOBS, 2).await;
    one.close();
    assert_eq!(two.until_pong().await, [], "it waits for the other");
    let second = first.restart(&config()).await;
    give(&second, 1..=2);
    let mut two = Client::connect(second.address(), &Hello::five("two")).await;
    subscribed(&mut two, JOBS, 2).await;
    assert_eq!(job(&mut two).await.0, "2");
    let mut one = Client::connect(second.address(), &hello).await;
    assert_eq!(job(&mut one).await, (sent.0, sent.1, 0x3C));
    one.ask(&ack(0x50, sent.1)).await;
    second.outlet.until(|state| state.settled.iter().any(|(_, how)| *how == Settlement::Delivered)).await;
    assert!(second.outlet.state().forgotten.is_empty(), "a session is subscribed");
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn mqtt_4_8_2_5_what_was_sent_at_qos_2_goes_to_nobody_else_when_its_session_ends() {
    let rig = rig().await;
    give(&rig, [1]);
    let mut one = Client::five(&rig).await;
    subscribed(&mut one, JOBS, 2).await;
    job(&mut one).await;
    let mut two = Client::connect(rig.address(), &Hello::five("two")).await;
    subscribed(&mut two, JOBS, 2).await;
    one.close();
    rig.outlet.until(|state| state.settled.len() == 1).await;
    assert_eq!(rig.outlet.state().settled[0].1, Settlement::DeadLettered(RejectKind::Conflict));
    assert_eq!(two.until_pong().await, []);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_8_2_5_it_goes_to_nobody_else_though_nobody_else_was_connected_and_another_session_is_subscribed() {
    let rig = rig().await;
    let away = Hello::five("away").staying();
    let mut other = Client::connect(rig.address(), &away).await;
    subscribed(&mut other, JOBS, 2).await;
    other.close();
    give(&rig, [1]);
    rig.outlet.until(|state| state.ended == 1).await;
    let mut one = Client::five(&rig).await;
    subscribed(&mut one, JOBS, 2).await;
    job(&mut one).await;
    one.close();
    rig.outlet.until(|state| state.settled.len() == 1).await;
    assert_eq!(rig.outlet.state().settled[0].1, Settlement::DeadLettered(RejectKind::Conflict));
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_8_2_5_what_a_session_may_have_that_expires_while_nobody_is_connected_is_known_over_a_restart() {
    let first = rig().await;
    give(&first, [1]);
    let mut one = Client::connect(
        first.address(),
        &Hello { properties: vec![0x11, 0, 0, 0, 1], clean: false, ..Hello::five("one") },
    )
    .await;
    subscribed(&mut one, JOBS, 2).await;
    job(&mut one).await;
    let away = Hello::five("away").staying();
    let mut other = Client::connect(first.address(), &away).await;
    subscribed(&mut other, JOBS, 2).await;
    one.close();
    other.close();
    let noted = async {
        loop {
            let kept = first.keys.list("share/", None, 9).await.unwrap().entries;
            if kept[0].value.contains(&0) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HARD_TIMEOUT, noted).await.expect("what is lost to be kept");
    let second = first.restart(&config()).await;
    give(&second, 1..=2);
    let mut other = Client::connect(second.address(), &away).await;
    assert_eq!(job(&mut other).await.0, "2");
    second.outlet.until(|state| state.settled.len() == 1).await;
    assert_eq!(second.outlet.state().settled[0].1, Settlement::DeadLettered(RejectKind::Conflict));
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn mqtt_4_8_2_6_what_a_member_refuses_goes_to_nobody_else() {
    let rig = rig().await;
    give(&rig, [1]);
    let (mut one, mut two) = (Client::five(&rig).await, Client::connect(rig.address(), &Hello::five("two")).await);
    subscribed(&mut one, JOBS, 1).await;
    job(&mut one).await;
    subscribed(&mut two, JOBS, 1).await;
    one.send(&packet(0x40, &[&[0, 1, 0x99]])).await;
    rig.outlet.until(|state| state.settled.len() == 1).await;
    assert_eq!(rig.outlet.state().settled[0].1, Settlement::DeadLettered(RejectKind::Malformed));
    assert_eq!(two.until_pong().await, []);
    rig.stop().await;
}

#[tokio::test]
async fn each_member_gets_what_it_may_read() {
    let rig = rig().await;
    rig.outlet.withhold("ada", "jobs/1");
    give(&rig, [1]);
    rig.outlet.give([delivery(2, "jobs/2", Bytes::from("2"))]);
    let known = |name| Hello { username: Some(name), password: Some("right"), ..Hello::five(name) };
    let mut ada = Client::connect(rig.address(), &known("ada")).await;
    assert_eq!(subscribed(&mut ada, JOBS, 1).await, 1);
    assert_eq!(job(&mut ada).await.0, "2");
    rig.outlet.until(|state| state.settled.len() == 1).await;
    assert_eq!(rig.outlet.state().settled[0].1, Settlement::Refused(RejectKind::Denied), "nobody else is there");
    rig.outlet.forbid("jobs/#");
    let mut bob = Client::connect(rig.address(), &known("bob")).await;
    assert_eq!(subscribed(&mut bob, JOBS, 1).await, 0x87, "the filter is decided on for each");
    rig.stop().await;
}

#[tokio::test]
async fn a_shared_position_ends_with_the_last_of_its_sessions() {
    let rig = rig().await;
    let mut stays = Client::connect(rig.address(), &Hello::five("one").staying()).await;
    let mut goes = Client::connect(rig.address(), &Hello::five("two")).await;
    subscribed(&mut stays, JOBS, 1).await;
    subscribed(&mut goes, JOBS, 1).await;
    goes.send(&[0xE0, 0]).await;
    assert_eq!(goes.next().await, None);
    assert!(rig.outlet.state().forgotten.is_empty());
    let unsuback = stays.ask(&packet(0xA2, &[&[0, 5, 0], &text(JOBS)])).await.unwrap();
    assert_eq!(unsuback.body, [0, 5, 0, 0]);
    // the other's connection may still be ending
    rig.outlet.until(|state| state.forgotten.len() == 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn after_a_crash_a_shared_position_without_a_session_ends() {
    let first = rig().await;
    let mut client = Client::five(&first).await;
    subscribed(&mut client, JOBS, 1).await;
    let second = first.restart(&config()).await;
    second.outlet.until(|state| state.forgotten.iter().any(|name| **name == *"mqtt:web:$share/workers/jobs/#")).await;
    let third = second.restart(&config()).await;
    let mut client = Client::five(&third).await;
    assert_eq!(client.until_pong().await, []);
    assert!(third.outlet.state().forgotten.is_empty(), "it is forgotten");
    for rig in [first, second, third] {
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_shared_subscription_begins_with_no_last_values_and_may_change_its_qos() {
    let rig = rig().await;
    let retained = envelope::Delivery { retained: true, ..delivery(1, "jobs/1", Bytes::from("kept")) };
    rig.outlet.give([retained]);
    let mut client = Client::five(&rig).await;
    subscribed(&mut client, JOBS, 0).await;
    let (text, _, first) = job(&mut client).await;
    assert_eq!((text.as_str(), first & 0x01), ("kept", 0), "as a message, and not as a value");
    assert_eq!(subscribed(&mut client, JOBS, 1).await, 1);
    assert_eq!(rig.outlet.state().opened.len(), 1);
    assert_eq!(client.until_pong().await, []);
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_4_8_2_1_a_shared_filter_that_is_none_is_refused() {
    let rig = rig().await;
    let mut client = Client::five(&rig).await;
    for filter in [
        "$share/workers",
        "$share/workers/",
        "$share//jobs",
        "$share/+/jobs",
        "$share/a#/jobs",
        "$share/a/b#",
        "$share/a/$SYS/#",
    ] {
        assert_eq!(subscribed(&mut client, filter, 1).await, 0x8F, "{filter}");
    }
    rig.stop().await;
}
