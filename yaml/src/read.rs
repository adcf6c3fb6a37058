//! Typed readers: each gives the value, or reports what is wrong and gives `None`.

use std::{fmt, ops::RangeInclusive, time::Duration};

use crate::{Kind, Node, Problems, suggest};

/// Units of sizes; a plain number is bytes.
const UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

// === impl Node ===

impl Node {
    /// A string. A number is none: quote it.
    pub fn string(&self, problems: &Problems) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(&text.value),
            Kind::Bool(_) | Kind::Integer(..) | Kind::Float(..) => {
                let message = format!("expected a string, found {}", self.found());
                problems.report_with_help(self.span, "wrong-type", message, "put it in quotes");
                None
            }
            Kind::Null | Kind::List(_) | Kind::Map(_) => self.mismatch("a string", problems),
        }
    }

    /// A string with at least one character.
    pub fn non_empty(&self, problems: &Problems) -> Option<&str> {
        let text = self.string(problems)?;
        if text.is_empty() {
            problems.report(self.span, "empty", "expected a string that is not empty");
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub fn bool(&self, problems: &Problems) -> Option<bool> {
        match self.kind {
            Kind::Bool(value) => Some(value),
            _ => self.mismatch("true or false", problems),
        }
    }

    /// A whole number within `range`, both ends included.
    pub fn integer(&self, range: RangeInclusive<i64>, problems: &Problems) -> Option<i64> {
        let Kind::Integer(value, _) = self.kind else {
            return self.mismatch("an integer", problems);
        };
        self.within(value, &range, problems)
    }

    /// A duration such as `30s`, `5m` or `1h 30m`, within `range`, both ends included.
    pub fn duration(&self, range: RangeInclusive<Duration>, problems: &Problems) -> Option<Duration> {
        let expected = "a duration such as 30s, 5m or 1h";
        let Kind::String(text) = &self.kind else {
            return self.mismatch(expected, problems);
        };
        let Ok(value) = humantime::parse_duration(&text.value) else {
            return self.mismatch(expected, problems);
        };
        if range.contains(&value) {
            return Some(value);
        }
        let value: String = text.value.chars().take(64).collect();
        self.out_of_range(&value, &written(*range.start()), &written(*range.end()), problems)
    }

    /// A size in bytes: a plain number, or one with a unit (`64 KiB`, `1MB`), within `range`, both ends included.
    pub fn bytes(&self, range: RangeInclusive<u64>, problems: &Problems) -> Option<u64> {
        let value = match &self.kind {
            Kind::Integer(value, _) => u64::try_from(*value).ok(),
            Kind::String(text) => size(&text.value),
            _ => None,
        };
        match value {
            Some(value) => self.within(value, &range, problems),
            None => self.mismatch("a size in bytes such as 1048576, 64 KiB or 1 MB", problems),
        }
    }

    /// A list.
    pub fn list(&self, problems: &Problems) -> Option<&[Self]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => self.mismatch("a list", problems),
        }
    }

    /// A list of strings; every item that is none is reported.
    pub fn strings(&self, problems: &Problems) -> Option<Vec<&str>> {
        let read: Vec<_> = self.list(problems)?.iter().map(|item| item.string(problems)).collect();
        read.into_iter().collect()
    }

    /// One of the words, as the value that goes with it.
    pub fn one_of<T: Clone>(&self, words: &[(&str, T)], problems: &Problems) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let Some(text) = self.as_str() else {
            return self.mismatch(&format!("one of {}", suggest::list(&names)), problems);
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let message = format!("expected one of {}, found {}", suggest::list(&names), suggest::quote(text));
        match suggest::nearest(text, &names) {
            Some(near) => {
                problems.report_with_help(self.span, "not-one-of", message, format!("did you mean \"{near}\"?"))
            }
            None => problems.report(self.span, "not-one-of", message),
        }
        None
    }

    /// Reports that something else was expected here. Always `None`.
    pub fn mismatch<T>(&self, expected: &str, problems: &Problems) -> Option<T> {
        problems.report(self.span, "wrong-type", format!("expected {expected}, found {}", self.found()));
        None
    }

    fn within<T: PartialOrd + fmt::Display>(
        &self,
        value: T,
        range: &RangeInclusive<T>,
        problems: &Problems,
    ) -> Option<T> {
        if range.contains(&value) {
            return Some(value);
        }
        self.out_of_range(&value, range.start(), range.end(), problems)
    }

    fn out_of_range<T>(
        &self,
        value: &dyn fmt::Display,
        least: &dyn fmt::Display,
        most: &dyn fmt::Display,
        problems: &Problems,
    ) -> Option<T> {
        problems.report(self.span, "out-of-range", format!("{value} is out of range: {least} to {most}"));
        None
    }

    /// The value as a message shows it.
    fn found(&self) -> String {
        match &self.kind {
            Kind::Bool(value) => value.to_string(),
            Kind::Integer(_, text) | Kind::Float(_, text) => text.chars().take(64).collect(),
            Kind::String(text) => suggest::quote(&text.value),
            Kind::Null | Kind::List(_) | Kind::Map(_) => self.type_name().to_owned(),
        }
    }
}

fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A length of time in the largest unit that it is a whole number of.
fn written(length: Duration) -> String {
    const MILLIS: [(u128, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let whole = length.as_nanos().is_multiple_of(1_000_000) && !length.is_zero();
    let unit = MILLIS.iter().find(|(unit, _)| whole && length.as_millis().is_multiple_of(*unit));
    match unit {
        Some((unit, name)) => format!("{}{name}", length.as_millis() / unit),
        None => humantime::format_duration(length).to_string(),
    }
}
