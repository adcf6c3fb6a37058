//! The format of `policy.yaml`, declared once: its JSON Schema for editors comes from here, and a test holds the loader to
//! the same keys.

use serde_json::{Map, Value, json};

/// A map of the file: its name, what stands there, its keys, and those of them that it can't do without.
struct Section {
    name: &'static str,
    means: &'static str,
    required: &'static [&'static str],
    keys: &'static [(&'static str, Form, &'static str)],
}

/// What a key may be.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Bool,
    Count,
    Percent,
    /// `30s`.
    Duration,
    /// `10MiB`, or a number.
    Bytes,
    Texts,
    /// One or a list of them.
    TextOrTexts,
    Words(&'static [&'static str]),
    ListOfWords(&'static [&'static str]),
    /// Of the author's own names.
    Named(&'static Form),
    Scalar,
    Section(&'static str),
    Sections(&'static str),
    Either(&'static [Form]),
}

const TYPES: &[&str] = &["boolean", "integer", "decimal", "text", "list"];

const SECTIONS: &[Section] = &[
    Section {
        name: "policy",
        means: "Who is let in, what they may do, how much, and where data may be",
        required: &[],
        keys: &[
            ("anonymous", Form::Bool, "whether peers without credentials are let in; false if left out"),
            ("limits", Form::Section("limits"), "how much everybody may send and receive in a second"),
            ("residency", Form::Section("residency"), "where data may be"),
            ("priority", Form::Section("priority"), "what matters most when not all can be taken, by topic filter"),
            ("tokens", Form::Named(&Form::Section("issuer")), "whose tokens are accepted, and as whom"),
            ("certificates", Form::Sections("certificate"), "whom client certificates are of; the first that matches"),
            ("access", Form::Section("access"), "what the Cedar policies read"),
        ],
    },
    Section {
        name: "limits",
        means: "Rates; what is left out is not limited",
        required: &[],
        keys: &[
            ("address", Form::Section("rate"), "of each network address"),
            ("domain", Form::Section("rate"), "of all principals of a domain together"),
            ("principal", Form::Section("rate"), "of each principal"),
            ("receive", Form::Section("rate"), "of what each principal is sent"),
            ("principals", Form::Named(&Form::Section("rate")), "of principals by name"),
            ("topics", Form::Named(&Form::Section("topic")), "by topic filter"),
        ],
    },
    Section {
        name: "rate",
        means: "Messages a second, bytes a second, or both",
        required: &[],
        keys: &[
            ("messages_per_second", Form::Count, "how many"),
            ("burst_messages", Form::Count, "at once; a second's worth if left out"),
            ("bytes_per_second", Form::Bytes, "of payload"),
            ("burst_bytes", Form::Bytes, "at once; a second's worth if left out"),
        ],
    },
    Section {
        name: "topic",
        means: "The rate of what a topic filter matches",
        required: &[],
        keys: &[
            (
                "each",
                Form::Words(&["all", "topic", "principal"]),
                "whether all share it, or each topic or principal has one",
            ),
            ("messages_per_second", Form::Count, "how many"),
            ("burst_messages", Form::Count, "at once; a second's worth if left out"),
            ("bytes_per_second", Form::Bytes, "of payload"),
            ("burst_bytes", Form::Bytes, "at once; a second's worth if left out"),
        ],
    },
    Section {
        name: "residency",
        means: "Where the places are that hold or carry data, as jurisdictions",
        required: &[],
        keys: &[
            ("store", Form::TextOrTexts, "where the store is; where the gateway is, if left out"),
            ("default", Form::TextOrTexts, "where data may be that nothing labels; anywhere, if left out"),
            ("bridges", Form::Named(&Form::TextOrTexts), "where the peers of bridges are"),
        ],
    },
    Section {
        name: "priority",
        means: "Classes by topic filter; what none names is an event",
        required: &[],
        keys: &[
            ("command", Form::Texts, "never shed"),
            ("event", Form::Texts, "shed when the bridge is nearly full"),
            ("telemetry", Form::Texts, "shed before events"),
            ("bulk", Form::Texts, "shed first"),
        ],
    },
    Section {
        name: "issuer",
        means: "An issuer of JSON Web Tokens",
        required: &["issuer", "audience", "keys"],
        keys: &[
            ("issuer", Form::Text, "iss, to the letter"),
            ("audience", Form::TextOrTexts, "one of these is in aud"),
            ("keys", Form::Section("keys"), "where its keys are"),
            ("revoked", Form::Text, "a file in the folder of the policies with the tokens that count no more"),
            ("algorithms", Form::ListOfWords(&["RS256", "ES256", "EdDSA"]), "those that are accepted; all if left out"),
            ("leeway", Form::Duration, "how far clocks may be apart; 60s if left out"),
            ("principal", Form::Text, "the claim with the principal's id; sub if left out"),
            ("roles", Form::Text, "the claim with the roles"),
            ("grant", Form::Texts, "roles that each of them has"),
            ("attributes", Form::Named(&Form::Text), "declared attributes by the claims they come from"),
            ("jurisdiction", Form::Text, "where its principals are"),
            ("trust", Form::Percent, "how far they are trusted, 0 to 100"),
        ],
    },
    Section {
        name: "keys",
        means: "A JSON Web Key Set: in a file of the folder of the policies, or at a URL",
        required: &[],
        keys: &[
            ("file", Form::Text, "the file's name"),
            ("url", Form::Text, "https, or http on loopback"),
            ("refresh", Form::Duration, "how often it is fetched; 5m if left out"),
            ("authorities", Form::Text, "a file of PEM that the server is verified with; the system's if left out"),
        ],
    },
    Section {
        name: "certificate",
        means: "Certificates of one kind, and the principals that they are of",
        required: &["match", "principal"],
        keys: &[
            ("match", Form::Section("match"), "one field of the certificate; a * stands for anything but nothing"),
            ("principal", Form::Text, "the principal's id; its * is what the other one stands for"),
            ("roles", Form::Texts, "its roles"),
            ("jurisdiction", Form::Text, "where it is"),
            ("trust", Form::Percent, "how far it is trusted, 0 to 100"),
            ("attributes", Form::Named(&Form::Scalar), "declared attributes"),
        ],
    },
    Section {
        name: "match",
        means: "One of these",
        required: &[],
        keys: &[
            ("common_name", Form::Text, "the subject's common name"),
            ("dns", Form::Text, "a DNS name among the alternative names"),
            ("uri", Form::Text, "a URI among them"),
            ("email", Form::Text, "an address among them"),
        ],
    },
    Section {
        name: "access",
        means: "What the Cedar policies may read",
        required: &[],
        keys: &[
            ("attributes", Form::Named(&Form::Words(TYPES)), "of principals: principal.NAME"),
            ("roles", Form::Texts, "that there are beside viewer and operator; if said, any other one is an error"),
            (
                "data",
                Form::Named(&Form::Either(&[Form::Words(TYPES), Form::Section("field")])),
                "of the data: context.data.NAME",
            ),
            ("values", Form::Named(&Form::Scalar), "context.NAME"),
        ],
    },
    Section {
        name: "field",
        means: "A field of the data",
        required: &["type", "at"],
        keys: &[
            ("type", Form::Words(TYPES), "a message where it has another type is refused"),
            ("at", Form::Text, "the names of the members that lead to it, joined by '.'"),
        ],
    },
];

/// The JSON Schema (2020-12) of `policy.yaml`, as it is checked in.
pub fn policy_json_schema() -> String {
    let mut definitions = Map::new();
    for section in SECTIONS.iter().skip(1) {
        definitions.insert(section.name.to_owned(), section.schema());
    }
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OpenMesh Gateway policy file",
    });
    if let (Some(root), Some(Value::Object(first))) = (root.as_object_mut(), SECTIONS.first().map(Section::schema)) {
        root.extend(first);
        // an empty file lets nobody in
        root.insert("type".to_owned(), json!(["object", "null"]));
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    // a tree of maps and texts is always written
    format!("{root:#}\n")
}

// === impl Section ===

impl Section {
    fn schema(&self) -> Value {
        let mut keys = Map::new();
        for (name, form, means) in self.keys {
            let mut schema = form.schema();
            schema["description"] = json!(means);
            keys.insert((*name).to_owned(), schema);
        }
        let mut schema = json!({
            "type": "object", "description": self.means, "additionalProperties": false, "properties": keys,
        });
        if !self.required.is_empty() {
            schema["required"] = json!(self.required);
        }
        schema
    }
}

// === impl Form ===

impl Form {
    fn schema(&self) -> Value {
        match self {
            Self::Text => json!({ "type": "string", "minLength": 1 }),
            Self::Bool => json!({ "type": "boolean" }),
            Self::Count => json!({ "type": "integer", "minimum": 1 }),
            Self::Percent => json!({ "type": "integer", "minimum": 0, "maximum": 100 }),
            Self::Duration => json!({ "type": "string", "pattern": "^[0-9]" }),
            Self::Bytes => json!({ "type": ["integer", "string"], "pattern": "^[0-9]", "minimum": 1 }),
            Self::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Self::TextOrTexts => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
            Self::Words(words) => json!({ "enum": words }),
            Self::ListOfWords(words) => json!({ "type": "array", "minItems": 1, "items": { "enum": words } }),
            Self::Named(form) => json!({ "type": "object", "additionalProperties": form.schema() }),
            Self::Scalar => json!({ "type": ["boolean", "number", "string", "array"] }),
            Self::Section(name) => json!({ "$ref": format!("#/$defs/{name}") }),
            Self::Sections(name) => json!({ "type": "array", "items": { "$ref": format!("#/$defs/{name}") } }),
            Self::Either(forms) => json!({ "anyOf": forms.iter().map(Self::schema).collect::<Vec<_>>() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use schema::Schema;

    use super::*;
    use crate::PolicyConfig;

    fn checked_in() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/formats/policy.json")
    }

    /// `OPENMESH_GENERATE=1 cargo test -p policy generated` writes it anew.
    #[test]
    fn the_schema_that_editors_find_is_the_generated_one() {
        if std::env::var_os("OPENMESH_GENERATE").is_some() {
            fs::write(checked_in(), policy_json_schema()).unwrap();
        }
        let found = fs::read_to_string(checked_in()).unwrap_or_default();
        assert!(found == policy_json_schema(), "OPENMESH_GENERATE=1 cargo test -p policy generated writes it anew");
    }

    /// Where each section stands in a file, with what it needs to be read, and a key that nobody knows.
    const PLACES: [(&str, &str); 13] = [
        ("policy", "zzz: 1"),
        ("limits", "limits: { zzz: 1 }"),
        ("rate", "limits: { address: { zzz: 1 } }"),
        ("rate", "limits: { principals: { ada: { zzz: 1 } } }"),
        ("topic", "limits: { topics: { a: { zzz: 1 } } }"),
        ("residency", "residency: { zzz: 1 }"),
        ("priority", "priority: { zzz: 1 }"),
        ("issuer", "tokens: { a: { zzz: 1 } }"),
        ("keys", "tokens: { a: { keys: { zzz: 1 } } }"),
        ("certificate", "certificates: [{ zzz: 1 }]"),
        ("match", "certificates: [{ match: { zzz: 1 } }]"),
        ("access", "access: { zzz: 1 }"),
        ("field", "access: { data: { a: { zzz: 1 } } }"),
    ];

    #[test]
    fn the_loader_takes_the_keys_that_are_declared_and_no_others() {
        for (name, text) in PLACES {
            let section = SECTIONS.iter().find(|section| section.name == name).unwrap();
            let said = PolicyConfig::parse("policy.yaml", text).unwrap_err().to_string();
            let (_, valid) = said.split_once("valid keys: ").unwrap_or_else(|| panic!("{text}: {said}"));
            let taken: BTreeSet<_> =
                valid.lines().next().unwrap().split(", ").map(|key| key.trim_matches('"')).collect();
            let declared: BTreeSet<_> = section.keys.iter().map(|(key, ..)| *key).collect();
            assert_eq!(declared, taken, "{name}");
        }
        let told: BTreeSet<_> = PLACES.iter().map(|(name, _)| *name).collect();
        assert_eq!(told.len(), SECTIONS.len(), "each has its place above");
    }

    #[test]
    fn the_schema_takes_what_the_loader_takes_and_refuses_what_an_editor_should_mark() {
        let schema = Schema::compile("policy", policy_json_schema().as_bytes()).unwrap();
        let holds = |json: &Value| {
            let json = envelope::Json::parse(bytes::Bytes::from(json.to_string())).unwrap();
            schema.check(&json).is_ok()
        };
        let sound = json!({
            "anonymous": true,
            "limits": { "address": { "messages_per_second": 5 }, "topics": { "a/#": { "bytes_per_second": "10MiB", "each": "topic" } } },
            "residency": { "store": "no", "bridges": { "web": ["no", "eu"] } },
            "priority": { "bulk": ["upload/#"] },
            "tokens": { "corp": { "issuer": "i", "audience": ["a"], "keys": { "url": "https://a.example/k", "refresh": "5m" },
                "algorithms": ["RS256"], "grant": ["a"], "attributes": { "limit": "spend" }, "revoked": "r.yaml" } },
            "certificates": [{ "match": { "dns": "*.a" }, "principal": "*", "trust": 50 }],
            "access": { "attributes": { "limit": "integer" }, "data": { "amount": "integer", "note": { "type": "text", "at": "a.b" } },
                "values": { "ceiling": 5 } },
        });
        // JSON is YAML
        PolicyConfig::parse("policy.yaml", &sound.to_string()).unwrap();
        assert!(holds(&sound) && holds(&Value::Null) && holds(&json!({})));
        for wrong in [
            json!({ "anonymos": true }),
            json!({ "anonymous": "yes" }),
            json!({ "limits": { "address": { "messages": 5 } } }),
            json!({ "limits": { "address": { "messages_per_second": 0 } } }),
            json!({ "tokens": { "corp": { "issuer": "i" } } }),
            json!({ "tokens": { "corp": { "issuer": "i", "audience": "a", "keys": { "file": "k" }, "algorithms": ["HS256"] } } }),
            json!({ "access": { "attributes": { "limit": "int" } } }),
            json!({ "certificates": [{ "match": {}, "principal": "a", "trust": 101 }] }),
            json!([]),
        ] {
            assert!(!holds(&wrong), "{wrong}");
            assert!(PolicyConfig::parse("policy.yaml", &wrong.to_string()).is_err(), "{wrong}");
        }
    }
}
