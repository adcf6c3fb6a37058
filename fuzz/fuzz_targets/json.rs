//! Our JSON tree against serde_json: whatever we take, it takes, and both read the same.
#![no_main]

use bytes::Bytes;
use envelope::{
    Json,
    json::{Node, Problem, View},
};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize as _;
use serde_json::Value;

fuzz_target!(|text: &[u8]| {
    let ours = Json::parse(Bytes::copy_from_slice(text));
    let oracle = oracle(text);
    match (ours, oracle) {
        (Ok(json), Ok(value)) => {
            assert_eq!(to_serde(json.root()), value);
            spans_are_sources(json.root());
        }
        (Ok(_), Err(error)) => panic!("taken, but serde_json says: {error}"),
        // where RFC 8259 leaves room, we are stricter
        (Err(error), Ok(_)) => assert!(
            matches!(error.problem, Problem::DuplicateKey(_) | Problem::NumberRange | Problem::TooDeep),
            "refused, but serde_json takes it: {error}"
        ),
        (Err(error), Err(_)) => assert!(error.offset <= text.len() && error.line > 0 && error.column > 0),
    }
});

/// serde_json without its own bound of 127 levels.
fn oracle(text: &[u8]) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    reader.disable_recursion_limit();
    let value = Value::deserialize(&mut reader)?;
    reader.end().map(|()| value)
}

fn to_serde(node: Node<'_>) -> Value {
    match node.view() {
        View::Null => Value::Null,
        View::Bool(value) => value.into(),
        View::Number(text) => serde_json::from_str(text).expect("a number of ours is one of serde_json's"),
        View::String(text) => text.into(),
        View::Array(items) => items.map(to_serde).collect(),
        View::Object(members) => members.map(|(name, value)| (name.to_owned(), to_serde(value))).collect(),
    }
}

/// The source of every value is JSON itself and stands where its span says.
fn spans_are_sources(node: Node<'_>) {
    assert_eq!(&node.json().as_str()[node.span()], node.source());
    assert!(Json::parse(Bytes::copy_from_slice(node.source().as_bytes())).is_ok());
    if let Some(members) = node.as_object() {
        for (name, value) in members {
            assert_eq!(node.get(name).map(Node::index), Some(value.index()));
        }
    }
}
