//! Reads a binary format: every length is checked against what is there before anything is taken.

use super::output::{Fault, Place, Step};

/// A payload and how far it is read.
#[derive(Debug)]
pub(super) struct Reader<'p> {
    bytes: &'p [u8],
    at: usize,
    /// Where the item begins that is being read.
    item: usize,
}

// === impl Reader ===

impl<'p> Reader<'p> {
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Self { bytes, at: 0, item: 0 }
    }

    /// The first byte of an item; faults are said to be there.
    pub(super) fn begin(&mut self) -> Step<u8> {
        self.item = self.at;
        self.byte()
    }

    /// Where the item stands that is being read.
    pub(super) fn place(&self) -> Place {
        Place::Byte(self.item)
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn byte(&mut self) -> Step<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// So many bytes, to be read as a number, most significant first.
    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(Fault::new("ends too early")),
        }
    }

    /// As many bytes as the payload says there are.
    pub(super) fn take(&mut self, length: u64) -> Step<&'p [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match usize::try_from(length).ok().and_then(|length| rest.get(..length)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(Fault::new(format!("says that {length} bytes follow, {} do", rest.len()))),
        }
    }

    pub(super) fn text(&mut self, length: u64) -> Step<&'p str> {
        let begin = self.at;
        std::str::from_utf8(self.take(length)?)
            .map_err(|error| Fault::new("not UTF-8").at(Place::Byte(begin + error.valid_up_to())))
    }

    /// Refuses what is behind the one value.
    pub(super) fn end(&mut self) -> Step {
        self.item = self.at;
        match self.bytes.len() - self.at {
            0 => Ok(()),
            more => Err(Fault::new(format!("{more} bytes after the end"))),
        }
    }
}
