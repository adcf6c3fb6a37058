//! The proof that a message passed policy.

use crate::Mapped;

/// A message that every layer of the ingress stack has passed; the only thing a backbone stores.
///
/// Its constructor has to be public across crates, so `clippy.toml` bans it everywhere but in `policy/src/admit.rs`.
#[derive(Debug, Clone)]
pub struct Admitted {
    mapped: Mapped,
    epoch: u64,
}

// === impl Admitted ===

impl Admitted {
    /// Only for the end of the policy stack. `epoch` is the number of the epoch that decided.
    pub fn seal(mapped: Mapped, epoch: u64) -> Self {
        Self { mapped, epoch }
    }

    /// What was admitted.
    pub fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// The number of the epoch that decided.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The message and the number of the epoch that decided.
    pub fn into_parts(self) -> (Mapped, u64) {
        (self.mapped, self.epoch)
    }
}
