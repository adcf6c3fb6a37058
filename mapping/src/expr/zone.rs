//! Time zones, as CEL names them: one of the IANA database, or an offset from UTC such as `+02:00`. The database is in the
//! program, so that a mapping means the same on every machine.

use envelope::Timestamp;
use jiff::tz::TimeZone;

/// What the fields of a timestamp are told in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Zone {
    /// Seconds east of UTC.
    Offset(i64),
    Named(TimeZone),
}

/// What is said of a text that is none.
pub(super) const WANTED: &str = "no time zone, as in \"Europe/Oslo\", \"UTC\" or \"+02:00\"";

// === impl Zone ===

impl Zone {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(offset) = offset(text) {
            return Some(Self::Offset(offset));
        }
        // the names of the database are ASCII and short; whatever else is asked for is not looked for
        let is_name =
            text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte));
        let zone = is_name.then(|| jiff::tz::db().get(text).ok())??;
        Some(Self::Named(zone))
    }

    /// How many seconds it is east of UTC at this time.
    pub(super) fn offset_at(&self, time: Timestamp) -> i64 {
        match self {
            Self::Offset(seconds) => *seconds,
            Self::Named(zone) => {
                let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
                let at = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
                i64::from(zone.to_offset(at).seconds())
            }
        }
    }
}

/// Of `+HH:MM`, `-HH:MM` or `HH:MM`; up to 23:59.
fn offset(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let number = |digits: &str, most: i64| {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|number: &i64| plain && *number <= most)
    };
    Some(sign * (number(hours, 23)? * 3_600 + number(minutes, 59)? * 60))
}
