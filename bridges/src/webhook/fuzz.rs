//! Hostile input for what sends: addresses as messages make them, as files write them, and what servers answer.

#![allow(clippy::expect_used, reason = "a promise that is broken is to panic here")]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    address,
    answer::verdict,
    written::{Piece, pieces},
};

/// An address: what is taken is one server that is spoken to by TLS, and a path of it.
///
/// # Panics
/// If it is not.
pub fn addresses(text: &str) {
    let Ok(found) = address::parse(text, None, false) else { return };
    assert_eq!(found.url.scheme_str(), Some("https"), "{text:?}");
    let authority = found.url.authority().expect("a server");
    assert!(!authority.host().is_empty() && !authority.as_str().contains('@'), "{text:?}");
    let path = found.url.path_and_query().expect("a path").as_str();
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    let again = address::parse(&format!("{} {}", found.method, found.url), None, false).expect("the same again");
    assert_eq!(found, again, "{text:?}");
}

/// What a file writes: its pieces are all of it; and where it is taken, no expression of a message names the server.
///
/// # Panics
/// If they are not, or one does.
pub fn writings(written: &str) {
    let text: String = pieces(written)
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => (*text).to_owned(),
            Piece::Expression(expression) => format!("${{{expression}}}"),
        })
        .collect();
    assert!(text.len() <= written.len() + 1, "{written:?} became {text:?}");
    if address::check_written(written, None, false).is_err() {
        return;
    }
    // what a table gives is the operator's own, and may be a server
    let said = |with: &str| {
        let of = |piece: &Piece<'_>| match piece {
            Piece::Text(text) => (*text).to_owned(),
            Piece::Expression(expression) if expression.contains("table") => "table".to_owned(),
            Piece::Expression(_) => with.to_owned(),
        };
        let whole: String = pieces(written).iter().map(of).collect();
        address::parse(&whole, None, false).ok().and_then(|found| found.url.authority().cloned())
    };
    let Some(server) = said("x") else { return };
    for hostile in ["@evil.example/", ".evil.example/", ":1/", "//evil.example/", "\\evil.example"] {
        assert!(said(hostile).is_none_or(|other| other == server), "{written:?} with {hostile:?} is another server");
    }
}

/// What a server answers, and when it says to come again.
///
/// # Panics
/// If a yes is none.
pub fn answers(status: u16, retry_after: &[u8]) {
    let Ok(status) = StatusCode::from_u16(status) else { return };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(retry_after) {
        headers.insert(header::RETRY_AFTER, value);
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    assert_eq!(verdict(status, &headers, now).is_ok(), status.is_success());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_changed_in_an_address_or_an_answer_the_promises_hold() {
        let seeds = [
            "POST https://a.example:8443/b/c?d=e&f=%20",
            "PUT https://[::1]/r\u{e4}ume/7",
            "POST https://a.example/${payload.x}/$${b}/${table('t', {'}': 1})}",
            "${table('hooks', payload.shop).url}",
            "Thu, 01 Jan 2037 00:01:30 GMT",
            "18446744073709551615",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..4_000 {
            for seed in seeds {
                let mut text: Vec<char> = seed.chars().collect();
                for _ in 0..round % 5 {
                    let at = random.usize(0..=text.len());
                    match random.u8(0..3) {
                        0 => text.insert(at, random.char('\0'..='\u{17f}')),
                        1 if at < text.len() => text[at] = random.char(' '..='~'),
                        _ => text.truncate(at),
                    }
                }
                let text: String = text.into_iter().collect();
                addresses(&text);
                writings(&text);
                answers(random.u16(..1_000), text.as_bytes());
            }
        }
    }
}
