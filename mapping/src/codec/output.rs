//! The JSON text that a codec writes, bounded while it is written; and why a payload could not be written.

use std::{borrow::Cow, fmt, io::Write as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use envelope::json::write_string;

/// A decoded payload is at most so many times as long as the payload ...
const MAX_GROWTH: usize = 16;
/// ... or so long in bytes, which is more for short ones ...
const SMALL: usize = 64 << 10;
/// ... and never longer than this.
const MAX_BYTES: usize = 8 << 20;

/// JSON text of bounded size. Whoever writes to it keeps the grammar.
#[derive(Debug)]
pub(super) struct Output {
    text: Vec<u8>,
    limit: usize,
}

/// Where in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Whole,
    /// From 0.
    Byte(usize),
    /// From 1.
    Line(usize),
}

/// Why a payload is not what it should be.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) problem: Cow<'static, str>,
    /// The limit, if what was written is over it.
    pub(super) too_large: Option<usize>,
}

pub(super) type Step<T = ()> = Result<T, Fault>;

// === impl Output ===

impl Output {
    /// With the limit for a payload of so many bytes.
    pub(super) fn for_payload(length: usize) -> Self {
        let limit = length.saturating_mul(MAX_GROWTH).clamp(SMALL, MAX_BYTES);
        Self { text: Vec::with_capacity(length.saturating_mul(2).min(limit)), limit }
    }

    /// Fails where it would become longer than `limit` bytes.
    pub(super) fn up_to(limit: usize) -> Self {
        Self { text: Vec::with_capacity(limit), limit }
    }

    pub(super) fn finish(self) -> Bytes {
        self.text.into()
    }

    /// What is JSON already.
    pub(super) fn raw(&mut self, text: &str) -> Step {
        self.room(text.len())?;
        self.text.extend_from_slice(text.as_bytes());
        Ok(())
    }

    pub(super) fn string(&mut self, text: &str) -> Step {
        self.room(text.len() + 2)?;
        write_string(&mut self.text, text);
        self.room(0)
    }

    /// As RFC 4648, section 4, has it: with `+`, `/` and padding.
    pub(super) fn base64(&mut self, bytes: &[u8]) -> Step {
        self.room(bytes.len().div_ceil(3) * 4 + 2)?;
        self.raw(&format!("\"{}\"", BASE64_STANDARD.encode(bytes)))
    }

    pub(super) fn integer(&mut self, value: i128) -> Step {
        self.number(format_args!("{value}"))
    }

    /// The fewest digits that read back as it. Narrower floats are widened first: an encoder may narrow any that it can
    /// without loss.
    pub(super) fn float(&mut self, value: f64) -> Step {
        match value.is_finite() {
            true => self.number(format_args!("{value:?}")),
            false => Err(Fault::new(format!("{value:?} is not a number that JSON has"))),
        }
    }

    fn number(&mut self, text: fmt::Arguments<'_>) -> Step {
        // a Vec takes all that is written to it
        self.text.write_fmt(text).map_err(|error| Fault::new(error.to_string()))?;
        self.room(0)
    }

    fn room(&self, more: usize) -> Step {
        match self.text.len().saturating_add(more) <= self.limit {
            true => Ok(()),
            false => Err(Fault { too_large: Some(self.limit), ..Fault::new("") }),
        }
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(problem: impl Into<Cow<'static, str>>) -> Self {
        Self { place: Place::Whole, problem: problem.into(), too_large: None }
    }

    pub(super) fn too_deep() -> Self {
        Self::new(format!("nested deeper than {} levels", envelope::json::MAX_DEPTH))
    }

    /// Gives it a place if it has none.
    pub(super) fn at(self, place: Place) -> Self {
        match self.place {
            Place::Whole => Self { place, ..self },
            Place::Byte(_) | Place::Line(_) => self,
        }
    }
}

// === impl Place ===

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Byte(at) => write!(f, " at byte {at}"),
            Self::Line(line) => write!(f, " at line {line}"),
        }
    }
}
