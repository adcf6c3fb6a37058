//! A position is the sequence, big-endian: opaque to everybody else, and its bytes sort as the log does.

use bytes::Bytes;
use envelope::Position;

pub(crate) fn of(sequence: u64) -> Position {
    Position(Bytes::copy_from_slice(&sequence.to_be_bytes()))
}

/// `None` if no embedded store made it.
pub(crate) fn sequence(position: &Position) -> Option<u64> {
    position.0.as_ref().try_into().map(u64::from_be_bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_and_sort_as_the_log() {
        assert_eq!(sequence(&of(300)), Some(300));
        assert!(of(255) < of(256));
        assert_eq!(sequence(&Position(Bytes::from_static(b"123"))), None);
    }
}
