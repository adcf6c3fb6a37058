//! Compares what a test expects with what came out, and says each difference with its path.

use envelope::{
    Envelope,
    json::{self, write_string},
};
use yaml::{Kind, Node, Problems};

use crate::Outcome;

/// How far a number may be from one that is expected as `{ near: x }`, relative to it; absolute below 1.
const NEAR: f64 = 1e-9;
/// The most differences that are shown.
const MAX_SHOWN: usize = 32;

/// What differs so far.
#[derive(Debug, Default)]
pub(crate) struct Differences(Vec<String>);

// === impl Differences ===

impl Differences {
    pub(crate) fn add(&mut self, path: &str, expected: String, got: String) {
        let shorten = |text: String| match text.char_indices().nth(200) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        };
        self.0.push(format!("{path}: expected {}, got {}", shorten(expected), shorten(got)));
    }

    pub(crate) fn outcome(mut self) -> Outcome {
        let all = self.0.len();
        if all == 0 {
            return Outcome::Passed;
        }
        self.0.truncate(MAX_SHOWN);
        if all > MAX_SHOWN {
            self.0.push(format!("and {} more", all - MAX_SHOWN));
        }
        Outcome::Failed(self.0.join("\n"))
    }
}

/// Reports a `near` that is not beside a number.
pub(crate) fn check(node: &Node, problems: &Problems) -> bool {
    let before = problems.len();
    match &node.kind {
        Kind::Map(entries) => {
            for (key, value) in entries {
                let number = matches!(value.kind, Kind::Integer(..) | Kind::Float(..));
                if key.name == "near" && entries.len() == 1 && !number {
                    let _: Option<()> = value.mismatch("a number behind \"near\"", problems);
                }
                check(value, problems);
            }
        }
        Kind::List(items) => items.iter().for_each(|item| {
            check(item, problems);
        }),
        Kind::Null | Kind::Bool(_) | Kind::Integer(..) | Kind::Float(..) | Kind::String(_) => {}
    }
    problems.len() == before
}

/// The data as a whole: every member that is expected and no other.
pub(crate) fn data(expected: &Node, envelope: &Envelope, path: &str, found: &mut Differences) {
    if envelope.datacontenttype.as_deref() != Some("application/json") {
        let bytes = envelope.data.as_slice();
        if expected.as_str().map(str::as_bytes) != Some(bytes) {
            found.add(path, text_of(expected), format!("{:?}", String::from_utf8_lossy(bytes)));
        }
        return;
    }
    match envelope.data.json() {
        Ok(json) => value(expected, json.root(), path, found),
        Err(error) => found.add(path, text_of(expected), error.to_string()),
    }
}

pub(crate) fn value(expected: &Node, got: json::Node<'_>, path: &str, found: &mut Differences) {
    match (&expected.kind, got.view()) {
        (Kind::Map(entries), view) if near(entries).is_some() => {
            let (near, number) = (
                near(entries).unwrap_or_default(),
                match view {
                    json::View::Number(text) => text.parse::<f64>().ok(),
                    _ => None,
                },
            );
            if !number.is_some_and(|number| (number - near).abs() <= NEAR * near.abs().max(1.0)) {
                found.add(path, format!("near {near}"), got.source().to_owned());
            }
        }
        (Kind::Map(entries), json::View::Object(members)) => {
            for (key, expected) in entries {
                let path = format!("{path}.{}", key.name);
                match got.get(&key.name) {
                    Some(got) => value(expected, got, &path, found),
                    None => found.add(&path, text_of(expected), "nothing".to_owned()),
                }
            }
            for (name, node) in members.filter(|(name, _)| !entries.iter().any(|(key, _)| key.name == *name)) {
                found.add(&format!("{path}.{name}"), "nothing".to_owned(), node.source().to_owned());
            }
        }
        (Kind::List(expected), json::View::Array(items)) if expected.len() == items.len() => {
            for (n, (expected, got)) in expected.iter().zip(items).enumerate() {
                value(expected, got, &format!("{path}[{n}]"), found);
            }
        }
        _ if same_scalar(expected, got) => {}
        _ => found.add(path, text_of(expected), got.source().to_owned()),
    }
}

fn near(entries: &[(yaml::Key, Node)]) -> Option<f64> {
    match entries {
        [(key, Node { kind: Kind::Float(value, _), .. })] if key.name == "near" => Some(*value),
        [(key, Node { kind: Kind::Integer(value, _), .. })] if key.name == "near" => Some(*value as f64),
        _ => None,
    }
}

/// Numbers are the same by their text, or by value unless both are whole: `12.10` is `12.1`, but 2^60 + 1 is not 2^60.
fn same_scalar(expected: &Node, got: json::Node<'_>) -> bool {
    match (&expected.kind, got.view()) {
        (Kind::Null, json::View::Null) => true,
        (Kind::Bool(a), json::View::Bool(b)) => *a == b,
        (Kind::String(a), json::View::String(b)) => a.value == b,
        (Kind::Integer(a, _), json::View::Number(text)) => match text.parse::<i64>() {
            Ok(b) => *a == b,
            Err(_) => text.parse::<f64>().is_ok_and(|b| *a as f64 == b && b.abs() < 9e15),
        },
        (Kind::Float(a, source), json::View::Number(text)) => {
            **source == *text || text.parse().is_ok_and(|b: f64| *a == b)
        }
        _ => false,
    }
}

fn text_of(node: &Node) -> String {
    let mut out = Vec::new();
    write_json(node, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The value as JSON, numbers as the file writes them.
pub(crate) fn write_json(node: &Node, out: &mut Vec<u8>) {
    match &node.kind {
        Kind::Null => out.extend_from_slice(b"null"),
        Kind::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Kind::Integer(_, text) | Kind::Float(_, text) => out.extend_from_slice(text.as_bytes()),
        Kind::String(text) => write_string(out, &text.value),
        Kind::List(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                out.extend_from_slice(if n > 0 { b"," } else { b"" });
                write_json(item, out);
            }
            out.push(b']');
        }
        Kind::Map(entries) => {
            out.push(b'{');
            for (n, (key, value)) in entries.iter().enumerate() {
                out.extend_from_slice(if n > 0 { b"," } else { b"" });
                write_string(out, &key.name);
                out.push(b':');
                write_json(value, out);
            }
            out.push(b'}');
        }
    }
}
