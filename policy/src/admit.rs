//! The end of the stack, and the only place that makes an [`Admitted`].

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use envelope::{
    AckPoint, Admission, Admitted, Batch, Data, Envelope, Group, Identity, IdentityParts, Lane, Mapped, Principal,
    Rejection, Route, Topic, TopicError, Verdicts,
};
use tower::{Layer, Service};

use crate::{AuditRecord, Pass, conformance::OPAQUE};

/// Seals what every layer above has passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdmitLayer;

/// What [`AdmitLayer`] makes.
#[derive(Debug, Clone)]
pub(crate) struct Admit<S>(S);

/// What the ledger knows the gateway's own records by, in place of a bridge and a route.
const AUDIT: &str = "$audit";

/// The gateway's own records, for the reserved topics `$mesh/audit/refused/BRIDGE` and `$mesh/audit/admin`. Nobody has
/// sent them, so no other policy holds them; they carry no data of anybody's message.
pub fn admit_audit(record: &AuditRecord, domain: &Arc<str>, epoch: u64) -> Result<Admitted, TopicError> {
    let mut data = Vec::with_capacity(256);
    record.write_json(&mut data);
    let identity = Identity::fresh();
    let principal = Principal::new(AUDIT, domain.clone());
    let parts = IdentityParts { domain, bridge: AUDIT, principal: AUDIT, route: AUDIT };
    let envelope = Envelope {
        datacontenttype: Some("application/json".into()),
        performative: Some("inform".into()),
        ..Envelope::plain(
            identity.envelope_id(parts),
            format!("mesh://{domain}/{AUDIT}").into(),
            OPAQUE.into(),
            Topic::new(format!("$mesh/audit/{}", record.topic()))?,
            record.at,
            Data::Opaque(data.into()),
        )
    };
    let mapped = Mapped {
        route: Route::new(AUDIT, "1"),
        ack: AckPoint::Durable,
        terms: Arc::default(),
        bridge: AUDIT.into(),
        lane: Lane(0),
        principal: Arc::new(principal),
        identity,
        retain: false,
        group: Group::One(envelope),
    };
    #[expect(clippy::disallowed_methods, reason = "it is the gateway's own word, made here and of no peer's data")]
    Ok(Admitted::seal(mapped, epoch))
}

// === impl AdmitLayer ===

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit(inner)
    }
}

// === impl Admit ===

impl<S> Service<Pass<Mapped>> for Admit<S>
where
    S: Service<Batch<Admitted>, Response = Verdicts<Admission>, Error = Rejection>,
{
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<Mapped>) -> Self::Future {
        let epoch = pass.epoch.number;
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the end of the stack: every layer has passed the message"
        )]
        let admitted = pass.batch.map(|mapped| Admitted::seal(mapped, epoch));
        self.0.call(admitted)
    }
}
