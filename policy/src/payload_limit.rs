//! Refuses messages whose payload is larger than the bridge's limit.
//!
//! Sits before MAPPING, so an oversized body is refused before it is parsed. The limit is per message; rate limits are
//! for volume. A bridge that reads a body piece by piece has its own bound besides: this one is what all have in common.

use envelope::{Inbound, RejectKind, Rejection};

use crate::{Epoch, lift::Rule};

/// Passes an [`Inbound`] of at most `max_bytes`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PayloadLimit {
    max_bytes: usize,
}

// === impl PayloadLimit ===

impl PayloadLimit {
    /// `max_bytes` is inclusive: a payload of exactly this size passes.
    pub(crate) const fn new(max_bytes: usize) -> Self {
        Self { max_bytes }
    }
}

impl Rule<Inbound> for PayloadLimit {
    fn check(&self, _: &Epoch, inbound: &Inbound) -> Result<(), Rejection> {
        let size = inbound.payload.len();
        if size <= self.max_bytes {
            return Ok(());
        }
        let detail = format!("payload is {size} bytes, limit is {}", self.max_bytes);
        Err(Rejection::new(RejectKind::TooLarge, "payload_limit", detail))
    }
}
