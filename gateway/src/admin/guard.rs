//! Who may ask the admin API, and what: by the same credentials and policies as everything else.
//!
//! `/healthz` and `/readyz` answer everybody. On loopback, who presents nothing may look, as may everybody who can log in to
//! this host; who presents credentials is held to them. A change needs credentials, wherever it comes from.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bridges::http::{Peer, Problem, credentials};
use envelope::{Audit as _, Authenticator, Credentials, Principal, RejectKind, Rejection};
use http::Method;
use policy::{Action, AuditSink, Current, Trail};

/// What decides. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Guard {
    authenticator: Arc<dyn Authenticator>,
    current: Current,
    /// The listener can't be reached from outside of this host.
    on_loopback: bool,
    /// Where refusals are put on record, so many a second.
    audit: Arc<Trail>,
}

/// What the audit trail calls it; no bridge has that name.
pub(crate) const ADMIN: &str = "$admin";

/// Who asks; `None` for who looks from loopback without credentials.
#[derive(Debug, Clone)]
pub(crate) struct Asks(pub(crate) Option<Arc<Principal>>);

// === impl Guard ===

impl Guard {
    pub(crate) fn new(
        authenticator: Arc<dyn Authenticator>,
        current: Current,
        on_loopback: bool,
        audit: Arc<dyn AuditSink>,
    ) -> Self {
        let audit = Arc::new(Trail::ingress(ADMIN.into(), Some(audit)));
        Self { authenticator, current, on_loopback, audit }
    }

    async fn admit(&self, looks: bool, credentials: Credentials, peer: &Peer) -> Result<Asks, Rejection> {
        let address = Some(peer.address.ip());
        if credentials == Credentials::None {
            if looks && self.on_loopback {
                return Ok(Asks(None));
            }
            // nobody is anonymous here, whatever the bridges let in
            let rejection = Rejection::new(RejectKind::Unauthenticated, "authentication", "credentials are required");
            self.audit.refused(&rejection, None, address);
            return Err(rejection);
        }
        let verified = self.authenticator.verify(credentials, address).await;
        let principal = verified.inspect_err(|rejection| self.audit.refused(rejection, None, address))?;
        let action = if looks { Action::View } else { Action::Administer };
        let epoch = self.current.load();
        let decision = epoch.policies.may_administer(&principal, action, &epoch.domain);
        let allowed = decision.into_result(&principal, || format!("{} the gateway", action.word()));
        allowed.inspect_err(|rejection| self.audit.refused(rejection, Some(&principal), address))?;
        Ok(Asks(Some(principal)))
    }
}

fn is_of_letters(path: &str) -> bool {
    path == "/dead-letters" || path.starts_with("/dead-letters/")
}

/// Lets a request through that may be answered.
pub(crate) async fn guard(
    State(guard): State<Guard>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return next.run(request).await;
    }
    // Dead letters are messages: they are shown to whoever may change the gateway.
    let looks = matches!(*request.method(), Method::GET | Method::HEAD) && !is_of_letters(request.uri().path());
    let credentials = credentials(request.headers(), &peer);
    match guard.admit(looks, credentials, &peer).await {
        Ok(asks) => {
            request.extensions_mut().insert(asks);
            next.run(request).await
        }
        Err(rejection) => Problem::from(&rejection).into_response(),
    }
}
