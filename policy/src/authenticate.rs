//! Who a peer is: credentials to [`Principal`].
//!
//! For now there is one way in, `anonymous: true`. Whatever else a peer presents is refused: credentials that nobody can
//! verify must never get more than none at all.

use std::{future::ready, sync::Arc};

use envelope::{Authenticator, Credentials, Principal, RejectKind, Rejection};
use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{Current, Epoch};

const DECIDED_BY: &str = "authentication";

/// The [`Authenticator`] of every listener; decides by the epoch that is current when it is asked.
#[derive(Debug, Clone)]
pub struct Gate {
    current: Current,
}

// === impl Gate ===

impl Gate {
    /// Decides by what `current` holds.
    pub fn new(current: Current) -> Self {
        Self { current }
    }
}

impl Authenticator for Gate {
    fn verify(&self, credentials: Credentials) -> BoxFuture<'static, Result<Arc<Principal>, Rejection>> {
        ready(decide(&self.current.load(), &credentials)).boxed()
    }
}

fn decide(epoch: &Epoch, credentials: &Credentials) -> Result<Arc<Principal>, Rejection> {
    match credentials {
        Credentials::None => epoch.anonymous().ok_or_else(|| refuse("credentials are required")),
        Credentials::Authorization(_) => Err(refuse("credentials of this kind are not accepted")),
    }
}

fn refuse(detail: &'static str) -> Rejection {
    Rejection::new(RejectKind::Unauthenticated, DECIDED_BY, detail)
}
