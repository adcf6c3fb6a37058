//! The data types of MQTT (MQTT 5.0, section 1.5), read from a packet without a copy of each.

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;

use super::{Broken, Reason};

/// The largest packet that is copied out of what was read.
const MAX_COPIED: usize = 2_048;

/// What is left of one packet.
#[derive(Debug)]
pub(super) struct Reader(Bytes);

// === impl Reader ===

impl Reader {
    /// Takes a packet of `total` bytes off the buffer; what is behind its fixed header is read. A small one is copied: it
    /// would keep the room of all that is read at once for as long as it is on its way.
    pub(super) fn of(buffer: &mut BytesMut, header: usize, total: usize) -> Self {
        if total <= MAX_COPIED {
            let packet = Bytes::copy_from_slice(&buffer[header..total]);
            buffer.advance(total);
            return Self(packet);
        }
        Self(buffer.split_to(total).freeze().split_off(header))
    }

    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> Result<u8, Broken> {
        self.has(1)?;
        Ok(self.0.get_u8())
    }

    pub(super) fn u16(&mut self) -> Result<u16, Broken> {
        self.has(2)?;
        Ok(self.0.get_u16())
    }

    pub(super) fn u32(&mut self) -> Result<u32, Broken> {
        self.has(4)?;
        Ok(self.0.get_u32())
    }

    /// A packet identifier, which is never 0 (MQTT-2.2.1-3).
    pub(super) fn packet_id(&mut self) -> Result<u16, Broken> {
        match self.u16()? {
            0 => Err(Broken::new(Reason::PROTOCOL_ERROR, "a packet identifier is not 0")),
            id => Ok(id),
        }
    }

    /// A variable byte integer in its shortest form (MQTT-1.5.5-1).
    pub(super) fn varint(&mut self) -> Result<usize, Broken> {
        match varint(&self.0)? {
            Some((value, size)) => {
                self.0.advance(size);
                Ok(value)
            }
            None => Err(Broken::malformed("the packet ends within a length")),
        }
    }

    pub(super) fn binary(&mut self) -> Result<Bytes, Broken> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }

    /// UTF-8 without surrogates and without U+0000 (MQTT-1.5.4-1, MQTT-1.5.4-2).
    pub(super) fn text(&mut self) -> Result<ByteString, Broken> {
        let bytes = self.binary()?;
        if bytes.contains(&0) {
            return Err(Broken::malformed("a string has U+0000 in it"));
        }
        ByteString::try_from(bytes).map_err(|_| Broken::malformed("a string is not UTF-8"))
    }

    pub(super) fn take(&mut self, length: usize) -> Result<Bytes, Broken> {
        self.has(length)?;
        Ok(self.0.split_to(length))
    }

    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    /// Nothing may stand behind what a packet says.
    pub(super) fn finish(self) -> Result<(), Broken> {
        if self.0.is_empty() { Ok(()) } else { Err(Broken::malformed("the packet is longer than what it says")) }
    }

    fn has(&self, bytes: usize) -> Result<(), Broken> {
        if self.0.len() >= bytes { Ok(()) } else { Err(Broken::malformed("the packet ends too soon")) }
    }
}

/// The value and its size at the start of `bytes`; `None` if it goes on behind them.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, Broken> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let padded = at > 0 && *byte == 0;
            return if padded {
                Err(Broken::malformed("a length is not in its shortest form"))
            } else {
                Ok(Some((value, at + 1)))
            };
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Broken::malformed("a length has more than four bytes")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_1_5_5_1_a_length_has_one_to_four_bytes_and_its_shortest_form() {
        for (bytes, value) in [
            (&[0][..], (0, 1)),
            (&[0x7F], (127, 1)),
            (&[0x80, 1], (128, 2)),
            (&[0xFF, 0xFF, 0xFF, 0x7F], (268_435_455, 4)),
        ] {
            assert_eq!(varint(bytes), Ok(Some(value)));
        }
        assert_eq!(varint(&[0x80]), Ok(None));
        assert!(varint(&[0x80, 0]).is_err());
        assert!(varint(&[0x80, 0x80, 0x80, 0x80]).is_err());
        assert!(varint(&[0xFF, 0xFF, 0xFF, 0xFF, 1]).is_err());
    }

    #[test]
    fn a_small_packet_keeps_nothing_of_what_was_read_with_it_and_a_large_one_is_not_copied() {
        const ROOM: usize = 16_384;
        for (total, is_copied) in [(2, true), (MAX_COPIED, true), (MAX_COPIED + 1, false)] {
            let mut buffer = BytesMut::with_capacity(ROOM);
            buffer.extend_from_slice(&vec![7; total]);
            let packet = Reader::of(&mut buffer, 2, total);
            assert_eq!(packet.len(), total - 2);
            assert!(buffer.is_empty());
            assert_eq!(buffer.try_reclaim(ROOM), is_copied, "of {total} bytes, while they are on their way");
            drop(packet);
        }
    }

    #[test]
    fn mqtt_1_5_4_2_a_string_has_no_nul_and_is_utf_8() {
        let text = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes)).text();
        assert_eq!(text(b"\0\x03a\xC3\xA9").unwrap(), "aé");
        assert!(text(b"\0\x03a\0b").is_err());
        // a surrogate, and one that is cut
        assert!(text(b"\0\x03\xED\xA0\x80").is_err());
        assert!(text(b"\0\x01\xC3").is_err());
        assert!(text(b"\0\x05ab").is_err());
    }
}
