//! Why a message was not taken, and whether offering it again can help.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::Reply;

/// The closed list of reasons. A metric label, a ledger key, and what each bridge turns into its protocol's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RejectKind {
    /// No mapping file takes this address.
    Unmapped,
    /// Not of the declared format, or refused by a schema or by the mapping itself.
    Malformed,
    /// Over a size limit.
    TooLarge,
    /// No valid credentials, and anonymous access is not allowed.
    Unauthenticated,
    /// Policy does not allow it.
    Denied,
    /// Too much in flight here.
    Overloaded,
    /// Over the sender's rate.
    RateLimited,
    /// An earlier message of the same lane is retried first.
    Behind,
    /// The store, or a peer that had to take it, is away.
    Unavailable,
    /// Another consumer took over, or what is asked for contradicts what exists.
    Conflict,
}

/// Whether the same message may be offered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Offering it again gives the same answer.
    Final,
    /// It may pass later: the source keeps it and offers it again.
    Retry,
}

/// One refusal: a closed kind for machines, a sentence for people, the rule that decided, the cause for the log.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// For machines.
    pub kind: RejectKind,
    /// For people: lower case, names the value and the limit, never internals or a secret.
    pub detail: String,
    /// The layer or rule that decided, as in the reply and the audit.
    pub decided_by: &'static str,
    /// The rule of the user's own that decided, where one did: a policy by its file and name. Said in place of the layer.
    pub policy: Option<Arc<String>>,
    /// JSON Pointer (RFC 6901) to the place in the message, where there is one.
    pub pointer: Option<Box<str>>,
    /// When offering it again makes sense, if known.
    pub retry_after: Option<Duration>,
    /// The rate that the sender is over, where that is why.
    pub quota: Option<Box<Quota>>,
    /// What the sender is told in the mapping's words; the bridge's own if there are none.
    pub reply: Option<Box<Reply>>,
    /// For the log only, never for the peer.
    pub cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// What a sender may send in a second, as the answer to one that sent more tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How much of it.
    pub per_second: u64,
    /// Of what.
    pub unit: QuotaUnit,
}

/// What a [`Quota`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaUnit {
    /// Messages, whatever their size.
    Messages,
    /// Bytes of payload.
    Bytes,
}

// === impl RejectKind ===

impl RejectKind {
    /// All kinds, in declaration order.
    pub const ALL: [Self; 10] = [
        Self::Unmapped,
        Self::Malformed,
        Self::TooLarge,
        Self::Unauthenticated,
        Self::Denied,
        Self::Overloaded,
        Self::RateLimited,
        Self::Behind,
        Self::Unavailable,
        Self::Conflict,
    ];

    /// The word used in metrics, the ledger and replies: lower case, dashes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::Malformed => "malformed",
            Self::TooLarge => "too-large",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate-limited",
            Self::Behind => "behind",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
        }
    }

    /// The one table of what may be offered again.
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::Unmapped
            | Self::Malformed
            | Self::TooLarge
            | Self::Unauthenticated
            | Self::Denied
            | Self::Conflict => Disposition::Final,
            Self::Overloaded | Self::RateLimited | Self::Behind | Self::Unavailable => Disposition::Retry,
        }
    }
}

impl fmt::Display for RejectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Rejection ===

impl Rejection {
    /// A refusal without a place, a time or a cause.
    pub fn new(kind: RejectKind, decided_by: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            decided_by,
            policy: None,
            pointer: None,
            retry_after: None,
            quota: None,
            reply: None,
            cause: None,
        }
    }

    /// Names the user's own rule that decided.
    #[must_use]
    pub fn by_policy(mut self, policy: &str) -> Self {
        self.policy = Some(Arc::new(policy.to_owned()));
        self
    }

    /// What decided, as the peer and the audit are told: the user's own rule, or the layer.
    pub fn decider(&self) -> &str {
        self.policy.as_deref().map_or(self.decided_by, String::as_str)
    }

    /// Names the place in the message, as a JSON Pointer (RFC 6901).
    #[must_use]
    pub fn at(mut self, pointer: impl Into<Box<str>>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Says when offering it again makes sense.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says which rate it is over.
    #[must_use]
    pub fn over(mut self, quota: Quota) -> Self {
        self.quota = Some(Box::new(quota));
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }

    /// Final or Retry, by kind alone.
    pub const fn disposition(&self) -> Disposition {
        self.kind.disposition()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}: {}", self.kind, self.decider(), self.detail)?;
        match &self.pointer {
            Some(pointer) => write!(f, " (at {pointer:?})"),
            None => Ok(()),
        }
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        let mut words: Vec<_> = RejectKind::ALL.iter().map(|kind| kind.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), RejectKind::ALL.len());
    }

    #[test]
    fn a_rejection_names_the_rule_and_the_place() {
        let rejection = Rejection::new(RejectKind::Malformed, "conformance", "\"x\" is not a number").at("/celsius");
        assert_eq!(rejection.to_string(), r#"malformed by conformance: "x" is not a number (at "/celsius")"#);
        assert_eq!(rejection.disposition(), Disposition::Final);
    }
}
