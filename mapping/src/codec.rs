//! Decodes a payload as `from.decode` says.

use bytes::Bytes;
use envelope::{Json, RejectKind, Rejection};

use crate::expr::{PayloadKind, ScopePayload};

/// The formats a payload can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// RFC 8259.
    Json,
    /// UTF-8.
    Text,
    /// Anything; not looked into.
    Bytes,
}

/// A decoded payload.
#[derive(Debug)]
pub(crate) enum Decoded<'p> {
    Json(Json),
    Text(&'p str),
    Bytes,
}

// === impl Codec ===

impl Codec {
    /// The words of `from.decode`.
    pub(crate) const WORDS: [(&'static str, Self); 3] =
        [("json", Self::Json), ("text", Self::Text), ("bytes", Self::Bytes)];

    /// Refuses what is not of this format, with the place.
    pub(crate) fn decode(self, payload: &Bytes) -> Result<Decoded<'_>, Rejection> {
        let malformed = |detail: String| Rejection::new(RejectKind::Malformed, "mapping.from.decode", detail);
        match self {
            Self::Json => match Json::parse(payload.clone()) {
                Ok(json) => Ok(Decoded::Json(json)),
                Err(error) => Err(malformed(format!("payload is {error}")).because(error)),
            },
            Self::Text => match std::str::from_utf8(payload) {
                Ok(text) => Ok(Decoded::Text(text)),
                Err(error) => Err(malformed(format!("payload is not UTF-8 at byte {}", error.valid_up_to()))),
            },
            Self::Bytes => Ok(Decoded::Bytes),
        }
    }

    /// RFC 2046.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
            Self::Bytes => "application/octet-stream",
        }
    }

    /// What `payload` is in an expression.
    pub(crate) const fn payload_kind(self) -> PayloadKind {
        match self {
            Self::Json => PayloadKind::Json,
            Self::Text => PayloadKind::Text,
            Self::Bytes => PayloadKind::Bytes,
        }
    }
}

// === impl Decoded ===

impl Decoded<'_> {
    /// As an expression reads it.
    pub(crate) fn scope(&self) -> ScopePayload<'_> {
        match self {
            Self::Json(json) => ScopePayload::Json(json.root()),
            Self::Text(text) => ScopePayload::Text(text),
            Self::Bytes => ScopePayload::Bytes,
        }
    }
}
