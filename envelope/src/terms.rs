//! What a mapping file promises of its messages beside the envelope, and the answers it makes for their senders.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{Envelope, Headers, Receipt, Rejection, Timestamp};

/// What holds for every message of a mapping. Made once when the file is loaded and shared by its messages.
#[derive(Debug)]
pub struct Terms {
    /// How long a sender waits for an ack point beyond [`Durable`](crate::AckPoint::Durable).
    pub ack_within: Duration,
    /// The newest envelope of each topic is kept for whoever subscribes later.
    pub keep_last: bool,
    /// Under overload the latest message of a topic and key stands for those before it that were not taken yet.
    pub shed_latest: bool,
    /// `false`: the message passes through without being stored, and its source's unacked window is the store.
    pub store: bool,
    /// A message that turns out not to conform is a dead letter, not only a refusal.
    pub dead_letter_unproven: bool,
    /// A message that its sender may not send is a dead letter as well, with its payload where the data may be here.
    pub keep_denied: bool,
    /// What the sender is told, where the file says that.
    pub reply: Option<Box<dyn Replies>>,
}

/// What a sender is told, in its protocol's terms. `Debug` shows neither headers nor payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// A status of HTTP (RFC 9110), 200 to 599, which other protocols translate; the bridge's own if left out.
    pub status: Option<u16>,
    /// The protocol's headers; names in lower case.
    pub headers: Headers,
    /// What is sent.
    pub payload: Bytes,
}

/// The answers that a mapping file makes for its senders. Pure. `None`: the bridge says it in its own words. A refusal is
/// about the answer, never about the message: that keeps the verdict it has.
pub trait Replies: fmt::Debug + Send + Sync {
    /// How long the sender waits for an envelope that answers its own; `None`: it hears of the admission.
    fn within(&self) -> Option<Duration>;

    /// The type that an envelope that answers has to be of; `None`: any that is loaded, or none.
    fn kind(&self) -> Option<&Arc<str>>;

    /// For an envelope that answers the sender's.
    fn answered(&self, answer: &Envelope, now: Timestamp) -> Result<Option<Reply>, Rejection>;

    /// For a message that was admitted.
    fn accepted(&self, receipt: &Receipt, now: Timestamp) -> Result<Option<Reply>, Rejection>;

    /// For a message that was refused.
    fn refused(&self, rejection: &Rejection, now: Timestamp) -> Result<Option<Reply>, Rejection>;
}

// === impl Reply ===

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

// === impl Terms ===

impl Terms {
    /// How long a sender waits if its mapping does not say.
    pub const ACK_WITHIN: Duration = Duration::from_secs(30);
}

impl Default for Terms {
    /// Stored, answered by the bridge.
    fn default() -> Self {
        Self {
            ack_within: Self::ACK_WITHIN,
            keep_last: false,
            shed_latest: false,
            store: true,
            dead_letter_unproven: false,
            keep_denied: false,
            reply: None,
        }
    }
}
