//! The room for bodies that are being read or are in flight, over all bridges.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// The most bytes of a message that counts as small.
pub const SMALL_BYTES: usize = 64 << 10;

/// A permit a byte. Small messages have a quarter as much to themselves: large ones that are announced and do not come hold
/// up none of them, however many there are.
#[derive(Debug, Clone)]
pub struct ByteRoom {
    large: Arc<Semaphore>,
    small: Arc<Semaphore>,
}

// === impl ByteRoom ===

impl ByteRoom {
    /// For so many bytes of large messages.
    pub fn new(bytes: usize) -> Self {
        let small = Semaphore::new((bytes / 4).max(SMALL_BYTES));
        Self { large: Arc::new(Semaphore::new(bytes)), small: Arc::new(small) }
    }

    /// Both kinds from one.
    #[cfg(test)]
    pub(crate) fn of_one(bytes: Arc<Semaphore>) -> Self {
        Self { large: bytes.clone(), small: bytes }
    }

    /// Where a message, or messages together, of so many bytes find room. Whoever waits for it holds none of either.
    pub fn of(&self, bytes: usize) -> Arc<Semaphore> {
        if bytes <= SMALL_BYTES { self.small.clone() } else { self.large.clone() }
    }
}
