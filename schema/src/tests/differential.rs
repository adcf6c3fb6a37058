//! Property: over our tree the validator says what it says over its own.

use jsonschema::{Draft, PatternOptions};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::check;
use crate::Schema;

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        (-3_i64..8).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-30_i32..80).prop_map(|n| json!(f64::from(n) / 10.0)),
        select(vec![json!(1.0), json!(-0.0), json!(1e300), json!(0.1), json!(2.5e-7)]),
    ];
    let string = select(vec!["", "a", "ab", "é\n", "\"\\/", "2026-11-23", "aaaa", "🦀🦀"]);
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, string.prop_map(Value::from)];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(select(vec!["a", "b", "é", "", "~/"]), inner, 0..4)
                .prop_map(|members| members.into_iter().map(|(name, v)| (name.to_owned(), v)).collect()),
        ]
    })
}

fn schema() -> impl Strategy<Value = Value> {
    let types = select(vec!["null", "boolean", "integer", "number", "string", "array", "object"]);
    let bound = select(vec![json!(-1), json!(0), json!(2), json!(2.5), json!(i64::MAX), json!(u64::MAX), json!(1e300)]);
    let divisor = select(vec![json!(0.1), json!(0.5), json!(2), json!(3), json!(1e-7)]);
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        types.prop_map(|t| json!({"type": t})),
        (select(vec!["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]), bound)
            .prop_map(|(k, v)| json!({k: v})),
        divisor.prop_map(|d| json!({"multipleOf": d})),
        value().prop_map(|v| json!({"const": v})),
        prop::collection::vec(value(), 1..5).prop_map(|mut vs| {
            vs.dedup();
            json!({"enum": vs})
        }),
        (select(vec!["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"]), 0..4_u8)
            .prop_map(|(k, n)| json!({k: n})),
        select(vec!["^a", "a$", "^(a|b)+$", "^\\S*$", "\\d{4}", "é"]).prop_map(|p| json!({"pattern": p})),
        select(vec!["date", "date-time", "ipv4", "uuid"]).prop_map(|f| json!({"format": f})),
        Just(json!({"uniqueItems": true})),
        prop::collection::btree_set(select(vec!["a", "b", "é", ""]), 1..4).prop_map(|names| json!({"required": names})),
        Just(json!({"$ref": "#/$defs/x"})),
    ];
    let inner = leaf.prop_recursive(3, 16, 3, |inner| {
        let some = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            some().prop_map(|all| json!({"allOf": all})),
            some().prop_map(|any| json!({"anyOf": any})),
            some().prop_map(|one| json!({"oneOf": one})),
            inner.clone().prop_map(|not| json!({"not": not})),
            inner.clone().prop_map(|items| json!({"items": items})),
            inner.clone().prop_map(|one| json!({"contains": one})),
            inner.clone().prop_map(|names| json!({"propertyNames": names})),
            (some(), inner.clone()).prop_map(|(first, rest)| json!({"prefixItems": first, "unevaluatedItems": rest})),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, rest)| { json!({"properties": {"a": a, "b": b}, "additionalProperties": rest}) }),
            (inner.clone(), inner.clone()).prop_map(|(a, e)| {
                json!({"properties": {"a": a}, "patternProperties": {"é": e}, "unevaluatedProperties": false})
            }),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(i, t, e)| json!({"if": i, "then": t, "else": e})),
        ]
    });
    (inner, value()).prop_map(|(inner, v)| json!({"allOf": [inner], "$defs": {"x": {"not": {"const": v}}}}))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn our_tree_gives_the_answers_of_serde_json(schema in schema(), values in prop::collection::vec(value(), 1..6)) {
        let theirs = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .unwrap();
        let ours = Schema::compile("test", schema.to_string().as_bytes()).unwrap();
        for value in values {
            let expected = theirs.validate(&value).map_err(|error| error.instance_path().to_string());
            let found = check(&ours, &value.to_string()).map_err(|violation| violation.pointer);
            prop_assert_eq!(found.is_ok(), expected.is_ok(), "{} {}", &schema, &value);
            prop_assert_eq!(found.is_ok(), theirs.is_valid(&value));
        }
    }
}
