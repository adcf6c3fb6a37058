//! Our YAML reader: it never panics, every value has a place in the text, every error has one to show.
#![no_main]

use libfuzzer_sys::fuzz_target;
use yaml::{Fields, File, Kind, Node, Problems};

fuzz_target!(|text: &str| {
    match File::parse("f.yaml", text) {
        Ok(file) => {
            let problems = file.problems();
            read(file.root(), &file, &problems);
            if let Err(errors) = problems.finish(Some(())) {
                assert!(!errors.to_string().is_empty());
            }
        }
        Err(errors) => assert!(errors.iter().all(|error| error.column > 0 && error.length > 0)),
    }
});

/// Asks every value for everything.
fn read(node: &Node, file: &File, problems: &Problems) {
    let text = file.source().text();
    assert!(text.get(node.span.start..node.span.end).is_some());
    let _ = node.strings(problems);
    let _ = node.bytes(0..=1_000, problems);
    let _ = node.duration(std::time::Duration::ZERO..=std::time::Duration::from_secs(1), problems);
    match &node.kind {
        Kind::List(items) => items.iter().for_each(|item| read(item, file, problems)),
        Kind::Map(entries) => {
            if let Some(mut fields) = Fields::of(node, problems) {
                assert!(fields.required("from").is_some() || problems.len() > 0);
                fields.finish();
            }
            for (key, value) in entries {
                assert_eq!(node.get(&key.name), Some(value));
                read(value, file, problems);
            }
        }
        Kind::String(string) => {
            let whole = node.span_within(0..string.value.len());
            assert!(whole == node.span || text[whole.start..whole.end] == string.value);
            let _ = node.one_of(&[("inform", 1), ("request", 2)], problems);
        }
        Kind::Integer(_, text) | Kind::Float(_, text) => {
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.is_number()));
        }
        Kind::Null | Kind::Bool(_) => {}
    }
}
