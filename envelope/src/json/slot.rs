//! What a tree is made of: a slot a value, with its place in the text.

/// A value's place in the text and in the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Its kind, and the offset of its first byte: a text is shorter than 2^28 bytes.
    pub(super) head: u32,
    /// Offset behind its last byte.
    pub(super) end: u32,
    /// Of a container: the slot behind its last descendant. Of an escaped string: its place among the unescaped.
    pub(super) next: u32,
    /// Of a container: its members or elements. Of a key: its signature.
    pub(super) count: u32,
}

const START_BITS: u32 = 29;
const _: () = assert!(super::MAX_BYTES < 1 << START_BITS);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null = 0,
    True = 1,
    False = 2,
    Number = 3,
    String = 4,
    Escaped = 5,
    Array = 6,
    Object = 7,
}

/// The name of a member, made ready to be looked for in many objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub(super) text: Box<str>,
    pub(super) signature: u32,
}

/// Equal for equal keys, mostly different for others.
#[inline]
pub(super) fn signature(key: &[u8]) -> u32 {
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let mixed = match (key.first_chunk(), key.last_chunk()) {
        (Some(first), Some(last)) => word(first).rotate_left(29) ^ word(last),
        _ => match (key.first_chunk::<4>(), key.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
            }
            _ => key.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        },
    };
    ((mixed ^ key.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

// === impl Slot ===

impl Slot {
    #[inline]
    pub(super) fn new(kind: Kind, start: usize, end: usize) -> Self {
        Self { head: (kind as u32) << START_BITS | start as u32, end: end as u32, next: 0, count: 0 }
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        match self.head >> START_BITS {
            0 => Kind::Null,
            1 => Kind::True,
            2 => Kind::False,
            3 => Kind::Number,
            4 => Kind::String,
            5 => Kind::Escaped,
            6 => Kind::Array,
            _ => Kind::Object,
        }
    }

    /// Offset of its first byte.
    #[inline]
    pub(super) fn start(&self) -> usize {
        (self.head & ((1 << START_BITS) - 1)) as usize
    }

    /// The slot behind this value, which stands at `at`.
    #[inline]
    pub(super) fn after(&self, at: u32) -> u32 {
        match self.kind() {
            Kind::Array | Kind::Object => self.next,
            _ => at + 1,
        }
    }
}

// === impl Name ===

impl Name {
    /// Of any text.
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), signature: signature(text.as_bytes()) }
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}
