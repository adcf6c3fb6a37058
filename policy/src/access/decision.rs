//! What was decided, and what the policies that were asked one by one say together.

use std::sync::Arc;

use envelope::{Principal, RejectKind, Rejection};

const DECIDED_BY: &str = "access";

/// What was decided, and by which policy: `FILE#NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// By this policy.
    Permitted(Arc<str>),
    /// By this policy, whatever others permit.
    Forbidden(Arc<str>),
    /// By none.
    NotPermitted,
    /// This policy, or all that apply, can't be asked: why.
    Undecided(Option<Arc<str>>, Arc<str>),
}

/// What some of the policies say. Of several that say the same the first by name counts, so that it is the same each time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Said {
    /// It can't be asked, and why.
    pub(super) fails: Option<(Arc<str>, Arc<str>)>,
    pub(super) forbids: Option<Arc<str>>,
    pub(super) permits: Option<Arc<str>>,
}

// === impl Decision ===

impl Decision {
    /// Whether it may be done.
    pub fn is_permitted(&self) -> bool {
        matches!(self, Self::Permitted(_))
    }

    /// The policy that decided, if one did.
    pub fn policy(&self) -> Option<&Arc<str>> {
        match self {
            Self::Permitted(policy) | Self::Forbidden(policy) | Self::Undecided(Some(policy), _) => Some(policy),
            Self::NotPermitted | Self::Undecided(None, _) => None,
        }
    }

    /// Refuses what is not permitted. `what` is what was to be done.
    pub fn into_result(self, principal: &Principal, what: impl FnOnce() -> String) -> Result<(), Rejection> {
        let (policy, detail) = match self {
            Self::Permitted(_) => return Ok(()),
            Self::Forbidden(policy) => {
                let detail = format!("{:?} is forbidden to {}", principal.id, what());
                (Some(policy), detail)
            }
            Self::NotPermitted => (None, format!("no policy permits {:?} to {}", principal.id, what())),
            Self::Undecided(policy, why) => {
                let detail = format!("whether {:?} may {} can't be decided: {why}", principal.id, what());
                (policy, detail)
            }
        };
        let rejection = Rejection::new(RejectKind::Denied, DECIDED_BY, detail);
        Err(match policy {
            Some(policy) => rejection.by_policy(&policy),
            None => rejection,
        })
    }
}

// === impl Said ===

impl Said {
    pub(super) fn permit(&mut self, policy: &Arc<str>) {
        first(&mut self.permits, Some(policy));
    }

    pub(super) fn forbid(&mut self, policy: &Arc<str>) {
        first(&mut self.forbids, Some(policy));
    }

    /// What these and the others say.
    pub(super) fn and(mut self, other: &Self) -> Self {
        first(&mut self.fails, other.fails.as_ref());
        first(&mut self.forbids, other.forbids.as_ref());
        first(&mut self.permits, other.permits.as_ref());
        self
    }

    /// A policy that fails refuses, for it may be the one that forbids.
    pub(super) fn decision(self) -> Decision {
        match self {
            Self { fails: Some((policy, why)), .. } => Decision::Undecided(Some(policy), why),
            Self { forbids: Some(policy), .. } => Decision::Forbidden(policy),
            Self { permits: Some(policy), .. } => Decision::Permitted(policy),
            Self { fails: None, forbids: None, permits: None } => Decision::NotPermitted,
        }
    }
}

fn first<T: Clone + Ord>(own: &mut Option<T>, other: Option<&T>) {
    let Some(other) = other else { return };
    if own.as_ref().is_none_or(|own| other < own) {
        *own = Some(other.clone());
    }
}
