//! Validation templates: the `policy_input_schema` dialect of OpenMesh's first version, as the JSON Schema it means.
//!
//! A template is an object with `policy_input_schema` and perhaps `name`, `version` and `description`. Its value is one rule, or an
//! object of fields with a rule each. What that version did by accident is mended: a pattern holds for the whole text, not for
//! its beginning; `true` is no number; and patterns run in linear time, as everywhere here. A word that it does not know
//! is an error: a rule that nobody checks is none.

use serde_json::{Map, Value, json};

/// The key that makes an object a template.
const KEY: &str = "policy_input_schema";
/// What may stand beside it, for people.
const ABOUT: [&str; 3] = ["name", "version", "description"];
const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "any"];
const WORDS: [&str; 12] = [
    "type",
    "description",
    "required",
    "pattern",
    "min",
    "max",
    "choices",
    "enum",
    "items",
    "properties",
    "additionalProperties",
    "default",
];
/// The deepest nesting of rules.
const MAX_DEPTH: usize = 64;

/// Whether a document is a template and no JSON Schema.
pub(crate) fn is_template(document: &Value) -> bool {
    document.get(KEY).is_some()
}

/// The JSON Schema that a template means. The error says what is wrong, and where.
pub(crate) fn to_json_schema(document: &Value) -> Result<Value, String> {
    let entries = document.as_object().into_iter().flatten();
    if let Some((key, _)) = entries.into_iter().find(|(key, _)| *key != KEY && !ABOUT.contains(&key.as_str())) {
        return Err(format!("at \"/{}\": beside {KEY:?} stand only {}", escaped(key), ABOUT.join(", ")));
    }
    let (place, input) = (format!("/{KEY}"), &document[KEY]);
    let fields = input.as_object().ok_or_else(|| format!("at {place:?}: expected an object of rules"))?;
    match fields.get("type") {
        // a rule of its own; a field that is called "type" has a rule, which is an object
        Some(Value::String(_)) => rule(fields, &place, 0),
        _ => object_of(fields, None, &place, 0),
    }
}

/// An object with these fields. `required`: which must be there; where nothing says so, all that do not say otherwise.
fn object_of(
    fields: &Map<String, Value>,
    required: Option<&Value>,
    place: &str,
    depth: usize,
) -> Result<Value, String> {
    let (mut properties, mut needed) = (Map::new(), Vec::new());
    for (name, value) in fields {
        let place = format!("{place}/{}", escaped(name));
        let field = value.as_object().ok_or_else(|| format!("at {place:?}: expected a rule, which is an object"))?;
        match field.get("required") {
            None | Some(Value::Bool(true)) => needed.push(name.clone()),
            // of the field's own members
            Some(Value::Array(_)) => needed.push(name.clone()),
            Some(Value::Bool(false)) => {}
            Some(_) => return Err(format!("at \"{place}/required\": expected true or false")),
        }
        properties.insert(name.clone(), rule(field, &place, depth + 1)?);
    }
    if let Some(listed) = required {
        let names = listed.as_array().ok_or_else(|| format!("at \"{place}/required\": expected a list of names"))?;
        let names: Option<Vec<_>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        needed = names.ok_or_else(|| format!("at \"{place}/required\": expected a list of names"))?;
    }
    Ok(json!({ "type": "object", "properties": properties, "required": needed }))
}

fn rule(rule: &Map<String, Value>, place: &str, depth: usize) -> Result<Value, String> {
    let wrong = |key: &str, problem: &str| format!("at \"{place}/{}\": {problem}", escaped(key));
    if depth > MAX_DEPTH {
        return Err(format!("at {place:?}: nested deeper than {MAX_DEPTH} rules"));
    }
    if let Some(key) = rule.keys().find(|key| !WORDS.contains(&key.as_str())) {
        return Err(wrong(key, &format!("no word of a rule; there are {}", WORDS.join(", "))));
    }
    let kind = rule.get("type").and_then(Value::as_str).unwrap_or_default();
    if !TYPES.contains(&kind) {
        return Err(wrong("type", &format!("expected one of {}", TYPES.join(", "))));
    }
    let mut schema = match (kind, rule.get("properties")) {
        ("object", Some(Value::Object(fields))) => {
            let place = format!("{place}/properties");
            object_of(fields, rule.get("required").filter(|required| required.is_array()), &place, depth)?
        }
        ("object", None) => json!({ "type": "object" }),
        (_, Some(_)) => return Err(wrong("properties", "expected an object of rules, of an object only")),
        ("any", None) => json!({}),
        (kind, None) => json!({ "type": kind }),
    };
    text_and_bounds(rule, kind, &mut schema).map_err(|(key, problem)| wrong(key, problem))?;
    for word in ["choices", "enum"] {
        match rule.get(word) {
            None => {}
            Some(Value::Array(choices)) if !choices.is_empty() => schema["enum"] = choices.clone().into(),
            Some(_) => return Err(wrong(word, "expected a list of at least one value")),
        }
    }
    match rule.get("items") {
        None => {}
        Some(Value::Object(items)) if kind == "array" => {
            schema["items"] = self::rule(items, &format!("{place}/items"), depth + 1)?;
        }
        Some(_) => return Err(wrong("items", "expected a rule, of an array only")),
    }
    match rule.get("additionalProperties") {
        None => {}
        Some(Value::Bool(more)) if kind == "object" => schema["additionalProperties"] = (*more).into(),
        Some(_) => return Err(wrong("additionalProperties", "expected true or false, of an object only")),
    }
    Ok(schema)
}

/// `pattern`, `min` and `max`. The error is the word that is wrong, and why.
fn text_and_bounds(
    rule: &Map<String, Value>,
    kind: &str,
    schema: &mut Value,
) -> Result<(), (&'static str, &'static str)> {
    if let Some(pattern) = rule.get("pattern") {
        let pattern = pattern.as_str().filter(|_| kind == "string");
        let pattern = pattern.ok_or(("pattern", "expected a pattern, of a string only"))?;
        // without multiline mode, these are the ends of the whole text
        schema["pattern"] = format!("^(?:{pattern})$").into();
    }
    for (word, of_number, of_text, of_list) in
        [("min", "minimum", "minLength", "minItems"), ("max", "maximum", "maxLength", "maxItems")]
    {
        let Some(bound) = rule.get(word) else { continue };
        let (key, fits) = match kind {
            "number" | "integer" => (of_number, bound.is_number()),
            "string" => (of_text, bound.is_u64()),
            "array" => (of_list, bound.is_u64()),
            _ => return Err((word, "only numbers, strings and arrays have a bound")),
        };
        if !fits {
            return Err((word, "expected a number; of a string or an array a whole one from 0"));
        }
        schema[key] = bound.clone();
    }
    Ok(())
}

/// A step of a JSON Pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.chars().take(64).collect::<String>().replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use crate::Schema;

    fn holds(template: &str, value: &str) -> bool {
        let schema = Schema::compile("t", template.as_bytes()).unwrap_or_else(|error| panic!("{template}: {error}"));
        schema.check(&envelope::Json::parse(value.to_owned().into()).unwrap()).is_ok()
    }

    #[test]
    fn a_template_of_fields_is_held() {
        let template = r#"{"policy_input_schema":{
            "unit":{"type":"string","choices":["F","C"]},
            "value":{"type":"number","min":-50,"max":150.5},
            "line":{"type":"string","pattern":"[a-z]+-[0-9]+","max":8,"required":false},
            "tags":{"type":"array","items":{"type":"string","min":1},"max":2,"required":false}}}"#;
        for good in
            [r#"{"unit":"F","value":150.5}"#, r#"{"unit":"C","value":-50,"line":"press-4","tags":["a","b"],"more":1}"#]
        {
            assert!(holds(template, good), "{good}");
        }
        for bad in [
            "[]",
            "{}",
            r#"{"unit":"K","value":1}"#,
            r#"{"unit":"F"}"#,
            r#"{"unit":"F","value":151}"#,
            r#"{"unit":"F","value":"1"}"#,
            r#"{"unit":"F","value":1,"tags":["a","b","c"]}"#,
            r#"{"unit":"F","value":1,"tags":[""]}"#,
            r#"{"unit":"F","value":1,"line":"abcdefg-12"}"#,
        ] {
            assert!(!holds(template, bad), "{bad}");
        }
    }

    #[test]
    fn the_traps_of_the_first_version_are_mended() {
        let pattern = r#"{"policy_input_schema":{"a":{"type":"string","pattern":"[a-z]+|x"}}}"#;
        assert!(holds(pattern, r#"{"a":"abc"}"#));
        for beyond in [r#"{"a":"abc; drop"}"#, r#"{"a":"abc\n"}"#, r#"{"a":"1abc"}"#, r#"{"a":"x1"}"#] {
            assert!(!holds(pattern, beyond), "{beyond}: a pattern is the whole text");
        }
        for kind in ["number", "integer"] {
            let number = format!(r#"{{"policy_input_schema":{{"a":{{"type":"{kind}"}}}}}}"#);
            assert!(holds(&number, r#"{"a":1}"#) && !holds(&number, r#"{"a":true}"#), "true is no number");
        }
        let slow = r#"{"policy_input_schema":{"a":{"type":"string","pattern":"(a+)+"}}}"#;
        assert!(!holds(slow, &format!(r#"{{"a":"{}!"}}"#, "a".repeat(1 << 16))), "linear in the text");
        assert!(Schema::compile("t", br#"{"policy_input_schema":{"a":{"type":"string","pattern":"(?=a)"}}}"#).is_err());
    }

    #[test]
    fn what_is_proven_of_a_template_is_proven_of_the_schema_it_means() {
        let schema = Schema::compile("t", br#"{"policy_input_schema":{"a":{"type":"number"}}}"#).unwrap();
        let json = schema.json().root();
        assert_eq!(json.get("type").and_then(|of| of.as_str()), Some("object"));
        assert!(json.get("properties").and_then(|of| of.get("a")).is_some());
    }

    #[test]
    fn a_template_may_be_one_rule() {
        let nested = r#"{"name":"n","version":"2.0","policy_input_schema":{"type":"object","additionalProperties":false,
            "properties":{"request":{"type":"object","properties":{"id":{"type":"any"}},"required":["id"]},"type":{"type":"string"}},
            "required":["request"]}}"#;
        assert!(holds(nested, r#"{"request":{"id":null}}"#));
        assert!(!holds(nested, r#"{"request":{}}"#));
        assert!(!holds(nested, r#"{"request":{"id":1},"more":1}"#));
        let field_called_type = r#"{"policy_input_schema":{"type":{"type":"string"}}}"#;
        assert!(holds(field_called_type, r#"{"type":"x"}"#) && !holds(field_called_type, r#"{"type":1}"#));
        assert!(holds(r#"{"policy_input_schema":{"type":"array","items":{"type":"integer"}}}"#, "[1,2]"));
    }

    #[test]
    fn a_rule_that_nobody_would_check_is_an_error_with_its_place() {
        for (template, says) in [
            (r#"{"policy_input_schema":[]}"#, "at \"/policy_input_schema\": expected an object of rules"),
            (r#"{"policy_input_schema":{},"code":"x"}"#, "at \"/code\": beside"),
            (r#"{"policy_input_schema":{"a":"string"}}"#, "at \"/policy_input_schema/a\": expected a rule"),
            (r#"{"policy_input_schema":{"a":{}}}"#, "at \"/policy_input_schema/a/type\": expected one of"),
            (r#"{"policy_input_schema":{"a":{"type":"str"}}}"#, "expected one of string, number"),
            (r#"{"policy_input_schema":{"a":{"type":"string","regex":"x"}}}"#, "a/regex\": no word of a rule"),
            (r#"{"policy_input_schema":{"a":{"type":"number","pattern":"x"}}}"#, "a/pattern\": expected a pattern"),
            (r#"{"policy_input_schema":{"a":{"type":"string","min":1.5}}}"#, "a/min\": expected a number"),
            (r#"{"policy_input_schema":{"a":{"type":"boolean","min":1}}}"#, "a/min\": only numbers"),
            (r#"{"policy_input_schema":{"a":{"type":"string","choices":[]}}}"#, "a/choices\": expected a list"),
            (r#"{"policy_input_schema":{"a":{"type":"string","items":{"type":"any"}}}}"#, "a/items\": expected a rule"),
            (r#"{"policy_input_schema":{"a/b":{"type":"string","required":1}}}"#, "/a~1b/required\": expected true"),
            (r#"{"policy_input_schema":{"a":{"type":"string","pattern":"("}}}"#, "pattern"),
        ] {
            let said = Schema::compile("t", template.as_bytes()).map(|_| ()).unwrap_err().detail;
            assert!(said.contains(says), "{template}: {said}");
        }
    }
}
