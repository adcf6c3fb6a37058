//! Who a peer is: credentials to [`Principal`].
//!
//! For now there is one way in, `anonymous: true`. Whatever else a peer presents is refused: credentials that nobody can
//! verify must never get more than none at all.

use std::{future::ready, sync::Arc};

use envelope::{Authenticator, Credentials, Inbound, Principal, RejectKind, Rejection};
use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{Current, Epoch, lift::Rule};

const DECIDED_BY: &str = "authentication";

/// The [`Authenticator`] of every listener; decides by the epoch that is current when it is asked.
#[derive(Debug, Clone)]
pub struct Gate {
    current: Current,
}

/// Refuses messages of a principal that this epoch does not let in: its connection may be older than the epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authenticated;

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
        Credentials::None => epoch.anonymous().ok_or_else(required),
        Credentials::Authorization(_) => Err(refuse("credentials of this kind are not accepted")),
    }
}

// === impl Authenticated ===

impl Rule<Inbound> for Authenticated {
    fn check(&self, epoch: &Epoch, _: &Inbound) -> Result<(), Rejection> {
        epoch.still_lets_in()
    }
}

// === impl Epoch ===

impl Epoch {
    /// Refuses who was let in by an epoch before, if this one lets nobody in. Asks not who: everyone is `anonymous`.
    pub fn still_lets_in(&self) -> Result<(), Rejection> {
        if self.access.anonymous { Ok(()) } else { Err(required()) }
    }
}

fn required() -> Rejection {
    refuse("credentials are required")
}

fn refuse(detail: &'static str) -> Rejection {
    Rejection::new(RejectKind::Unauthenticated, DECIDED_BY, detail)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use schema::Schemas;

    use super::*;
    use crate::PolicyConfig;

    struct NoMapper;

    impl envelope::Mapper for NoMapper {
        fn map(&self, _: Inbound) -> envelope::MapResult {
            unreachable!("authentication maps nothing")
        }
    }

    fn epoch(anonymous: bool) -> Epoch {
        Epoch::new(
            1,
            "plant-a".into(),
            Arc::new(NoMapper),
            Arc::new(Schemas::default()),
            PolicyConfig { anonymous, ..PolicyConfig::default() },
        )
    }

    fn verify(gate: &Gate, credentials: Credentials) -> Result<Arc<Principal>, RejectKind> {
        let verified = gate.verify(credentials).now_or_never().expect("decides at once");
        verified.map_err(|rejection| {
            assert_eq!(rejection.decided_by, DECIDED_BY);
            rejection.kind
        })
    }

    #[test]
    fn a_peer_without_credentials_is_anonymous_where_the_policy_says_so() {
        let gate = Gate::new(epoch(true).into_current());
        let principal = verify(&gate, Credentials::None).unwrap();
        assert_eq!((&*principal.id, &*principal.domain, principal.trust), ("anonymous", "plant-a", 0));
        assert!(Arc::ptr_eq(&principal, &verify(&gate, Credentials::None).unwrap()), "one for all requests");
    }

    #[test]
    fn credentials_that_nobody_can_verify_get_nothing() {
        for anonymous in [true, false] {
            let gate = Gate::new(epoch(anonymous).into_current());
            for value in ["Bearer om_1_2", "Basic Og==", ""] {
                let presented = Credentials::Authorization(value.into());
                assert_eq!(verify(&gate, presented), Err(RejectKind::Unauthenticated), "{value:?}");
            }
        }
    }

    #[test]
    fn a_reload_holds_from_the_next_request_on() {
        let current = epoch(true).into_current();
        let gate = Gate::new(current.clone());
        assert!(verify(&gate, Credentials::None).is_ok());
        current.store(Arc::new(epoch(false)));
        assert_eq!(verify(&gate, Credentials::None), Err(RejectKind::Unauthenticated));
    }

    #[test]
    fn who_was_let_in_before_is_refused_by_an_epoch_that_lets_nobody_in() {
        assert!(epoch(true).still_lets_in().is_ok());
        assert_eq!(epoch(false).still_lets_in().unwrap_err().kind, RejectKind::Unauthenticated);
    }
}
