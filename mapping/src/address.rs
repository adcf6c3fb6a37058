//! Address patterns, and the index that finds the mapping an address belongs to.
//!
//! An address is segments joined by `/`; of HTTP the method is a part of the first (`POST /telemetry/7`). A pattern's
//! segment is literal, a capture `{name}` or `+`; the last two take one segment that is not empty.

use std::collections::BTreeMap;

use yaml::{Node, Problems};

/// The most segments of a pattern, and of an address that one can take.
const MAX_SEGMENTS: usize = 64;
/// The longest pattern, in bytes.
const MAX_BYTES: usize = 1_024;

/// What addresses a mapping takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: Box<str>,
    segments: Vec<Segment>,
    captures: Vec<(Box<str>, usize)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Any,
}

/// The patterns of one bridge. Finding the mapping costs as many steps as the address and the patterns share segments,
/// at most one for each segment of each pattern.
#[derive(Debug, Default)]
pub(crate) struct Index(Branch);

#[derive(Debug, Default)]
struct Branch {
    literals: BTreeMap<Box<str>, Branch>,
    any: Option<Box<Branch>>,
    /// What ends here: order and mapping, the lowest order first.
    ends: Vec<(i64, usize)>,
}

/// The first segment, and what is behind its `/`. Segments are short: a loop over bytes beats the search of `str`.
#[inline]
fn cut(text: &str) -> (&str, Option<&str>) {
    match text.as_bytes().iter().position(|byte| *byte == b'/') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// The segment of an address by its number, from 0.
pub(crate) fn nth_segment(address: &str, number: usize) -> Option<&str> {
    let (mut segment, mut rest) = cut(address);
    for _ in 0..number {
        (segment, rest) = cut(rest?);
    }
    Some(segment)
}

// === impl Pattern ===

impl Pattern {
    /// Reports each segment that is none, at its place.
    pub(crate) fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let text = node.non_empty(problems)?;
        let refuse = |message: String| problems.report(node.span, "address", message);
        if text.len() > MAX_BYTES {
            refuse(format!("an address has at most {MAX_BYTES} bytes, this has {}", text.len()));
            return None;
        }
        let count = text.split('/').count();
        if count > MAX_SEGMENTS {
            refuse(format!("an address has at most {MAX_SEGMENTS} segments, this has {count}"));
            return None;
        }
        let before = problems.len();
        let (mut segments, mut captures, mut start) = (Vec::with_capacity(count), Vec::<(Box<str>, usize)>::new(), 0);
        for (number, text) in text.split('/').enumerate() {
            let at = node.span_within(start..start + text.len());
            start += text.len() + 1;
            match segment(text) {
                Ok((segment, capture)) => {
                    segments.push(segment);
                    match capture {
                        Some(name) if captures.iter().any(|(other, _)| **other == *name) => {
                            problems.report(at, "address", format!("capture {name:?} is there twice"));
                        }
                        Some(name) => captures.push((name.into(), number)),
                        None => {}
                    }
                }
                Err(problem) => problems.report(at, "address", problem),
            }
        }
        (problems.len() == before).then(|| Self { text: text.into(), segments, captures })
    }

    /// As the file writes it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// An address that it takes, with these words where any may stand.
    pub(crate) fn example(&self, mut word: impl FnMut() -> String) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => text.to_string(),
            Segment::Any => word(),
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// Its segments, `None` where any may stand.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Option<&str>> {
        self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => Some(&**text),
            Segment::Any => None,
        })
    }

    /// Names and segments, from 0.
    pub(crate) fn captures(&self) -> &[(Box<str>, usize)] {
        &self.captures
    }
}

fn segment(text: &str) -> Result<(Segment, Option<&str>), String> {
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        return match valid {
            true => Ok((Segment::Any, Some(name))),
            false if name.ends_with("...") => Err(format!("{text:?} is not available in this version")),
            false => Err(format!("{name:?} is no name of a capture: letters, digits and _, no digit first")),
        };
    }
    match text {
        "+" => Ok((Segment::Any, None)),
        "#" => Err("\"#\" is not available in this version".to_owned()),
        _ => match text.chars().find(|c| matches!(c, '{' | '}' | '+' | '#') || c.is_control()) {
            Some(c @ ('{' | '}' | '+')) => {
                Err(format!("{c:?} does not share its segment: a capture or + is a whole one"))
            }
            Some(c) => Err(format!("{c:?} is not allowed in an address")),
            None => Ok((Segment::Literal(text.into()), None)),
        },
    }
}

// === impl Index ===

impl Index {
    /// Adds a mapping by its number. Gives the one that already takes the same addresses at the same order.
    pub(crate) fn add(&mut self, pattern: &Pattern, order: i64, mapping: usize) -> Result<(), usize> {
        let mut at = &mut self.0;
        for segment in &pattern.segments {
            at = match segment {
                Segment::Literal(text) => at.literals.entry(text.clone()).or_default(),
                Segment::Any => at.any.get_or_insert_default(),
            };
        }
        match at.ends.binary_search_by_key(&order, |(order, _)| *order) {
            Ok(same) => Err(at.ends[same].1),
            Err(place) => {
                at.ends.insert(place, (order, mapping));
                Ok(())
            }
        }
    }

    /// All mappings that match the address: lower order first, of these the more specific.
    pub(crate) fn candidates(&self, address: &str) -> Vec<usize> {
        let mut found = Vec::new();
        self.0.matching(Some(address), &mut found);
        found.sort_by_key(|(order, _)| *order);
        found.into_iter().map(|(_, mapping)| mapping).collect()
    }

    /// A mapping that is asked before the one of this pattern and order for each address that this matches, if
    /// `always` says that it takes whatever it is asked for.
    pub(crate) fn shadow(&self, pattern: &Pattern, order: i64, always: impl Fn(usize) -> bool) -> Option<usize> {
        let mut found = Vec::new();
        self.0.covering(&pattern.segments, &mut found);
        found.into_iter().find(|(other, mapping)| *other < order && always(*mapping)).map(|(_, mapping)| mapping)
    }

    /// The mapping that takes the address if it has no condition: of those that match the one of the lowest order, of these the most specific
    /// by segments from left to right.
    pub(crate) fn find(&self, address: &str) -> Option<usize> {
        let mut best = None;
        self.0.find(Some(address), &mut best);
        best.map(|(_, mapping)| mapping)
    }
}

// === impl Branch ===

impl Branch {
    /// Recursion ends with the patterns' depth, however long the address is. A literal goes first, so a later find
    /// must be of a lower order to win.
    fn find(&self, rest: Option<&str>, best: &mut Option<(i64, usize)>) {
        let Some(rest) = rest else {
            if let Some(end) = self.ends.first()
                && best.is_none_or(|(order, _)| end.0 < order)
            {
                *best = Some(*end);
            }
            return;
        };
        let (segment, rest) = cut(rest);
        if let Some(next) = self.literals.get(segment) {
            next.find(rest, best);
        }
        if let Some(next) = self.any.as_ref().filter(|_| !segment.is_empty()) {
            next.find(rest, best);
        }
    }
}

// === what several match ===

impl Branch {
    /// The more specific first; recursion as in `find`.
    fn matching(&self, rest: Option<&str>, found: &mut Vec<(i64, usize)>) {
        let Some(rest) = rest else { return found.extend(&self.ends) };
        let (segment, rest) = cut(rest);
        if let Some(next) = self.literals.get(segment) {
            next.matching(rest, found);
        }
        if let Some(next) = self.any.as_ref().filter(|_| !segment.is_empty()) {
            next.matching(rest, found);
        }
    }

    /// What matches every address that these segments match.
    fn covering(&self, segments: &[Segment], found: &mut Vec<(i64, usize)>) {
        let Some((segment, rest)) = segments.split_first() else { return found.extend(&self.ends) };
        let (literal, any) = match segment {
            Segment::Literal(text) => (self.literals.get(text), !text.is_empty()),
            Segment::Any => (None, true),
        };
        if let Some(next) = literal {
            next.covering(rest, found);
        }
        if let Some(next) = self.any.as_ref().filter(|_| any) {
            next.covering(rest, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<Pattern, String> {
        let file = yaml::File::parse("a.yaml", format!("{text:?}")).map_err(|e| e.to_string())?;
        file.read(Pattern::read).map_err(|e| e.to_string())
    }

    fn index(patterns: &[(&str, i64)]) -> Index {
        let mut index = Index::default();
        for (n, (text, order)) in patterns.iter().enumerate() {
            index.add(&pattern(text).unwrap(), *order, n).unwrap();
        }
        index
    }

    #[test]
    fn captures_and_plus_take_one_segment_that_is_not_empty() {
        let index = index(&[("POST /telemetry/{line}", 0), ("plant/+/temp", 0), ("GET /", 0)]);
        assert_eq!(index.find("POST /telemetry/7"), Some(0));
        assert_eq!(index.find("plant/7/temp"), Some(1));
        assert_eq!(index.find("GET /"), Some(2));
        for none in ["POST /telemetry", "POST /telemetry/", "POST /telemetry/7/", "GET /telemetry/7", "plant//temp", ""]
        {
            assert_eq!(index.find(none), None, "{none}");
        }
    }

    #[test]
    fn the_more_specific_pattern_wins_from_left_to_right() {
        let index = index(&[("{a}/{b}", 0), ("x/{b}", 0), ("{a}/y", 0), ("x/y", 0)]);
        assert_eq!(index.find("x/y"), Some(3));
        assert_eq!(index.find("x/z"), Some(1));
        assert_eq!(index.find("z/y"), Some(2));
        assert_eq!(index.find("z/z"), Some(0));
    }

    #[test]
    fn a_dead_end_of_literals_falls_back_to_captures() {
        let index = index(&[("a/b/c", 0), ("{x}/b/d", 0), ("a/{y}/e", 0)]);
        assert_eq!(index.find("a/b/d"), Some(1));
        assert_eq!(index.find("a/b/e"), Some(2));
    }

    #[test]
    fn a_lower_order_wins_over_a_more_specific_pattern() {
        let index = index(&[("a/b", 1), ("{x}/b", 0), ("{x}/{y}", -1)]);
        assert_eq!(index.find("a/b"), Some(2));
    }

    #[test]
    fn the_same_addresses_at_the_same_order_are_a_conflict_whatever_the_captures_are_called() {
        let mut index = index(&[("a/{x}", 0)]);
        assert_eq!(index.add(&pattern("a/{y}").unwrap(), 0, 1), Err(0));
        assert_eq!(index.add(&pattern("a/+").unwrap(), 0, 1), Err(0));
        assert_eq!(index.add(&pattern("a/{y}").unwrap(), 1, 1), Ok(()));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_place() {
        for (text, says) in [
            ("", "not empty"),
            ("a/#", "not available"),
            ("a/{rest...}", "not available"),
            ("a/{1}", "no name of a capture"),
            ("a/{}", "no name of a capture"),
            ("a/x{b}", "does not share its segment"),
            ("a/b+", "does not share its segment"),
            ("a/{x}/{x}", "twice"),
        ] {
            let error = pattern(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(pattern(&["a"; 65].join("/")).unwrap_err().contains("at most 64 segments"));
        assert!(pattern(&"a".repeat(1_025)).unwrap_err().contains("at most 1024 bytes"));
    }

    #[test]
    fn a_long_address_costs_no_more_than_the_patterns_are_deep() {
        let all: Vec<String> = (0..64).map(|n| vec!["{a}"; n + 1].join("/").replacen("{a}", "x", n % 3)).collect();
        let all: Vec<String> = all.iter().map(|p| unique(p)).collect();
        let index = index(&all.iter().map(|p| (p.as_str(), 0)).collect::<Vec<_>>());
        assert_eq!(index.find(&["x"; 1_000].join("/")), None);
        assert_eq!(index.find(&"/".repeat(1_000_000)), None);
        assert_eq!(index.find(&["x"; 64].join("/")), Some(63));
    }

    /// Gives each capture a name of its own.
    fn unique(pattern: &str) -> String {
        pattern
            .split('/')
            .enumerate()
            .map(|(n, s)| s.replace("{a}", &format!("{{a{n}}}")))
            .collect::<Vec<_>>()
            .join("/")
    }
}
