//! CloudEvents in batched mode: one request, a verdict an event.

use envelope::{Admission, Identity, RejectKind, Rejection};

use super::client::{Answer, Client};
use crate::{conformance::Rig, http::HttpConfig};

async fn rig() -> (Rig, Client) {
    let rig = Rig::start(&HttpConfig::new("127.0.0.1:0".parse().unwrap())).await;
    let client = Client::connect(rig.address()).await;
    (rig, client)
}

async fn send(client: &mut Client, body: &str) -> Answer {
    client.ask("POST /events\nContent-Type: application/cloudevents-batch+json\nX-Line: 7", body).await
}

const THREE: &str = r#"[{"source":"/a","id":"1","data":12.10},{"source":"/a","id":"2"},{"source":"/a","id":"3"}]"#;

fn statuses(answer: &Answer) -> Vec<String> {
    let json = envelope::Json::parse(answer.body.clone().into()).unwrap();
    let items = json.root().as_array().unwrap();
    items.map(|item| item.get("status").unwrap().source().to_owned()).collect()
}

#[tokio::test]
async fn each_event_is_a_message_in_order_and_has_its_verdict() {
    let (rig, mut client) = rig().await;
    let answer = send(&mut client, THREE).await;
    assert_eq!((answer.status, answer.header("content-type")), (202, Some("application/json")), "{}", answer.body);
    assert_eq!(statuses(&answer), ["202", "202", "202"]);
    let batch = rig.seen().remove(0);
    assert_eq!(batch[0].payload, r#"{"source":"/a","id":"1","data":12.10}"#);
    assert!(batch.iter().all(|inbound| inbound.lane == batch[0].lane && &*inbound.address == "POST /events"));
    assert_eq!(batch[2].identity, Identity::Native("event\0/a\x003".into()));
    let header = |name: &str| batch[1].headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    assert_eq!(header("content-type").unwrap(), "application/cloudevents+json");
    assert_eq!(header("x-line").unwrap(), "7");
    assert_eq!(rig.counts().received, 3);
    let empty = send(&mut client, "[]").await;
    assert_eq!((empty.status, empty.body.as_str(), rig.counts().received), (202, "[]", 3));
    rig.stop().await;
}

#[tokio::test]
async fn nobody_hears_yes_where_one_event_was_refused() {
    let (rig, mut client) = rig().await;
    let refuse = |kind| {
        move |inbound: &envelope::Inbound| match &inbound.identity {
            Identity::Native(name) if name.ends_with(b"2") => Err(Rejection::new(kind, "rule", "no").at("/data")),
            _ => Ok(Admission::Filtered),
        }
    };
    rig.answer(refuse(RejectKind::Malformed));
    let answer = send(&mut client, THREE).await;
    assert_eq!((answer.status, statuses(&answer)), (422, ["202", "422", "202"].map(str::to_owned).to_vec()));
    assert!(answer.body.contains(r#""pointer":"/data""#), "{}", answer.body);
    rig.answer(refuse(RejectKind::Unavailable));
    let answer = send(&mut client, THREE).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(rig.counts().returned, [RejectKind::Unavailable]);
    rig.stop().await;
}

#[tokio::test]
async fn what_is_no_batch_is_one_message_that_is_refused() {
    let (rig, mut client) = rig().await;
    for body in ["{}", "[", "[1]", ""] {
        let answer = send(&mut client, body).await;
        assert_eq!((answer.status, answer.member("decided_by").as_deref()), (422, Some("cloudevents_batch")), "{body}");
    }
    let head = "POST /events\nContent-Type: application/cloudevents-batch+json\nIdempotency-Key: k";
    assert_eq!(client.ask(head, "[]").await.status, 422);
    let counts = rig.counts();
    assert_eq!((counts.received, counts.refused.len(), counts.offered), (5, 5, 0));
    rig.stop().await;
}
