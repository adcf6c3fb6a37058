use std::{cell::Cell, io, time::Duration};

use proptest::prelude::*;

use crate::*;

fn file(text: &str) -> File {
    File::parse("f.yaml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What is wrong, as `line:column code`.
fn places(errors: &Diagnostics) -> Vec<String> {
    errors.iter().map(|e| format!("{}:{} {}", e.line, e.column, e.code)).collect()
}

fn refused(text: &str) -> Vec<String> {
    places(&File::parse("f.yaml", text).unwrap_err())
}

/// What a reader of the file's top value says.
fn said<T>(text: &str, read: impl FnOnce(&Node, &Problems) -> Option<T>) -> String {
    let file = file(text);
    let problems = file.problems();
    let value = read(file.root(), &problems);
    problems.finish(value).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_file_is_a_tree_that_keeps_how_things_were_written() {
    let file =
        file("a: 1 # one\nb: 12.10\nc: plain text\nd: 'quo''ted'\ne: |\n  two\n  lines\nf: [x, {g: true}]\nh:\n");
    let root = file.root();
    assert_eq!(root.get("a").unwrap().kind, Kind::Integer(1, "1".into()));
    assert_eq!(root.get("b").unwrap().kind, Kind::Float(12.1, "12.10".into()));
    assert_eq!(root.get("c").unwrap().as_str(), Some("plain text"));
    assert_eq!(root.get("d").unwrap().as_str(), Some("quo'ted"));
    assert_eq!(root.get("e").unwrap().as_str(), Some("two\nlines\n"));
    let Kind::List(items) = &root.get("f").unwrap().kind else { panic!("no list") };
    assert_eq!(items[1].get("g").unwrap().kind, Kind::Bool(true));
    assert!(root.get("h").unwrap().is_null() && root.get("i").is_none());
    let style = |key| match &root.get(key).unwrap().kind {
        Kind::String(text) => text.style,
        _ => panic!("no string"),
    };
    assert_eq!([style("c"), style("d"), style("e")], [Style::Plain, Style::Quoted, Style::Block]);
}

#[test]
fn an_empty_file_has_no_value() {
    for empty in ["", "\n", "# only a comment\n", "\u{feff}", "---\n"] {
        assert!(file(empty).root().is_null(), "{empty:?}");
    }
    let problem = said("", |root, problems| Fields::of(root, problems).map(Fields::finish));
    assert_eq!(
        problem,
        "f.yaml:1:1: error[wrong-type]: expected a map of keys to values, found nothing\n 1 | \n   | ^"
    );
}

#[test]
fn words_that_json_does_not_know_are_text() {
    let file = file("[no, yes, on, off, y, 1_000, 12:30, 1.2.3, 2026-11-23, 0x, e5, '7', \"true\"]");
    let Kind::List(items) = &file.root().kind else { panic!("no list") };
    assert!(items.iter().all(|item| item.as_str().is_some()), "{items:?}");
}

#[test]
fn scalars_with_two_readings_are_refused() {
    for text in ["010", "0x1F", "0o17", "+1", ".5", "1.", "True", "NULL", ".inf", "-.INF", ".nan", "1.e5", "-00"] {
        assert_eq!(refused(&format!("a: {text}")), ["1:4 ambiguous"], "{text}");
        assert_eq!(file(&format!("a: '{text}'")).root().get("a").unwrap().as_str(), Some(text));
    }
    assert_eq!(refused("a: 1e999"), ["1:4 out-of-range"]);
    assert_eq!(file("18446744073709551616").root().type_name(), "a number");
}

#[test]
fn every_refused_construct_is_reported_in_one_run() {
    let errors = refused("a: &x 1\nb: *x\nc: *nowhere\n<<: {}\nd: !t 1\ne: !!str 1\na: 2\n7: 1\n? [k]\n: 1\n~: 0\n");
    let expected = ["1:4 anchor", "2:4 alias", "3:4 alias", "4:1 merge-key", "5:4 tag", "6:4 tag"];
    assert_eq!(errors[..6], expected);
    assert_eq!(errors[6..], ["7:1 duplicate-key", "8:1 key-type", "9:3 key-type", "11:1 key-type"]);
}

#[test]
fn duplicate_keys_are_found_however_they_are_quoted() {
    assert_eq!(refused("{a: 1, 'b': 2, \"a\": 3}"), ["1:16 duplicate-key"]);
    assert_eq!(refused("a: {x: 1}\nb: {x: 1}\n\"\\x61\": 2\n"), ["3:1 duplicate-key"]);
}

#[test]
fn one_document_without_directives() {
    assert!(file("---\na: 1\n...\n").root().get("a").is_some());
    assert_eq!(refused("a: 1\n---\nb: 2\n"), ["2:1 one-document"]);
    assert_eq!(refused("%YAML 1.2\n---\na: 1\n"), ["1:1 syntax"]);
}

#[test]
fn a_bomb_of_aliases_is_refused_without_growing() {
    let mut bomb = "a0: &a0 [x, x]\n".to_owned();
    for n in 1..40 {
        bomb.push_str(&format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1));
    }
    assert!(refused(&bomb).iter().all(|e| e.ends_with("anchor") || e.ends_with("alias")));
}

#[test]
fn size_depth_and_count_are_bounded() {
    let large = "a".repeat(10 << 20);
    let error = File::parse("f.yaml", large).unwrap_err().to_string();
    assert_eq!(error, "f.yaml: error[too-large]: file has 10485760 bytes, limit is 1048576");

    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(file(&deep(MAX_DEPTH)).root().type_name(), "a list");
    assert_eq!(refused(&deep(MAX_DEPTH + 1)), ["1:65 too-deep"]);
    assert_eq!(refused(&deep(10_000)), ["1:65 too-deep"]);
    assert_eq!(refused(&"{a: ".repeat(10_000)).len(), 1);
    assert_eq!(refused(&"- ".repeat(10_000)).len(), 1);
    let indented: String = (0..1_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert_eq!(refused(&indented), ["65:65 too-deep"]);

    let items = |count: usize| "- 1\n".repeat(count);
    assert_eq!(file(&items(MAX_NODES - 1)).root().type_name(), "a list");
    assert_eq!(refused(&items(MAX_NODES)), [format!("{}:3 too-many", MAX_NODES)]);
}

#[test]
fn problems_are_bounded() {
    let file = file(&format!("{{{}}}", (0..10_000).map(|n| format!("k{n}: 1")).collect::<Vec<_>>().join(", ")));
    let problems = file.problems();
    Fields::of(file.root(), &problems).unwrap().finish();
    let errors = problems.finish(Some(())).unwrap_err();
    assert_eq!(errors.len(), MAX_PROBLEMS);
    assert!(errors.to_string().len() < MAX_PROBLEMS * 400);
}

#[test]
fn all_errors_of_a_file_come_at_once_with_carets() {
    let text = "from: 7\nwen: x\nenvelope: [1,\n  2]\nack: later\nlimits: { within: 30, most: 5 GB }\n";
    let shown = said(text, |root, problems| {
        let mut fields = Fields::of(root, problems)?;
        let _from = fields.required("from").and_then(|node| node.non_empty(problems));
        let _to = fields.required("to");
        let _when = fields.optional("when");
        let _envelope = fields.optional("envelope").and_then(|node| node.map(problems));
        let _ack = fields.optional("ack").and_then(|node| node.one_of(&[("received", 1), ("durable", 2)], problems));
        let mut limits = Fields::of(fields.required("limits")?, problems)?;
        let second = Duration::from_secs(1);
        let _within = limits.required("within").and_then(|node| node.duration(second..=second * 9, problems));
        let _most = limits.required("most").and_then(|node| node.bytes(1..=1_000_000, problems));
        limits.finish();
        fields.finish();
        Some(())
    });
    let expected = r#"f.yaml:1:1: error[missing-key]: key "to" is missing
 1 | from: 7
   | ^
f.yaml:1:7: error[wrong-type]: expected a string, found 7
 1 | from: 7
   |       ^
  = help: put it in quotes
f.yaml:2:1: error[unknown-key]: unknown key "wen"
 2 | wen: x
   | ^^^
  = help: did you mean "when"? valid keys: "from", "to", "when", "envelope", "ack", "limits"
f.yaml:3:11: error[wrong-type]: expected a map of keys to values, found a list
 3 | envelope: [1,
   |           ^^^
f.yaml:5:6: error[not-one-of]: expected one of "received", "durable", found "later"
 5 | ack: later
   |      ^^^^^
f.yaml:6:19: error[wrong-type]: expected a duration such as 30s, 5m or 1h, found 30
 6 | limits: { within: 30, most: 5 GB }
   |                   ^^
f.yaml:6:29: error[out-of-range]: 5000000000 is out of range: 1 to 1000000
 6 | limits: { within: 30, most: 5 GB }
   |                             ^^^^"#;
    assert_eq!(shown, expected);
}

#[test]
fn carets_stand_under_their_place_behind_any_character() {
    let text = "größe: 'a→b' # ü\r\nnext: { tief: [\"é\", x] }\r\n";
    let file = file(text);
    let place = |node: &Node| {
        let d = file.source().diagnostic(node.span, "code", "message");
        (d.line, d.column, d.length)
    };
    let root = file.root();
    assert_eq!(place(root.get("größe").unwrap()), (1, 8, 5));
    let Kind::List(items) = &root.get("next").unwrap().get("tief").unwrap().kind else { panic!("no list") };
    assert_eq!(place(&items[1]), (2, 21, 1));
    let shown = file.source().diagnostic(items[1].span, "c", "m").to_string();
    assert_eq!(shown, format!("f.yaml:2:21: error[c]: m\n 2 | next: {{ tief: [\"é\", x] }}\n   | {}^", " ".repeat(20)));
}

#[test]
fn a_caret_can_stand_inside_a_string() {
    let text = "a: ü ${x.y}\nb: \"q ${z}\"\nc: 'it''s'\nd: \"\\n${z}\"\ne: |\n  ${z}\nf: two\n  lines\n";
    let file = file(text);
    let within = |key: &str, part: &str| {
        let node = file.root().get(key).unwrap();
        let at = node.as_str().unwrap().find(part).unwrap();
        let span = node.span_within(at..at + part.len());
        &text[span.start..span.end]
    };
    assert_eq!(within("a", "x.y"), "x.y");
    assert_eq!(within("b", "z"), "z");
    // these do not stand in the file as they read
    assert_eq!(within("c", "s"), "'it''s'");
    assert_eq!(within("d", "z"), "\"\\n${z}\"");
    assert!(within("e", "z").contains("${z}"));
    assert_eq!(within("f", "lines"), "two\n  lines");
    let node = file.root().get("a").unwrap();
    assert_eq!(node.span_within(5..1_000), node.span);
    assert_eq!(file.root().span_within(0..1), file.root().span);
}

#[test]
fn tabs_do_not_indent() {
    assert_eq!(refused("a:\n\tb: 1\n"), ["2:2 syntax"]);
    assert_eq!(refused("\ta: 1\n"), ["1:1 tab"]);
    assert_eq!(refused("a:\n  \t- 1\n"), ["2:3 tab"]);
    assert_eq!(file("a:\t1\t# c\nb: |\n  \ttext\nc: [1,\n\t2]\n").root().get("b").unwrap().as_str(), Some("\ttext\n"));
}

#[test]
fn a_long_line_is_shown_around_the_place_and_nothing_speaks_to_the_terminal() {
    let text = format!("{{a: '{}', b: \"\u{9b}31m\", c: x}}", "é".repeat(100_000));
    let file = File::parse("f.yaml", text);
    let shown = match &file {
        Ok(file) => file.source().diagnostic(file.root().get("c").unwrap().span, "c", "m").to_string(),
        Err(errors) => errors.to_string(),
    };
    assert!(shown.len() < 1_000 && !shown.contains('\u{9b}'), "{shown}");
    assert_eq!(shown.lines().next().map(|line| line.starts_with("f.yaml:1:100")), Some(true), "{shown}");
}

#[test]
fn typed_readers_take_what_they_promise() {
    let file = file("s: x\nb: false\ni: -3\nd: 1h 30m\nn: 4096\nk: 64 KiB\nm: 1MB\nl: [a, b]\nw: two\n");
    let problems = file.problems();
    let node = |key: &str| file.root().get(key).unwrap();
    assert_eq!(node("s").string(&problems), Some("x"));
    assert_eq!(node("b").bool(&problems), Some(false));
    assert_eq!(node("i").integer(-3..=-3, &problems), Some(-3));
    let long = Duration::ZERO..=Duration::from_secs(86_400);
    assert_eq!(node("d").duration(long, &problems), Some(Duration::from_secs(5_400)));
    assert_eq!(node("n").bytes(0..=4_096, &problems), Some(4_096));
    assert_eq!(node("k").bytes(0..=u64::MAX, &problems), Some(65_536));
    assert_eq!(node("m").bytes(0..=u64::MAX, &problems), Some(1_000_000));
    assert_eq!(node("l").strings(&problems), Some(vec!["a", "b"]));
    assert_eq!(node("w").one_of(&[("one", 1), ("two", 2)], &problems), Some(2));
    assert!(problems.is_empty());
}

#[test]
fn typed_readers_refuse_the_rest() {
    let file = file(
        "e: ''\nn: -1\nbig: 99999999999 GiB\nunit: 5 furlongs\nd: 10d\nlist: [a, 1, b, ~]\nword: durabel\nf: 1.5\n",
    );
    let problems = file.problems();
    let node = |key: &str| file.root().get(key).unwrap();
    assert_eq!(node("e").non_empty(&problems), None);
    assert_eq!(node("n").integer(0..=9, &problems), None);
    assert_eq!(node("n").bytes(0..=9, &problems), None);
    assert_eq!(node("big").bytes(0..=u64::MAX, &problems), None);
    assert_eq!(node("unit").bytes(0..=u64::MAX, &problems), None);
    assert_eq!(node("d").duration(Duration::ZERO..=Duration::from_secs(60), &problems), None);
    assert_eq!(node("list").strings(&problems), None);
    assert_eq!(node("word").one_of(&[("durable", ())], &problems), None);
    assert_eq!(node("f").integer(0..=9, &problems), None);
    let errors = problems.finish(Some(())).unwrap_err();
    let messages: Vec<_> = errors.iter().map(|e| &*e.message).collect();
    assert_eq!(
        messages,
        [
            "expected a string that is not empty",
            "-1 is out of range: 0 to 9",
            "expected a size in bytes such as 1048576, 64 KiB or 1 MB, found -1",
            "expected a size in bytes such as 1048576, 64 KiB or 1 MB, found \"99999999999 GiB\"",
            "expected a size in bytes such as 1048576, 64 KiB or 1 MB, found \"5 furlongs\"",
            "10d is out of range: 0s to 1m",
            "expected a string, found 1",
            "expected a string, found nothing",
            "expected one of \"durable\", found \"durabel\"",
            "expected an integer, found 1.5",
        ]
    );
}

#[test]
fn a_reader_that_gives_nothing_and_says_nothing_is_an_error() {
    assert_eq!(said("a: 1", |_, _| None::<()>), "f.yaml: error[unreadable]: the file can't be read");
}

#[test]
fn references_are_resolved_once_and_secrets_do_not_show() {
    let text = "a: 'x${env:HOME}y${file:key.pem}$${z}'\nb: ${env:NONE} and ${file:gone} and ${other} and ${\nc: ${env:EMPTY}\n";
    let file = file(text);
    let problems = file.problems();
    let asked = Cell::new(0);
    let env = |name: &str| {
        asked.set(asked.get() + 1);
        match name {
            "HOME" => Some("${env:HOME}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    };
    let read = |path: &str| match path {
        "key.pem" => Ok("secret\r\n".to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    };
    let resolve = Resolve { env: &env, file: &read };
    let secret = file.root().get("a").unwrap().secret(&resolve, &problems).unwrap();
    assert_eq!(secret.expose(), "x${env:HOME}ysecret${z}");
    assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    assert_eq!(asked.get(), 1);
    assert_eq!(file.root().get("b").unwrap().substituted(&resolve, &problems), None);
    assert_eq!(file.root().get("c").unwrap().secret(&resolve, &problems), None);
    let errors = problems.finish(Some(())).unwrap_err();
    let said: Vec<_> = errors.iter().map(|e| format!("{}:{}+{} {}", e.line, e.column, e.length, e.message)).collect();
    assert_eq!(
        said,
        [
            "2:4+11 environment variable \"NONE\" is not set",
            "2:20+12 file \"gone\" can't be read: no such file",
            "2:37+8 ${other} is neither ${env:NAME} nor ${file:PATH}",
            "2:50+2 \"${\" without \"}\"",
            "3:4+12 a secret must not be empty",
        ]
    );
}

#[test]
fn errors_of_several_files_are_one_report() {
    let one = Diagnostic::of_file("b.yaml", "code", "second");
    let two = File::parse("a.yaml", "a: 1\na: 2").unwrap_err();
    let all = Diagnostics::collect(std::iter::once(one).chain(two)).unwrap();
    assert_eq!(all.iter().map(|e| &*e.path).collect::<Vec<_>>(), ["a.yaml", "b.yaml"]);
    assert_eq!(Diagnostics::collect([]), None);
}

/// Text that looks like YAML more often than noise does.
fn yamlish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just("  "),
        Just(": "),
        Just("- "),
        Just("? "),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just(", "),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("&a "),
        Just("*a"),
        Just("!t "),
        Just("|\n"),
        Just(">-\n"),
        Just("#"),
        Just("\t"),
        Just("\r\n"),
        Just("---\n"),
        Just("a"),
        Just("é"),
        Just("7"),
        Just("~"),
        Just("%"),
        Just("\u{feff}"),
        Just("\u{85}"),
        Just("\0"),
        Just("\r"),
    ];
    prop::collection::vec(prop_oneof![4 => piece.prop_map(str::to_owned), 1 => ".{0,4}"], 0..40)
        .prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn hostile_text_never_panics(text in yamlish()) {
        match File::parse("f.yaml", &*text) {
            Ok(file) => walk(&file, file.root()),
            Err(errors) => prop_assert!(!errors.to_string().is_empty() && errors.len() > 0),
        }
    }

    #[test]
    fn a_json_string_is_read_as_it_was_meant(text in any::<String>()) {
        let quoted: String = text.chars().map(|c| if c.is_alphanumeric() { c.to_string() } else { format!("\\U{:08X}", u32::from(c)) }).collect();
        let file = file(&format!("a: \"{quoted}\""));
        prop_assert_eq!(file.root().get("a").unwrap().as_str(), Some(&*text));
    }
}

/// Every span is a piece of the text, every part of a string can be pointed at.
fn walk(file: &File, node: &Node) {
    let text = file.source().text();
    assert!(text.get(node.span.start..node.span.end).is_some());
    let shown = file.source().diagnostic(node.span, "c", "m").to_string();
    assert!(shown.contains('^'));
    match &node.kind {
        Kind::List(items) => items.iter().for_each(|item| walk(file, item)),
        Kind::Map(entries) => entries.iter().for_each(|(_, value)| walk(file, value)),
        Kind::String(string) => {
            let whole = node.span_within(0..string.value.len());
            let piece = text.get(whole.start..whole.end).unwrap();
            assert!(whole == node.span || piece == string.value);
        }
        Kind::Null | Kind::Bool(_) | Kind::Integer(..) | Kind::Float(..) => {}
    }
}
