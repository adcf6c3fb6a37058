//! MessagePack to JSON text. What JSON does not have (extension types, keys that are not text) is refused.

use envelope::json::MAX_DEPTH;

use super::{
    output::{Fault, Output, Step},
    reader::Reader,
};

/// Writes the one value that `payload` is.
pub(super) fn write(payload: &[u8], out: &mut Output) -> Step {
    let mut decoder = Decoder { reader: Reader::new(payload), out };
    let done = decoder.value(0).and_then(|()| decoder.reader.end());
    done.map_err(|fault| fault.at(decoder.reader.place()))
}

struct Decoder<'d, 'p> {
    reader: Reader<'p>,
    out: &'d mut Output,
}

// === impl Decoder ===

impl<'p> Decoder<'_, 'p> {
    /// The formats in the order of the specification's table.
    fn value(&mut self, depth: usize) -> Step {
        let first = self.reader.begin()?;
        match first {
            0x00..=0x7f => self.out.integer(first.into()),
            0x80..=0x8f => self.map(u32::from(first & 0x0f), depth),
            0x90..=0x9f => self.array(u32::from(first & 0x0f), depth),
            0xa0..=0xbf | 0xd9..=0xdb => {
                let text = self.text(first)?;
                self.out.string(text)
            }
            0xc0 => self.out.raw("null"),
            0xc1 => Err(Fault::new("0xc1 begins no item")),
            0xc2 => self.out.raw("false"),
            0xc3 => self.out.raw("true"),
            0xc4..=0xc6 => {
                let length = self.length(first - 0xc4)?;
                let bytes = self.reader.take(length.into())?;
                self.out.base64(bytes)
            }
            0xc7..=0xc9 | 0xd4..=0xd8 => Err(Fault::new("an extension type, which JSON does not have")),
            0xca => {
                let bits = self.reader.array()?;
                self.out.float(f32::from_be_bytes(bits).into())
            }
            0xcb => {
                let bits = self.reader.array()?;
                self.out.float(f64::from_be_bytes(bits))
            }
            0xcc => self.reader.array().map(u8::from_be_bytes).and_then(|value| self.out.integer(value.into())),
            0xcd => self.reader.array().map(u16::from_be_bytes).and_then(|value| self.out.integer(value.into())),
            0xce => self.reader.array().map(u32::from_be_bytes).and_then(|value| self.out.integer(value.into())),
            0xcf => self.reader.array().map(u64::from_be_bytes).and_then(|value| self.out.integer(value.into())),
            0xd0 => self.reader.array().map(i8::from_be_bytes).and_then(|value| self.out.integer(value.into())),
            0xd1 => self.reader.array().map(i16::from_be_bytes).and_then(|value| self.out.integer(value.into())),
            0xd2 => self.reader.array().map(i32::from_be_bytes).and_then(|value| self.out.integer(value.into())),
            0xd3 => self.reader.array().map(i64::from_be_bytes).and_then(|value| self.out.integer(value.into())),
            0xdc | 0xdd => self.length(first - 0xdb).and_then(|length| self.array(length, depth)),
            0xde | 0xdf => self.length(first - 0xdd).and_then(|length| self.map(length, depth)),
            0xe0..=0xff => self.out.integer(first.cast_signed().into()),
        }
    }

    /// A length of 1, 2 or 4 bytes.
    fn length(&mut self, width: u8) -> Step<u32> {
        match width {
            0 => self.reader.byte().map(u32::from),
            1 => self.reader.array().map(u16::from_be_bytes).map(u32::from),
            _ => self.reader.array().map(u32::from_be_bytes),
        }
    }

    fn text(&mut self, first: u8) -> Step<&'p str> {
        let length = match first {
            0xa0..=0xbf => u32::from(first & 0x1f),
            0xd9..=0xdb => self.length(first - 0xd9)?,
            _ => return Err(Fault::new("a key that is not text")),
        };
        self.reader.text(length.into())
    }

    fn array(&mut self, length: u32, depth: usize) -> Step {
        if depth == MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        self.out.raw("[")?;
        for n in 0..length {
            if n > 0 {
                self.out.raw(",")?;
            }
            self.value(depth + 1)?;
        }
        self.out.raw("]")
    }

    fn map(&mut self, length: u32, depth: usize) -> Step {
        if depth == MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        self.out.raw("{")?;
        for n in 0..length {
            if n > 0 {
                self.out.raw(",")?;
            }
            let first = self.reader.begin()?;
            let key = self.text(first)?;
            self.out.string(key)?;
            self.out.raw(":")?;
            self.value(depth + 1)?;
        }
        self.out.raw("}")
    }
}
