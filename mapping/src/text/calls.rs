//! Which filters and tests a template calls. The engine finds an unknown one only when it runs; a file's author wants to
//! know it before.

use std::ops::Range;

pub(super) const FILTERS: [&str; 10] =
    ["upper", "lower", "trim", "replace", "default", "length", "join", "first", "last", "round"];
pub(super) const TESTS: [&str; 3] = ["defined", "undefined", "none"];

/// What there is, for an error.
pub(super) fn known() -> String {
    format!("the filters {} and the tests {}", FILTERS.join(", "), TESTS.join(", "))
}

/// Each call of something unknown: where it stands, and what is wrong. The template's syntax holds.
pub(super) fn unknown(text: &str) -> Vec<(Range<usize>, String)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(begin) = next_tag(text, at) {
        let end = end_of_tag(text, begin);
        let tag = &text[begin..end];
        if tag.starts_with("{#") {
            at = text[begin..].find("#}").map_or(text.len(), |length| begin + length + 2);
            continue;
        }
        let words = words(tag, begin);
        if matches!(words.first(), Some((_, "raw"))) {
            at = text[end..].find("endraw").map_or(text.len(), |length| end + length);
            continue;
        }
        for (n, (place, word)) in words.iter().enumerate() {
            let before = n.checked_sub(1).map(|n| words[n].1);
            let before_that = n.checked_sub(2).map(|n| words[n].1);
            let (kind, known) = match (before, before_that) {
                (Some("|"), _) => ("filter", &FILTERS[..]),
                (Some("filter"), None) => ("filter", &FILTERS[..]),
                (Some("is"), _) if *word != "not" => ("test", &TESTS[..]),
                (Some("not"), Some("is")) => ("test", &TESTS[..]),
                _ => continue,
            };
            if !known.contains(word) {
                let shown: String = word.chars().take(64).collect();
                found.push((place.clone(), format!("unknown {kind} {shown:?}")));
            }
        }
        at = end;
    }
    found
}

fn next_tag(text: &str, mut from: usize) -> Option<usize> {
    loop {
        let at = text.get(from..)?.find('{').map(|at| from + at)?;
        if matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Behind the first `}}` or `%}` that stands in no string.
fn end_of_tag(text: &str, begin: usize) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let bytes = text.as_bytes();
    for at in begin + 2..bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(end), byte) if byte == end => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, b'}') if matches!(bytes[at - 1], b'}' | b'%') => return at + 1,
            (None, _) => {}
        }
    }
    text.len()
}

/// Names and `|`, without strings.
fn words(tag: &str, begin: usize) -> Vec<(Range<usize>, &str)> {
    let (mut found, mut at, bytes) = (Vec::new(), 2, tag.as_bytes());
    while let Some(byte) = bytes.get(at) {
        let start = at;
        match byte {
            b'"' | b'\'' => {
                at += 1;
                while let Some(inner) = bytes.get(at) {
                    at += if *inner == b'\\' { 2 } else { 1 };
                    if inner == byte {
                        break;
                    }
                }
            }
            b'|' => {
                at += 1;
                found.push((begin + start..begin + at, "|"));
            }
            byte if byte.is_ascii_alphabetic() || *byte == b'_' => {
                at += tag[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tag.len() - at);
                found.push((begin + start..begin + at, &tag[start..at]));
            }
            _ => at += 1,
        }
    }
    found
}
