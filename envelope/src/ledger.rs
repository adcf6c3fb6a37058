//! The seam through which messages are counted that never reach the store.

use std::{net::IpAddr, sync::Arc};

use crate::{Principal, RejectKind, Rejection, Route};

/// The conservation ledger, as bridges and the Account layer see it.
///
/// Per bridge: `received = accepted + duplicate + passed + filtered + rejected(kind) + returned(kind) + interrupted + in flight`.
/// `received` and `returned` are counted by the bridge, `refused` and `filtered` by Account, `passed` by who hands on what is
/// not stored, `accepted` and
/// `duplicate` by the store in the atomic batch that stores them: independent counters, so that a gap shows.
/// What is counted here rides with the next group commit. Implementations must not block.
pub trait Ledger: Send + Sync {
    /// The bridge decoded `messages` messages, each counted once however often it is offered.
    fn received(&self, bridge: &str, messages: u64);

    /// A message met a Final refusal. Of that its kind is counted, and of a route's last one who decided it is remembered.
    fn refused(&self, bridge: &str, route: Option<&Route>, rejection: &Rejection);

    /// A message was acked without being stored.
    fn filtered(&self, bridge: &str, route: &Route);

    /// A message was handed to who sends it without being stored.
    fn passed(&self, bridge: &str, route: &Route);

    /// The bridge gave a message back to its peer, which keeps it: it was under Retry for too long, or at drain.
    fn returned(&self, bridge: &str, kind: RejectKind);
}

/// The audit trail, as bridges see it: for what no layer of the stack has seen.
pub trait Audit: Send + Sync {
    /// The bridge refused a message, or a peer, by itself. Bounded under a flood; must not block.
    fn refused(&self, rejection: &Rejection, principal: Option<&Arc<Principal>>, peer: Option<IpAddr>);
}
