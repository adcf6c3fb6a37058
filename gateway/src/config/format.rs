//! The JSON Schema of `gateway.yaml`, for editors. Its keys are asked of the loader itself, so they can't be others.

use std::path::Path;

use serde_json::{Map, Value, json};
use yaml::File;

use super::Config;

/// A key that nobody has: the loader answers with those that there are.
const NOBODY: &str = "zzz";
/// The name of a bridge.
const ANY: &str = "a";
/// How deep sections are within each other.
const MAX_DEPTH: usize = 8;
/// Without these there is no gateway.
const REQUIRED: [&str; 4] = ["domain", "backbone", "admin", "bridges"];

/// The JSON Schema (2020-12) of `gateway.yaml`, as it is checked in.
pub fn gateway_json_schema() -> String {
    let mut root = section(&mut Vec::new()).unwrap_or_default();
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("OpenMesh Gateway configuration");
    root["required"] = json!(REQUIRED);
    format!("{root:#}\n")
}

/// What stands at this path; `None` if that is no section.
fn section(path: &mut Vec<String>) -> Option<Value> {
    if *path == ["bridges"] {
        path.push(ANY.to_owned());
        let mut one = section(path)?;
        path.pop();
        one["minProperties"] = json!(1);
        one["maxProperties"] = json!(1);
        return Some(json!({ "type": "object", "minProperties": 1, "additionalProperties": one }));
    }
    let keys = keys(path);
    if keys.is_empty() || path.len() > MAX_DEPTH {
        return None;
    }
    let mut known = Map::new();
    for key in keys {
        path.push(key.clone());
        known.insert(key, section(path).unwrap_or_else(|| json!({})));
        path.pop();
    }
    Some(json!({ "type": "object", "additionalProperties": false, "properties": known }))
}

/// The keys that the loader takes there.
fn keys(path: &[String]) -> Vec<String> {
    let text = path.iter().rev().fold(json!({ NOBODY: 1 }), |inner, key| json!({ key: inner }));
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
    fn sections_within_sections_are_found() {
        let root: Value = serde_json::from_str(&gateway_json_schema()).unwrap();
        let bridge = "/properties/bridges/additionalProperties/properties";
        for pointer in [
            "/properties/backbone/properties/embedded/properties/path",
            "/properties/admin/properties/tls/properties/clients/properties/revoked",
            "/properties/notices/properties/url",
            &format!("{bridge}/http/properties/websocket/properties"),
            &format!("{bridge}/mqtt/properties/tls/properties/key"),
        ] {
            assert!(root.pointer(pointer).is_some(), "{pointer}");
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
