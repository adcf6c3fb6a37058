//! What the policy file declares for the Cedar policies: attributes, fields of data, named values.

use std::{collections::BTreeMap, sync::Arc};

use envelope::Attribute;
use yaml::{Fields, Kind, Node, Problems};

use super::value::{Attributes, TYPES, ValueType};
use crate::authenticate::role;

/// The section `access`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessConfig {
    /// Of principals: `principal.NAME`, and their roles.
    pub attributes: Attributes,
    /// Of the data of messages: `context.data.NAME`.
    pub data: BTreeMap<Arc<str>, DataField>,
    /// Named here: `context.NAME`.
    pub values: BTreeMap<Arc<str>, (ValueType, Attribute)>,
}

/// A field of data that policies read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataField {
    /// Its type; a message where it has another one is refused by whatever policy reads it.
    pub kind: ValueType,
    /// The names of the members that lead to it.
    pub path: Vec<String>,
}

/// What a principal has, whatever the file declares.
pub(crate) const OWN_ATTRIBUTES: [&str; 4] = ["domain", "jurisdiction", "proof", "trust"];
/// What a context has, whatever the file declares.
pub(crate) const OWN_CONTEXT: [&str; 5] = ["bridge", "data", "performative", "schema", "time"];
/// The most entries of one of the maps.
const MAX_ENTRIES: usize = 64;
/// The most roles.
const MAX_DECLARED_ROLES: usize = 1_024;
/// The most members that lead to a field.
const MAX_PATH: usize = 16;

// === impl AccessConfig ===

impl AccessConfig {
    /// Reads `{ attributes: { limit: integer }, data: { amount: integer }, values: { limit: 10000 } }`.
    pub(super) fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let attributes =
            entries(fields.optional("attributes"), &OWN_ATTRIBUTES, problems, |node| node.one_of(TYPES, problems));
        let roles = match fields.optional("roles") {
            Some(node) => declared_roles(node, problems).map(Some),
            None => Some(None),
        };
        let data = entries(fields.optional("data"), &[], problems, |node| DataField::read(node, problems));
        let data = data.map(|data| data.into_iter().map(|(name, field)| (name.clone(), field.at(&name))).collect());
        let values = entries(fields.optional("values"), &OWN_CONTEXT, problems, |node| value(node, problems));
        fields.finish();
        Some(Self { attributes: Attributes { types: attributes?, roles: roles? }, data: data?, values: values? })
    }
}

// === impl DataField ===

impl DataField {
    /// `integer`, or `{ type: integer, at: order.amount }`.
    fn read(node: &Node, problems: &Problems) -> Option<Self> {
        if matches!(node.kind, Kind::String(_)) {
            return Some(Self { kind: node.one_of(TYPES, problems)?, path: Vec::new() });
        }
        let mut fields = Fields::of(node, problems)?;
        let kind = fields.required("type").and_then(|node| node.one_of(TYPES, problems));
        let path = fields.required("at").and_then(|node| {
            let path: Vec<_> = node.non_empty(problems)?.split('.').map(str::to_owned).collect();
            if path.len() > MAX_PATH || path.iter().any(String::is_empty) {
                let message = format!("1 to {MAX_PATH} names joined by '.' lead to a field");
                problems.report(node.span, "bad-path", message);
                return None;
            }
            Some(path)
        });
        fields.finish();
        Some(Self { kind: kind?, path: path? })
    }

    /// A field without a path is the member of its own name.
    fn at(mut self, name: &str) -> Self {
        if self.path.is_empty() {
            self.path.push(name.to_owned());
        }
        self
    }
}

/// The names of roles, each once.
fn declared_roles(node: &Node, problems: &Problems) -> Option<Vec<Arc<str>>> {
    let items = node.list(problems)?;
    if items.len() > MAX_DECLARED_ROLES {
        problems.report(node.span, "too-many", format!("{} roles, limit is {MAX_DECLARED_ROLES}", items.len()));
        return None;
    }
    let read: Vec<_> = items.iter().map(|item| role(item, problems)).collect();
    read.into_iter().collect()
}

/// A value and the type that it has by itself.
fn value(node: &Node, problems: &Problems) -> Option<(ValueType, Attribute)> {
    let kind = match &node.kind {
        Kind::Bool(_) => ValueType::Boolean,
        Kind::Integer(..) => ValueType::Integer,
        Kind::Float(..) => ValueType::Decimal,
        Kind::List(_) => ValueType::List,
        Kind::String(_) | Kind::Null | Kind::Map(_) => ValueType::Text,
    };
    Some((kind, kind.read(node, problems)?))
}

fn entries<T>(
    node: Option<&Node>,
    taken: &[&str],
    problems: &Problems,
    read: impl Fn(&Node) -> Option<T>,
) -> Option<BTreeMap<Arc<str>, T>> {
    let Some(node) = node else { return Some(BTreeMap::new()) };
    let entries = node.map(problems)?;
    if entries.len() > MAX_ENTRIES {
        problems.report(node.span, "too-many", format!("{} entries, limit is {MAX_ENTRIES}", entries.len()));
        return None;
    }
    let mut all = BTreeMap::new();
    let mut sound = true;
    for (key, node) in entries {
        let shown: String = key.name.chars().take(64).collect();
        if !is_name(&key.name) {
            let message = format!("{shown:?} is no name: 1 to 64 of a-z A-Z 0-9 _, a letter first");
            problems.report(key.span, "bad-name", message);
            sound = false;
        } else if taken.contains(&key.name.as_str()) {
            problems.report(key.span, "conflict", format!("{shown:?} is there already, without being declared"));
            sound = false;
        }
        match read(node) {
            Some(value) => _ = all.insert(key.name.as_str().into(), value),
            None => sound = false,
        }
    }
    sound.then_some(all)
}

/// What is a name in Cedar too, without quotes.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !RESERVED.contains(&name)
}

/// Words of Cedar.
const RESERVED: [&str; 10] = ["true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"];
