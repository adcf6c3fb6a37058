//! Bytes to text by the charset that a mapping declares. A byte that the charset does not have is an error, never a
//! replacement character.

use std::{borrow::Cow, fmt};

use encoding_rs::{
    DecoderResult, EUC_JP, EUC_KR, Encoding, GB18030, ISO_8859_2, ISO_8859_15, KOI8_R, SHIFT_JIS, UTF_16BE, UTF_16LE,
    WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, mem,
};

use super::output::Fault;

/// What a text is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    Utf8,
    /// ISO-8859-1: each byte is the character of that number. `encoding_rs` has only what browsers take it for.
    Latin1,
    Of(&'static Encoding),
}

// === impl Charset ===

impl Charset {
    /// The words of `charset`; the first for a charset is its IANA name.
    pub(super) const WORDS: [(&'static str, Self); 15] = [
        ("utf-8", Self::Utf8),
        ("iso-8859-1", Self::Latin1),
        ("latin-1", Self::Latin1),
        ("windows-1252", Self::Of(WINDOWS_1252)),
        ("utf-16le", Self::Of(UTF_16LE)),
        ("utf-16be", Self::Of(UTF_16BE)),
        ("iso-8859-2", Self::Of(ISO_8859_2)),
        ("iso-8859-15", Self::Of(ISO_8859_15)),
        ("windows-1250", Self::Of(WINDOWS_1250)),
        ("windows-1251", Self::Of(WINDOWS_1251)),
        ("koi8-r", Self::Of(KOI8_R)),
        ("shift_jis", Self::Of(SHIFT_JIS)),
        ("euc-jp", Self::Of(EUC_JP)),
        ("euc-kr", Self::Of(EUC_KR)),
        ("gb18030", Self::Of(GB18030)),
    ];

    /// A whole text, without the byte order mark that may stand before it. The error is the offset of the first byte
    /// that is wrong.
    pub(super) fn decode(self, bytes: &[u8]) -> Result<Cow<'_, str>, usize> {
        let mark: &[u8] = match self {
            Self::Utf8 => b"\xef\xbb\xbf",
            Self::Of(encoding) if encoding == UTF_16LE => b"\xff\xfe",
            Self::Of(encoding) if encoding == UTF_16BE => b"\xfe\xff",
            Self::Latin1 | Self::Of(_) => b"",
        };
        match bytes.strip_prefix(mark) {
            Some(rest) => self.decode_all(rest).map_err(|at| at + mark.len()),
            // the other byte order
            None if self.is_utf16() && matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) => Err(0),
            None => self.decode_all(bytes),
        }
    }

    /// All of it is text.
    pub(super) fn decode_all(self, bytes: &[u8]) -> Result<Cow<'_, str>, usize> {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|error| error.valid_up_to()),
            Self::Latin1 => Ok(mem::decode_latin1(bytes)),
            Self::Of(encoding) => decode(encoding, bytes).map(Cow::Owned),
        }
    }

    /// The bytes of a text; `None` if the charset does not have all of it.
    pub(crate) fn encode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Utf8 => Some(text.as_bytes().to_vec()),
            Self::Latin1 => text.chars().map(|c| u8::try_from(c).ok()).collect(),
            Self::Of(encoding) if encoding == UTF_16LE => {
                Some(text.encode_utf16().flat_map(u16::to_le_bytes).collect())
            }
            Self::Of(encoding) if encoding == UTF_16BE => {
                Some(text.encode_utf16().flat_map(u16::to_be_bytes).collect())
            }
            Self::Of(encoding) => match encoding.encode(text) {
                (_, _, true) => None,
                (bytes, _, false) => Some(bytes.into_owned()),
            },
        }
    }

    /// Whether it has a character.
    pub(crate) fn has(self, c: char) -> bool {
        match self {
            Self::Utf8 => true,
            Self::Latin1 => u8::try_from(c).is_ok(),
            Self::Of(_) => self.encode(c.encode_utf8(&mut [0; 4])).is_some(),
        }
    }

    /// As content types have it.
    pub(super) fn iana_name(self) -> &'static str {
        Self::WORDS.iter().find(|(_, charset)| *charset == self).map_or("", |(word, _)| word)
    }

    /// Two bytes or four are a character, so that no ASCII syntax can be found in the bytes.
    pub(crate) fn is_utf16(self) -> bool {
        matches!(self, Self::Of(encoding) if encoding == UTF_16LE || encoding == UTF_16BE)
    }

    /// Whether `label` names it. A text in ASCII is one in nearly all others.
    pub(super) fn is_called(self, label: &str) -> bool {
        let label = label.to_ascii_lowercase();
        let named = Self::WORDS.iter().any(|(word, charset)| *charset == self && **word == label);
        named || if self.is_utf16() { label == "utf-16" } else { label == "us-ascii" }
    }

    /// That a text is not of this charset from that byte on.
    pub(super) fn fault(self, at: usize) -> Fault {
        Fault::new(format!("not {self}")).at(super::Place::Byte(at))
    }
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Utf8 { "UTF-8" } else { self.iana_name() })
    }
}

/// What browsers read as control characters where a `windows-` charset has nothing is refused here.
fn decode(encoding: &'static Encoding, bytes: &[u8]) -> Result<String, usize> {
    if encoding.name().starts_with("windows-")
        && let Some(at) = bytes.iter().position(|byte| is_hole(encoding, *byte))
    {
        return Err(at);
    }
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut text = String::with_capacity(decoder.max_utf8_buffer_length_without_replacement(bytes.len()).unwrap_or(0));
    match decoder.decode_to_string_without_replacement(bytes, &mut text, true) {
        (DecoderResult::InputEmpty, _) => Ok(text),
        (DecoderResult::Malformed(length, behind), read) => {
            Err(read.saturating_sub(usize::from(length) + usize::from(behind)))
        }
        // there is room for all of it
        (DecoderResult::OutputFull, read) => Err(read),
    }
}

/// Of a charset with one byte a character: it means nothing.
fn is_hole(encoding: &'static Encoding, byte: u8) -> bool {
    (0x80..0xa0).contains(&byte)
        && encoding.decode_without_bom_handling(&[byte]).0.chars().any(|c| ('\u{80}'..'\u{a0}').contains(&c))
}
