//! The JSON Schema of `gateway.yaml`, for editors. Its keys are asked of the loader itself, so they can't be others.

use std::path::Path;

use serde_json::{Map, Value, json};
use yaml::File;

use super::Config;

/// A key that nobody has: the loader answers with those that there are.
const NOBODY: &str = "zzz";
/// Every section, as the path of its keys; `*` stands for a name of the author's own. A section stands behind the one
/// that it is in.
const SECTIONS: &[&[&str]] = &[
    &[],
    &["backbone"],
    &["backbone", "embedded"],
    &["admin"],
    &["admin", "tls"],
    &["admin", "tls", "clients"],
    &["limits"],
    &["notices"],
    &["log"],
    &["bridges", "*", "http"],
    &["bridges", "*", "http", "tls"],
    &["bridges", "*", "http", "tls", "clients"],
    &["bridges", "*", "http", "websocket"],
    &["bridges", "*", "mqtt"],
    &["bridges", "*", "mqtt", "tls"],
    &["bridges", "*", "mqtt", "tls", "clients"],
    &["bridges", "*", "mqtt", "session"],
];
/// Without these there is no gateway.
const REQUIRED: [&str; 4] = ["domain", "backbone", "admin", "bridges"];

/// The JSON Schema (2020-12) of `gateway.yaml`, as it is checked in.
pub fn gateway_json_schema() -> String {
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OpenMesh Gateway configuration",
        "required": REQUIRED,
    });
    for path in SECTIONS {
        let keys = keys(path);
        if let Some(place) = place(&mut root, path) {
            let known: Map<String, Value> = keys.into_iter().map(|key| (key, json!({}))).collect();
            place["type"] = json!("object");
            place["additionalProperties"] = json!(false);
            place["properties"] = Value::Object(known);
        }
        if path.is_empty() {
            root["properties"]["bridges"] = bridges();
        }
    }
    format!("{root:#}\n")
}

/// `NAME: { KIND: { ... } }`, at least one.
fn bridges() -> Value {
    let kinds: Map<String, Value> = keys(&["bridges", "*"]).into_iter().map(|kind| (kind, json!({}))).collect();
    let one = json!({
        "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1, "properties": kinds,
    });
    json!({ "type": "object", "minProperties": 1, "additionalProperties": one })
}

/// Where the schema of a section stands.
fn place<'s>(root: &'s mut Value, path: &[&str]) -> Option<&'s mut Value> {
    path.iter().try_fold(root, |schema, key| match *key {
        "*" => schema.get_mut("additionalProperties"),
        key => schema.get_mut("properties")?.get_mut(key),
    })
}

/// The keys that the loader takes there.
fn keys(path: &[&str]) -> Vec<String> {
    let text = path.iter().rev().fold(json!({ NOBODY: 1 }), |inner, key| {
        let key = if *key == "*" { "a" } else { key };
        json!({ key: inner })
    });
    // JSON is YAML
    let read = File::parse("gateway.yaml", text.to_string())
        .and_then(|file| file.read(|root, problems| Config::read(root, Path::new("."), problems)));
    let said = read.map_or_else(|errors| errors.to_string(), |_| String::new());
    let valid = said.split_once("valid keys: ").and_then(|(_, rest)| rest.lines().next()).unwrap_or_default();
    valid.split(", ").map(|key| key.trim_matches('"').to_owned()).filter(|key| !key.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
    }

    /// `OPENMESH_GENERATE=1 cargo test -p gateway generated` writes it anew.
    #[test]
    fn the_schema_that_editors_find_is_the_generated_one() {
        let path = folder().join("formats/gateway.json");
        if std::env::var_os("OPENMESH_GENERATE").is_some() {
            fs::write(&path, gateway_json_schema()).unwrap();
        }
        let found = fs::read_to_string(path).unwrap_or_default();
        assert!(found == gateway_json_schema(), "OPENMESH_GENERATE=1 cargo test -p gateway generated writes it anew");
    }

    #[test]
    fn every_section_is_one_that_the_loader_has_and_every_kind_of_bridge_is_there() {
        let mut root: Value = serde_json::from_str(&gateway_json_schema()).unwrap();
        for path in SECTIONS {
            assert!(!keys(path).is_empty(), "{path:?}");
            assert!(place(&mut root, path).is_some(), "{path:?}");
        }
        for kind in keys(&["bridges", "*"]) {
            assert!(SECTIONS.contains(&["bridges", "*", kind.as_str()].as_slice()), "{kind}");
        }
    }

    #[test]
    fn the_schema_takes_the_shipped_file_and_marks_a_key_that_nobody_has() {
        let schema = schema::Schema::compile("gateway", gateway_json_schema().as_bytes()).unwrap();
        let holds =
            |json: Value| schema.check(&envelope::Json::parse(bytes::Bytes::from(json.to_string())).unwrap()).is_ok();
        let sound = json!({
            "domain": "a", "jurisdictions": ["no"], "backbone": { "embedded": { "path": "data" } },
            "admin": { "listen": "127.0.0.1:9090" },
            "bridges": { "web": { "http": { "listen": "127.0.0.1:8080", "websocket": {} } } }, "mappings": "mappings/",
        });
        let with = |pointer: &str, key: &str| {
            let mut changed = sound.clone();
            changed.pointer_mut(pointer).unwrap()[key] = json!(1);
            changed
        };
        assert!(holds(sound.clone()));
        for (pointer, key) in [
            ("", "domian"),
            ("/backbone", "embeded"),
            ("/backbone/embedded", "pth"),
            ("/admin", "lisen"),
            ("/bridges/web", "htp"),
            ("/bridges/web/http", "lisen"),
            ("/bridges/web/http/websocket", "x"),
        ] {
            assert!(!holds(with(pointer, key)), "{pointer} {key}");
        }
        assert!(!holds(json!({ "domain": "a" })));
    }
}
