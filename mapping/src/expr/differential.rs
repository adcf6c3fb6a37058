//! The plan against the `cel` crate wherever both accept, and against whatever text proptest thinks of.

use cel::{Context, Program, Value};
use envelope::Json;
use proptest::prelude::*;

use super::{
    function::SIGNATURES,
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

/// Expressions over strings `payload.s`, `payload.t`, a list of doubles and one of strings.
fn functions() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        Just("payload.s".to_owned()),
        Just("payload.t".to_owned()),
        "[ab€ ]{0,3}".prop_map(|literal| format!("'{literal}'")),
    ];
    let text = text.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
            (inner.clone(), "trim|lowerAscii|upperAscii|reverse").prop_map(|(a, name)| format!("{a}.{name}()")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("{a}.replace({b}, {c})")),
            (inner.clone(), 0..4, 0..5).prop_map(|(a, from, to)| format!("{a}.substring({from}, {to})")),
            (inner.clone(), 0..4).prop_map(|(a, at)| format!("{a}.charAt({at})")),
            inner.clone().prop_map(|a| format!("strings.quote({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("'%s-%x%%'.format([{a}, {b}])")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("{a}.split({b}).join({c})")),
        ]
    });
    let doubles = prop_oneof![
        Just("payload.n".to_owned()),
        (-9..9_i32).prop_map(|by| format!("payload.n.map(x, x * {by}.5)")),
        (-9..9_i32).prop_map(|over| format!("payload.n.filter(x, x > {over}.0)")),
        (-9..9_i32).prop_map(|by| format!("payload.n.filter(x, x < 4.0).map(y, y + {by}.25)")),
    ];
    prop_oneof![
        (text.clone(), "contains|startsWith|endsWith", text.clone())
            .prop_map(|(a, name, b)| format!("{a}.{name}({b})")),
        (text.clone(), "indexOf|lastIndexOf", text.clone(), -1..4)
            .prop_map(|(a, name, b, n)| format!("{a}.{name}({b}) == {n}")),
        (text.clone(), text.clone(), 0..5, -1..4)
            .prop_map(|(a, b, to, n)| format!("{a}.lastIndexOf({b}, {to}) == {n}")),
        (doubles.clone(), "%.2f|%e|%.0f|%d|%s", text.clone()).prop_map(|(list, clause, t)| {
            format!(
                "{list}.map(x, x * 1.5).exists(x, '{clause}'.format([x]) < {t} || '{clause}'.format([x]).contains('5'))"
            )
        }),
        ("%d|%x|%X|%o|%b", -300..300_i64, -300..300_i64)
            .prop_map(|(clause, a, b)| format!("'{clause}'.format([{a}]) < '{clause}'.format([{b}])")),
        ("%s", doubles.clone()).prop_map(|(clause, list)| {
            format!("size('{clause}'.format([[{list}.map(x, x * 1.5), null, {{'b': true, 'a': 'x'}}]])) > 30")
        }),
        (doubles.clone(), -9..9_i32, 0..2_usize)
            .prop_map(|(list, by, at)| format!("{list}.sortBy(x, (x - {by}.0) * (x - {by}.0))[{at}] > 0.0")),
        (doubles.clone(), -9..9_i32).prop_map(|(list, n)| format!("{list}.exists(x, math.sqrt(x * x) == {n}.0)")),
        ("bitAnd|bitOr|bitXor|bitShiftLeft|bitShiftRight", any::<i32>(), 0..70_i64, any::<i64>())
            .prop_map(|(name, a, b, c)| format!("math.{name}({a}, {b}) < math.bitNot({c})")),
        (text.clone(), 0..9).prop_map(|(a, n)| format!("size({a}) == {n}")),
        (text.clone(), "==|!=|<|<=|>|>=", text).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (doubles.clone(), "all|exists|exists_one", -9..9_i32)
            .prop_map(|(list, name, n)| format!("{list}.{name}(x, x >= {n}.0)")),
        (doubles.clone(), 0..4).prop_map(|(list, n)| format!("size({list}) == {n}")),
        (doubles.clone(), "greatest|least", -9..9_i32)
            .prop_map(|(list, name, n)| format!("math.{name}({list}) < {n}.0")),
        (doubles, "ceil|floor|round|trunc|abs|sign", -9..9_i32)
            .prop_map(|(list, name, n)| format!("{list}.exists(x, math.{name}(x) == {n}.0)")),
    ]
}

fn crate_tells(text: &str, s: &str, t: &str, n: &[f64]) -> Option<bool> {
    let mut env = cel::Env::stdlib();
    for extension in [cel::extensions::strings, cel::extensions::math, cel::extensions::lists] {
        env.add_extension(extension).unwrap();
    }
    let program = env.compile(text).ok()?;
    let mut context = Context::with_env(std::sync::Arc::new(env));
    let payload = std::collections::HashMap::from([
        ("s".to_owned(), Value::from(s)),
        ("t".to_owned(), Value::from(t)),
        ("n".to_owned(), Value::from(n.to_vec())),
    ]);
    context.add_variable_from_value("payload", payload);
    match program.execute(&context).ok()? {
        Value::Bool(value) => Some(value),
        _ => None,
    }
}

fn plan_tells(text: &str, s: &str, t: &str, n: &[f64]) -> Option<bool> {
    let payload = json(&format!(r#"{{"s":{s:?},"t":{t:?},"n":{n:?}}}"#));
    let scope = Scope { payload: ScopePayload::Json(payload.root()), ..Scope::NOTHING };
    compile(text, names(&[])).ok()?.test(&scope).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn functions_of_plan_and_crate_agree_wherever_both_accept(
        text in functions(),
        s in "[abAB€ ]{0,5}",
        t in "[ab]{0,2}",
        n in proptest::collection::vec((-40..40_i32).prop_map(|n| f64::from(n) / 4.0), 0..4),
    ) {
        if let (Some(ours), Some(theirs)) = (plan_tells(&text, &s, &t, &n), crate_tells(&text, &s, &t, &n)) {
            prop_assert_eq!(ours, theirs, "{} with s = {:?}, t = {:?}, n = {:?}", text, s, t, n);
        }
    }

    #[test]
    fn no_call_on_any_value_is_a_panic(
        on in "payload\\.(f|q|ids|items|deep|neg|on|nothing|unit)|now|duration\\('1s'\\)|'å€'|\\[1, 'a', now\\]|-?[0-9]{1,19}|1e300",
        call in 0..SIGNATURES.len(),
        with in proptest::collection::vec("payload\\.(f|q|ids|neg|unit|big)|now|'å?'|-?[0-9]|9223372036854775807|''|1\\.5", 0..4),
        around in "|\\[0\\]|\\.a| \\+ 1| - now| \\+ 'x'| < 2|\\.map\\(x, x\\)|\\.all\\(x, x > 1\\)| in \\[1\\]",
    ) {
        let signature = &SIGNATURES[call];
        let text = match signature.method {
            true => format!("{on}.{}({}){around}", signature.name, with.join(", ")),
            false => format!("{}({}){around}", signature.name, [vec![on], with].concat().join(", ")),
        };
        if let Ok(expr) = compile(&text, names(&[])) {
            let payload = json(PAYLOAD);
            let scope = Scope { payload: ScopePayload::Json(payload.root()), ..Scope::NOTHING };
            let mut out = Vec::new();
            if expr.write_json(&scope, 128, &mut out).is_ok() {
                prop_assert!(Json::parse(out.into()).is_ok(), "{} wrote no JSON", text);
            }
        }
    }
}

#[test]
fn functions_are_accepted_by_both() {
    for text in [
        "payload.s.trim().upperAscii().replace('A', 'b').split('b').join('-').contains('-')",
        "payload.s.substring(1, 2) == payload.s.charAt(1) && payload.t.indexOf('a') == payload.t.lastIndexOf('a')",
        "payload.n.filter(x, x > 1.0).map(x, math.abs(math.round(x))).all(x, x >= 2.0)",
        "math.greatest(payload.n) > math.least(payload.n) && size(payload.s) == 3",
        "'%s %.1f %x %e'.format([payload.s, payload.n[1], 255, 1234.5]) == ' ab 2.5 ff 1.234500e+03'",
        "payload.n.sortBy(x, -x)[0] == math.sqrt(9.0) && math.bitShiftLeft(math.bitOr(1, 2), 2) == 12",
        "strings.quote(payload.s).lastIndexOf('b', 3) == 3 && math.isFinite(payload.n[0])",
    ] {
        let inputs = (" ab", "ab", [1.0, 2.5, 3.0]);
        assert_eq!(plan_tells(text, inputs.0, inputs.1, &inputs.2), Some(true), "{text}");
        assert_eq!(crate_tells(text, inputs.0, inputs.1, &inputs.2), Some(true), "{text}");
    }
}
