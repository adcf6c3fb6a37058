//! Events that the official SDK of CloudEvents makes, in its three modes, to a subscriber; and from gateway to gateway.

use cloudevents::{AttributesReader, Data, Event, EventBuilder, EventBuilderV10};
use gateway::drain::Drained;
use serde_json::{Value, json};

use crate::{
    sends::ALLOWS,
    support::{Answer, Site, Socket, post, request, web},
};

const JPEG: &[u8] = &[0xff, 0xd8, 0xff, 0xe0];

fn event(id: &str, data: Option<(&str, Data)>) -> Event {
    let event = EventBuilderV10::new().id(id).ty("shop/order@v1.0.0").source("/shop").subject("17");
    match data {
        Some((content_type, data)) => event.data(content_type, data).build().unwrap(),
        None => event.build().unwrap(),
    }
}

/// With JSON, with bytes, and with nothing.
fn three(prefix: &str) -> [Event; 3] {
    [
        event(&format!("{prefix}-1"), Some(("application/json", Data::Json(json!({ "total": 12.5 }))))),
        event(&format!("{prefix}-2"), Some(("image/jpeg", Data::Binary(JPEG.to_vec())))),
        event(&format!("{prefix}-3"), None),
    ]
}

async fn send(at: std::net::SocketAddr, headers: &str, body: &[u8]) -> Answer {
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    request(at, [head.as_bytes(), body].concat()).await
}

fn same_data(got: &Value, sent: &Event) {
    assert_eq!((&got["originid"], &got["originsource"]), (&json!(sent.id()), &json!("/shop")), "{got}");
    assert_eq!((&got["subject"], &got["partitionkey"]), (&json!("events/shop.order@v1.0.0"), &json!("17")), "{got}");
    // the SDK reads what the gateway writes
    let read: Event = serde_json::from_value(got.clone()).unwrap();
    match sent.data() {
        Some(Data::Json(value)) => assert_eq!(read.data(), Some(&Data::Json(value.clone())), "{got}"),
        Some(data) => {
            assert_eq!((read.data(), read.datacontenttype()), (Some(data), Some("image/jpeg")), "{got}");
        }
        None => assert_eq!(read.data(), None, "{got}"),
    }
}

#[tokio::test]
async fn every_mode_of_cloudevents_brings_every_kind_of_data_to_a_subscriber() {
    let running = Site::shipped().start().await;
    let at = web(&running);
    let mut reader = Socket::subscribe(at, "events/#", "new", None).await;
    reader.frame("subscribed").await;
    for sent in three("structured") {
        let body = serde_json::to_vec(&sent).unwrap();
        let answer = send(at, "content-type: application/cloudevents+json\r\n", &body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        same_data(&reader.envelope().await, &sent);
        let again = send(at, "content-type: application/cloudevents+json\r\n", &body).await;
        let (again, first) = (again.json(), answer.json());
        assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)), "a retry is a duplicate");
    }
    for sent in three("binary") {
        let mut headers: String = ["specversion", "id", "source", "type", "subject"]
            .iter()
            .zip(["1.0", sent.id(), "/shop", sent.ty(), "17"])
            .map(|(name, value)| format!("ce-{name}: {value}\r\n"))
            .collect();
        if let Some(content_type) = sent.datacontenttype() {
            headers += &format!("content-type: {content_type}\r\n");
        }
        let body = match sent.data() {
            Some(Data::Json(value)) => value.to_string().into_bytes(),
            Some(Data::Binary(bytes)) => bytes.clone(),
            Some(Data::String(text)) => text.clone().into_bytes(),
            None => Vec::new(),
        };
        let answer = send(at, &headers, &body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        same_data(&reader.envelope().await, &sent);
    }
    let batch = three("batch");
    let body = serde_json::to_vec(&batch).unwrap();
    let answer = send(at, "content-type: application/cloudevents-batch+json\r\n", &body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    for sent in batch {
        same_data(&reader.envelope().await, &sent);
    }
    let old = r#"{"specversion":"0.3","id":"1","source":"/shop","type":"t","data":1}"#;
    let refused = send(at, "content-type: application/cloudevents+json\r\n", old.as_bytes()).await;
    assert_eq!((refused.status, &refused.json()["pointer"]), (422, &json!("/specversion")), "{refused:?}");
    drop(reader);
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_sends_as_an_event_another_takes() {
    let far = Site::shipped().start().await;
    let mut reader = Socket::subscribe(web(&far), "events/#", "new", None).await;
    reader.frame("subscribed").await;
    let site = Site::shipped();
    let chat = format!(
        "  chat: {{ webhook: {{ url: \"http://{}\", plain_text: true, allow_private: [127.0.0.1] }} }}\n",
        web(&far)
    );
    site.write("gateway.yaml", &site.config_text(&chat));
    site.write("mappings/cloudevents-out.yaml", include_str!("../../../config/library/cloudevents-out.yaml"));
    let orders = "mapping: orders\nfrom: { bridge: web, address: POST /orders }\nenvelope: { topic: orders/oslo }\n";
    site.write("mappings/orders.yaml", orders);
    site.write("policies/chat.cedar", ALLOWS);
    let near = site.start().await;
    let receipt = post(web(&near), "/orders", r#"{ "total": 12.10 }"#).await.json();
    let got = reader.envelope().await;
    assert_eq!(
        (&got["subject"], &got["partitionkey"]),
        (&json!("events/mesh.opaque@v1.0.0"), &json!("orders/oslo")),
        "{got}"
    );
    assert_eq!(
        (&got["originid"], &got["originsource"]),
        (&receipt["id"], &json!("mesh://plant-a/web/anonymous")),
        "{got}"
    );
    assert_eq!((&got["datacontenttype"], &got["data"]["total"]), (&json!("application/json"), &json!(12.10)), "{got}");
    drop(reader);
    assert_eq!(near.drain().await, Drained::Clean);
    assert_eq!(far.drain().await, Drained::Clean);
}
