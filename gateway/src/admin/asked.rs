//! What a request asks for in its query: each parameter at most once.

use std::borrow::Cow;

use axum::http::StatusCode;
use bridges::http::{Problem, parameters, shortened};

/// The parameters of a query, decoded, in the order of the query; `known` is all there are.
pub(super) fn asked<'q>(
    query: Option<&'q str>,
    known: &[&'static str],
) -> Result<Vec<(&'static str, Cow<'q, str>)>, Problem> {
    let asked = parameters(query, known)?;
    let twice = asked.iter().enumerate().find(|(at, (name, _))| asked.iter().take(*at).any(|(one, _)| one == name));
    match twice {
        Some((_, (name, _))) => Err(bad(format!("parameter {name:?} is there twice"))),
        None => Ok(asked),
    }
}

/// Why a parameter can't be read.
pub(super) fn unreadable(name: &str, why: &str, value: &str) -> Problem {
    bad(format!("parameter {name:?} {why}: {:?}", shortened(value)))
}

/// How many are on a page, at most.
pub(super) fn page_size(value: &str) -> Result<usize, &'static str> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let size = value.parse().ok().filter(|size| digits && (1..=MAX_PAGE).contains(size));
    size.ok_or("is no number from 1 to 1000")
}

pub(super) fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", "admin", detail)
}

/// As many are on a page if nothing else is said.
pub(super) const USUAL_PAGE: usize = 100;
/// The most that are on a page.
const MAX_PAGE: usize = 1_000;
