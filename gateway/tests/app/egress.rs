//! What egress refuses, though it is in the store.

use std::sync::Arc;

use backbone::{Backbone, Embedded, EmbeddedConfig};
use bytes::Bytes;
use envelope::{
    AckPoint, Admitted, Batch, Data, Envelope, EnvelopeId, Group, Identity, IdentityParts, Lane, Mapped, Principal,
    Route, Timestamp, Topic,
};
use gateway::drain::Drained;
use serde_json::json;

use super::support::{Site, Socket, get, web};

/// Puts an envelope of the type `telemetry/reading@v1.0.0` into the store, past every policy.
async fn smuggle(store: &Embedded, data: &'static str) {
    let identity = Identity::fresh();
    let parts = IdentityParts { domain: "plant-a", bridge: "web", principal: "anonymous", route: "smuggled" };
    let id: EnvelopeId = identity.envelope_id(parts);
    let kind = "telemetry/reading@v1.0.0";
    let envelope = Envelope {
        datacontenttype: Some("application/json".into()),
        dataschema: Some(format!("mesh://plant-a/schemas/{kind}").into()),
        ..Envelope::plain(
            id,
            "mesh://plant-a/web/anonymous".into(),
            kind.into(),
            Topic::new("telemetry/7/temperature").unwrap(),
            Timestamp::now(),
            Data::Opaque(Bytes::from_static(data.as_bytes())),
        )
    };
    let mapped = Mapped {
        route: Route::new("smuggled", "1"),
        ack: AckPoint::Durable,
        terms: std::sync::Arc::default(),
        bridge: "web".into(),
        lane: Lane(0),
        principal: Arc::new(Principal::anonymous("plant-a")),
        identity,
        retain: false,
        group: Group::One(envelope),
    };
    let verdicts = store.publish(Batch::one(Admitted::seal(mapped, 1))).await.unwrap();
    assert!(verdicts[0].answer.is_ok());
}

#[tokio::test]
async fn an_envelope_written_behind_the_gateways_back_is_refused_at_egress_and_counted() {
    let site = Site::shipped();
    let store = Embedded::open(EmbeddedConfig::new(site.data(), "plant-a")).unwrap();
    smuggle(&store, r#"{"celsius": "hot", "line": "7"}"#).await;
    smuggle(&store, r#"{"celsius": 10, "line": "7"}"#).await;
    store.close().await.unwrap();
    drop(store);

    let running = site.start().await;
    let mut socket = Socket::subscribe(web(&running), "telemetry/#", "earliest", Some("reader")).await;
    assert_eq!(socket.envelope().await["data"]["celsius"], 10);
    drop(socket);
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["subscriptions"]["ws:anonymous:reader"]["refused"], json!({ "malformed": 1 }), "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
}
