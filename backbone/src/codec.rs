//! The store's own compact encoding: LEB128 integers, length-prefixed bytes, options as a presence byte.
//!
//! Writing can't fail; reading checks every length against what is left, so bad bytes give an error and no panic.

use std::sync::Arc;

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// They end too early.
    #[error("{0} is cut short")]
    Short(&'static str),
    /// They say what can't be.
    #[error("{0} is not valid")]
    Invalid(&'static str),
    /// A newer gateway wrote them.
    #[error("its format is {found}, this gateway reads up to {supported}")]
    NewerFormat {
        /// Their version.
        found: u8,
        /// The newest that is read.
        supported: u8,
    },
}

/// Bytes that are read from the front. Each read names the field, for the error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// The greatest sequence, revision or count that is read: far more than a store lives to see, and far enough from the end of
/// the numbers that nothing that is reckoned with them gets there.
pub(crate) const MOST: u64 = 1 << 48;

/// A sum of two that may be at most [`MOST`].
pub(crate) fn below(sum: u64, what: &'static str) -> Result<u64, DecodeError> {
    if sum <= MOST { Ok(sum) } else { Err(DecodeError::Invalid(what)) }
}

pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

pub(crate) fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(crate) fn put_list(out: &mut Vec<u8>, list: &[Arc<str>]) {
    put_u64(out, list.len() as u64);
    for text in list {
        put_str(out, text);
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Short(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Short(what))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// At most 10 bytes, and no bit past the 64th.
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Invalid(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid(what))
    }

    /// A sequence, a revision or a count.
    pub(crate) fn count(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.u64(what).and_then(|value| below(value, what))
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.u64(what)?;
        self.take(usize::try_from(len).map_err(|_| DecodeError::Invalid(what))?, what)
    }

    pub(crate) fn str(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| DecodeError::Invalid(what))
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<Arc<str>, DecodeError> {
        self.str(what).map(Arc::from)
    }

    /// As [`Self::text`]; what is `known` is shared.
    pub(crate) fn shared(&mut self, what: &'static str, known: &mut Option<Arc<str>>) -> Result<Arc<str>, DecodeError> {
        let bytes = self.bytes(what)?;
        if let Some(text) = known.as_ref().filter(|text| text.as_bytes() == bytes) {
            return Ok(text.clone());
        }
        let text: Arc<str> = std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid(what))?.into();
        *known = Some(text.clone());
        Ok(text)
    }

    pub(crate) fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u8(what)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(DecodeError::Invalid(what)),
        }
    }

    pub(crate) fn option_text(&mut self, what: &'static str) -> Result<Option<Arc<str>>, DecodeError> {
        self.option(what, |reader| reader.text(what))
    }

    /// A list can't be longer than the bytes that are left: nothing is allocated on the word of a length.
    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let len = self.u64(what)?;
        if len > self.0.len() as u64 {
            return Err(DecodeError::Short(what));
        }
        (0..len).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_integer_reads_back(value: u64) {
            let mut out = Vec::new();
            put_u64(&mut out, value);
            prop_assert_eq!(Reader::new(&out).u64("n"), Ok(value));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.list("list", |r| r.option_text("text")).is_ok() && !reader.rest().is_empty() {}
        }
    }

    #[test]
    fn an_integer_over_64_bits_is_refused() {
        assert_eq!(Reader::new(&[0xff; 11]).u64("n"), Err(DecodeError::Invalid("n")));
        assert_eq!(Reader::new(&[0x80]).u64("n"), Err(DecodeError::Short("n")));
    }

    #[test]
    fn a_length_past_the_end_is_refused_before_anything_is_allocated() {
        let mut out = Vec::new();
        put_u64(&mut out, u64::MAX);
        assert_eq!(Reader::new(&out).bytes("b"), Err(DecodeError::Short("b")));
        assert_eq!(Reader::new(&out).list("l", |r| r.u8("x")), Err(DecodeError::Short("l")));
    }
}
