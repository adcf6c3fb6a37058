//! Access as layers of the stack: of what is sent, and of what is handed out.

use std::sync::Arc;

use envelope::{Envelope, Mapped, Outgoing, Rejection};

use super::Action;
use crate::{Epoch, lift::Rule};

/// Refuses what its sender may not send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaySend;

/// Refuses what its receiver may not read.
#[derive(Debug, Clone)]
pub(crate) struct MayRead {
    bridge: Arc<str>,
}

// === impl MaySend ===

impl Rule<Mapped> for MaySend {
    /// One refused envelope refuses its group.
    fn check(&self, epoch: &Epoch, mapped: &Mapped) -> Result<(), Rejection> {
        mapped.group.as_slice().iter().try_for_each(|envelope| {
            let decision = epoch.policies.may_send(&mapped.principal, envelope, &mapped.bridge);
            decision.into_result(&mapped.principal, || what(Action::of(envelope), envelope))
        })
    }
}

// === impl MayRead ===

impl MayRead {
    pub(crate) fn new(bridge: Arc<str>) -> Self {
        Self { bridge }
    }
}

impl Rule<Outgoing> for MayRead {
    fn check(&self, epoch: &Epoch, outgoing: &Outgoing) -> Result<(), Rejection> {
        let Outgoing { to, delivery } = outgoing;
        let decision = epoch.policies.may_read(to, &delivery.envelope, &self.bridge);
        decision.into_result(to, || what(Action::Subscribe, &delivery.envelope))
    }
}

pub(super) fn what(action: Action, envelope: &Envelope) -> String {
    let by = envelope.performative.as_deref().map(|verb| format!(" as {verb}")).unwrap_or_default();
    format!("{} {:?} on {:?}{by}", action.word(), envelope.kind, envelope.subject.as_str())
}
