//! A JSON tree to the bytes of a format: what `encode` says of what a mapping sends.
//!
//! The inverse of decoding, as far as the format goes: XML, CSV and forms know only text, so numbers and booleans are
//! written as JSON spells them. What a format can't say is refused with its place in the tree, never left out.

mod cbor;
mod csv;
mod form;
mod msgpack;
#[cfg(test)]
mod tests;
mod xml;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use envelope::{
    Json,
    json::{Node, View},
};

use super::{Charset, Codec};

/// Why a value can't be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// For a person.
    pub(crate) problem: String,
    /// JSON Pointer to the value.
    pub(crate) pointer: String,
}

type Written<T = ()> = Result<T, Unfit>;

// === impl Codec ===

impl Codec {
    /// The bytes of a value.
    pub(crate) fn encode(self, json: &Json) -> Result<Bytes, Unfit> {
        let root = json.root();
        let mut out = Vec::with_capacity(json.as_str().len() + 64);
        match self {
            Self::Json => return Ok(json.bytes()),
            Self::Cbor => cbor::write(root, &mut out)?,
            Self::MsgPack => msgpack::write(root, &mut out)?,
            Self::Xml(charset) => return in_charset(&xml::write(root, charset)?, charset),
            Self::Csv(charset, delimiter) => return in_charset(&csv::write(root, delimiter)?, charset),
            Self::UrlEncoded(charset) => form::write(root, charset, &mut out)?,
            Self::Text(charset) => return in_charset(scalar(root, "")?, charset),
            Self::Bytes => {
                let text = root.as_str().ok_or_else(|| Unfit::at("", "bytes are given as a text in base64"))?;
                out = BASE64_STANDARD.decode(text).map_err(|_| Unfit::at("", "not base64 with padding"))?;
            }
        }
        Ok(out.into())
    }

    /// A text in the format's charset.
    pub(crate) fn encode_text(self, text: &str) -> Result<Bytes, Unfit> {
        in_charset(text, self.charset().unwrap_or(Charset::Utf8))
    }
}

fn in_charset(text: &str, charset: Charset) -> Result<Bytes, Unfit> {
    let bytes = charset.encode(text);
    bytes.map(Bytes::from).ok_or_else(|| {
        let lost = text.chars().find(|c| charset.encode(c.encode_utf8(&mut [0; 4])).is_none());
        Unfit::at("", format!("{charset} has no {:?}", lost.unwrap_or_default()))
    })
}

/// Text, a number or a boolean as it is spelt; null is nothing.
fn scalar<'a>(node: Node<'a>, pointer: &str) -> Written<&'a str> {
    match node.view() {
        View::String(text) => Ok(text),
        View::Null => Ok(""),
        View::Number(text) => Ok(text),
        View::Bool(value) => Ok(if value { "true" } else { "false" }),
        View::Array(_) | View::Object(_) => {
            Err(Unfit::at(pointer, format!("expected one value, found an {}", node.type_name())))
        }
    }
}

/// The pointer one level deeper (RFC 6901).
fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

// === impl Unfit ===

impl Unfit {
    pub(super) fn at(pointer: &str, problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), pointer: pointer.to_owned() }
    }
}
