//! The format of mapping files, declared once: its JSON Schema for editors and the table of keys in the manual come from
//! here, and a test holds the loader to the same keys.

use std::fmt::Write;

use envelope::{Priority, json::write_string};

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
    /// Which may be empty.
    AnyText,
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
    TextOrTexts,
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
            key("keep_denied", Value::Bool, "true: what its sender may not send is a dead letter as well"),
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
            key("conversation", Value::Template, "the conversation that it belongs to; empty or null: none"),
            key("inreplyto", Value::Template, "the id of the envelope that it answers; empty or null: none"),
            key("recipients", Value::TemplateOrTemplates, "whom it is for; an array is several; empty or null: none"),
            key("originid", Value::Template, "the id that the sender's own event has; empty or null: none"),
            key("originsource", Value::Template, "the source that the sender's own event has; empty or null: none"),
            key("expires", Value::Duration, "how long it is worth delivering"),
            key("schema", Value::Text, "the type of the data, NAME@vX.Y.Z; enforced"),
            key("data", Value::Anything, "the data to make; left out, the payload goes through untouched"),
            key(
                "data_base64",
                Value::Template,
                "in place of data: the bytes that it is in base64; empty or null: none",
            ),
            key("content_type", Value::Template, "what the data is, where it is not made; empty or null: not said"),
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
            key("retain", Value::Bool, "the peer keeps it for whoever comes later"),
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
            key("schema", Value::Text, "the type that an answer has to be of, with \"within\""),
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
            key("given", Value::Map("given"), "a message; of a file with \"to\" an envelope"),
            key("expect", Value::Map("expect"), "what must come out"),
        ],
    },
    Map {
        name: "given",
        shown: "tests[].given",
        required: &[],
        keys: &[
            key("address", Value::Text, "where the message came to"),
            key("payload", Value::Anything, "the payload, or an envelope's data, as JSON"),
            key("text", Value::AnyText, "the same as text, in the declared charset"),
            key("base64", Value::AnyText, "the same as any bytes"),
            key("headers", Value::Anything, "headers by name; a list where there are several"),
            key("principal", Value::Text, "who sends"),
            key("answer", Value::Anything, "the envelope that answers the sender, for a reply with \"within\""),
            key("topic", Value::Text, "of an envelope: its topic; without wildcards that of the file if left out"),
            key("type", Value::Text, "of an envelope"),
            key("schema", Value::Text, "of an envelope"),
            key("source", Value::Text, "of an envelope"),
            key("content_type", Value::Text, "of an envelope"),
            key("performative", Value::Text, "of an envelope"),
            key("priority", Value::Words(&Priority::WORDS), "of an envelope"),
            key("key", Value::Text, "of an envelope"),
            key("classification", Value::Text, "of an envelope"),
            key("residency", Value::TextOrTexts, "of an envelope"),
            key("expires", Value::Duration, "of an envelope: how long after it was made"),
            key("conversation", Value::Text, "of an envelope"),
            key("inreplyto", Value::Text, "of an envelope"),
            key("replyto", Value::Text, "of an envelope"),
            key("recipients", Value::TextOrTexts, "of an envelope"),
            key("originid", Value::Text, "of an envelope"),
            key("originsource", Value::Text, "of an envelope"),
        ],
    },
    Map {
        name: "expect",
        shown: "tests[].expect",
        required: &[],
        keys: &[
            key("topic", Value::Text, "of the envelope"),
            key("performative", Value::Text, "of the envelope"),
            key("priority", Value::Words(&Priority::WORDS), "of the envelope"),
            key("key", Value::Text, "of the envelope, or of what is sent"),
            key("type", Value::Text, "of the envelope"),
            key("classification", Value::Text, "of the envelope"),
            key("datacontenttype", Value::Text, "of the envelope"),
            key("dataschema", Value::Text, "of the envelope"),
            key("residency", Value::TextOrTexts, "of the envelope"),
            key("conversation", Value::Text, "of the envelope"),
            key("inreplyto", Value::Text, "of the envelope"),
            key("recipients", Value::TextOrTexts, "of the envelope"),
            key("originid", Value::Text, "of the envelope"),
            key("originsource", Value::Text, "of the envelope"),
            key("identity", Value::Text, "what names the message"),
            key("data", Value::Anything, "of the envelope, as a whole; { near: 10.0 } stands for a number"),
            key("items", Value::Maps("expect"), "what each item becomes, in order"),
            key("rejected", Value::Text, "the kind of the refusal, or a part of its reason"),
            key("filtered", Value::Bool, "true: nothing becomes of it"),
            key("reply", Value::Anything, "what the sender is told: status, headers, payload, text or base64"),
            key("address", Value::Text, "where it is sent"),
            key("qos", Value::Qos, "how hard the peer's protocol tries"),
            key("retain", Value::Bool, "the peer keeps it for whoever comes later"),
            key("headers", Value::Named, "headers of what is sent"),
            key("payload", Value::Anything, "what is sent, as JSON"),
            key("text", Value::AnyText, "what is sent, as text"),
            key("base64", Value::AnyText, "what is sent, as any bytes"),
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
            Self::AnyText => r#""type": "string""#.to_owned(),
            Self::TextOrTexts | Self::TemplateOrTemplates => {
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
mod tests;
