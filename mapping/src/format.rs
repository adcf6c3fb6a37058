//! The format of mapping files, declared once: its JSON Schema for editors and the table of keys in the manual come from
//! here, and a test holds the loader to the same keys.

use std::fmt::Write;

use envelope::json::write_string;

use crate::{codec::Codec, egress::QOS, plan::PERFORMATIVES};

/// A map of the file.
struct Map {
    name: &'static str,
    /// Where it stands in a file.
    shown: &'static str,
    required: &'static [&'static str],
    keys: &'static [Key],
}

/// A key, what it may be, and what it means.
struct Key {
    name: &'static str,
    value: Value,
    means: &'static str,
}

#[derive(Clone, Copy)]
enum Value {
    Text,
    /// Text, in which `${...}` may stand.
    Template,
    /// A bare expression; a number or a truth counts as it is written.
    Expression,
    Bool,
    Integer,
    /// `30s`.
    Duration,
    Words(&'static [&'static str]),
    Performative,
    Qos,
    /// A word, or one with options.
    Format,
    /// One or a list of them.
    TemplateOrTemplates,
    /// A map of names to text.
    Named,
    Expressions,
    Anything,
    Map(&'static str),
    Maps(&'static str),
    MapOrMaps(&'static str),
}

const fn key(name: &'static str, value: Value, means: &'static str) -> Key {
    Key { name, value, means }
}

const MAPS: &[Map] = &[
    Map {
        name: "file",
        shown: "(the file)",
        required: &["mapping", "from"],
        keys: &[
            key("mapping", Value::Text, "the name: lower-case letters, digits and -"),
            key("from", Value::Map("from"), "what it takes"),
            key("to", Value::Map("to"), "where it sends, for a file that sends envelopes to a peer"),
            key("order", Value::Integer, "of several files that take a message the one with the lower order wins"),
            key("when", Value::Expression, "a condition: where it is false, the next file in order is asked"),
            key("let", Value::Expressions, "names for expressions"),
            key("each", Value::Expression, "an array: each item becomes an envelope"),
            key("identity", Value::Expression, "what names a message, so that a retry is a duplicate"),
            key("envelope", Value::Map("envelope"), "the envelope to make"),
            key("drop", Value::Bool, "true: acked and counted as filtered, nothing is stored"),
            key("ack", Value::Words(&["received", "durable", "delivered", "consumer"]), "when the sender hears yes"),
            key("ack_within", Value::Duration, "how long the sender waits for a later yes"),
            key("keep", Value::Words(&["last"]), "the newest envelope of a topic is kept for whoever joins"),
            key(
                "shed",
                Value::Words(&["latest"]),
                "under overload the latest message of a topic and key stands for those before",
            ),
            key("store", Value::Bool, "false: a message passes through without being stored"),
            key("unproven", Value::Words(&["dead-letter"]), "what the schema requires may be checked at run time"),
            key("reply", Value::MapOrMaps("reply"), "what the sender is told"),
            key("tests", Value::Maps("test"), "messages, and what becomes of them"),
        ],
    },
    Map {
        name: "from",
        shown: "from",
        required: &[],
        keys: &[
            key("bridge", Value::Text, "the bridge's name in gateway.yaml"),
            key("address", Value::Text, "what the bridge calls the place; for HTTP METHOD /path"),
            key("topic", Value::Text, "the envelopes it sends, as a topic filter, for a file with \"to\""),
            key("decode", Value::Format, "the format of the payload"),
            key("schema", Value::Text, "a schema below config/, held to every message"),
        ],
    },
    Map {
        name: "envelope",
        shown: "envelope",
        required: &["topic"],
        keys: &[
            key("topic", Value::Template, "the mesh topic"),
            key("performative", Value::Performative, "what the sender means"),
            key("priority", Value::Template, "command, event, telemetry or bulk: what is taken first under overload"),
            key("key", Value::Template, "envelopes of one key stay in order"),
            key("classification", Value::Template, "its sensitivity"),
            key("residency", Value::TemplateOrTemplates, "jurisdictions that may hold or carry it"),
            key("expires", Value::Duration, "how long it is worth delivering"),
            key("schema", Value::Text, "the type of the data, NAME@vX.Y.Z; enforced"),
            key("data", Value::Anything, "the data to make; left out, the payload goes through untouched"),
        ],
    },
    Map {
        name: "to",
        shown: "to",
        required: &["bridge", "address"],
        keys: &[
            key("bridge", Value::Text, "the bridge that sends"),
            key("address", Value::Template, "where to"),
            key("key", Value::Template, "messages of one key stay in order"),
            key("qos", Value::Qos, "how hard the peer's protocol tries"),
            key("echo", Value::Bool, "what came by the bridge may go back to where a mapping takes it in"),
            key("headers", Value::Named, "headers of the message"),
            key("encode", Value::Format, "the format of the body"),
            key("body", Value::Anything, "the payload to make; left out, the data goes through untouched"),
            key("template", Value::Text, "text that is laid out by a template"),
        ],
    },
    Map {
        name: "reply",
        shown: "reply",
        required: &[],
        keys: &[
            key("within", Value::Duration, "an envelope that answers, within that time"),
            key("on", Value::Words(&["accepted", "refused"]), "the admission, or a refusal"),
            key("when", Value::Expression, "of several replies the first whose condition holds is sent"),
            key("status", Value::Expression, "the status of the protocol, 200 to 599"),
            key("headers", Value::Named, "headers of the reply"),
            key("encode", Value::Format, "the format of the body"),
            key("body", Value::Anything, "the payload to make"),
            key("template", Value::Text, "text that is laid out by a template"),
        ],
    },
    Map {
        name: "test",
        shown: "tests[]",
        required: &["name", "given", "expect"],
        keys: &[
            key("name", Value::Text, "what is tested, as a sentence"),
            key("given", Value::Anything, "a message; of a file with \"to\" an envelope"),
            key("expect", Value::Anything, "what must come out"),
        ],
    },
];

/// The JSON Schema (2020-12) of mapping files.
pub fn json_schema() -> String {
    let mut out = String::from(
        "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \"title\": \"A mapping file of OpenMesh Gateway\",\n  \"$ref\": \"#/$defs/file\",\n  \"anyOf\": [{ \"required\": [\"envelope\"] }, { \"required\": [\"drop\"] }, { \"required\": [\"to\"] }],\n  \"$defs\": {",
    );
    for (number, map) in MAPS.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        // writing to a String can't fail
        let _ = write!(out, "{comma}\n    {}: {{\n      \"title\": {},\n", quoted(map.name), quoted(map.shown));
        out.push_str("      \"type\": \"object\",\n");
        if !map.required.is_empty() {
            let _ = writeln!(out, "      \"required\": [{}],", list(map.required.iter().copied()));
        }
        out.push_str("      \"additionalProperties\": false,\n      \"properties\": {");
        for (number, key) in map.keys.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let (name, means) = (quoted(key.name), quoted(key.means));
            let _ = write!(out, "{comma}\n        {name}: {{ {}, \"description\": {means} }}", key.value.schema());
        }
        out.push_str("\n      }\n    }");
    }
    out.push_str("\n  }\n}\n");
    out
}

/// The table of all keys, for the manual.
#[cfg(test)]
fn manual() -> String {
    let mut out = String::from("| where | key | meaning |\n|---|---|---|\n");
    for map in MAPS {
        for key in map.keys {
            let needed = if map.required.contains(&key.name) { ", required" } else { "" };
            out += &format!("| `{}` | `{}` | {}{needed} |\n", map.shown, key.name, key.means.replace('|', "\\|"));
        }
    }
    out
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    write_string(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

fn list<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words.map(quoted).collect::<Vec<_>>().join(", ")
}

// === impl Value ===

impl Value {
    /// The keywords that say it.
    fn schema(self) -> String {
        match self {
            Self::Text => r#""type": "string", "minLength": 1"#.to_owned(),
            Self::Template => r#""type": "string", "minLength": 1"#.to_owned(),
            Self::Expression => {
                r#""type": ["string", "boolean", "number"], "not": { "type": "string", "pattern": "^\\s*\\$\\{" }"#.to_owned()
            }
            Self::Bool => r#""type": "boolean""#.to_owned(),
            Self::Integer => r#""type": "integer", "minimum": -1000000, "maximum": 1000000"#.to_owned(),
            Self::Duration => r#""type": "string", "pattern": "^([0-9]+ *[a-z]+ *)+$""#.to_owned(),
            Self::Words(words) => format!(r#""enum": [{}]"#, list(words.iter().copied())),
            Self::Performative => {
                let words = list(PERFORMATIVES.into_iter());
                format!(r#""anyOf": [{{ "enum": [{words}] }}, {{ "type": "string", "pattern": "\\$\\{{" }}]"#)
            }
            Self::Qos => format!(r#""enum": [{}]"#, list(QOS.iter().map(|(word, _)| *word))),
            Self::Format => {
                let words = list(Codec::WORDS.iter().map(|(word, _)| *word));
                let one = r#""type": "object", "minProperties": 1, "maxProperties": 1"#;
                format!(r#""anyOf": [{{ "enum": [{words}] }}, {{ {one}, "propertyNames": {{ "enum": [{words}] }} }}]"#)
            }
            Self::TemplateOrTemplates => {
                r#""type": ["string", "array"], "items": { "type": "string" }, "minItems": 1"#.to_owned()
            }
            Self::Named => r#""type": "object", "additionalProperties": { "type": "string" }"#.to_owned(),
            Self::Expressions => {
                r#""type": "object", "maxProperties": 32, "additionalProperties": { "type": ["string", "boolean", "number"] }"#.to_owned()
            }
            Self::Anything => r#""default": null"#.to_owned(),
            Self::Map(name) => format!(r##""$ref": "#/$defs/{name}""##),
            Self::Maps(name) => format!(r##""type": "array", "items": {{ "$ref": "#/$defs/{name}" }}"##),
            Self::MapOrMaps(name) => {
                let one = format!(r##"{{ "$ref": "#/$defs/{name}" }}"##);
                format!(r#""anyOf": [{one}, {{ "type": "array", "minItems": 1, "items": {one} }}]"#)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use envelope::Json;
    use schema::{Schema, Schemas};

    use super::*;
    use crate::{Abilities, Bridge, Context, Source, Tables, compare::write_json, load};

    fn checked_in() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/formats/mapping.json")
    }

    /// `OPENMESH_GENERATE=1 cargo test -p mapping generated -- --test-threads=1` writes anew what is generated.
    #[test]
    fn the_schema_that_editors_find_is_the_generated_one() {
        if std::env::var_os("OPENMESH_GENERATE").is_some() {
            fs::create_dir_all(checked_in().parent().unwrap()).unwrap();
            fs::write(checked_in(), json_schema()).unwrap();
        }
        assert_eq!(
            fs::read_to_string(checked_in()).unwrap(),
            json_schema(),
            "set OPENMESH_GENERATE=1 to write it anew"
        );
    }

    #[test]
    fn the_keys_in_the_manual_are_the_generated_ones() {
        crate::manual::holds("keys", &manual());
    }

    fn conforms(text: &str) -> Result<(), String> {
        let schema = Schema::compile("mapping", json_schema().as_bytes()).unwrap();
        let file = yaml::File::parse("m.yaml", text).map_err(|errors| errors.to_string())?;
        let mut json = Vec::new();
        write_json(file.root(), &mut json);
        let json = Json::parse(json.into()).unwrap();
        schema.check(&json).map_err(|violation| format!("{}: {}", violation.pointer, violation.detail))
    }

    #[test]
    fn every_mapping_that_is_shipped_or_shown_in_the_manual_conforms() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut count = 0;
        for entry in fs::read_dir(root.join("config/mappings")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            conforms(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(
                text.starts_with("# yaml-language-server: $schema=../formats/mapping.json\n"),
                "{}",
                path.display()
            );
            count += 1;
        }
        let manual = fs::read_to_string(root.join("docs/mapping.md")).unwrap();
        for example in manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            if example.lines().any(|line| line.starts_with("mapping:")) {
                conforms(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
                count += 1;
            }
        }
        assert!(count > 15, "{count}");
    }

    #[test]
    fn what_does_not_load_does_not_conform() {
        let least = "mapping: m\nfrom: { bridge: web, address: a }\nenvelope: { topic: t }\n";
        conforms(least).unwrap();
        for wrong in [
            least.replace("mapping: m\n", ""),
            least.replace("envelope: { topic: t }\n", ""),
            least.replace("topic: t", "topics: t"),
            least.replace("topic: t", "performative: inform"),
            least.replace("topic: t", "topic: 7"),
            least.replace("topic: t", "topic: t, performative: infrom"),
            least.replace("topic: t", "topic: t, expires: soon"),
            least.replace("address: a", "address: a, decode: yaml"),
            least.replace("address: a", "address: a, decode: { csv: {}, xml: {} }"),
            format!("{least}ack: sometimes\n"),
            format!("{least}order: first\n"),
            format!("{least}drop: 1\n"),
            format!("{least}when: [a]\n"),
            format!("{least}when: ${{payload.a}}\n"),
            format!("{least}let: [a]\n"),
            format!("{least}tests: {{}}\n"),
            format!("{least}tests: [{{ name: a }}]\n"),
            format!("{least}unproven: maybe\n"),
            format!("{least}extra: 1\n"),
            "[]".to_owned(),
        ] {
            assert!(conforms(&wrong).is_err(), "{wrong}");
            let bridges = [Bridge::named("web")];
            let schemas = Schemas::default();
            let context = Context::new("d", &bridges, &schemas, Tables::none());
            assert!(load(&[Source { path: "m.yaml", text: &wrong }], &context).is_err(), "{wrong}");
        }
    }

    /// The keys that the loader asks a map for: it names them where it finds one that it does not know.
    fn asked(text: &str, at: &str) -> BTreeSet<String> {
        let bridges = [Bridge { sends: true, replies: true, ..Bridge::named("web") }];
        let schemas = Schemas::default();
        let gateway = Abilities { last_values: true, later_acks: true, pass_through: true };
        let context = Context { gateway, ..Context::new("d", &bridges, &schemas, Tables::none()) };
        let errors = load(&[Source { path: "m.yaml", text }], &context).map(|_| ()).unwrap_err();
        let unknown =
            errors.iter().find(|error| error.code == "unknown-key").unwrap_or_else(|| panic!("{at}: {errors}"));
        let help = unknown.help.as_deref().unwrap();
        let valid = help.split("valid keys: ").nth(1).unwrap();
        valid.split(", ").map(|key| key.trim_matches('"').to_owned()).collect()
    }

    #[test]
    fn the_loader_asks_for_the_declared_keys_and_no_others() {
        let ingress = "mapping: m\nfrom: { bridge: web, address: a }\nenvelope: { topic: t }\n";
        let egress = "mapping: m\nfrom: { topic: t }\nto: { bridge: web, address: a }\n";
        let probes = [
            ("file", vec![format!("{ingress}zzz: 1\n"), format!("{egress}zzz: 1\n")]),
            (
                "from",
                vec![
                    ingress.replace("address: a", "address: a, zzz: 1"),
                    egress.replace("topic: t", "topic: t, zzz: 1"),
                ],
            ),
            ("envelope", vec![ingress.replace("topic: t", "topic: t, zzz: 1")]),
            ("to", vec![egress.replace("address: a", "address: a, zzz: 1")]),
            ("reply", vec![format!("{ingress}reply: {{ on: accepted, zzz: 1 }}\n")]),
            (
                "test",
                vec![format!(
                    "{ingress}tests: [{{ name: a, given: {{ address: a }}, expect: {{ topic: t }}, zzz: 1 }}]\n"
                )],
            ),
        ];
        for (name, texts) in probes {
            let asked: BTreeSet<String> = texts.iter().flat_map(|text| asked(text, name)).collect();
            let map = MAPS.iter().find(|map| map.name == name).unwrap();
            let declared: BTreeSet<String> = map.keys.iter().map(|key| key.name.to_owned()).collect();
            assert_eq!(asked, declared, "{name}");
        }
        assert_eq!(MAPS.len(), 6, "each is probed");
    }
}
