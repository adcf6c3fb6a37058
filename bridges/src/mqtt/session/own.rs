//! What a client has published itself, which No Local keeps from it: over its connections, not over a restart.

use std::collections::{HashSet, VecDeque};

use envelope::EnvelopeId;

/// Ids of envelopes, the newest so many.
#[derive(Debug, Default)]
pub(in crate::mqtt) struct Own {
    order: VecDeque<EnvelopeId>,
    ids: HashSet<EnvelopeId>,
}

const MAX_OWN: usize = 4_096;

// === impl Own ===

impl Own {
    pub(in crate::mqtt) fn add(&mut self, id: EnvelopeId) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_OWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    pub(in crate::mqtt) fn has(&self, id: &EnvelopeId) -> bool {
        self.ids.contains(id)
    }
}
