//! CBOR (RFC 8949) to JSON text, as its section 6.1 advises where JSON has the value, else refused.
//!
//! Tags are passed over: what they mark is read. Only a bignum is a number by its tag.

use std::borrow::Cow;

use envelope::json::MAX_DEPTH;

use super::{
    output::{Fault, Output, Step},
    reader::Reader,
};

/// The longest bignum, in bytes: past it no double is as large.
const MAX_BIGNUM: usize = 128;
/// The byte that ends what has no length.
const BREAK: u8 = 0xff;

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

/// The head of an item behind its tags.
struct Head {
    major: u8,
    info: u8,
    /// `None`: without a length.
    argument: Option<u64>,
    /// The tag of the item itself.
    tag: Option<u64>,
}

// === impl Decoder ===

impl<'p> Decoder<'_, 'p> {
    fn value(&mut self, depth: usize) -> Step {
        let head = self.head()?;
        if matches!(head.major, 4 | 5) && depth == MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        match (head.major, head.argument) {
            (0, Some(value)) => self.out.integer(value.into()),
            (1, Some(value)) => self.out.integer(-1 - i128::from(value)),
            (2, length) => {
                let bytes = self.bytes(length)?;
                match head.tag {
                    Some(tag @ (2 | 3)) => self.out.raw(&bignum(&bytes, tag == 3)?),
                    _ => self.out.base64(&bytes),
                }
            }
            (3, length) => {
                let text = self.text(length)?;
                self.out.string(&text)
            }
            (4, length) => self.array(length, depth),
            (5, length) => self.map(length, depth),
            (7, argument) => self.simple(head.info, argument),
            (major, _) => Err(Fault::new(format!("an item of major type {major} without a length"))),
        }
    }

    fn head(&mut self) -> Step<Head> {
        let mut tag = None;
        loop {
            let first = self.reader.begin()?;
            let (major, info) = (first >> 5, first & 31);
            let argument = match info {
                0..=23 => Some(info.into()),
                24 => Some(self.reader.byte()?.into()),
                25 => Some(u16::from_be_bytes(self.reader.array()?).into()),
                26 => Some(u32::from_be_bytes(self.reader.array()?).into()),
                27 => Some(u64::from_be_bytes(self.reader.array()?)),
                28..=30 => return Err(Fault::new(format!("{first:#04x} begins no item"))),
                _ => None,
            };
            match (major, argument) {
                (6, Some(of)) => tag = Some(of),
                (0..=1 | 3..=7, _) if matches!(tag, Some(2 | 3)) => {
                    return Err(Fault::new("a bignum that is no byte string"));
                }
                _ => return Ok(Head { major, info, argument, tag }),
            }
        }
    }

    fn array(&mut self, length: Option<u64>, depth: usize) -> Step {
        self.out.raw("[")?;
        let mut count = 0;
        while self.more(length, count)? {
            if count > 0 {
                self.out.raw(",")?;
            }
            self.value(depth + 1)?;
            count += 1;
        }
        self.out.raw("]")
    }

    fn map(&mut self, length: Option<u64>, depth: usize) -> Step {
        self.out.raw("{")?;
        let mut count = 0;
        while self.more(length, count)? {
            if count > 0 {
                self.out.raw(",")?;
            }
            let key = self.head()?;
            if key.major != 3 {
                return Err(Fault::new("a key that is not text"));
            }
            let key = self.text(key.argument)?;
            self.out.string(&key)?;
            self.out.raw(":")?;
            self.value(depth + 1)?;
            count += 1;
        }
        self.out.raw("}")
    }

    /// Whether another element or piece follows. Takes the break.
    fn more(&mut self, length: Option<u64>, count: u64) -> Step<bool> {
        match length {
            Some(length) => Ok(count < length),
            None if self.reader.peek() == Some(BREAK) => self.reader.byte().map(|_| false),
            None => Ok(true),
        }
    }

    fn bytes(&mut self, length: Option<u64>) -> Step<Cow<'p, [u8]>> {
        if let Some(length) = length {
            return self.reader.take(length).map(Cow::Borrowed);
        }
        let mut bytes = Vec::new();
        while self.more(None, 0)? {
            let length = self.piece(2)?;
            bytes.extend_from_slice(self.reader.take(length)?);
        }
        Ok(Cow::Owned(bytes))
    }

    fn text(&mut self, length: Option<u64>) -> Step<Cow<'p, str>> {
        if let Some(length) = length {
            return self.reader.text(length).map(Cow::Borrowed);
        }
        let mut text = String::new();
        while self.more(None, 0)? {
            let length = self.piece(3)?;
            text.push_str(self.reader.text(length)?);
        }
        Ok(Cow::Owned(text))
    }

    /// The length of a piece of a string without a length.
    fn piece(&mut self, major: u8) -> Step<u64> {
        match self.head()? {
            Head { major: found, argument: Some(length), tag: None, .. } if found == major => Ok(length),
            _ => Err(Fault::new("a string in pieces has a piece that is none")),
        }
    }

    fn simple(&mut self, info: u8, argument: Option<u64>) -> Step {
        match (info, argument) {
            (20, _) => self.out.raw("false"),
            (21, _) => self.out.raw("true"),
            // RFC 8949, section 6.1: undefined is null
            (22 | 23, _) => self.out.raw("null"),
            (25, Some(bits)) => self.out.float(half(bits as u16).into()),
            (26, Some(bits)) => self.out.float(f32::from_bits(bits as u32).into()),
            (27, Some(bits)) => self.out.float(f64::from_bits(bits)),
            (_, Some(value)) => Err(Fault::new(format!("simple value {value} is not one that JSON has"))),
            (_, None) => Err(Fault::new("a break where a value is expected")),
        }
    }
}

/// IEEE 754 binary16; every value of it is one of binary32.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1_023));
    let size = match exponent {
        0 => fraction * 2_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1_024.0 + fraction) * 2_f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// The decimal digits of RFC 8949, section 3.4.3: `n`, or `-1 - n`.
fn bignum(bytes: &[u8], negative: bool) -> Step<String> {
    const BASE: u64 = 1_000_000_000;
    let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    if digits.len() > MAX_BIGNUM {
        return Err(Fault::new(format!("a bignum of {} bytes, limit is {MAX_BIGNUM}", digits.len())));
    }
    let mut limbs = vec![0_u64];
    let mut push = |factor: u64, carry: u64| {
        let mut carry = carry;
        for limb in &mut limbs {
            let value = *limb * factor + carry;
            (*limb, carry) = (value % BASE, value / BASE);
        }
        if carry > 0 {
            limbs.push(carry);
        }
    };
    digits.iter().for_each(|byte| push(256, (*byte).into()));
    if negative {
        push(1, 1);
    }
    let mut text = if negative { "-".to_owned() } else { String::new() };
    for (n, limb) in limbs.iter().rev().enumerate() {
        text += &if n == 0 { limb.to_string() } else { format!("{limb:09}") };
    }
    Ok(text)
}
