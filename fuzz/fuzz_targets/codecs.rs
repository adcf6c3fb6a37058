//! Every codec over the whole path of a message; the first byte selects it. What is taken is JSON, means what another
//! parser reads (XML, CSV, forms) and survives being encoded by somebody else and read again (CBOR, MessagePack).
#![no_main]

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use bytes::Bytes;
use envelope::{Group, Identity, Inbound, Lane, MapResult, Mapper as _, Principal};
use libfuzzer_sys::fuzz_target;
use mapping::{Bridge, Context, Mappings, Source, Tables};
use serde_json::{Value, json};

/// What `from.decode` says, in the order of the selector.
const FORMATS: [&str; 12] = [
    "cbor",
    "msgpack",
    "xml",
    "csv",
    "urlencoded",
    "json",
    "text",
    "{ csv: { delimiter: \";\", charset: windows-1252 } }",
    "{ xml: { charset: utf-16le } }",
    "{ urlencoded: { charset: latin-1 } }",
    "{ text: { charset: shift_jis } }",
    "{ text: { charset: gb18030 } }",
];

static MAPPINGS: LazyLock<Mappings> = LazyLock::new(|| {
    let file = |(n, format)| {
        format!(
            "mapping: m{n}\nfrom: {{ bridge: b, address: a{n}, decode: {format} }}\nenvelope: {{ topic: t, data: \"${{payload}}\" }}\n"
        )
    };
    let texts: Vec<String> = FORMATS.into_iter().enumerate().map(file).collect();
    let files: Vec<_> = texts.iter().map(|text| Source { path: "m.yaml", text }).collect();
    let schemas = schema::Schemas::default();
    let bridges = [Bridge::named("b")];
    let context = Context::new("d", &bridges, &schemas, Tables::none());
    mapping::load(&files, &context).expect("loads")
});

fuzz_target!(|input: &[u8]| {
    let Some((selector, payload)) = input.split_first() else { return };
    let number = usize::from(*selector) % FORMATS.len();
    let Some(value) = decoded(number, payload.to_vec()) else { return };
    match FORMATS[number] {
        "cbor" => {
            let mut encoded = Vec::new();
            ciborium::into_writer(&value, &mut encoded).expect("encodes");
            assert_eq!(decoded(number, encoded), Some(value));
        }
        "msgpack" => assert_eq!(decoded(number, rmp_serde::to_vec(&value).expect("encodes")), Some(value)),
        "xml" => assert_eq!(xml(payload).unwrap_or_else(|| value.clone()), value),
        "csv" => assert_eq!(csv(payload), value),
        "urlencoded" => assert_eq!(form(payload), value),
        _ => {}
    }
});

/// `None`: refused.
fn decoded(number: usize, payload: Vec<u8>) -> Option<Value> {
    let limit = payload.len().saturating_mul(16).clamp(64 << 10, 8 << 20);
    let inbound = Inbound {
        bridge: "b".into(),
        address: format!("a{number}").into(),
        headers: Arc::new([]),
        payload: Bytes::from(payload),
        lane: Lane(0),
        identity: Identity::Native("n".into()),
        principal: Arc::new(Principal::anonymous("d")),
        peer: None,
        trace: None,
        retain: false,
        unacknowledged: false,
        hops: Vec::new(),
        received_at: SystemTime::UNIX_EPOCH,
    };
    match MAPPINGS.map(inbound) {
        MapResult::Mapped(mapped) => {
            let Group::One(envelope) = mapped.group else { panic!("a group") };
            let text = envelope.data.bytes();
            assert!(text.len() <= limit);
            let json = envelope.data.json().expect("is JSON");
            assert_eq!(json.as_str().as_bytes(), &text[..]);
            let mut reader = serde_json::Deserializer::from_slice(&text);
            reader.disable_recursion_limit();
            Some(serde::Deserialize::deserialize(&mut reader).expect("is JSON"))
        }
        MapResult::Filtered(_) => panic!("filtered"),
        MapResult::Refused(_, rejection) => {
            assert!(!rejection.detail.is_empty() && rejection.detail.len() < 1_000);
            None
        }
    }
}

/// The document by the rule of docs/mapping.md; `None` if it has prefixes, which that parser resolves.
fn xml(payload: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(payload).expect("is UTF-8");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains(':') || text.contains("xmlns") {
        return None;
    }
    // XML 1.0, section 2.11, before anything else; that parser keeps a carriage return before a reference
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let document = roxmltree::Document::parse(&text).expect("is XML");
    let root = document.root_element();
    Some(json!({ root.tag_name().name(): element(root) }))
}

fn element(node: roxmltree::Node<'_, '_>) -> Value {
    let children = || node.children().filter(|child| child.is_element());
    let text: String = node.children().filter(|child| child.is_text()).filter_map(|child| child.text()).collect();
    if node.attributes().len() == 0 && children().next().is_none() {
        return text.into();
    }
    let mut object = serde_json::Map::new();
    object.extend(node.attributes().map(|attribute| (format!("@{}", attribute.name()), attribute.value().into())));
    if text.contains(|c| !matches!(c, ' ' | '\t' | '\r' | '\n')) {
        object.insert("#text".to_owned(), text.into());
    }
    let mut groups = HashMap::<&str, Vec<Value>>::new();
    for child in children() {
        groups.entry(child.tag_name().name()).or_default().push(element(child));
    }
    for (name, mut group) in groups {
        let value = if group.len() == 1 { group.remove(0) } else { group.into() };
        object.insert(name.to_owned(), value);
    }
    object.into()
}

fn csv(payload: &[u8]) -> Value {
    let mut reader = csv::Reader::from_reader(payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload));
    let header = reader.headers().expect("a header").clone();
    let row = |row: csv::Result<csv::StringRecord>| -> Value {
        let row = row.expect("a row");
        header.iter().zip(&row).map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
    };
    reader.records().map(row).collect()
}

fn form(payload: &[u8]) -> Value {
    let mut object = serde_json::Map::new();
    for (name, value) in form_urlencoded::parse(payload) {
        let value = Value::from(&*value);
        match object.get_mut(&*name) {
            Some(Value::Array(all)) => all.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
            None => {
                object.insert(name.into_owned(), value);
            }
        }
    }
    object.into()
}
