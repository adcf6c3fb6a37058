//! What a template puts into its text, escaped as the format wants it: a value stays a value, whatever it says.

use std::fmt::Write;

use minijinja::{Error, ErrorKind, Output, Value, value::ValueKind};

use crate::codec::{Charset, Codec};

/// One value, as text. An array or an object is none: a template goes through it.
pub(super) fn write(out: &mut Output<'_>, value: &Value, codec: Codec) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None if codec == Codec::Json => Ok(out.write_str("null")?),
        ValueKind::None => Ok(()),
        ValueKind::Undefined => Err(Error::new(
            ErrorKind::UndefinedError,
            "a value that is not there; ask with is defined, or use default(...)",
        )),
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "true" } else { "false" })?),
        ValueKind::Number | ValueKind::String => {
            let text = value.to_string();
            Ok(escaped(out, &text, codec)?)
        }
        kind => {
            let found = match kind {
                ValueKind::Map => "an object".to_owned(),
                ValueKind::Seq | ValueKind::Iterable => "an array".to_owned(),
                other => format!("a {other}"),
            };
            Err(Error::new(ErrorKind::BadEscape, format!("expected one value, found {found}")))
        }
    }
}

fn escaped(out: &mut Output<'_>, text: &str, codec: Codec) -> std::fmt::Result {
    match codec {
        Codec::Xml(charset) => text.chars().try_for_each(|c| xml(out, c, charset)),
        Codec::Json => {
            let mut bytes = Vec::with_capacity(text.len());
            envelope::json::write_escaped(&mut bytes, text);
            // only ASCII is replaced
            out.write_str(&String::from_utf8_lossy(&bytes))
        }
        Codec::Csv(_, delimiter) => {
            match text.contains(|c| matches!(c, '"' | '\r' | '\n') || c == char::from(delimiter)) {
                true => write!(out, "\"{}\"", text.replace('"', "\"\"")),
                false => out.write_str(text),
            }
        }
        Codec::UrlEncoded(charset) => {
            let bytes = charset.encode(text).ok_or(std::fmt::Error)?;
            bytes.into_iter().try_for_each(|byte| match byte {
                b'*' | b'-' | b'.' | b'_' => out.write_char(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => out.write_char(char::from(byte)),
                b' ' => out.write_char('+'),
                _ => write!(out, "%{byte:02X}"),
            })
        }
        Codec::Text(_) | Codec::Cbor | Codec::MsgPack | Codec::Bytes => out.write_str(text),
    }
}

fn xml(out: &mut Output<'_>, c: char, charset: Charset) -> std::fmt::Result {
    match c {
        '&' => out.write_str("&amp;"),
        '<' => out.write_str("&lt;"),
        '>' => out.write_str("&gt;"),
        '"' => out.write_str("&quot;"),
        '\'' => out.write_str("&#39;"),
        '\r' | '\n' | '\t' => write!(out, "&#{};", u32::from(c)),
        _ if c.is_ascii() || charset.has(c) => out.write_char(c),
        _ => write!(out, "&#{};", u32::from(c)),
    }
}
