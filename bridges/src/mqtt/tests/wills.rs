//! Wills: published when their client is gone without a word, and only then.

use envelope::KeyValue;

use super::client::{Client, Hello, config, publish, rig, text};
use crate::conformance::{HARD_TIMEOUT, Rig};

fn with_will(id: &'static str, properties: &[u8]) -> Hello {
    let will = [&[properties.len() as u8][..], properties, &text("gone"), &text("bye")].concat();
    Hello { will: Some((0x08, will)), ..Hello::five(id) }
}

#[tokio::test]
async fn mqtt_3_1_2_7_and_8_a_will_is_published_when_the_client_is_gone_without_a_word() {
    let rig = rig().await;
    let client = Client::connect(rig.address(), &with_will("a", &[])).await;
    client.close();
    rig.until(|counts| counts.offered == 1).await;
    let will = rig.seen()[0][0].clone();
    assert_eq!((&*will.address, &will.payload[..]), ("gone", &b"bye"[..]));
    rig.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_2_10_and_3_14_4_3_a_client_that_says_goodbye_takes_its_will_along() {
    let rig = rig().await;
    let mut client = Client::connect(rig.address(), &with_will("a", &[])).await;
    client.send(&[0xE0, 0]).await;
    assert_eq!(client.next().await, None);
    rig.stop().await;
    assert_eq!(rig.counts().received, 0);
}

#[tokio::test]
async fn a_will_that_its_client_took_along_is_not_published_by_the_next_start_though_the_store_was_away() {
    let first = rig().await;
    let hello = Hello { will: with_will("a", &[]).will, ..Hello::five("a").staying() };
    let mut client = Client::connect(first.address(), &hello).await;
    first.keys.refuse(true);
    client.send(&[0xE0, 0]).await;
    assert_eq!(client.next().await, None);
    // the connection is over once its session can be had, and that it can't is told
    let refused = Client::open(first.address()).await.ask(&hello.bytes()).await.unwrap();
    assert_eq!(refused.body[1], 0x88);
    first.keys.refuse(false);
    let forgotten = async {
        while !first.keys.list("will/", None, 9).await.unwrap().entries.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HARD_TIMEOUT, forgotten).await.expect("it to be forgotten");
    let second = first.restart(&config()).await;
    second.stop().await;
    first.stop().await;
    assert_eq!((first.counts().received, second.counts().received), (0, 0));
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

#[tokio::test]
async fn a_will_waits_on_where_its_client_was_not_let_in() {
    let rig = rig().await;
    let mut client = Client::connect(rig.address(), &staying(1)).await;
    // gone without a word, and its will is on disk as one that waits
    client.send(&[0x00, 0x00]).await;
    client.disconnected().await;
    rig.keys.refuse(true);
    let mut back = Client::open(rig.address()).await;
    assert_eq!(back.ask(&staying(1).bytes()).await.unwrap().body[1], 0x88);
    rig.keys.refuse(false);
    rig.until(|counts| counts.offered == 1).await;
    assert_eq!(&*rig.seen()[0][0].address, "gone");
    rig.stop().await;
}

fn staying(delay: u8) -> Hello {
    Hello { will: with_will("a", &[0x18, 0, 0, 0, delay]).will, ..Hello::five("a").staying() }
}

async fn kept(rig: &Rig) -> usize {
    rig.keys.list("will/", None, 9).await.unwrap().entries.len()
}

#[tokio::test]
async fn a_will_that_waits_survives_a_crash_and_is_published_once() {
    let first = rig().await;
    let client = Client::connect(first.address(), &staying(1)).await;
    client.close();
    first.until(|counts| counts.offered == 1).await;
    let client = Client::connect(first.address(), &staying(1)).await;
    let second = first.restart(&config()).await;
    second.until(|counts| counts.offered == 1).await;
    let will = second.seen()[0][0].clone();
    assert_eq!((&*will.address, &will.payload[..], &*will.principal.id), ("gone", &b"bye"[..], "anonymous"));
    client.close();
    first.until(|counts| counts.offered == 2).await;
    assert_eq!(first.seen()[1][0].identity, will.identity, "the store knows it");
    assert_ne!(first.seen()[0][0].identity, will.identity, "the one before was another");
    first.stop().await;
    second.stop().await;
    assert_eq!(kept(&second).await, 0, "what is published is forgotten");
}

#[tokio::test]
async fn after_a_crash_a_client_that_is_back_in_time_takes_its_will_back() {
    let first = rig().await;
    let _client = Client::connect(first.address(), &staying(60)).await;
    let second = first.restart(&config()).await;
    let mut back = Client::connect(second.address(), &Hello::five("a").staying()).await;
    assert_eq!(back.until_pong().await, []);
    assert_eq!(kept(&second).await, 0);
    second.stop().await;
    assert_eq!(second.counts().received, 0);
    first.stop().await;
}

#[tokio::test]
async fn mqtt_3_1_4_4_a_clean_start_ends_the_session_and_its_will_is_published() {
    let rig = rig().await;
    let client = Client::connect(rig.address(), &staying(60)).await;
    client.close();
    let _clean = Client::connect(rig.address(), &Hello::five("a")).await;
    rig.until(|counts| counts.offered == 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn who_says_goodbye_leaves_no_will_on_disk() {
    let rig = rig().await;
    let mut client = Client::connect(rig.address(), &staying(60)).await;
    assert_eq!(kept(&rig).await, 1);
    client.send(&[0xE0, 0]).await;
    assert_eq!(client.next().await, None);
    rig.stop().await;
    assert_eq!((kept(&rig).await, rig.counts().received), (0, 0));
}

#[tokio::test]
async fn a_drain_leaves_a_will_that_waits_on_disk() {
    let first = rig().await;
    let _client = Client::connect(first.address(), &staying(60)).await;
    first.stop().await;
    assert_eq!((kept(&first).await, first.counts().received), (1, 0));
    let second = first.restart(&config()).await;
    let _clean = Client::connect(second.address(), &Hello::five("a")).await;
    second.until(|counts| counts.offered == 1).await;
    second.stop().await;
}

#[tokio::test]
async fn what_was_not_acknowledged_at_qos_1_before_a_restart_is_the_same_message_after_it() {
    let first = rig().await;
    first.hold();
    let hello = Hello::five("a").staying();
    let mut client = Client::connect(first.address(), &hello).await;
    // it leaves before it hears
    client.send(&[publish(0x02, "a", 7, &[0], "x"), vec![0xE0, 0]].concat()).await;
    first.until(|counts| counts.offered == 1).await;
    first.release();
    assert_eq!(client.next().await, None);
    first.stop().await;
    let second = first.restart(&config()).await;
    let mut client = Client::connect(second.address(), &hello).await;
    assert_eq!(client.ask(&publish(0x0A, "a", 7, &[0], "x")).await.unwrap().first, 0x40);
    assert_eq!(first.seen()[0][0].identity, second.seen()[0][0].identity);
    second.stop().await;
}
