//! Messages as a gateway's mapping makes them, with an id of their own each.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use bytes::Bytes;
use envelope::{
    AckPoint, Admitted, Batch, Data, Envelope, EnvelopeId, Group, Identity, Lane, Mapped, Principal, Route, Timestamp,
    Topic,
};
use uuid::Uuid;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// So many messages of 300 bytes.
pub(crate) fn batch(size: usize) -> Batch<Admitted> {
    Batch::new((0..size).map(|_| message()).collect()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "there is no policy in this benchmark")]
fn message() -> Admitted {
    let id =
        Uuid::from_u128(u128::from(NEXT.fetch_add(1, SeqCst)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    let envelope = Envelope {
        datacontenttype: Some("application/json".into()),
        dataschema: Some("mesh://plant-a/schemas/telemetry/reading@v1.0.0".into()),
        performative: Some("inform".into()),
        partitionkey: Some("7".into()),
        residency: vec!["no".into()],
        ..Envelope::plain(
            EnvelopeId::new(id),
            "mesh://plant-a/web/anonymous".into(),
            "telemetry/reading@v1.0.0".into(),
            Topic::new("telemetry/7/temperature").unwrap(),
            Timestamp::now(),
            Data::Opaque(Bytes::from(vec![b'x'; 300])),
        )
    };
    let mapped = Mapped {
        route: Route::new("plant-temperature", "1"),
        ack: AckPoint::Durable,
        terms: Arc::default(),
        bridge: "web".into(),
        lane: Lane(0),
        principal: Arc::new(Principal::anonymous("plant-a")),
        identity: Identity::Fresh(id),
        retain: false,
        group: Group::One(envelope),
    };
    Admitted::seal(mapped, 1)
}
