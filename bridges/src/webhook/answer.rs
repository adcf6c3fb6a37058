//! What a server's answer means for the message: the one table from HTTP to verdicts.

use std::time::{Duration, SystemTime};

use envelope::{RejectKind, Rejection, Taken};
use http::{HeaderMap, StatusCode, header};

use crate::connect::ConnectError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

const DECIDED_BY: &str = "webhook";

/// Taken, refused for good, or to be offered again.
pub(super) fn verdict(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Result<Taken, Rejection> {
    if status.is_success() {
        return Ok(Taken::ByPeer);
    }
    let kind = kind(status);
    let detail = match status.is_redirection() {
        true => format!("the server answered {status}: redirects are not followed"),
        false => format!("the server answered {status}"),
    };
    let rejection = Rejection::new(kind, DECIDED_BY, detail);
    Err(match retry_after(headers, now) {
        Some(wait) => rejection.after(wait),
        None => rejection,
    })
}

fn kind(status: StatusCode) -> RejectKind {
    match status.as_u16() {
        429 => RejectKind::RateLimited,
        408 | 425 | 500..=599 => RejectKind::Unavailable,
        401 => RejectKind::Unauthenticated,
        403 => RejectKind::Denied,
        300..=399 | 404 | 405 | 410 => RejectKind::Unmapped,
        409 => RejectKind::Conflict,
        413 | 414 | 431 => RejectKind::TooLarge,
        _ => RejectKind::Malformed,
    }
}

/// Whether the server, and not the request, is what is wrong.
pub(super) fn is_failure(status: StatusCode) -> bool {
    status.is_server_error()
}

/// Seconds, or a time (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

// === impl ExchangeError ===

impl ExchangeError {
    /// What the message is told: an address that nobody may send to is final.
    pub(super) fn rejection(self) -> Rejection {
        let kind = match &self {
            Self::Connect(ConnectError::Forbidden(_)) => RejectKind::Denied,
            Self::Connect(_) | Self::Http(_) | Self::Timeout(_) => RejectKind::Unavailable,
        };
        Rejection::new(kind, DECIDED_BY, self.to_string()).because(self)
    }
}

#[cfg(test)]
mod tests {
    use envelope::Disposition;

    use super::*;

    fn said(status: u16, retry_after: Option<&str>) -> Result<Taken, Rejection> {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        }
        verdict(StatusCode::from_u16(status).unwrap(), &headers, SystemTime::UNIX_EPOCH + Duration::from_secs(60))
    }

    #[test]
    fn every_status_is_yes_no_or_later() {
        for status in 200..600 {
            let wanted = match status {
                200..=299 => None,
                408 | 425 | 429 | 500..=599 => Some(Disposition::Retry),
                _ => Some(Disposition::Final),
            };
            assert_eq!(said(status, None).err().map(|no| no.disposition()), wanted, "{status}");
        }
    }

    #[test]
    fn when_to_try_again_is_in_seconds_or_a_time() {
        let after = |value| said(503, Some(value)).unwrap_err().retry_after;
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Thu, 01 Jan 1970 00:01:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after("Thu, 01 Jan 1970 00:00:30 GMT"), None);
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }
}
