//! What a client sends again after the gateway has crashed is the same message; what it may have heard of is another one.

use super::client::{Client, Hello, packet, publish, rig};
use crate::conformance::Rig;

/// Bytes of a PUBLISH at QoS 1 or 2.
fn message(qos: u8, dup: bool) -> Vec<u8> {
    publish(qos << 1 | u8::from(dup) << 3, "a", 7, &[0], "x")
}

fn identity(rig: &Rig) -> envelope::Identity {
    rig.seen().concat()[0].identity.clone()
}

#[tokio::test]
async fn what_was_not_answered_before_a_crash_is_the_same_message_after_it() {
    for qos in [1, 2] {
        let first = rig().await;
        first.hold();
        let hello = Hello::five("a").staying();
        let mut client = Client::connect(first.address(), &hello).await;
        client.send(&message(qos, false)).await;
        first.until(|counts| counts.offered == 1).await;
        // nothing but what is on disk is left of the first
        let second = first.restart(&super::client::config()).await;
        let mut client = Client::connect(second.address(), &hello).await;
        client.ask(&message(qos, true)).await.unwrap();
        let third = second.restart(&super::client::config()).await;
        assert_eq!(identity(&first), identity(&second), "QoS {qos}: the store knows it");
        let mut client = Client::connect(third.address(), &hello).await;
        client.ask(&message(qos, true)).await.unwrap();
        let same = identity(&second) == identity(&third);
        assert_eq!(same, qos == 2, "QoS {qos}: PUBACK frees an identifier, PUBREC does not");
        first.release();
        for rig in [first, second, third] {
            rig.stop().await;
        }
    }
}

#[tokio::test]
async fn what_a_client_sends_without_dup_after_a_crash_is_another_message_over_the_next_one_too() {
    for qos in [1, 2] {
        let first = rig().await;
        first.hold();
        let hello = Hello::three("a").staying();
        let bytes = |dup| packet(0x30 | qos << 1 | u8::from(dup) << 3, &[&[0, 1, b'a', 0, 7], b"x"]);
        let mut client = Client::connect(first.address(), &hello).await;
        client.send(&bytes(false)).await;
        first.until(|counts| counts.offered == 1).await;
        let second = first.restart(&super::client::config()).await;
        second.hold();
        let mut client = Client::connect(second.address(), &hello).await;
        client.send(&bytes(false)).await;
        second.until(|counts| counts.offered == 1).await;
        let third = second.restart(&super::client::config()).await;
        let mut client = Client::connect(third.address(), &hello).await;
        client.ask(&bytes(true)).await.unwrap();
        assert_ne!(identity(&first), identity(&second), "QoS {qos}: the store would call it a duplicate");
        assert_eq!(identity(&second), identity(&third), "QoS {qos}");
        first.release();
        second.release();
        for rig in [first, second, third] {
            rig.stop().await;
        }
    }
}

#[tokio::test]
async fn what_is_repeated_to_a_session_that_ended_with_the_crash_is_a_message_again() {
    let first = rig().await;
    first.hold();
    let mut client = Client::connect(first.address(), &Hello::five("a")).await;
    client.send(&message(1, false)).await;
    first.until(|counts| counts.offered == 1).await;
    let second = first.restart(&super::client::config()).await;
    let mut client = Client::connect(second.address(), &Hello { clean: false, ..Hello::five("a") }).await;
    client.ask(&message(1, true)).await.unwrap();
    assert_ne!(identity(&first), identity(&second), "as the standard has it");
    first.release();
    first.stop().await;
    second.stop().await;
}
