//! What the lanes of an MQTT bridge offer messages through: the same for who listens and who asks a broker.

use std::fmt;

use metrics::{Counter, counter, describe_counter};

use crate::SourceContext;

/// The seams of one bridge, as its lanes use them.
pub(super) struct Offers {
    pub(super) cx: SourceContext,
    /// Offers repeated after a Retry.
    pub(super) retries: Counter,
}

// === impl Offers ===

impl Offers {
    pub(super) fn new(cx: SourceContext) -> Self {
        const RETRIES: &str = "openmesh_bridge_retries_total";
        describe_counter!(RETRIES, "messages offered again after a refusal that may pass");
        Self { retries: counter!(RETRIES, "bridge" => cx.bridge.to_string()), cx }
    }
}

impl fmt::Debug for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offers").field("bridge", &self.cx.bridge).finish_non_exhaustive()
    }
}
