//! JSON Schema 2020-12, checked over the one tree of [`envelope::json`].
//!
//! Used twice: a mapping file's `from.schema` holds what comes in, and an envelope's `type` names what its data must be.
//! The validator is `jsonschema`; `tree.rs` lets it read our tree, so that what is checked is what is mapped and stored.
//!
//! A validation template of OpenMesh's first version (`policy_input_schema`) is taken as the JSON Schema it means; see `dialect`.
//!
//! Where the standard leaves a choice:
//! - `format` is asserted, not only noted, and a format nobody here can check is an error of the schema: whoever writes
//!   `format: date-time` at a border expects it to be held.
//! - Regular expressions run in linear time; look-around and backreferences, which can't, are errors of the schema. The longer a
//!   pattern, the shorter the texts that it may look at: see `cost`.
//! - A `$ref` leads into the same document or to a meta-schema; nothing is fetched.
//! - Numbers are compared by value. `uniqueItems` and `type: integer` go by the digits as they are written; elsewhere
//!   integers of up to 64 bits are exact, and what is beyond them, or no integer, is an IEEE 754 double. `multipleOf`
//!   reads a double as the shortest decimal that names it, so 12.1 is a multiple of 0.1.
//!
//! One keyword is ours and says nothing of the value: `x-residency`, at the root, a jurisdiction or a list of them.

mod compile;
mod cost;
mod detail;
mod dialect;
mod equality;
mod number;
mod tree;

use std::{collections::BTreeMap, fmt, sync::Arc};

use envelope::Json;
use jsonschema::Validator;

pub use cost::{QUICK, places};

use crate::tree::{Tree, Value};

/// A compiled schema. Cheap to clone.
#[derive(Clone)]
pub struct Schema {
    name: Arc<str>,
    json: Arc<Json>,
    validator: Arc<Validator<Tree>>,
    residency: Arc<[Arc<str>]>,
    /// As its patterns are costly.
    most_bytes: Option<usize>,
}

/// A schema that can't be used: `{name}: {detail}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema {name}: {detail}")]
pub struct SchemaError {
    /// Its name.
    pub name: String,
    /// What is wrong, and where.
    pub detail: String,
}

/// Where a value does not conform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) into the value.
    pub pointer: String,
    /// For people; at most 200 characters, and a value is quoted only if it is short.
    pub detail: String,
}

/// Schemas by name, as `telemetry/reading@v1.0.0`.
#[derive(Debug, Clone, Default)]
pub struct Schemas(BTreeMap<Arc<str>, Schema>);

// === impl Schema ===

impl Schema {
    /// Compiles a schema. Not for the hot path: it takes milliseconds.
    pub fn compile(name: &str, text: &[u8]) -> Result<Self, SchemaError> {
        let compiled = compile::compile(text).map_err(|detail| SchemaError { name: name.to_owned(), detail })?;
        let compile::Compiled { json, validator, residency, most_bytes } = compiled;
        Ok(Self {
            name: name.into(),
            json: Arc::new(json),
            validator: Arc::new(validator),
            residency: residency.into(),
            most_bytes,
        })
    }

    /// What it says, as it was read.
    pub fn json(&self) -> &Json {
        &self.json
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The jurisdictions that data of this type has to be in, by its `x-residency`; none if it does not say.
    pub fn residency(&self) -> &[Arc<str>] {
        &self.residency
    }

    /// The first violation, if there is one.
    pub fn check(&self, json: &Json) -> Result<(), Violation> {
        if let Some(most) = self.most_bytes.filter(|most| json.as_str().len() > *most) {
            let bytes = json.as_str().len();
            let detail = format!("has {bytes} bytes, for the patterns of its schema {most} at most");
            return Err(Violation { pointer: String::new(), detail });
        }
        let root = Value::Node(json.root());
        // Twice for what does not conform, but at once for what does: only the second walk notes where it is.
        if self.validator.is_valid(root) {
            return Ok(());
        }
        match self.validator.validate(root) {
            // Not both can be right, and what is not known to conform is refused.
            Ok(()) => Err(Violation { pointer: String::new(), detail: "does not conform".to_owned() }),
            Err(error) => Err(detail::violation(&error, json)),
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl Schemas ===

impl Schemas {
    /// Adds a schema under its name, in place of one that had it.
    pub fn insert(&mut self, schema: Schema) {
        self.0.insert(schema.name.clone(), schema);
    }

    /// The schema of this name.
    pub fn get(&self, name: &str) -> Option<&Schema> {
        self.0.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }
}

#[cfg(test)]
mod tests;
