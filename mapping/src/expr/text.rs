//! Text as functions cut, find and put it together. Places are counted in characters, as in CEL.

use std::{borrow::Cow, rc::Rc};

use super::{MAX_OUTPUT, list::MAX_ELEMENTS, value::Value};

/// The message's own, or made.
pub(super) type Text<'a> = Cow<'a, str>;

/// The part from a character to before another. The error: how many characters there are.
pub(super) fn cut(text: Text<'_>, from: usize, to: usize) -> Result<Text<'_>, usize> {
    let at = |chars: usize| byte_of(&text, chars);
    match (at(from), at(to)) {
        (Some(start), Some(end)) if start <= end => Ok(part(text, start, end)),
        _ => Err(text.chars().count()),
    }
}

pub(super) fn trimmed(text: Text<'_>) -> Text<'_> {
    let start = text.len() - text.trim_start().len();
    let end = start + text.trim().len();
    part(text, start, end)
}

/// Copied only if one of its letters changes.
pub(super) fn recased<'a>(text: Text<'a>, changes: fn(&u8) -> bool, change: fn(&mut str)) -> Text<'a> {
    if !text.bytes().any(|byte| changes(&byte)) {
        return text;
    }
    let mut owned = text.into_owned();
    change(&mut owned);
    Cow::Owned(owned)
}

/// `*` for every character but the `last`, or for all of them where that would show more than half.
pub(super) fn redacted(text: &str, last: usize) -> String {
    let length = text.chars().count();
    let hidden = if length >= last.saturating_mul(2) { length - last } else { length };
    text.chars().enumerate().map(|(number, c)| if number < hidden { '*' } else { c }).collect()
}

/// The first place at or behind a character. An empty text is found at once.
pub(super) fn index_of(text: &str, of: &str, from: usize) -> Result<Option<usize>, &'static str> {
    let start = byte_of(text, from).ok_or("the place to begin is behind the end of the text")?;
    Ok(text[start..].find(of).map(|at| from + text[start..start + at].chars().count()))
}

/// The last place at or before a character; an empty text is found there.
pub(super) fn last_index_of(text: &str, of: &str, to: Option<usize>) -> Result<Option<usize>, &'static str> {
    let end = match to {
        None => text.len(),
        Some(to) => {
            let start = byte_of(text, to).ok_or("the place to begin is behind the end of the text")?;
            // what begins there may end behind it
            text.len().min(start.saturating_add(of.len()))
        }
    };
    // what is found ends with a character: never past the last that is whole
    let end = text.floor_char_boundary(end);
    Ok(text[..end].rfind(of).map(|at| text[..at].chars().count()))
}

/// In double quotes, as CEL writes a string: what would end or break it is escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// `None`: longer than a message may become. An empty `from` is found before each character and at the end.
pub(super) fn replaced<'a>(text: Text<'a>, from: &str, to: &str, limit: usize) -> Option<Text<'a>> {
    if limit == 0 || !text.contains(from) {
        return Some(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (at, found) in text.match_indices(from).take(limit) {
        out.push_str(&text[copied..at]);
        out.push_str(to);
        copied = at + found.len();
        if out.len() > MAX_OUTPUT {
            return None;
        }
    }
    out.push_str(&text[copied..]);
    (out.len() <= MAX_OUTPUT).then_some(Cow::Owned(out))
}

/// At most `limit` parts, the last with the rest; at an empty separator, its characters. `None`: more parts than an
/// array may have.
pub(super) fn split<'a>(text: Text<'a>, at: &str, limit: usize) -> Option<Rc<[Value<'a>]>> {
    let parts: Vec<Value<'a>> = match &text {
        Cow::Borrowed(text) => {
            parts(text, at, limit).into_iter().map(|part| Value::Text(Cow::Borrowed(part))).collect()
        }
        Cow::Owned(text) => {
            parts(text, at, limit).into_iter().map(|part| Value::Text(Cow::Owned(part.to_owned()))).collect()
        }
    };
    (parts.len() <= MAX_ELEMENTS).then(|| parts.into())
}

/// One part more than an array may have at most.
fn parts<'t>(text: &'t str, at: &str, limit: usize) -> Vec<&'t str> {
    let most = limit.min(MAX_ELEMENTS + 1);
    if !at.is_empty() || most == 0 {
        return text.splitn(most, at).collect();
    }
    let (mut left, mut parts) = (text, Vec::new());
    while let Some(first) = left.chars().next() {
        let length = if parts.len() + 1 == most { left.len() } else { first.len_utf8() };
        let (part, rest) = left.split_at(length);
        parts.push(part);
        left = rest;
    }
    parts
}

/// Where a character begins; the place behind the last is one too.
fn byte_of(text: &str, chars: usize) -> Option<usize> {
    if chars > text.len() {
        return None;
    }
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(chars)
}

fn part(text: Text<'_>, start: usize, end: usize) -> Text<'_> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[start..end]),
        Cow::Owned(text) if (start, end) == (0, text.len()) => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(text[start..end].to_owned()),
    }
}
