//! Topics, the filters that select them, and the trie that finds the filters a topic matches.

mod filter;
mod trie;

use std::{borrow::Borrow, fmt, sync::Arc};

pub use filter::{Filter, INBOX, inbox_of};
pub use trie::FilterTrie;

/// The most segments of a topic or filter.
pub(crate) const MAX_SEGMENTS: usize = 64;
/// The most bytes of a topic or filter.
pub(crate) const MAX_BYTES: usize = 1_024;

/// A topic: 1 to 64 non-empty segments joined by `/`, at most 1,024 bytes of UTF-8, no control characters, no `+`
/// and no `#`. Kept plain; syntax of NATS or AMQP in it is encoded at their borders.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// Why a text is no topic or no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Nothing at all.
    #[error("a topic is not empty")]
    Empty,
    /// `a//b`, a leading or a trailing `/`.
    #[error("segment {0} is empty")]
    EmptySegment(usize),
    /// Over 64 segments.
    #[error("a topic has at most {MAX_SEGMENTS} segments, this has {0}")]
    TooDeep(usize),
    /// Over 1,024 bytes.
    #[error("a topic has at most {MAX_BYTES} bytes, this has {0}")]
    TooLong(usize),
    /// A character that a topic can't have.
    #[error("{0:?} is not allowed in a topic")]
    Forbidden(char),
    /// `#` before the end of a filter, or a wildcard that shares its segment.
    #[error("in a filter {0:?} stands alone in its segment, and '#' only at the end")]
    Misplaced(char),
}

// === impl Topic ===

impl Topic {
    /// Checks and takes a topic.
    pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, TopicError> {
        check_shape(text.as_ref())?;
        match text.as_ref().bytes().find(|b| matches!(b, b'+' | b'#')) {
            Some(wildcard) => Err(TopicError::Forbidden(char::from(wildcard))),
            None => Ok(Self(text.into())),
        }
    }

    /// The whole topic.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments; at least one, none empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// What the topic begins with that answers to a request are sent to. Who has not read the request can't know the rest.
    pub const REPLIES: &str = "$mesh/reply/";

    /// Whether it is one that answers are sent to.
    pub fn takes_answers(&self) -> bool {
        self.0.starts_with(Self::REPLIES)
    }

    /// Begins with `$`: reached only by an action or filter that names the first segment.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What topics and filters have in common. The cheap bound comes first, so that hostile input costs nothing.
fn check_shape(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(TopicError::TooLong(text.len()));
    }
    let (mut segments, mut before) = (1, b'/');
    for byte in text.bytes() {
        match byte {
            b'/' if before == b'/' => return Err(TopicError::EmptySegment(segments)),
            b'/' => segments += 1,
            control if control.is_ascii_control() => return Err(TopicError::Forbidden(char::from(control))),
            _ => {}
        }
        before = byte;
    }
    if before == b'/' {
        return Err(TopicError::EmptySegment(segments));
    }
    // beyond ASCII there are controls too: U+0080 to U+009F
    if !text.is_ascii()
        && let Some(control) = text.chars().find(|c| c.is_control())
    {
        return Err(TopicError::Forbidden(control));
    }
    if segments > MAX_SEGMENTS {
        return Err(TopicError::TooDeep(segments));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_topic_may_be() {
        for good in ["a", "telemetry/7/temperature", "räume/küche", "a.b/*/>", "100 %/x", "$mesh/audit"] {
            assert_eq!(Topic::new(good).map(|t| t.to_string()), Ok(good.to_owned()), "{good}");
        }
    }

    #[test]
    fn what_a_topic_may_not_be() {
        assert_eq!(Topic::new(""), Err(TopicError::Empty));
        assert_eq!(Topic::new("/a"), Err(TopicError::EmptySegment(1)));
        assert_eq!(Topic::new("a//b"), Err(TopicError::EmptySegment(2)));
        assert_eq!(Topic::new("a/"), Err(TopicError::EmptySegment(2)));
        assert_eq!(Topic::new("a/+/b"), Err(TopicError::Forbidden('+')));
        assert_eq!(Topic::new("a/#"), Err(TopicError::Forbidden('#')));
        assert_eq!(Topic::new("a\0b"), Err(TopicError::Forbidden('\0')));
        assert_eq!(Topic::new("a\u{85}b"), Err(TopicError::Forbidden('\u{85}')));
    }

    #[test]
    fn the_bounds_are_inclusive() {
        let deep = |n: usize| vec!["a"; n].join("/");
        assert!(Topic::new(deep(MAX_SEGMENTS)).is_ok());
        assert_eq!(Topic::new(deep(MAX_SEGMENTS + 1)), Err(TopicError::TooDeep(MAX_SEGMENTS + 1)));
        assert_eq!(Topic::new(vec!["a"; 1_000].join("/")), Err(TopicError::TooLong(1_999)));
        assert!(Topic::new("x".repeat(MAX_BYTES)).is_ok());
        assert_eq!(Topic::new("x".repeat(MAX_BYTES + 1)), Err(TopicError::TooLong(MAX_BYTES + 1)));
    }
}
