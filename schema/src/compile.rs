//! Text to validator: a strict parse, then the validator's own checks, with every error at its place in the schema.

use bytes::Bytes;
use envelope::Json;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use crate::{detail, tree::Tree};

/// The only dialect; without `$schema` it is meant.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The most memory one compiled regular expression takes, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// The error says what is wrong, and where.
pub(crate) fn compile(text: &[u8]) -> Result<Validator<Tree>, String> {
    // Ours first: it refuses duplicate keys, of which the other would quietly take the last.
    Json::parse(Bytes::copy_from_slice(text)).map_err(|error| error.to_string())?;
    let schema: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match schema.get("$schema") {
        None => {}
        Some(Value::String(dialect)) if dialect.trim_end_matches('#') == DIALECT => {}
        Some(other) => return Err(format!("at \"/$schema\": {other} is not supported, only \"{DIALECT}\"")),
    }
    jsonschema::options_for::<Tree>()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX))
        .build(&schema)
        .map_err(|error| detail::of_schema(&error))
}
