//! A message to try a mapping with: what its own first test sends.

use std::{fs, net::SocketAddr};

use mapping::RouteInfo;
use yaml::{File, Kind, Node};

/// A request that a mapping takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Example {
    /// The bridge that takes it.
    pub(super) bridge: String,
    method: String,
    path: String,
    payload: String,
}

// === impl Example ===

impl Example {
    /// The first test of the mapping's file that expects an envelope of a JSON payload without headers. `None` if there is
    /// none, or if its address is no HTTP request.
    pub(super) fn of(route: &RouteInfo<'_>) -> Option<Self> {
        let text = fs::read_to_string(route.file).ok()?;
        Self::in_file(route.bridge, &text)
    }

    fn in_file(bridge: &str, text: &str) -> Option<Self> {
        let file = File::parse("", text).ok()?;
        let Kind::List(tests) = &file.root().get("tests")?.kind else { return None };
        // what needs more than its payload is none that one line shows
        let plain = |given: &Node| given.get("payload").is_some() && given.get("headers").is_none();
        let passes = |test: &&Node| {
            test.get("expect").is_some_and(|expect| expect.get("topic").is_some())
                && test.get("given").is_some_and(plain)
        };
        let given = tests.iter().find(passes)?.get("given")?;
        let (method, path) = given.get("address")?.as_str()?.split_once(' ')?;
        let mut payload = String::new();
        write_json(given.get("payload")?, &mut payload);
        Some(Self { bridge: bridge.to_owned(), method: method.to_owned(), path: path.to_owned(), payload })
    }

    /// The command that sends it to a listener.
    pub(super) fn curl(&self, address: SocketAddr) -> String {
        let method = if self.method == "POST" { String::new() } else { format!("-X {} ", quoted(&self.method)) };
        let url = quoted(&format!("http://{address}{}", self.path));
        format!("curl -i {method}--json {} {url}", quoted(&self.payload))
    }
}

/// As a POSIX shell takes it for one word.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The JSON that a YAML value stands for; numbers stay as they are written.
fn write_json(node: &Node, out: &mut String) {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    match &node.kind {
        Kind::Null => out.push_str("null"),
        Kind::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Kind::Integer(_, source) | Kind::Float(_, source) => out.push_str(source),
        Kind::String(string) => out.push_str(&text(&string.value)),
        Kind::List(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n == 0 { "" } else { "," });
                write_json(item, out);
            }
            out.push(']');
        }
        Kind::Map(entries) => {
            out.push('{');
            for (n, (key, value)) in entries.iter().enumerate() {
                out.push_str(if n == 0 { "" } else { "," });
                out.push_str(&text(&key.name));
                out.push(':');
                write_json(value, out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
tests:
  - given: { address: POST /a/1, payload: { f: hot } }
    expect: { rejected: malformed }
  - given: { address: POST /a/2, payload: { f: 12.10, who: \"it's me\", all: [1, null, true] } }
    expect: { topic: a/2 }
";

    #[test]
    fn it_is_the_first_test_that_expects_an_envelope() {
        let example = Example::in_file("web", FILE).unwrap();
        let curl = r#"curl -i --json '{"f":12.10,"who":"it'\''s me","all":[1,null,true]}' http://127.0.0.1:80/a/2"#;
        assert_eq!(example.curl("127.0.0.1:80".parse().unwrap()), curl);
        assert_eq!(example.bridge, "web");
    }

    #[test]
    fn another_method_is_named() {
        let example = Example::in_file("web", &FILE.replace("POST", "PUT")).unwrap();
        assert!(example.curl("127.0.0.1:80".parse().unwrap()).starts_with("curl -i -X PUT --json "));
    }

    #[test]
    fn a_file_without_tests_gives_none() {
        assert_eq!(Example::in_file("web", "mapping: m\n"), None);
        assert_eq!(Example::in_file("web", "tests: []\n"), None);
        assert_eq!(
            Example::in_file("web", &FILE.replace("address: POST /a/2,", "address: POST /a/2, headers: { a: b },")),
            None
        );
        assert_eq!(Example::in_file("web", &FILE.replace("payload: { f: 12.10", "body: { f: 12.10")), None);
        assert_eq!(Example::in_file("web", "]"), None);
    }

    #[test]
    fn only_what_a_shell_would_take_apart_is_quoted() {
        assert_eq!(quoted("http://127.0.0.1:8080/a"), "http://127.0.0.1:8080/a");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted(""), "''");
    }
}
