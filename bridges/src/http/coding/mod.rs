//! Content codings, gzip and zstd: of the bodies that clients send, and of the answers that they are ready to read.
//!
//! `accept` reads what a client takes, `inflate` opens a body within its bounds, `deflate` closes an answer. Streams of
//! events stay as they are: each event has to be read at once.

mod accept;
mod deflate;
mod inflate;

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Problem, head};

pub(super) use accept::Accept;
pub(super) use deflate::deflate;
pub(super) use inflate::{InflateError, inflate};

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878, with windows of at most 8 MiB as RFC 9659 has it.
    Zstd,
}

/// What `Accept-Encoding` says with a refusal (RFC 9110, section 12.5.3).
const TAKEN: HeaderValue = HeaderValue::from_static("gzip, zstd");
/// A thread that encodes or decodes lets others go on after so many bytes.
const STEP_BYTES: usize = 65_536;

/// Shares a thread: what is encoded or decoded is read and written in steps.
#[derive(Debug, Default)]
struct Pace {
    done: usize,
}

// === impl Coding ===

impl Coding {
    /// Of a request's body; `None` if it is as it is. One that is not known is refused with 415, and so are two: what is
    /// within the one may be larger than its bound by the factor of both.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let values = head::values(headers, header::CONTENT_ENCODING);
        let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        let mut coding = None;
        for name in names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity")) {
            let Some(known) = Self::named(name) else {
                let shown = String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned();
                return Err(unsupported(format!("content coding {shown:?} is not known")));
            };
            if coding.replace(known).is_some() {
                return Err(unsupported("a body has at most one content coding".to_owned()));
            }
        }
        Ok(coding)
    }

    /// Its name in headers.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// `x-gzip` is an old name that RFC 9110 has recipients know.
    fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("zstd") => Some(Self::Zstd),
            () => None,
        }
    }
}

// === impl Pace ===

impl Pace {
    /// Lets others go on when `bytes` more make a step.
    async fn went(&mut self, bytes: usize) {
        self.done += bytes;
        if self.done >= STEP_BYTES {
            self.done = 0;
            tokio::task::yield_now().await;
        }
    }
}

fn unsupported(detail: String) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-coding", "content_encoding", detail)
        .with(header::ACCEPT_ENCODING, TAKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(values: &[&'static str]) -> Result<Option<Coding>, u16> {
        let header = |value: &&'static str| (header::CONTENT_ENCODING, HeaderValue::from_static(value));
        Coding::of(&values.iter().map(header).collect()).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn one_known_coding_is_read_and_anything_else_refused() {
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&[""], Ok(None)),
            (&["identity"], Ok(None)),
            (&["gzip"], Ok(Some(Coding::Gzip))),
            (&["X-GZip , identity"], Ok(Some(Coding::Gzip))),
            (&["ZSTD"], Ok(Some(Coding::Zstd))),
            (&["br"], Err(415)),
            (&["deflate"], Err(415)),
            (&["gzip, br"], Err(415)),
            (&["gzip, gzip"], Err(415)),
            (&["gzip", "zstd"], Err(415)),
            (&["gzip;q=1"], Err(415)),
        ] {
            assert_eq!(coding(values), expected, "{values:?}");
        }
    }
}
