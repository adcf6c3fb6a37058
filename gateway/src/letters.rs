//! Where policy puts messages that a mapping could make nothing of: the backbone's dead letters.

use std::sync::Arc;

use backbone::{Backbone, DeadContent, DeadLetter};
use envelope::{DeadLetters, DeadMessage, Rejection, Route, Timestamp};
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

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
        let DeadMessage { bridge, address, principal, identity, payload, may_be_kept, .. } = message;
        let identity = identity.unwrap_or_default();
        let (detail, content) = match (may_be_kept, &rejection.pointer) {
            (true, Some(pointer)) => {
                let detail = format!("{} (at {pointer:?})", rejection.detail);
                (detail, DeadContent::Inbound { address, identity, payload })
            }
            (true, None) => (rejection.detail.clone(), DeadContent::Inbound { address, identity, payload }),
            // what was said of it may quote it
            (false, _) => {
                let detail =
                    format!("refused by {}; what its sender may not send here is not kept", rejection.decided_by);
                let (size, hash) = (payload.len() as u64, Sha256::digest(&payload).into());
                (detail, DeadContent::Withheld { address, identity, size, hash })
            }
        };
        self.0.bury(DeadLetter {
            id: 0,
            at: Timestamp::now(),
            kind: rejection.kind,
            detail,
            bridge,
            mapping: route.name().into(),
            principal,
            content,
        })
    }
}
