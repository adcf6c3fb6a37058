//! Filters what has been here before: an envelope that comes back to a domain it passed.
//!
//! Not a refusal: the sender did nothing wrong, and the first copy was taken. It is acked and counted as filtered.

use std::ops::ControlFlow;

use envelope::{Admission, Mapped, Rejection};

use crate::{Epoch, lift::Step};

/// The most domains an envelope may have passed; inclusive. Behind it, a federation that forgets to note its hops still
/// can't keep an envelope going forever.
pub(crate) const MAX_HOPS: usize = 16;

/// Passes what has not been in this domain and came over at most [`MAX_HOPS`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopGuard;

// === impl LoopGuard ===

impl Step<Mapped, Admission> for LoopGuard {
    /// One looping envelope filters its group: a group has one verdict.
    fn decide(&self, epoch: &Epoch, message: &Mapped) -> ControlFlow<Result<Admission, Rejection>> {
        let loops =
            message.group.as_slice().iter().any(|envelope| {
                envelope.hops.len() > MAX_HOPS || envelope.hops.iter().any(|hop| **hop == *epoch.domain)
            });
        if loops { ControlFlow::Break(Ok(Admission::Filtered)) } else { ControlFlow::Continue(()) }
    }
}
