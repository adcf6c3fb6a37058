//! What leaves says what it is: the type of its data with its version, and where the schema is, whatever mapping made it.

use envelope::cloudevents::{parse_json, write_json};
use envelope::{Json, MapResult};
use proptest::{prelude::*, sample::select};

use super::*;

/// Fails if an envelope does not describe itself, as it is and as every CloudEvents client reads it.
pub(super) fn hold(made: &MapResult, domain: &str) {
    let MapResult::Mapped(mapped) = made else { return };
    for envelope in mapped.group.as_slice() {
        let (name, version) =
            envelope.kind.rsplit_once("@v").unwrap_or_else(|| panic!("{} has no version", envelope.kind));
        let numbers: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
        assert!(!name.is_empty() && numbers.len() == 3 && numbers.iter().all(Result::is_ok), "{}", envelope.kind);
        match envelope.dataschema.as_deref() {
            Some(uri) => assert_eq!(uri, format!("mesh://{domain}/schemas/{}", envelope.kind)),
            None => assert_eq!(&*envelope.kind, "mesh/opaque@v1.0.0"),
        }
        assert!(envelope.source.starts_with(&format!("mesh://{domain}/")) && envelope.datacontenttype.is_some());
        let mut out = Vec::new();
        write_json(envelope, &mut out);
        let event = Json::parse(out.into()).unwrap();
        let said = |name: &str| event.root().get(name).and_then(|node| node.as_str());
        assert_eq!((said("specversion"), said("type")), (Some("1.0"), Some(&*envelope.kind)));
        assert_eq!(said("dataschema"), envelope.dataschema.as_deref());
        let read = parse_json(&event).unwrap();
        assert_eq!(
            (&read.kind, &read.dataschema, &read.subject),
            (&envelope.kind, &envelope.dataschema, &envelope.subject)
        );
    }
}

proptest! {
    #[test]
    fn every_envelope_of_a_generated_mapping_says_what_it_is(
        format in select(vec!["json", "cbor", "text", "bytes", "urlencoded"]),
        schema in any::<bool>(),
        each in any::<bool>(),
        attributes in proptest::collection::btree_set(
            select(vec!["key: k", "performative: inform", "priority: bulk", "classification: c", "residency: no", "expires: 1m"]),
            0..4,
        ),
        payload in select(vec!["[{\"f\":1}]", "[1,2,\"x\"]", "a=b&c=d", "{\"celsius\":2}", "\u{81}"]),
    ) {
        let each = each && format == "json";
        let data = if schema { "\n  data: { celsius: 1 }\n  schema: telemetry/reading@v1.0.0" } else { "" };
        let attributes: String = attributes.iter().map(|line| format!("\n  {line}")).collect();
        let more = if each { "each: payload\n" } else { "" };
        let text = format!(
            "mapping: m\nfrom: {{ bridge: web, address: a, decode: {format} }}\n{more}envelope:\n  topic: t{attributes}{data}\n"
        );
        let mappings = loaded(&text);
        let made = mappings.map(inbound("a", payload));
        hold(&made, "plant-a");
        prop_assert!(!matches!(made, MapResult::Filtered(_)));
    }
}

#[test]
fn a_type_without_a_version_is_refused_at_its_place() {
    let text = with("", "  topic: t\n  schema: floor-reading");
    assert_eq!(
        errors(&[&text]),
        ["0.yaml:5:11 name a type of data has a version, as NAME@v1.0.0: \"floor-reading\" has none"]
    );
}
