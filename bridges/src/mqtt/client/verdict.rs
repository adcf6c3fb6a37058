//! What a broker's answer to a message means: the one table from MQTT's reason codes to verdicts.
//!
//! MQTT 3.1.1 has only the yes.

use envelope::{RejectKind, Rejection, Taken};

use crate::{
    mqtt::packet::{Answered, Reason},
    standing::shown,
};

/// The layer that decides where the bridge does so itself.
pub(super) const DECIDED_BY: &str = "mqtt_client";

/// Of PUBACK or PUBREC. A Retry is the broker's "not now".
pub(super) fn verdict(answered: &Answered) -> Result<Taken, Rejection> {
    let Answered { reason, detail, .. } = answered;
    let kind = match *reason {
        reason if !reason.is_error() => return Ok(Taken::ByPeer),
        Reason::NOT_AUTHORIZED => RejectKind::Denied,
        Reason::TOPIC_INVALID | Reason::PAYLOAD_INVALID => RejectKind::Malformed,
        Reason::PACKET_TOO_LARGE => RejectKind::TooLarge,
        Reason::QUOTA_EXCEEDED => RejectKind::RateLimited,
        _ => RejectKind::Unavailable,
    };
    let said = match detail {
        Some(detail) => format!("the broker refuses the message: {reason}: {}", shown(detail)),
        None => format!("the broker refuses the message: {reason}"),
    };
    Err(Rejection::new(kind, DECIDED_BY, said))
}

#[cfg(test)]
mod tests {
    use envelope::Disposition;

    use super::*;

    #[test]
    fn a_yes_is_a_yes_and_a_no_is_final_unless_it_may_pass() {
        let of = |code| verdict(&Answered { id: 1, reason: Reason(code), detail: Some("be\ncause".into()) });
        // no matching subscribers is no reason to keep it
        assert!(of(0x00).is_ok() && of(0x10).is_ok());
        for (code, disposition) in [
            (0x87, Disposition::Final),
            (0x90, Disposition::Final),
            (0x95, Disposition::Final),
            (0x99, Disposition::Final),
            (0x80, Disposition::Retry),
            (0x83, Disposition::Retry),
            (0x91, Disposition::Retry),
            (0x97, Disposition::Retry),
        ] {
            let no = of(code).unwrap_err();
            assert_eq!(no.disposition(), disposition, "0x{code:X}");
            assert!(no.detail.contains("be cause"), "{}", no.detail);
        }
    }
}
