//! Text to validator: a strict parse, then the validator's own checks, with every error at its place in the schema.

use std::sync::Arc;

use bytes::Bytes;
use envelope::Json;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use crate::{cost, detail, dialect, tree::Tree};

/// The only dialect; without `$schema` it is meant.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The most memory one compiled regular expression takes, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// The keyword of where data of the type has to be.
const RESIDENCY: &str = "x-residency";

/// What a schema says.
pub(crate) struct Compiled {
    pub(crate) json: Json,
    pub(crate) validator: Validator<Tree>,
    pub(crate) residency: Vec<Arc<str>>,
    /// How large a message may be, as its patterns are costly.
    pub(crate) most_bytes: Option<usize>,
}

/// The error says what is wrong, and where.
pub(crate) fn compile(text: &[u8]) -> Result<Compiled, String> {
    // Ours first: it refuses duplicate keys, of which the other would quietly take the last.
    let json = Json::parse(Bytes::copy_from_slice(text)).map_err(|error| error.to_string())?;
    let schema: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let (mut schema, json) = match dialect::is_template(&schema) {
        true => {
            let meant = dialect::to_json_schema(&schema)?;
            let json = Json::parse(meant.to_string().into()).map_err(|error| error.to_string())?;
            (meant, json)
        }
        false => (schema, json),
    };
    let most_bytes = cost::most_bytes(cost::bound(&mut schema));
    match schema.get("$schema") {
        None => {}
        Some(Value::String(dialect)) if dialect.trim_end_matches('#') == DIALECT => {}
        Some(other) => return Err(format!("at \"/$schema\": {other} is not supported, only \"{DIALECT}\"")),
    }
    let residency = residency(schema.get(RESIDENCY))?;
    let validator = jsonschema::options_for::<Tree>()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX))
        .build(&schema)
        .map_err(|error| {
            let place = detail::place_in_schema(&error);
            match pattern(&schema, place) {
                Some(why) => detail::bounded(format_args!("at {place:?}: {why}")),
                None => detail::of_schema(&error),
            }
        })?;
    Ok(Compiled { json, validator, residency, most_bytes })
}

/// What is wrong with the pattern at a place; among `patternProperties`, with the first that is wrong.
fn pattern(schema: &Value, place: &str) -> Option<String> {
    let (parent, last) = place.rsplit_once('/')?;
    if last == "pattern" {
        return cost::refused(schema.pointer(place)?.as_str()?, MAX_REGEX);
    }
    // the place is all of them, or one
    let of = if parent.ends_with("/patternProperties") { parent } else { place };
    let names = schema.pointer(of).filter(|_| of.ends_with("/patternProperties"))?.as_object()?;
    names.keys().find_map(|name| cost::refused(name, MAX_REGEX))
}

/// One jurisdiction or a list of them, as in `no` or `us-ca`.
fn residency(keyword: Option<&Value>) -> Result<Vec<Arc<str>>, String> {
    let Some(keyword) = keyword else { return Ok(Vec::new()) };
    let label = |value: &Value| -> Option<Arc<str>> {
        let text = value.as_str()?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (!text.is_empty() && text.len() <= 63 && text.chars().all(plain)).then(|| text.into())
    };
    let labels: Option<Vec<_>> = match keyword {
        Value::Array(items) if !items.is_empty() => items.iter().map(label).collect(),
        one => label(one).map(|label| vec![label]),
    };
    labels
        .ok_or_else(|| format!("at \"/{RESIDENCY}\": {keyword} is no jurisdiction such as \"no\", nor a list of them"))
}
