//! Hashers for keys that nobody outside chooses. The usual one stands against keys that are chosen to collide, and costs
//! more than the look-up.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// By a key that is a hash already.
pub(crate) type ByHash<V> = HashMap<u64, V, BuildHasherDefault<AsIs>>;
/// By a name of the configuration, or by an address in memory.
pub(crate) type ByName<K, V> = HashMap<K, V, BuildHasherDefault<Plain>>;

/// The key is a hash already.
#[derive(Debug, Default)]
pub(crate) struct AsIs(u64);

/// A multiplication a word.
#[derive(Debug, Default)]
pub(crate) struct Plain(u64);

// === impl AsIs ===

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

// === impl Plain ===

impl Hasher for Plain {
    /// Tables look at the lowest bits, which know least.
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let word = part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        hash::{BuildHasher, Hash},
    };

    use super::*;

    /// How many of 128 places in a table the keys take.
    fn places(keys: impl Iterator<Item = impl Hash>) -> usize {
        let hasher = BuildHasherDefault::<Plain>::default();
        keys.map(|key| hasher.hash_one(key) & 127).collect::<HashSet<_>>().len()
    }

    #[test]
    fn names_that_are_alike_and_addresses_stand_apart() {
        assert!(places((0..128).map(|n| format!("mapping-{n}"))) > 64);
        assert!(places((0..128).map(|n| format!("{n}-of-the-mappings-of-the-plant"))) > 64);
        assert!(places((0..128_usize).map(|n| 0x7f00_0000_1000 + n * 64)) > 64);
    }
}
