//! Decodes a payload as `from.decode` says.
//!
//! Every format but `text` and `bytes` becomes the one tree that mapping, schemas and policy read: its codec writes JSON
//! text, bounded in size and depth, and [`Json::parse`] reads that. What an envelope carries untouched is the payload as
//! it came. [`declare`] reads the declaration, [`charset`] turns bytes into text.

mod cbor;
mod charset;
mod csv;
mod declare;
mod encode;
mod form;
mod msgpack;
mod output;
mod reader;
#[cfg(test)]
mod tests;
mod xml;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use envelope::{Json, RejectKind, Rejection};

use crate::{
    expr::{PayloadKind, ScopePayload},
    proof::{List, Object, Rest, Text, Type},
};

pub(crate) use charset::Charset;
pub(crate) use csv::Rows;
pub(crate) use encode::Unfit;
use output::{Fault, Output, Place, Step};

/// The formats a payload can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// RFC 8259.
    Json,
    /// RFC 8949.
    Cbor,
    /// The MessagePack specification of 2013.
    MsgPack,
    /// XML 1.0.
    Xml(Charset),
    /// RFC 4180 with a header row; fields are separated by the byte.
    Csv(Charset, u8),
    /// `application/x-www-form-urlencoded` of HTML forms.
    UrlEncoded(Charset),
    /// One string.
    Text(Charset),
    /// Anything; not looked into.
    Bytes,
}

/// A decoded payload.
#[derive(Debug)]
pub(crate) enum Decoded<'p> {
    /// The payload is this JSON.
    Json(Json),
    /// The payload is of another format and means this.
    Tree(Json),
    Text(Cow<'p, str>),
    Bytes,
}

// === impl Codec ===

impl Codec {
    /// Refuses what is not of this format, with the place.
    pub(crate) fn decode(self, payload: &Bytes) -> Result<Decoded<'_>, Rejection> {
        match self {
            Self::Json => match Json::parse(payload.clone()) {
                Ok(json) => Ok(Decoded::Json(json)),
                Err(error) => Err(malformed(format!("payload is {error}")).because(error)),
            },
            Self::Text(charset) => match charset.decode(payload) {
                Ok(text) => Ok(Decoded::Text(text)),
                Err(at) => Err(malformed(format!("payload is not {charset} at byte {at}"))),
            },
            Self::Bytes => Ok(Decoded::Bytes),
            Self::Cbor | Self::MsgPack | Self::Xml(_) | Self::Csv(..) | Self::UrlEncoded(_) => {
                self.tree(payload).map(Decoded::Tree)
            }
        }
    }

    /// What an envelope that carries such a payload untouched says of it (RFC 2046).
    pub(crate) fn content_type(self) -> String {
        match self {
            Self::Json => "application/json".to_owned(),
            Self::Cbor => "application/cbor".to_owned(),
            Self::MsgPack => "application/msgpack".to_owned(),
            Self::Xml(charset) => format!("application/xml; charset={}", charset.iana_name()),
            Self::Csv(charset, _) => format!("text/csv; charset={}", charset.iana_name()),
            Self::UrlEncoded(_) => "application/x-www-form-urlencoded".to_owned(),
            Self::Text(charset) => format!("text/plain; charset={}", charset.iana_name()),
            Self::Bytes => "application/octet-stream".to_owned(),
        }
    }

    /// What `payload` is in an expression.
    pub(crate) const fn payload_kind(self) -> PayloadKind {
        match self {
            Self::Json | Self::Cbor | Self::MsgPack | Self::Xml(_) | Self::Csv(..) | Self::UrlEncoded(_) => {
                PayloadKind::Json
            }
            Self::Text(_) => PayloadKind::Text,
            Self::Bytes => PayloadKind::Bytes,
        }
    }

    /// Every payload that it may decode to.
    pub(crate) fn shape(self) -> Type {
        let rows = || Object { rest: Rest::Of(Arc::new(Type::TEXT)), ..Object::ANY };
        match self {
            Self::Json | Self::Cbor | Self::MsgPack => Type::ANY,
            // one member, named as the root element
            Self::Xml(_) => {
                let value = Type { text: Some(Text::ANY), object: Some(Object::ANY), ..Type::NEVER };
                Type::object(Object { rest: Rest::Of(Arc::new(value)), ..Object::ANY })
            }
            Self::Csv(..) => Type::list(List::of(Type::object(rows()))),
            Self::UrlEncoded(_) => {
                let value = Type { list: Some(List::of(Type::TEXT)), ..Type::TEXT };
                Type::object(Object { rest: Rest::Of(Arc::new(value)), ..Object::ANY })
            }
            Self::Text(_) => Type::TEXT,
            Self::Bytes => Type::ANY,
        }
    }

    /// What the format's text is written in; `None` if it is no text or has no choice.
    pub(crate) const fn charset(self) -> Option<Charset> {
        match self {
            Self::Xml(charset) | Self::Csv(charset, _) | Self::UrlEncoded(charset) | Self::Text(charset) => {
                Some(charset)
            }
            Self::Json | Self::Cbor | Self::MsgPack | Self::Bytes => None,
        }
    }

    /// As errors name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Cbor => "CBOR",
            Self::MsgPack => "MessagePack",
            Self::Xml(_) => "XML",
            Self::Csv(..) => "CSV",
            Self::UrlEncoded(_) => "form data",
            Self::Text(_) => "text",
            Self::Bytes => "bytes",
        }
    }

    fn tree(self, payload: &Bytes) -> Result<Json, Rejection> {
        let mut out = Output::for_payload(payload.len());
        self.write(payload, &mut out).map_err(|fault| self.refusal(&fault))?;
        Json::parse(out.finish()).map_err(|error| {
            // the same walk again, up to there, says where in the payload it is
            let up_to = self.write(payload, &mut Output::up_to(error.offset));
            let place = up_to.err().map_or(Place::Whole, |fault| fault.place);
            self.refusal(&Fault::new(error.problem.to_string()).at(place))
        })
    }

    fn write(self, payload: &[u8], out: &mut Output) -> Step {
        let text = |charset: Charset| charset.decode(payload).map_err(|at| charset.fault(at));
        match self {
            Self::Cbor => cbor::write(payload, out),
            Self::MsgPack => msgpack::write(payload, out),
            Self::Xml(charset) => xml::write(&text(charset)?, charset, out),
            Self::Csv(charset, delimiter) => csv::write(&text(charset)?, delimiter, out),
            Self::UrlEncoded(charset) => form::write(payload, charset, out),
            Self::Json | Self::Text(_) | Self::Bytes => Ok(()),
        }
    }

    fn refusal(self, fault: &Fault) -> Rejection {
        let name = self.name();
        match fault.too_large {
            Some(limit) => {
                let detail = format!("payload is over {limit} bytes when decoded from {name}");
                Rejection::new(RejectKind::TooLarge, DECIDED_BY, detail)
            }
            None => malformed(format!("payload is not valid {name}{}: {}", fault.place, fault.problem)),
        }
    }
}

const DECIDED_BY: &str = "mapping.from.decode";

fn malformed(detail: String) -> Rejection {
    Rejection::new(RejectKind::Malformed, DECIDED_BY, detail)
}

// === impl Decoded ===

impl Decoded<'_> {
    /// As an expression reads it.
    pub(crate) fn scope(&self) -> ScopePayload<'_> {
        match self {
            Self::Json(json) | Self::Tree(json) => ScopePayload::Json(json.root()),
            Self::Text(text) => ScopePayload::Text(text),
            Self::Bytes => ScopePayload::Bytes,
        }
    }

    /// The tree, if the format has one.
    pub(crate) fn tree(&self) -> Option<&Json> {
        match self {
            Self::Json(json) | Self::Tree(json) => Some(json),
            Self::Text(_) | Self::Bytes => None,
        }
    }
}
