//! `Idempotency-Key`: the stored answer, and one request of a key at a time.

use envelope::{Admission, Fingerprint, Identity, Inbound, Receipt, Settled};

use super::client::Client;
use crate::{conformance::Rig, http::HttpConfig};

async fn rig() -> (Rig, Client) {
    let rig = Rig::start(&HttpConfig::new("127.0.0.1:0".parse().unwrap())).await;
    let client = Client::connect(rig.address()).await;
    (rig, client)
}

fn stored(inbound: &Inbound, duplicate: bool) -> Admission {
    let parts = envelope::IdentityParts { domain: "test", bridge: "web", principal: "a", route: "r" };
    let id = inbound.identity.envelope_id(parts);
    Admission::Stored(Receipt { id, position: None, duplicate, settled: Settled::Now, reply: None })
}

fn print(inbound: &Inbound) -> Fingerprint {
    match &inbound.identity {
        Identity::Keyed { print, .. } => *print,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_retry_hears_what_the_first_request_heard() {
    let (rig, mut client) = rig().await;
    rig.answer(|inbound| Ok(stored(inbound, true)));
    let keyed = client.ask("POST /a\nIdempotency-Key: k", "1").await;
    assert_eq!((keyed.status, keyed.member("duplicate").as_deref()), (202, Some("false")));
    assert_eq!(keyed.header("idempotency-replayed"), Some("true"));
    let event = client.ask("POST /a\nce-source: s\nce-id: 1", "1").await;
    assert_eq!((event.member("duplicate").as_deref(), event.header("idempotency-replayed")), (Some("true"), None));
    rig.answer(|inbound| Ok(stored(inbound, false)));
    let first = client.ask("POST /a\nIdempotency-Key: l", "1").await;
    assert_eq!((first.member("duplicate").as_deref(), first.header("idempotency-replayed")), (Some("false"), None));
    rig.stop().await;
}

#[tokio::test]
async fn what_a_key_is_used_for_is_payload_and_query() {
    let (rig, mut client) = rig().await;
    for (path, body) in [("/a", "1"), ("/a", "1"), ("/a", "2"), ("/a?b", "1"), ("/a?b1", "")] {
        client.ask(&format!("POST {path}\nIdempotency-Key: k\ntraceparent: x{body}"), body).await;
    }
    let prints: Vec<_> = rig.seen().iter().map(|batch| print(&batch[0])).collect();
    assert_eq!(prints[0], prints[1]);
    for (at, other) in [(2, 0), (3, 0), (3, 4), (4, 0)] {
        assert_ne!(prints[at], prints[other], "{at} {other}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_second_request_of_a_key_that_is_under_way_is_a_conflict() {
    let (rig, mut first) = rig().await;
    rig.hold();
    first.request("POST /a\nIdempotency-Key: k", "1").await;
    rig.until(|counts| counts.offered == 1).await;
    let mut second = Client::connect(rig.address()).await;
    let answer = second.ask("POST /a\nIdempotency-Key: k", "1").await;
    assert_eq!((answer.status, answer.member("decided_by").as_deref()), (409, Some("idempotency_key")));
    let mut others = Vec::new();
    for head in ["POST /b\nIdempotency-Key: k", "POST /a\nIdempotency-Key: k\nAuthorization: Bearer other"] {
        let mut other = Client::connect(rig.address()).await;
        other.request(head, "1").await;
        others.push(other);
    }
    rig.until(|counts| counts.offered == 3).await;
    rig.release();
    for other in &mut others {
        assert_eq!(other.answer().await.status, 202);
    }
    assert_eq!(first.answer().await.status, 202);
    assert_eq!(first.ask("POST /a\nIdempotency-Key: k", "1").await.status, 202);
    let counts = rig.counts();
    assert_eq!((counts.received, counts.refused.len()), (5, 1));
    rig.stop().await;
}

#[tokio::test]
async fn a_key_is_free_again_when_its_client_left() {
    let (rig, mut first) = rig().await;
    rig.hold();
    first.request("POST /a\nIdempotency-Key: k", "1").await;
    rig.until(|counts| counts.offered == 1).await;
    drop(first);
    rig.release();
    let mut second = Client::connect(rig.address()).await;
    loop {
        match second.ask("POST /a\nIdempotency-Key: k", "1").await.status {
            202 => break,
            409 => tokio::task::yield_now().await,
            other => panic!("{other}"),
        }
    }
    rig.stop().await;
}
