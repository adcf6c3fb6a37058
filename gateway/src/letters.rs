//! Where policy puts messages that a mapping could make nothing of: the backbone's dead letters.

use std::sync::Arc;

use backbone::{Backbone, DeadContent, DeadLetter};
use envelope::{DeadLetters, DeadMessage, Rejection, Route, Timestamp};
use futures_util::future::BoxFuture;

/// The dead letters of a backbone.
pub(crate) struct Letters(pub(crate) Arc<dyn Backbone>);

// === impl Letters ===

impl DeadLetters for Letters {
    fn bury(
        &self,
        message: DeadMessage,
        route: &Route,
        rejection: &Rejection,
    ) -> BoxFuture<'static, Result<bool, Rejection>> {
        let DeadMessage { bridge, address, principal, identity, payload, .. } = message;
        let detail = match &rejection.pointer {
            Some(pointer) => format!("{} (at {pointer:?})", rejection.detail),
            None => rejection.detail.clone(),
        };
        self.0.bury(DeadLetter {
            id: 0,
            at: Timestamp::now(),
            kind: rejection.kind,
            detail,
            bridge,
            mapping: route.name().into(),
            principal,
            content: DeadContent::Inbound { address, identity: identity.unwrap_or_default(), payload },
        })
    }
}
