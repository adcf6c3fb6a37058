//! A position is the store's name and the sequence, big-endian: opaque to everybody else, and its bytes sort as the log does.
//!
//! The name is made by chance with the folder, so that a position of another gateway, or of a store that was begun anew, is
//! none of this one and nobody goes on at the wrong place.

use bytes::Bytes;
use envelope::Position;

/// The bytes of a name.
const NAME: usize = size_of::<u32>();

pub(crate) fn of(store: u32, sequence: u64) -> Position {
    let mut bytes = [0; NAME + size_of::<u64>()];
    bytes[..NAME].copy_from_slice(&store.to_be_bytes());
    bytes[NAME..].copy_from_slice(&sequence.to_be_bytes());
    Position(Bytes::copy_from_slice(&bytes))
}

/// `None` if this store did not make it.
pub(crate) fn sequence(store: u32, position: &Position) -> Option<u64> {
    let sequence = position.0.as_ref().strip_prefix(&store.to_be_bytes())?;
    sequence.try_into().map(u64::from_be_bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_and_sort_as_the_log() {
        assert_eq!(sequence(7, &of(7, 300)), Some(300));
        assert!(of(7, 255) < of(7, 256));
        assert_eq!(sequence(7, &Position(Bytes::from_static(b"123"))), None);
    }

    #[test]
    fn a_position_of_another_store_is_none_of_this() {
        assert_eq!(sequence(8, &of(7, 300)), None);
    }
}
