//! Wills: published when their client is gone without a word, and only then.

use super::client::{Client, Hello, rig, text};

fn with_will(id: &'static str, properties: &[u8]) -> Hello {
    let will = [&[properties.len() as u8][..], properties, &text("gone"), &text("bye")].concat();
    Hello { will: Some((0x08, will)), ..Hello::five(id) }
}

#[tokio::test]
async fn mqtt_3_1_2_8_a_will_is_published_when_the_client_is_gone_without_a_word() {
    let rig = rig().await;
    let client = Client::connect(rig.address(), &with_will("a", &[])).await;
    client.close();
    rig.until(|counts| counts.offered == 1).await;
    let will = rig.seen()[0][0].clone();
    assert_eq!((&*will.address, &will.payload[..]), ("gone", &b"bye"[..]));
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_2_10_a_client_that_says_goodbye_takes_its_will_along() {
    let rig = rig().await;
    let mut client = Client::connect(rig.address(), &with_will("a", &[])).await;
    client.send(&[0xE0, 0]).await;
    assert_eq!(client.next().await, None);
    rig.stop().await;
    assert_eq!(rig.counts().received, 0);
}

#[tokio::test]
async fn a_client_may_leave_and_have_its_will_published() {
    let rig = rig().await;
    let mut client = Client::connect(rig.address(), &with_will("a", &[])).await;
    client.send(&[0xE0, 1, 4]).await;
    rig.until(|counts| counts.offered == 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_3_9_a_will_with_a_delay_is_not_published_if_the_client_is_back_in_time() {
    let rig = rig().await;
    let hello = Hello { will: with_will("a", &[0x18, 0, 0, 0, 60]).will, ..Hello::five("a").staying() };
    let client = Client::connect(rig.address(), &hello).await;
    client.close();
    let mut back = Client::connect(rig.address(), &Hello::five("a").staying()).await;
    assert_eq!(back.until_pong().await, []);
    back.send(&[0xE0, 0]).await;
    assert_eq!(back.next().await, None);
    rig.stop().await;
    assert_eq!(rig.counts().received, 0);
}

#[tokio::test]
async fn a_will_with_a_delay_is_published_when_its_session_ends_if_that_is_earlier() {
    let rig = rig().await;
    let client = Client::connect(rig.address(), &with_will("a", &[0x18, 0, 0, 0, 60])).await;
    client.close();
    rig.until(|counts| counts.offered == 1).await;
    rig.stop().await;
}
