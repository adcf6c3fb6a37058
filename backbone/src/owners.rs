//! Whose subscriptions there are, and how many one principal may have: nobody can take all that there is room for.

use std::{collections::HashMap, sync::Arc};

use envelope::{RejectKind, Rejection};

/// Who a subscription is opened for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Subscriber {
    /// The gateway itself, such as for a mapping that sends. There is room that only it can take.
    #[default]
    Gateway,
    /// A principal. A durable name that it made is for nobody else.
    Principal(Arc<str>),
    /// Several principals, who have it in common: it counts with the one who began it.
    Several(Arc<str>),
}

/// How many subscriptions one principal may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionQuota {
    /// Open ones, and durable ones that nobody consumes now.
    pub each: usize,
    /// Durable ones, open or not.
    pub durable: usize,
}

/// How many each principal has; who has none is not in it.
#[derive(Debug, Default)]
pub(crate) struct Owners(HashMap<Arc<str>, Owned>);

#[derive(Debug, Clone, Copy, Default)]
struct Owned {
    each: usize,
    durable: usize,
}

// === impl Subscriber ===

impl Subscriber {
    /// The principal that it counts with.
    pub(crate) fn owner(&self) -> Option<&Arc<str>> {
        match self {
            Self::Gateway => None,
            Self::Principal(owner) | Self::Several(owner) => Some(owner),
        }
    }

    /// Refuses who is not the owner of a name; of one that an older gateway made nobody knows it.
    pub(crate) fn may_have(&self, owner: Option<&Arc<str>>) -> Result<(), Rejection> {
        match (self, owner) {
            (Self::Principal(own), Some(owner)) if own != owner => {
                let detail = "the durable subscription is another principal's";
                Err(Rejection::new(RejectKind::Denied, "backbone", detail))
            }
            (_, _) => Ok(()),
        }
    }
}

// === impl SubscriptionQuota ===

impl Default for SubscriptionQuota {
    /// A quarter of what there is room for.
    fn default() -> Self {
        Self { each: 16_384, durable: 16_384 }
    }
}

// === impl Owners ===

impl Owners {
    /// Whether one may have one more.
    pub(crate) fn check(&self, owner: &str, durable: bool, quota: SubscriptionQuota) -> Result<(), Rejection> {
        let owned = self.0.get(owner).copied().unwrap_or_default();
        let over = |limit: usize, what: &str| {
            let detail = format!("a principal may have {limit} {what}, and this one has them all");
            Err(Rejection::new(RejectKind::RateLimited, "subscription_quota", detail))
        };
        if durable && owned.durable >= quota.durable {
            return over(quota.durable, "durable subscriptions, consumed or not");
        }
        if owned.each >= quota.each {
            return over(quota.each, "subscriptions, durable ones that nobody consumes included");
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, owner: &Arc<str>, durable: bool) {
        let owned = self.0.entry(owner.clone()).or_default();
        owned.each += 1;
        owned.durable += usize::from(durable);
    }

    pub(crate) fn remove(&mut self, owner: &Arc<str>, durable: bool) {
        let Some(owned) = self.0.get_mut(owner) else { return };
        owned.each = owned.each.saturating_sub(1);
        owned.durable = owned.durable.saturating_sub(usize::from(durable));
        if owned.each == 0 {
            self.0.remove(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_principal_has_its_own_share_and_gives_it_back() {
        let quota = SubscriptionQuota { each: 2, durable: 1 };
        let (ada, bob) = (Arc::from("ada"), Arc::from("bob"));
        let mut owners = Owners::default();
        owners.add(&ada, true);
        assert!(owners.check("ada", true, quota).unwrap_err().detail.contains("1 durable"));
        assert!(owners.check("ada", false, quota).is_ok());
        owners.add(&ada, false);
        assert!(owners.check("ada", false, quota).unwrap_err().detail.contains("2 subscriptions"));
        assert!(owners.check("bob", true, quota).is_ok());
        owners.add(&bob, true);
        owners.remove(&ada, true);
        assert!(owners.check("ada", true, quota).is_ok());
        owners.remove(&ada, false);
        owners.remove(&bob, true);
        assert!(owners.0.is_empty(), "who has none takes no memory");
    }

    #[test]
    fn a_name_is_its_owners_unless_it_is_shared_or_nobody_knows_whose() {
        let (ada, bob): (Arc<str>, Arc<str>) = ("ada".into(), "bob".into());
        assert!(Subscriber::Principal(ada.clone()).may_have(Some(&ada)).is_ok());
        let refusal = Subscriber::Principal(bob.clone()).may_have(Some(&ada)).unwrap_err();
        assert_eq!(refusal.kind, RejectKind::Denied);
        assert!(Subscriber::Several(bob.clone()).may_have(Some(&ada)).is_ok());
        assert!(Subscriber::Principal(bob).may_have(None).is_ok());
    }
}
