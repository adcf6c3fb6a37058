//! Values of a type, made up: for `test --fuzz`, and for the tests that hold the proof to its word.
//!
//! What a type does not know, such as `multipleOf`, is left to whoever asks: a sample that does not conform is made anew.

use std::fmt::Write;

use envelope::json::write_string;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::{
    number::Number,
    text::Text,
    types::{Kinds, List, Object, Rest, Type},
};

/// How deep a sample nests where the type does not say.
const MAX_DEPTH: usize = 6;
/// How many elements or repetitions more than there must be.
const MORE: usize = 3;
/// The longest text or array that is made because it must be that long.
const MAX_LENGTH: usize = 4_096;

/// Makes values of types; the same seed makes the same values.
#[derive(Debug)]
pub(crate) struct Samples(fastrand::Rng);

// === impl Samples ===

impl Samples {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// JSON text of a value; `None` if there is none.
    pub(crate) fn json(&mut self, of: &Type) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.value(of, 0, &mut out)?;
        Some(out)
    }

    pub(crate) fn one_in(&mut self, so_many: u8) -> bool {
        self.0.u8(..so_many) == 0
    }

    /// One of them; `None` if there is none.
    pub(crate) fn choice<'c, T>(&mut self, of: &'c [T]) -> Option<&'c T> {
        self.0.choice(of)
    }

    /// A word that may stand in an address.
    pub(crate) fn word(&mut self) -> String {
        (0..self.0.usize(1..=8)).map(|_| self.0.alphanumeric()).collect()
    }

    /// A text without control characters.
    pub(crate) fn line(&mut self) -> String {
        self.text(&Text::ANY)
    }

    fn value(&mut self, of: &Type, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        let mut kinds: Vec<Kinds> = of.kinds().each().collect();
        if depth >= MAX_DEPTH {
            let flat: Vec<_> =
                kinds.iter().copied().filter(|kind| ![Kinds::LIST, Kinds::OBJECT].contains(kind)).collect();
            kinds = if flat.is_empty() { kinds } else { flat };
        }
        let kind = *self.0.choice(&kinds)?;
        match kind {
            Kinds::NULL => out.extend_from_slice(b"null"),
            Kinds::BOOL => {
                let value = if of.bools.yes && of.bools.no { self.0.bool() } else { of.bools.yes };
                out.extend_from_slice(if value { b"true" } else { b"false" });
            }
            Kinds::NUMBER => out.extend_from_slice(self.number(of.number.as_ref()?).as_bytes()),
            Kinds::LIST => self.list(of.list.as_ref()?, depth, out)?,
            Kinds::OBJECT => self.object(of.object.as_ref()?, depth, out)?,
            _ => write_string(out, &self.text(of.text.as_ref()?)),
        }
        Some(())
    }

    fn number(&mut self, of: &Number) -> String {
        if let Some(only) = &of.only {
            return self.0.choice(only).map_or_else(|| "0".to_owned(), f64::to_string);
        }
        let odd = [
            "0",
            "-0.0",
            "1",
            "-1",
            "3.0",
            "1e2",
            "0.1",
            "12.10",
            "-273.15",
            "1e-400",
            "9007199254740993",
            "1e300",
            "-1e300",
        ];
        let fits = |text: &str| {
            let value: f64 = text.parse().unwrap_or(0.0);
            value >= of.low && value <= of.high && !(of.whole && value.fract() != 0.0) && !(of.nonzero && value == 0.0)
        };
        let odd: Vec<&str> = odd.into_iter().filter(|text| fits(text)).collect();
        if self.0.bool()
            && let Some(odd) = self.0.choice(&odd)
        {
            return (*odd).to_owned();
        }
        let low = if of.low.is_finite() { of.low } else { of.high.min(1_000.0) - 2_000.0 };
        let high = if of.high.is_finite() { of.high } else { low.max(-1_000.0) + 2_000.0 };
        let value = match self.0.u8(..4) {
            0 => low,
            1 => high,
            _ => low + (high - low) * self.0.f64(),
        };
        let whole = if value.ceil() <= of.high { value.ceil() } else { value.floor() };
        let value = if of.whole { whole } else { value };
        let mut text = String::new();
        // writing to memory can't fail
        let _ = write!(text, "{value}");
        text
    }

    fn text(&mut self, of: &Text) -> String {
        if let Some(only) = &of.only {
            let words: Vec<_> = only.iter().collect();
            return self.0.choice(&words).map(|word| word.to_string()).unwrap_or_default();
        }
        for fact in &of.facts {
            if let Some(format) = fact.strip_prefix("format:") {
                return self.formatted(format);
            }
            if let Some(pattern) = fact.strip_prefix("pattern:")
                && let Ok(hir) = regex_syntax::parse(pattern)
            {
                let mut made = String::new();
                self.matching(&hir, &mut made);
                while made.chars().count() < of.least.min(MAX_LENGTH) {
                    made.push('a');
                }
                return made;
            }
        }
        let odd = [
            "",
            "0",
            "17",
            "true",
            "a/b",
            "a b",
            "$x",
            "ø€😀",
            "\"",
            "\\",
            "2026-11-23T10:00:00Z",
            "30s",
            "YQ==",
            "[1]",
        ];
        let count = |text: &str| (of.least..=of.most).contains(&text.chars().count());
        let odd: Vec<&str> = odd.into_iter().filter(|text| count(text)).collect();
        if self.0.bool()
            && let Some(odd) = self.0.choice(&odd)
        {
            return (*odd).to_owned();
        }
        let length = self.length(of.least, of.most);
        (0..length).map(|_| if self.0.u8(..8) == 0 { 'é' } else { self.0.lowercase() }).collect()
    }

    fn length(&mut self, least: usize, most: usize) -> usize {
        let least = least.min(MAX_LENGTH);
        self.0.usize(least..=most.clamp(least, least + MORE))
    }

    fn formatted(&mut self, format: &str) -> String {
        let two = |of: &mut fastrand::Rng, most: u8| format!("{:02}", of.u8(1..=most));
        let date = format!("{}-{}-{}", self.0.u16(1971..=9998), two(&mut self.0, 12), two(&mut self.0, 28));
        let time = format!("{}:{}:{}Z", two(&mut self.0, 23), two(&mut self.0, 59), two(&mut self.0, 59));
        match format {
            "date-time" => format!("{date}T{time}"),
            "date" => date,
            "time" => time,
            "duration" => format!("PT{}S", self.0.u8(..)),
            "email" | "idn-email" => format!("a{}@example.org", self.0.u8(..)),
            "hostname" | "idn-hostname" => format!("h{}.example.org", self.0.u8(..)),
            "ipv4" => format!("192.0.2.{}", self.0.u8(..)),
            "ipv6" => format!("2001:db8::{:x}", self.0.u16(..)),
            "uri" | "iri" | "uri-reference" | "iri-reference" => format!("https://example.org/{}", self.0.u8(..)),
            "uuid" => format!("00000000-0000-4000-8000-{:012x}", self.0.u32(..)),
            "json-pointer" => format!("/a/{}", self.0.u8(..)),
            _ => format!("a{}", self.0.u8(..)),
        }
    }

    /// A text that the pattern is about; anchors and the like are not looked at.
    fn matching(&mut self, hir: &Hir, out: &mut String) {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => out.push_str(&String::from_utf8_lossy(&literal.0)),
            HirKind::Class(Class::Unicode(class)) => {
                let ranges = class.ranges();
                let plain: Vec<_> = ranges.iter().filter(|range| range.start().is_ascii_graphic()).collect();
                let range = self.0.choice(&plain).copied().or_else(|| ranges.first());
                if let Some(range) = range {
                    let end = if range.start().is_ascii() { range.end().min('~') } else { range.end() };
                    out.push(self.0.char(range.start()..=end.max(range.start())));
                }
            }
            HirKind::Class(Class::Bytes(_)) => {}
            HirKind::Repetition(repetition) => {
                let least = repetition.min as usize;
                let most = repetition.max.map_or(usize::MAX, |most| most as usize);
                for _ in 0..self.length(least, most) {
                    self.matching(&repetition.sub, out);
                }
            }
            HirKind::Capture(capture) => self.matching(&capture.sub, out),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.matching(part, out)),
            HirKind::Alternation(parts) => {
                if let Some(part) = self.0.choice(parts) {
                    self.matching(part, out);
                }
            }
        }
    }

    fn list(&mut self, of: &List, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        let length = if depth >= MAX_DEPTH { of.least.min(MAX_LENGTH) } else { self.length(of.least, of.most) };
        let items = of.items();
        out.push(b'[');
        for number in 0..length {
            if number > 0 {
                out.push(b',');
            }
            self.value(&items, depth + 1, out)?;
        }
        out.push(b']');
        Some(())
    }

    fn object(&mut self, of: &Object, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        out.push(b'{');
        let mut first = true;
        let mut member = |samples: &mut Self, name: &str, of: &Type, out: &mut Vec<u8>| {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            write_string(out, name);
            out.push(b':');
            samples.value(of, depth + 1, out)
        };
        for (name, field) in of.fields.iter().filter(|(_, field)| !field.of.is_never()) {
            if field.required || depth < MAX_DEPTH && self.0.bool() {
                member(self, name, &field.of, out)?;
            }
        }
        let other = match &of.rest {
            Rest::Closed => None,
            Rest::Open => Some(Type::ANY),
            Rest::Of(of) => Some(Type::clone(of)),
        };
        if let Some(other) = other.filter(|_| depth < MAX_DEPTH && self.0.u8(..4) == 0)
            && !of.fields.contains_key("other")
        {
            member(self, "other", &other, out)?;
        }
        out.push(b'}');
        Some(())
    }
}
