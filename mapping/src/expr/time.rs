//! Timestamps and durations of expressions, as CEL writes them: RFC 3339, and `90s` or `1h30m`.

use std::fmt;

use envelope::Timestamp;

/// A length of time in whole microseconds, of either sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Duration(pub(super) i64);

/// A field of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Year,
    /// From 0.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0.
    DayOfYear,
    /// From 0, a Sunday.
    Weekday,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400;
/// Four centuries, after which the calendar repeats.
const AGE: i64 = 146_097 * DAY * MICROS;
const RANGE: &str = "out of range: a timestamp is between 1970 and 9999";

// === impl Duration ===

impl Duration {
    /// `1h30m`, `-1.5s`, `250ms`: units h, m, s, ms, us.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        let mut micros = 0.0_f64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, behind) = rest.split_at(digits);
            let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
            let (unit, behind) = behind.split_at(unit);
            let scale = match unit {
                "h" => 3_600e6,
                "m" => 60e6,
                "s" => 1e6,
                "ms" => 1e3,
                "us" | "µs" => 1.0,
                _ => return None,
            };
            micros += number.parse::<f64>().ok()? * scale;
            rest = behind;
        }
        // a whole number below 2^53 is exact as a double
        let whole = !text.is_empty() && rest.len() < text.len() && micros < 9_007_199_254_740_992.0;
        let micros = micros.round() as i64;
        (whole && text != "-").then_some(Self(if negative { -micros } else { micros }))
    }

    pub(super) fn plus(self, other: Self) -> Result<Self, &'static str> {
        self.0.checked_add(other.0).map(Self).ok_or("the duration is out of range")
    }

    pub(super) fn negated(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl fmt::Display for Duration {
    /// Seconds, as CEL and Protobuf's JSON have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, micros) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (seconds, rest) = (micros / MICROS as u64, micros % MICROS as u64);
        if rest == 0 {
            return write!(f, "{sign}{seconds}s");
        }
        let fraction = format!("{rest:06}");
        write!(f, "{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
    }
}

/// A point in time plus a duration.
pub(super) fn plus(time: Timestamp, duration: Duration) -> Result<Timestamp, &'static str> {
    from_micros(signed(time).checked_add(duration.0).ok_or(RANGE)?)
}

/// From `earlier` to `later`; negative if they are the other way round.
pub(super) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration(signed(later) - signed(earlier))
}

pub(super) fn from_seconds(seconds: i64) -> Result<Timestamp, &'static str> {
    from_micros(seconds.checked_mul(MICROS).ok_or(RANGE)?)
}

pub(super) fn seconds(time: Timestamp) -> i64 {
    signed(time) / MICROS
}

fn from_micros(micros: i64) -> Result<Timestamp, &'static str> {
    let micros = u64::try_from(micros).map_err(|_| RANGE)?;
    if micros > Timestamp::MAX.as_micros() { Err(RANGE) } else { Ok(Timestamp::from_micros(micros)) }
}

/// Far below 2^63.
fn signed(time: Timestamp) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Whether `timestamp` takes it.
pub(crate) fn is_rfc_3339(text: &str) -> bool {
    parse(text).is_ok()
}

/// RFC 3339 with `Z` or an offset: `2026-11-23T10:00:00+01:00`. `t` and `z` are those letters too.
pub(super) fn parse(text: &str) -> Result<Timestamp, &'static str> {
    const WANTED: &str = "no RFC 3339 timestamp, as in 2026-11-23T10:00:00Z";
    let offset_at = text.len().checked_sub(6);
    let (local, offset) = match offset_at.and_then(|at| text.split_at_checked(at)) {
        Some((local, offset)) if offset.starts_with(['+', '-']) => {
            let (sign, digits) = offset.split_at(1);
            let (hours, minutes) = digits.split_once(':').ok_or(WANTED)?;
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && text.len() == 2;
            if !digits(hours) || !digits(minutes) {
                return Err(WANTED);
            }
            let (hours, minutes) =
                (hours.parse::<i64>().map_err(|_| WANTED)?, minutes.parse::<i64>().map_err(|_| WANTED)?);
            if hours > 23 || minutes > 59 {
                return Err(WANTED);
            }
            let seconds = hours * 3_600 + minutes * 60;
            (local, if sign == "-" { -seconds } else { seconds })
        }
        _ => (text.strip_suffix(['Z', 'z']).ok_or(WANTED)?, 0),
    };
    let (year, rest) = local.split_at_checked(4).ok_or(WANTED)?;
    let digits = year.bytes().all(|byte| byte.is_ascii_digit());
    let year: u16 = year.parse().ok().filter(|_| digits).ok_or(WANTED)?;
    let rest = rest.strip_prefix('-').ok_or(WANTED)?.replacen('t', "T", 1);
    // what is before 1970 is read in a later age of the calendar
    let ages = if year < 1970 { (1970 - year) / 400 + 1 } else { 0 };
    let time = Timestamp::parse(&format!("{:04}-{rest}Z", year + ages * 400)).ok_or(WANTED)?;
    from_micros(signed(time) - i64::from(ages) * AGE - offset * MICROS)
}

// === impl Field ===

impl Field {
    /// Of a timestamp, so many seconds east of UTC.
    pub(super) fn of(self, time: Timestamp, east: i64) -> i64 {
        let micros = signed(time) + east * MICROS;
        let seconds = micros.div_euclid(MICROS);
        let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        match self {
            Self::Year => civil(days).0,
            Self::Month => civil(days).1 - 1,
            Self::Date => civil(days).2,
            Self::DayOfMonth => civil(days).2 - 1,
            Self::DayOfYear => day_of_year(civil(days)),
            Self::Weekday => (days + 4).rem_euclid(7),
            Self::Hours => second / 3_600,
            Self::Minutes => second / 60 % 60,
            Self::Seconds => second % 60,
            Self::Milliseconds => micros.rem_euclid(MICROS) / 1_000,
        }
    }

    /// Of a duration: hours, minutes and seconds are the whole length in that unit. `None`: it has no such field.
    pub(super) fn of_duration(self, duration: Duration) -> Option<i64> {
        let seconds = duration.0 / MICROS;
        match self {
            Self::Hours => Some(seconds / 3_600),
            Self::Minutes => Some(seconds / 60),
            Self::Seconds => Some(seconds),
            Self::Milliseconds => Some(duration.0 / 1_000 % 1_000),
            Self::Year | Self::Month | Self::Date | Self::DayOfMonth | Self::DayOfYear | Self::Weekday => None,
        }
    }
}

/// Year, month and day of the days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// From 0.
fn day_of_year((year, month, day): (i64, i64, i64)) -> i64 {
    let leap = i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    let (before, added) = if month <= 2 { (31 * (month - 1), 0) } else { ((153 * (month - 3) + 2) / 5 + 59, leap) };
    before + added + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_as_in_cel() {
        for (text, written) in
            [("1h30m", "5400s"), ("-1.5s", "-1.5s"), ("250ms", "0.25s"), ("0", "0s"), ("1us", "0.000001s")]
        {
            assert_eq!(Duration::parse(text).map(|d| d.to_string()).as_deref(), Some(written), "{text}");
        }
        for text in ["", "-", "5", "1x", "h", "1.2.3s", "1e3s", "NaNs", "999999999999999h", "--1s", "1 s", "é"] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_offset_is_taken_off() {
        assert_eq!(parse("2026-11-23T10:00:00+01:30"), parse("2026-11-23T08:30:00Z"));
        assert_eq!(parse("2026-11-23T10:00:00.5-02:00"), parse("2026-11-23T12:00:00.5z"));
        assert!(parse("1970-01-01T00:00:00+01:00").is_err());
        for text in [
            "",
            "2026",
            "2026-11-23T10:00:00",
            "2026-11-23T10:00:00+1:00",
            "2026-11-23T10:00:00+-1:0",
            "é-00:00",
            "2026-11-23T10:00:00+24:00",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_day_of_the_year_counts_on_from_the_first_of_january() {
        for year in [1970, 1999, 2000, 2024, 2025, 2100] {
            let mut time = parse(&format!("{year}-01-01T12:00:00Z")).unwrap();
            let mut day = 0;
            while Field::Year.of(time, 0) == year {
                assert_eq!(Field::DayOfYear.of(time, 0), day, "{time}");
                assert_eq!(Field::DayOfMonth.of(time, 0), Field::Date.of(time, 0) - 1);
                (time, day) = (plus(time, Duration(DAY * MICROS)).unwrap(), day + 1);
            }
            assert!(day == 365 || day == 366 && year % 4 == 0);
        }
    }

    #[test]
    fn the_fields_of_a_leap_day() {
        let time = parse("2024-02-29T23:59:58.125Z").unwrap();
        let fields = [
            Field::Year,
            Field::Month,
            Field::Date,
            Field::Weekday,
            Field::Hours,
            Field::Minutes,
            Field::Seconds,
            Field::Milliseconds,
        ];
        assert_eq!(fields.map(|field| field.of(time, 0)), [2024, 1, 29, 4, 23, 59, 58, 125]);
    }
}
