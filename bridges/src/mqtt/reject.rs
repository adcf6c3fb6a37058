//! What a client hears of a refusal, and what the listener's own refusals are in the mesh's words.

use envelope::{RejectKind, Rejection};

use super::packet::{Broken, Reason};

/// The layer that decides where the listener does so itself.
pub(super) const DECIDED_BY: &str = "mqtt";

/// The least time until a delivery that policy could not let through now is tried again.
pub(super) const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(50);

/// The reason code of PUBACK, PUBREC and SUBACK for a refusal. Of those that may pass, a client hears only where the
/// gateway gives the message back.
pub(super) const fn reason(kind: RejectKind) -> Reason {
    match kind {
        RejectKind::Unmapped => Reason::TOPIC_INVALID,
        RejectKind::Malformed => Reason::PAYLOAD_INVALID,
        RejectKind::Unauthenticated | RejectKind::Denied => Reason::NOT_AUTHORIZED,
        RejectKind::RateLimited | RejectKind::Overloaded => Reason::QUOTA_EXCEEDED,
        RejectKind::TooLarge | RejectKind::Conflict => Reason::IMPLEMENTATION_SPECIFIC,
        RejectKind::Behind | RejectKind::Unavailable => Reason::UNSPECIFIED,
        _ => Reason::UNSPECIFIED,
    }
}

/// The reason code of a CONNACK.
pub(super) const fn connack(kind: RejectKind) -> Reason {
    match kind {
        RejectKind::Unauthenticated => Reason::BAD_CREDENTIALS,
        RejectKind::Denied => Reason::NOT_AUTHORIZED,
        RejectKind::Unavailable => Reason::SERVER_UNAVAILABLE,
        RejectKind::Overloaded | RejectKind::RateLimited | RejectKind::Behind => Reason::SERVER_BUSY,
        _ => Reason::UNSPECIFIED,
    }
}

/// What a client that wants to know is told: who decided, and why.
pub(super) fn detail(rejection: &Rejection) -> String {
    match &rejection.pointer {
        Some(pointer) => format!("{}: {} (at {pointer:?})", rejection.decider(), rejection.detail),
        None => format!("{}: {}", rejection.decider(), rejection.detail),
    }
}

/// What the ledger and the audit are told of a message that is none.
pub(super) fn broken(broken: &Broken) -> Rejection {
    let kind = match broken.reason {
        Reason::PACKET_TOO_LARGE | Reason::QUOTA_EXCEEDED => RejectKind::TooLarge,
        Reason::BAD_CREDENTIALS => RejectKind::Unauthenticated,
        Reason::NOT_AUTHORIZED => RejectKind::Denied,
        _ => RejectKind::Malformed,
    };
    Rejection::new(kind, DECIDED_BY, broken.detail.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_3_4_2_1_and_3_5_2_1_a_puback_has_only_the_codes_that_the_standard_gives_it() {
        let allowed = [0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
        for kind in RejectKind::ALL {
            assert!(allowed.contains(&reason(kind).0), "{kind}");
        }
        assert_eq!(reason(RejectKind::Denied), Reason::NOT_AUTHORIZED);
        assert_eq!(reason(RejectKind::Malformed), Reason::PAYLOAD_INVALID);
        assert_eq!(reason(RejectKind::Unmapped), Reason::TOPIC_INVALID);
    }
}
