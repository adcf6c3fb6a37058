//! The query of the gateway's own endpoints: known parameters, strictly.

use std::borrow::Cow;

use http::StatusCode;

use super::Problem;

/// The longest query, percent-encoded. A request's head is bounded as well.
const MAX_BYTES: usize = 8_192;

/// The parameters in order, decoded. `+` is a plus: a filter has them. Refuses with 400 what is not among `known`.
pub fn parameters<'q>(
    query: Option<&'q str>,
    known: &[&'static str],
) -> Result<Vec<(&'static str, Cow<'q, str>)>, Problem> {
    let query = query.unwrap_or_default();
    if query.len() > MAX_BYTES {
        return Err(bad(format!("the query is {} bytes, limit is {MAX_BYTES}", query.len())));
    }
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = known.iter().find(|known| **known == name).ok_or_else(|| {
                bad(format!("unknown parameter {:?}; parameters: {}", shortened(name), known.join(", ")))
            })?;
            let value = percent_decoded(value).ok_or_else(|| {
                bad(format!("parameter {name:?} is not percent-encoded UTF-8: {:?}", shortened(value)))
            })?;
            Ok((*name, value))
        })
        .collect()
}

/// The text behind percent-encoding; `None` if an escape is broken, or it is not UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'%' {
            out.push(*byte);
            rest = after;
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        out.push((digit(0)? << 4 | digit(1)?) as u8);
        rest = after.get(2..)?;
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// What is said of a value in an error, at most.
pub fn shortened(text: &str) -> &str {
    let end = (0..=128.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// 400.
pub(super) fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", "http", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_once_and_kept_in_order() {
        let read = parameters(Some("filter=a/%23&filter=%2B/b+c&start=new&"), &["filter", "start"]).unwrap();
        let read: Vec<_> = read.iter().map(|(name, value)| (*name, &**value)).collect();
        assert_eq!(read, [("filter", "a/#"), ("filter", "+/b+c"), ("start", "new")]);
        assert!(parameters(None, &["a"]).unwrap().is_empty());
    }

    #[test]
    fn what_is_unknown_or_broken_is_refused_by_name() {
        let why = |query: &str| parameters(Some(query), &["filter"]).unwrap_err().detail().to_owned();
        assert_eq!(why("filtre=a"), "unknown parameter \"filtre\"; parameters: filter");
        for broken in ["filter=%", "filter=%4", "filter=%zz", "filter=%ff", "filter=%C3"] {
            assert!(why(broken).contains("not percent-encoded UTF-8"), "{broken}");
        }
        assert!(why(&format!("filter={}", "a".repeat(MAX_BYTES))).contains("limit is 8192"));
    }
}
