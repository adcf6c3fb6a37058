//! The entity schema that Cedar policies are checked against: what there is, and what the policy file declares.

use std::fmt::Write as _;

use cedar_policy::Schema;

use crate::config::{AccessConfig, ValueType};

/// What there is without being declared. `send` is the three actions that bring a message in.
const ENTITIES: &str = "\
entity Role;
entity Domain;
entity Topic in [Topic] = { name: String };
entity Schema in [Schema];
entity Performative;
entity Bridge;
entity Gateway;
action send;
";

/// The schema for what a policy file declares, in Cedar's own notation.
pub(super) fn text(config: &AccessConfig) -> String {
    let mut text = ENTITIES.to_owned();
    let mut attributes = String::new();
    for (name, kind) in &config.attributes.types {
        push(&mut attributes, &format!(", {name}?: {}", word(*kind)));
    }
    let own = "domain: String, jurisdiction?: String, proof: String, trust: Long";
    push(&mut text, &format!("entity Principal in [Role, Domain] = {{ {own}{attributes} }};\n"));
    let data: Vec<_> = config.data.iter().map(|(name, field)| format!("{name}?: {}", word(field.kind))).collect();
    let mut values = String::new();
    for (name, (kind, _)) in &config.values {
        push(&mut values, &format!(", {name}: {}", word(*kind)));
    }
    let message = format!(
        "bridge: Bridge, schema: Schema, performative: Performative, time: datetime, data: {{ {} }}{values}",
        data.join(", ")
    );
    let about = |resource: &str, context: &str| {
        format!("appliesTo {{ principal: [Principal], resource: [{resource}], context: {{ {context} }} }};\n")
    };
    push(&mut text, &format!("action publish, request, reply in [send] {}", about("Topic", &message)));
    push(&mut text, &format!("action subscribe {}", about("Topic", &message)));
    push(&mut text, &format!("action view, administer {}", about("Gateway", &format!("time: datetime{values}"))));
    text
}

/// The schema itself. Its names were checked when the policy file was read.
pub(super) fn schema(config: &AccessConfig) -> Result<Schema, String> {
    match Schema::from_cedarschema_str(&text(config)) {
        Ok((schema, _)) => Ok(schema),
        Err(error) => Err(error.to_string()),
    }
}

const fn word(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Boolean => "Bool",
        ValueType::Integer => "Long",
        ValueType::Decimal => "decimal",
        ValueType::Text => "String",
        ValueType::List => "Set<String>",
    }
}

fn push(text: &mut String, more: &str) {
    // writing to a String never fails
    _ = write!(text, "{more}");
}
