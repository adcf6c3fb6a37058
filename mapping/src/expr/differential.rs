//! The plan against the `cel` crate wherever both accept, and against whatever text proptest thinks of.

use cel::{Context, Program, Value};
use envelope::Json;
use proptest::prelude::*;

use super::{
    tests::{PAYLOAD, json, names},
    *,
};

/// Expressions over doubles `payload.a`, `payload.b` and booleans.
fn number() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("payload.a".to_owned()),
        Just("payload.b".to_owned()),
        (-1_000_i32..1_000).prop_map(|n| format!("{:.2}", f64::from(n) / 8.0)),
    ];
    leaf.prop_recursive(5, 32, 3, |inner| {
        prop_oneof![
            (inner.clone(), "[-+*/]", inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), "[-+*/]", inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("-({a})")),
            (inner.clone(), "<|<=|>|>=|==|!=", inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, op, b, yes, no)| format!("({a} {op} {b} ? {yes} : {no})")),
            (inner.clone(), inner.clone(), "&&|\\|\\|", inner.clone(), inner)
                .prop_map(|(a, b, op, c, d)| format!("(!({a} < {b}) {op} {c} == {d} ? {a} : {d})")),
        ]
    })
}

fn crate_says(text: &str, a: f64, b: f64) -> Option<f64> {
    let mut context = Context::default();
    let payload = std::collections::HashMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
    context.add_variable("payload", payload).unwrap();
    match Program::compile(text).ok()?.execute(&context).ok()? {
        Value::Float(value) => Some(value),
        _ => None,
    }
}

fn plan_says(text: &str, a: f64, b: f64) -> Option<f64> {
    let payload = json(&format!(r#"{{"a":{a:?},"b":{b:?}}}"#));
    let scope = Scope { payload: ScopePayload::Json(payload.root()), ..Scope::NOTHING };
    let mut out = Vec::new();
    compile(text, names(&[])).ok()?.write_json(&scope, 128, &mut out).ok()?;
    Some(std::str::from_utf8(&out).unwrap().parse().unwrap())
}

fn small() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>().prop_filter("finite", |v| v.is_finite()), (-64_i32..64).prop_map(f64::from)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn plan_and_crate_agree_wherever_both_accept(text in number(), a in small(), b in small()) {
        if let (Some(ours), Some(theirs)) = (plan_says(&text, a, b), crate_says(&text, a, b)) {
            prop_assert_eq!(ours, theirs, "{} with a = {:?}, b = {:?}", text, a, b);
        }
    }

    #[test]
    fn most_of_them_are_accepted_by_both(a in 1.0..64.0_f64, b in 1.0..64.0_f64) {
        let text = "payload.a * 2.0 + (payload.a > payload.b ? payload.b / payload.a : -payload.b) - 1.25";
        let ours = plan_says(text, a, b);
        prop_assert!(ours.is_some());
        prop_assert_eq!(ours, crate_says(text, a, b));
    }

    #[test]
    fn no_text_is_a_panic(text in "[-+*/%()\\[\\]{}.,:?!&|<>='\" a-z0-9$\\\\é]{0,80}") {
        let _ = compile(&text, names(&[]));
    }

    #[test]
    fn no_words_are_a_panic(words in proptest::collection::vec("payload|headers|has\\(|size\\(|\\)|\\.a|\\[0\\]|\\['k'\\]|1|2\\.5|'s'|\\+|-|\\*|/|%|==|<|&&|\\|\\||!|\\?|:|in|true|null|\\(", 0..24)) {
        let text = words.join(" ");
        if let Ok(expr) = compile(&text, names(&[])) {
            let payload = json(PAYLOAD);
            let scope = Scope { payload: ScopePayload::Json(payload.root()), ..Scope::NOTHING };
            let mut out = Vec::new();
            if expr.write_json(&scope, 128, &mut out).is_ok() {
                prop_assert!(Json::parse(out.into()).is_ok(), "{} wrote no JSON", text);
            }
        }
    }

    #[test]
    fn a_number_reads_back_as_itself(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
        let ours = plan_says("payload.a + 0.0", value, 0.0);
        prop_assert_eq!(ours, Some(value + 0.0));
    }
}
