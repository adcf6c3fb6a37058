//! `Accept-Encoding` (RFC 9110, section 12.5.3): which codings a client reads, and how much it likes each.

use http::{HeaderMap, StatusCode, header};

use super::{
    super::{Problem, head},
    Coding,
};

/// What a client reads. Weights are thousandths; 0 is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Accept {
    gzip: u16,
    zstd: u16,
    /// `None`: not said, so it is read where there is nothing else.
    identity: Option<u16>,
}

/// The weight of what has none.
const FULL: u16 = 1_000;

// === impl Accept ===

impl Accept {
    /// Refuses with 406 who reads nothing that can be sent; before anything is done for them.
    ///
    /// `*` is read as gzip, which every client has that says so. An item that makes no sense is no item.
    pub(in crate::http) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let (mut gzip, mut zstd, mut identity, mut any) = (None, None, None, None);
        let values = head::values(headers, header::ACCEPT_ENCODING);
        for item in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
            let (name, weight) = match item.iter().position(|byte| *byte == b';') {
                Some(at) => (item[..at].trim_ascii(), weight(item[at + 1..].trim_ascii())),
                None => (item.trim_ascii(), Some(FULL)),
            };
            let Some(weight) = weight else { continue };
            match Coding::named(name) {
                Some(Coding::Gzip) => gzip = Some(weight),
                Some(Coding::Zstd) => zstd = Some(weight),
                None if name == b"*" => any = Some(weight),
                None if name.eq_ignore_ascii_case(b"identity") => identity = Some(weight),
                // one that is not spoken here
                None => {}
            }
        }
        let identity = identity.or(any.filter(|weight| *weight == 0));
        let accept = Self { gzip: gzip.or(any).unwrap_or(0), zstd: zstd.unwrap_or(0), identity };
        if accept.takes_identity() || accept.best().is_some() {
            return Ok(accept);
        }
        Err(not_acceptable("the Accept-Encoding header leaves nothing: there are identity, gzip and zstd"))
    }

    /// Itself, where the answer can only be sent as it is; else 406.
    pub(in crate::http) fn with_identity(self) -> Result<Self, Problem> {
        match self.takes_identity() {
            true => Ok(self),
            false => Err(not_acceptable("events are sent as they are, and the Accept-Encoding header refuses that")),
        }
    }

    /// Whether an answer may be sent as it is.
    pub(super) fn takes_identity(self) -> bool {
        self.identity != Some(0)
    }

    /// The coding of an answer that is worth one; `None` if it is to be sent as it is.
    pub(super) fn best(self) -> Option<Coding> {
        let coding = if self.zstd >= self.gzip { Coding::Zstd } else { Coding::Gzip };
        let weight = self.zstd.max(self.gzip);
        (weight > 0 && weight >= self.identity.unwrap_or(0)).then_some(coding)
    }
}

fn not_acceptable(detail: &'static str) -> Problem {
    Problem::new(StatusCode::NOT_ACCEPTABLE, "content-coding", "accept_encoding", detail)
}

/// `q=0.5`, in thousandths. `None`: no weight (section 12.4.2).
fn weight(parameter: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(parameter).ok()?;
    let (name, value) = text.split_once('=')?;
    let (whole, part) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if !name.trim().eq_ignore_ascii_case("q") || part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(FULL),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// The coding, and whether identity is taken; `None` if nothing is.
    fn read(value: &'static str) -> Option<(Option<Coding>, bool)> {
        let headers = [(header::ACCEPT_ENCODING, HeaderValue::from_static(value))].into_iter().collect();
        let accept = Accept::of(&headers).ok()?;
        Some((accept.best(), accept.takes_identity()))
    }

    #[test]
    fn the_heaviest_coding_wins() {
        let (gzip, zstd) = (Some(Coding::Gzip), Some(Coding::Zstd));
        for (value, expected) in [
            ("", Some((None, true))),
            ("br, deflate", Some((None, true))),
            ("gzip", Some((gzip, true))),
            ("gzip, deflate, br, zstd", Some((zstd, true))),
            ("gzip;q=1.0, zstd;q=0.999", Some((gzip, true))),
            ("x-gzip;Q=0.5 , ZSTD ; q=0.4", Some((gzip, true))),
            ("gzip;q=0.5, identity", Some((None, true))),
            ("gzip;q=0.5, identity;q=0.5", Some((gzip, true))),
            ("*", Some((gzip, true))),
            ("gzip;q=0, *", Some((None, true))),
            ("zstd, *;q=0", Some((zstd, false))),
            ("gzip, identity;q=0", Some((gzip, false))),
            ("gzip;q=0", Some((None, true))),
            ("identity;q=0", None),
            ("*;q=0", None),
            ("gzip;q=0.000, identity;q=0.000", None),
            ("identity, *;q=0", Some((None, true))),
        ] {
            assert_eq!(read(value), expected, "{value}");
        }
    }

    #[test]
    fn a_weight_that_is_none_takes_its_item_with_it() {
        for value in ["gzip;q=2", "gzip;q=1.001", "gzip;q=-1", "gzip;q=0.1234", "gzip;q=", "gzip;x=1", "gzip;q", ";;;,"]
        {
            assert_eq!(read(value), Some((None, true)), "{value}");
        }
    }
}
