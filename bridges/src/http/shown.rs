//! The newest envelopes as JSON, made once for all subscribers that get them.
//!
//! What one message costs a thousand subscribers is then a copy each. It knows nothing of who may read what: it is asked for
//! deliveries that passed policy.

use std::sync::{Mutex, PoisonError};

use envelope::{Delivery, EnvelopeId, Position, cloudevents};

/// A few envelopes as they are written; each has one place, where the next one of that place puts it out.
#[derive(Debug)]
pub(super) struct Shown {
    places: Box<[Mutex<Option<One>>]>,
}

#[derive(Debug)]
struct One {
    position: Position,
    /// A position may come again after a store was repaired.
    id: EnvelopeId,
    json: Box<[u8]>,
}

/// Subscribers that are further apart make it again.
const PLACES: usize = 256;
/// What is larger costs more to send than to write: with this, all places take 2 MiB at most.
const MAX_BYTES: usize = 8_192;

// === impl Shown ===

impl Shown {
    pub(super) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| Mutex::default()).collect() }
    }

    /// Appends the envelope of a delivery as [`cloudevents::write_json`] does.
    pub(super) fn write(&self, delivery: &Delivery, out: &mut Vec<u8>) {
        let Delivery { position, envelope, .. } = delivery;
        let place = position.0.iter().fold(0_usize, |place, byte| place.wrapping_mul(31).wrapping_add((*byte).into()));
        let place = &self.places[place % PLACES];
        if let Some(one) = &*place.lock().unwrap_or_else(PoisonError::into_inner)
            && one.id == envelope.id
            && one.position == *position
        {
            return out.extend_from_slice(&one.json);
        }
        let from = out.len();
        cloudevents::write_json(envelope, out);
        if out.len() - from <= MAX_BYTES {
            let one = One { position: position.clone(), id: envelope.id, json: out[from..].into() };
            // freed behind the lock
            let before = place.lock().unwrap_or_else(PoisonError::into_inner).replace(one);
            drop(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::delivery;

    fn written(shown: &Shown, delivery: &Delivery) -> String {
        let mut out = b"before ".to_vec();
        shown.write(delivery, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn expected(delivery: &Delivery) -> String {
        let mut out = b"before ".to_vec();
        cloudevents::write_json(&delivery.envelope, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_envelope_is_the_same_the_first_time_and_every_other() {
        let shown = Shown::new();
        let deliveries: Vec<_> = (0..1_000).map(|position| delivery(position, "a/b", r#"{"c":1}"#.into())).collect();
        for delivery in deliveries.iter().chain(&deliveries) {
            assert_eq!(written(&shown, delivery), expected(delivery));
            assert_eq!(written(&shown, delivery), expected(delivery));
        }
    }

    #[test]
    fn another_envelope_at_the_same_position_is_not_taken_for_the_first() {
        let shown = Shown::new();
        let first = delivery(7, "a/b", "1".into());
        let second = Delivery { position: first.position.clone(), ..delivery(8, "a/b", "2".into()) };
        assert_eq!(written(&shown, &first), expected(&first));
        assert_eq!(written(&shown, &second), expected(&second));
    }

    #[test]
    fn what_is_large_is_not_kept() {
        let shown = Shown::new();
        let large = delivery(1, "a/b", vec![b'x'; MAX_BYTES].into());
        assert_eq!(written(&shown, &large), expected(&large));
        assert!(shown.places.iter().all(|place| place.lock().unwrap().is_none()));
    }
}
