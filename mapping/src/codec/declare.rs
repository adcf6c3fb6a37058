//! `from.decode` as a mapping file says it: a word, or a format with its options.

use yaml::{Fields, Kind, Node, Problems};

use super::{Charset, Codec};

const UTF8: Charset = Charset::Utf8;

// === impl Codec ===

impl Codec {
    /// The words of `from.decode`.
    pub(crate) const WORDS: [(&'static str, Self); 8] = [
        ("json", Self::Json),
        ("cbor", Self::Cbor),
        ("msgpack", Self::MsgPack),
        ("xml", Self::Xml(UTF8)),
        ("csv", Self::Csv(UTF8, b',')),
        ("urlencoded", Self::UrlEncoded(UTF8)),
        ("text", Self::Text(UTF8)),
        ("bytes", Self::Bytes),
    ];

    /// `csv` or `{ csv: { delimiter: ";", charset: latin-1 } }`.
    pub(crate) fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            return node.one_of(&Self::WORDS, problems);
        };
        let [(format, options)] = entries.as_slice() else {
            return node.mismatch("one format, with its options behind it", problems);
        };
        let with_options: Vec<_> =
            Self::WORDS.into_iter().filter(|(_, codec)| codec.charset().is_some()).map(|(word, _)| word).collect();
        let Some((_, codec)) = Self::WORDS.into_iter().find(|(word, _)| *word == format.name) else {
            let message = format!("expected one of {}, found {:?}", with_options.join(", "), format.name);
            problems.report(format.span, "not-one-of", message);
            return None;
        };
        if codec.charset().is_none() {
            let message = format!("{:?} has no options; {} have", format.name, with_options.join(", "));
            problems.report(format.span, "contradiction", message);
            return None;
        }
        codec.with_options(options, problems)
    }

    fn with_options(self, node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let declared = fields.optional("charset");
        let charset = match declared {
            Some(node) => node.one_of(&Charset::WORDS, problems),
            None => Some(UTF8),
        };
        let read = match self {
            Self::Csv(_, comma) => {
                let delimiter = match fields.optional("delimiter") {
                    Some(node) => delimiter(node, problems),
                    None => Some(comma),
                };
                charset.zip(delimiter).map(|(charset, delimiter)| Self::Csv(charset, delimiter))
            }
            Self::UrlEncoded(_) => match (charset, declared) {
                (Some(charset), Some(node)) if charset.is_utf16() => {
                    problems.report(node.span, "contradiction", "form data is never in utf-16");
                    None
                }
                (charset, _) => charset.map(Self::UrlEncoded),
            },
            Self::Xml(_) => charset.map(Self::Xml),
            Self::Text(_) => charset.map(Self::Text),
            Self::Json | Self::Cbor | Self::MsgPack | Self::Bytes => Some(self),
        };
        fields.finish();
        read
    }
}

/// One character of ASCII that is no part of CSV's own syntax.
fn delimiter(node: &Node, problems: &Problems) -> Option<u8> {
    match node.string(problems)?.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Some(*byte),
        _ => node.mismatch("one character of ASCII, not a quote or the end of a line", problems),
    }
}
