//! CloudEvents 1.0.2 in its JSON format, structured mode, both ways for [`Envelope`].
//!
//! Every CloudEvents client can read what [`write_json`] writes; the mesh's own attributes are extensions. A list is
//! one String of space-separated percent-encoded tokens, because CloudEvents has no list type. Binary mode is the
//! bridges' business: it is headers, and each protocol has its own.

mod media;
mod read;
mod tokens;
mod write;

pub use read::{CloudEventError, parse_json};
pub use tokens::{parse_tokens, write_tokens};
pub use write::{write_json, write_json_without_data};

#[cfg(doc)]
use crate::Envelope;

/// The content type of an event in this format.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

#[cfg(test)]
mod tests;
