//! The proof against what messages really do.

use std::{sync::Arc, time::SystemTime};

use envelope::{Identity, Inbound, Json, Lane, MapResult, Principal, RejectKind};
use proptest::prelude::*;
use schema::{Schema, Schemas};

use super::*;
use crate::{Bridge, Context, Mappings, Source, Tables, load};

/// A mapping with these schemas and this `data` for `{ v: ... }`.
fn prove(input: &str, output: &str, data: &str, more: &str) -> Result<Mappings, yaml::Diagnostics> {
    let mut schemas = Schemas::default();
    schemas.insert(Schema::compile("in", input.as_bytes()).unwrap());
    schemas.insert(Schema::compile("out@v1.0.0", output.as_bytes()).unwrap());
    let text = format!(
        "mapping: m\nfrom: {{ bridge: web, address: a, schema: schemas/in.json }}\n{more}\nenvelope:\n  topic: t\n  schema: out@v1.0.0\n{data}\n"
    );
    let bridges = [Bridge::named("web")];
    let context = Context::new("d", &bridges, &schemas, Tables::none());
    load(&[Source { path: "m.yaml", text: &text }], &context)
}

fn problems(input: &str, output: &str, data: &str, more: &str) -> Vec<String> {
    let errors = prove(input, output, data, more).map(|_| ()).expect_err("loads");
    let shown = |e: &yaml::Diagnostic| format!("{} {} {}", e.code, e.message, e.help.clone().unwrap_or_default());
    errors.iter().map(shown).collect()
}

fn verdicts(mappings: &Mappings) -> Vec<(String, Verdict)> {
    let route = mappings.routes().next().unwrap();
    let data = route.proofs.iter().filter(|proof| proof.field.starts_with("envelope.data"));
    data.map(|proof| (proof.field.clone(), proof.verdict.clone())).collect()
}

const READING: &str = r#"{"type":"object","required":["f"],"properties":{"f":{"type":"number","minimum":-459.67},
    "state":{"enum":["on","off"]},"note":{"type":"string"}},"additionalProperties":false}"#;
const CELSIUS: &str = r#"{"type":"object","required":["celsius"],"properties":{
    "celsius":{"type":"number","minimum":-273.16},"note":{"type":"string"}},"additionalProperties":false}"#;

#[test]
fn what_the_schemas_say_is_proven_field_by_field() {
    let mappings =
        prove(READING, CELSIUS, "  data: { celsius: \"${(payload.f - 32) * 5 / 9}\", note: \"${payload.note}\" }", "");
    let found = verdicts(&mappings.unwrap());
    assert_eq!(found[0], ("envelope.data.celsius".to_owned(), Verdict::Proven));
    assert_eq!(found[1].0, "envelope.data.note");
    let Verdict::AtRunTime(why) = &found[1].1 else { panic!("{found:?}") };
    assert_eq!(why, &["payload.note: member \"note\" may be missing"]);
}

#[test]
fn what_the_schema_requires_must_be_given_and_proven() {
    let found = problems(READING, CELSIUS, "  data: { note: \"a\" }", "");
    assert!(found[0].starts_with("missing-member envelope.data: member \"celsius\" is missing"), "{found:?}");
    let found = problems(READING, CELSIUS, "  data: { celsius: \"${payload.f}\" }", "");
    assert!(
        found[0].starts_with(
            "unproven envelope.data.celsius is required and not proven: the schema has \"minimum\": -273.16"
        ),
        "{found:?}"
    );
    assert!(found[0].contains("unproven: dead-letter"), "{found:?}");
    assert!(prove(READING, CELSIUS, "  data: { celsius: \"${payload.f}\" }", "unproven: dead-letter").is_ok());
}

#[test]
fn what_can_never_fit_is_an_error_whatever_the_file_says() {
    for (data, says) in [
        (
            "{ celsius: \"${payload.note}\" }",
            "never-fits envelope.data.celsius: the schema wants number, this is string",
        ),
        ("{ celsius: \"cold ${payload.f}\" }", "the schema wants number, this is string"),
        ("{ celsius: 1, colour: red }", "never-fits envelope.data.colour: the schema allows no value here"),
        ("{ celsius: \"${payload.ff}\" }", "unknown-member the schema has no member \"ff\" here did you mean \"f\"?"),
        ("{ celsius: -300 }", "never-fits envelope.data.celsius: the schema has \"minimum\": -273.16"),
        ("[1]", "the schema wants object, this is array"),
    ] {
        let found = problems(READING, CELSIUS, &format!("  data: {data}"), "unproven: dead-letter");
        assert!(found[0].contains(says), "{data}: {found:?}");
    }
}

#[test]
fn a_condition_that_the_schema_never_lets_be_true_is_an_error_with_its_place() {
    let data = "  data: { celsius: 1 }";
    for (when, says) in [
        ("payload.state == 'of'", "never-true is true for no message"),
        ("payload.f < -1000", "never-true"),
        ("payload.stat == 'on'", "did you mean \"state\"?"),
        ("has(payload.stat)", "never-true"),
        ("payload.state == 'on' && payload.state == 'off'", "never-true"),
    ] {
        let found = problems(READING, CELSIUS, data, &format!("when: {when:?}"));
        assert!(found.len() == 1 && found[0].contains(says), "{when}: {found:?}");
    }
    for when in
        ["has(payload.state) && payload.state == 'on'", "!has(payload.other)", "payload.f > 0 || has(payload.x)"]
    {
        prove(READING, CELSIUS, data, &format!("when: {when:?}")).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn what_when_says_is_known_in_the_rest_of_the_file() {
    let more = "when: has(payload.note) && payload.f > 0\nlet: { note: payload.note }";
    let mappings = prove(READING, CELSIUS, "  data: { celsius: \"${payload.f}\", note: \"${note}\" }", more);
    assert!(verdicts(&mappings.unwrap()).iter().all(|(_, verdict)| *verdict == Verdict::Proven));
}

#[test]
fn names_and_items_carry_what_is_known_of_them() {
    let list = r#"{"type":"array","items":{"type":"object","required":["c"],"properties":{"c":{"type":"number","minimum":0}}}}"#;
    let more = "each: payload\nlet: { c: item.c, twice: c * 2 }";
    let mappings = prove(list, CELSIUS, "  data: { celsius: \"${twice}\" }", more).unwrap();
    assert_eq!(verdicts(&mappings), [("envelope.data.celsius".to_owned(), Verdict::Proven)]);
    let found = problems(list, CELSIUS, "  data: { celsius: \"${item.d}\" }", "each: payload");
    assert!(found[0].contains("member \"d\" may be missing"), "{found:?}");
    let found = problems(READING, CELSIUS, "  data: { celsius: 1 }", "each: payload.f");
    assert!(found[0].contains("never-fits expected an array, found a number"), "{found:?}");
}

#[test]
fn a_payload_that_goes_through_is_proven_as_it_is() {
    let input = r#"{"type":"object","required":["celsius"],"properties":{"celsius":{"type":"number","minimum":0}},"additionalProperties":false}"#;
    let mappings = prove(input, CELSIUS, "", "").unwrap();
    assert_eq!(verdicts(&mappings), [("envelope.data".to_owned(), Verdict::Proven)]);
    let found = problems(READING, CELSIUS, "", "");
    assert!(found[0].contains("envelope.data: member \"celsius\" is missing"), "{found:?}");
}

#[test]
fn keywords_that_types_say_nothing_of_are_checked_at_run_time() {
    for keyword in ["\"multipleOf\": 0.5", "\"not\": { \"const\": 3 }", "\"if\": true"] {
        let output = format!("{{\"properties\":{{\"v\":{{ {keyword} }}}}}}");
        let mappings = prove(READING, &output, "  data: { v: \"${payload.f}\" }", "").unwrap();
        let found = verdicts(&mappings);
        assert!(matches!(found[0].1, Verdict::AtRunTime(_)), "{keyword}: {found:?}");
    }
}

#[test]
fn integers_of_the_schema_divide_as_integers() {
    let input = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer","minimum":0,"maximum":100}}}"#;
    let output = r#"{"type":"object","required":["v"],"properties":{"v":{"type":"integer"}}}"#;
    let mappings = prove(input, output, "  data: { v: \"${payload.n / 2}\" }", "").unwrap();
    assert_eq!(data(&mappings, r#"{"n":7}"#), Ok("{\"v\":3}".to_owned()));
    assert_eq!(data(&mappings, r#"{"n":7.0}"#), Ok("{\"v\":3}".to_owned()));
    let plain = input.replace("integer", "number");
    let mappings = prove(&plain, output, "  data: { v: \"${payload.n / 2}\" }", "unproven: dead-letter").unwrap();
    assert!(data(&mappings, r#"{"n":7}"#).unwrap_err().starts_with("conformance"));
}

fn data(mappings: &Mappings, payload: &str) -> Result<String, String> {
    let inbound = Inbound {
        bridge: "web".into(),
        address: "a".into(),
        headers: Arc::new([]),
        payload: payload.to_owned().into(),
        lane: Lane(0),
        identity: Identity::Native("n".into()),
        principal: Arc::new(Principal::anonymous("d")),
        peer: None,
        trace: None,
        retain: false,
        unacknowledged: false,
        hops: Vec::new(),
        received_at: SystemTime::UNIX_EPOCH,
    };
    match mappings.dry_run(inbound) {
        MapResult::Mapped(mapped) => Ok(String::from_utf8(mapped.group.as_slice()[0].data.bytes().to_vec()).unwrap()),
        MapResult::Filtered(_) => Err("filtered".to_owned()),
        MapResult::Refused(_, rejection) if rejection.kind == RejectKind::TooLarge => Err("range".to_owned()),
        MapResult::Refused(_, rejection) if rejection.detail.contains("out of range") => Err("range".to_owned()),
        MapResult::Refused(_, rejection) => Err(format!("{}: {}", rejection.decided_by, rejection.detail)),
    }
}

// === schemas that refer to themselves ===

/// An expression tree of five alternatives, each with a comment of its own.
fn expressions(comment: &str) -> String {
    let one = |op: &str| {
        format!(
            r##"{{"type":"object","required":["op","left","right"],"properties":{{"op":{{"const":"{op}"}},
            "left":{{"$ref":"#/$defs/e"}},"right":{{"$ref":"#/$defs/e"}}}}}}"##
        )
    };
    let all = ["add", "sub", "mul", "div"].map(one).join(",");
    format!(
        r##"{{"$comment":"{comment}","$defs":{{"e":{{"oneOf":[{{"type":"number"}},{all}]}}}},"$ref":"#/$defs/e"}}"##
    )
}

#[test]
fn a_schema_that_refers_to_itself_is_proven_against_itself_at_once() {
    let mappings = prove(&expressions("a"), &expressions("a"), "", "").unwrap();
    assert_eq!(verdicts(&mappings), [("envelope.data".to_owned(), Verdict::Proven)]);
}

#[test]
fn what_is_compared_for_one_proof_has_an_end() {
    let begin = std::time::Instant::now();
    let mappings = prove(&expressions("a"), &expressions("b"), "", "unproven: dead-letter").unwrap();
    assert!(matches!(&verdicts(&mappings)[0].1, Verdict::AtRunTime(_)));
    assert!(begin.elapsed() < std::time::Duration::from_secs(5), "took {:?}", begin.elapsed());
}

// === tuples ===

#[test]
fn items_of_a_tuple_are_those_behind_its_first() {
    let input = r#"{"type":"object","required":["k"],"properties":{"k":{"type":"string"}}}"#;
    let pair = r#"{"type":"array","prefixItems":[{"type":"string"}],"items":false,"minItems":1}"#;
    let output = format!(r#"{{"type":"object","required":["r"],"properties":{{"r":{pair}}}}}"#);
    let mappings = prove(input, &output, "  data: { r: [\"${payload.k}\"] }", "").unwrap();
    assert!(verdicts(&mappings).iter().all(|(_, verdict)| *verdict == Verdict::Proven));
    assert_eq!(data(&mappings, r#"{"k":"a"}"#), Ok(r#"{"r":["a"]}"#.to_owned()));
    let found = problems(input, &output, "  data: { r: [\"${payload.k}\", b] }", "unproven: dead-letter");
    assert!(found[0].contains("the schema allows no value here"), "{found:?}");
    let found = problems(input, &output, "  data: { r: [1] }", "unproven: dead-letter");
    assert!(found[0].contains("the schema wants string, this is number"), "{found:?}");
    for (input, output) in [(pair.to_owned(), pair.to_owned()), (pair.to_owned(), format!(" {pair}"))] {
        let mappings = prove(&input, &output, "", "").unwrap();
        assert_eq!(verdicts(&mappings)[0].1, Verdict::Proven);
        assert_eq!(data(&mappings, r#"["a"]"#), Ok(r#"["a"]"#.to_owned()));
    }
}

// === what stands within text ===

#[test]
fn a_boolean_within_text_is_one_of_its_words() {
    let input = r#"{"type":"object","required":["k"],"properties":{"k":{"type":"boolean"}}}"#;
    let output =
        |words: &str| format!(r#"{{"type":"object","required":["v"],"properties":{{"v":{{"enum":[{words}]}}}}}}"#);
    let made = "  data: { v: \"x${payload.k ? 'F' : payload.k}\" }";
    let found = problems(input, &output(r#""xF""#), made, "");
    assert!(found[0].starts_with("unproven envelope.data.v"), "{found:?}");
    let mappings = prove(input, &output(r#""xF","xfalse","xtrue""#), made, "").unwrap();
    assert_eq!(data(&mappings, r#"{"k":false}"#), Ok(r#"{"v":"xfalse"}"#.to_owned()));
}

#[test]
fn a_timestamp_that_its_schema_lets_in_is_read() {
    let input = r#"{"type":"object","required":["t"],"properties":{"t":{"type":"string","format":"date-time"}}}"#;
    let output = r#"{"type":"object","required":["t"],"properties":{"t":{"type":"string","format":"date-time"}}}"#;
    let mappings = prove(input, output, "  data: { t: \"${timestamp(payload.t)}\" }", "").unwrap();
    assert_eq!(data(&mappings, r#"{"t":"2026-01-01t00:00:00z"}"#), Ok(r#"{"t":"2026-01-01T00:00:00.000000Z"}"#.into()));
    for leap in ["2016-12-31T23:59:60Z", "2026-01-01t00:00:00.1234567891234+23:59", "1970-01-01T00:00:00-00:00"] {
        assert!(data(&mappings, &format!(r#"{{"t":{leap:?}}}"#)).is_ok(), "{leap}");
    }
    for early in ["1969-12-31T23:59:59Z", "0000-02-29T00:00:00Z", "9999-12-31T23:59:59-01:00"] {
        assert_eq!(data(&mappings, &format!(r#"{{"t":{early:?}}}"#)), Err("range".to_owned()), "{early}");
    }
}

// === the proof is sound ===

fn leaf() -> impl Strategy<Value = String> {
    prop_oneof![
        (-5..5_i32, 0..9_i32)
            .prop_map(|(low, more)| format!(r#"{{"type":"number","minimum":{low},"maximum":{}}}"#, low + more)),
        (-5..5_i32).prop_map(|low| format!(r#"{{"type":"integer","minimum":{low}}}"#)),
        (-5..5_i32).prop_map(|low| format!(r#"{{"type":"number","exclusiveMinimum":{low}}}"#)),
        Just(r#"{"type":"integer"}"#.to_owned()),
        Just(r#"{"type":"number"}"#.to_owned()),
        (0..3_usize, 0..4_usize).prop_map(|(least, more)| {
            format!(r#"{{"type":"string","minLength":{least},"maxLength":{}}}"#, least + more)
        }),
        Just(r#"{"type":"string"}"#.to_owned()),
        Just(r#"{"enum":["a","b"]}"#.to_owned()),
        Just(r#"{"enum":["a","17",3]}"#.to_owned()),
        Just(r#"{"enum":["17","4"]}"#.to_owned()),
        Just(r#"{"const":2}"#.to_owned()),
        Just(r#"{"type":["string","null"]}"#.to_owned()),
        Just(r#"{"anyOf":[{"type":"integer","maximum":3},{"type":"string","minLength":1}]}"#.to_owned()),
        Just(r#"{"oneOf":[{"type":"boolean"},{"type":"number","minimum":2}]}"#.to_owned()),
        Just(r#"{"type":"string","pattern":"^[a-c]+$"}"#.to_owned()),
        Just(r#"{"type":"string","format":"date-time"}"#.to_owned()),
        Just(r#"{"type":"boolean"}"#.to_owned()),
        Just("true".to_owned()),
    ]
}

fn part() -> impl Strategy<Value = String> {
    leaf().prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), 0..3_usize, 0..3_usize).prop_map(|(items, least, more)| {
                format!(r#"{{"type":"array","items":{items},"minItems":{least},"maxItems":{}}}"#, least + more)
            }),
            (inner, any::<bool>(), any::<bool>()).prop_map(|(member, required, open)| {
                let required = if required { r#","required":["x"]"# } else { "" };
                format!(r#"{{"type":"object","properties":{{"x":{member}}}{required},"additionalProperties":{open}}}"#)
            }),
        ]
    })
}

fn input() -> impl Strategy<Value = String> {
    (part(), part(), part(), proptest::sample::subsequence(vec!["a", "b", "c"], 1..=3), any::<bool>()).prop_map(
        |(a, b, c, required, open)| {
            format!(
                r#"{{"type":"object","properties":{{"a":{a},"b":{b},"c":{c}}},"required":{required:?},"additionalProperties":{open}}}"#
            )
        },
    )
}

fn place() -> impl Strategy<Value = String> {
    ("a|b|c", "|||\\.x|\\[0\\]|\\[1\\]").prop_map(|(name, more)| format!("payload.{name}{more}"))
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        6 => place(),
        1 => (-3..9_i32).prop_map(|n| n.to_string()),
        1 => (-3..9_i32).prop_map(|n| format!("{n}.5")),
        1 => "'(a|b|17|)'",
        1 => Just("now".to_owned()),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), "[-+*/%]", inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (place(), "==|!=|<|<=|>|>=", "-?[0-9]|'a'|'b'|true|null", inner.clone(), inner.clone())
                .prop_map(|(a, op, literal, yes, no)| format!("({a} {op} {literal} ? {yes} : {no})")),
            ("a|b|c", inner.clone(), inner.clone())
                .prop_map(|(name, yes, no)| format!("(has(payload.{name}) ? {yes} : {no})")),
            ("a|b|c", "a|b|c", inner.clone(), inner.clone(), "&&|\\|\\|", "|!").prop_map(
                |(a, b, yes, no, op, not)| format!("({not}(has(payload.{a}) {op} payload.{b} == 'a') ? {yes} : {no})")
            ),
            (place(), 0..3_usize, inner.clone(), inner.clone())
                .prop_map(|(list, n, yes, no)| format!("(size({list}) > {n} ? {yes} : {no})")),
            (inner.clone(), "trim|lowerAscii|reverse|size|sort|distinct|flatten|getDayOfYear|getDayOfMonth")
                .prop_map(|(a, name)| format!("{a}.{name}()")),
            (inner.clone(), "int|double|string|math\\.abs|math\\.floor|math\\.round|math\\.sign|timestamp|-|size")
                .prop_map(|(a, name)| format!("{name}({a})")),
            (place(), "x|x \\+ 1|x \\* 2|x \\+ 'a'|string\\(x\\)|size\\(x\\)")
                .prop_map(|(list, body)| format!("{list}.map(x, {body})")),
            (place(), "x > 2|x == 'a'|x != null|size\\(x\\) > 1")
                .prop_map(|(list, test)| format!("{list}.filter(x, {test})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            inner.clone().prop_map(|a| format!("{{\"x\": {a}}}")),
            (inner.clone(), 0..3_usize).prop_map(|(a, n)| format!("{a}.substring({n})")),
            (inner.clone(), 0..2_usize, 0..3_usize)
                .prop_map(|(a, from, more)| format!("{a}.slice({from}, {})", from + more)),
            inner.clone().prop_map(|a| format!("lists.range({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("math.greatest({a}, {b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a} in [{b}, 'a', 3])")),
        ]
    })
}

/// How many of the outputs were proven; fails if one of them does not hold.
fn hold(input: &str, outputs: &[String], text: &str, seed: u64) -> Result<usize, String> {
    let schema = Schema::compile("in", input.as_bytes()).unwrap();
    let admitted = payload(crate::codec::Codec::Json, Some(&schema));
    let mut samples = Samples::new(seed);
    let made: Vec<_> = (0..40).filter_map(|_| samples.json(&admitted)).collect();
    let conforms = |sample: &Vec<u8>| Json::parse(sample.clone().into()).is_ok_and(|json| schema.check(&json).is_ok());
    let made: Vec<_> = made.into_iter().filter(conforms).map(|made| String::from_utf8(made).unwrap()).collect();
    let body = serde_json::to_string(&format!("${{{text}}}")).unwrap();
    let mut proven = 0;
    for output in outputs {
        let output = format!(r#"{{"type":"object","properties":{{"v":{output}}},"required":["v"]}}"#);
        let Ok(mappings) = prove(input, &output, &format!("  data: {{ v: {body} }}"), "") else { continue };
        assert!(verdicts(&mappings).iter().all(|(_, verdict)| *verdict == Verdict::Proven));
        for sample in &made {
            match data(&mappings, sample) {
                Ok(_) => proven += 1,
                Err(why) if why == "range" => {}
                Err(why) => return Err(format!("{text} over {sample}\nof {input}\nto {output}: {why}")),
            }
        }
    }
    Ok(proven)
}

fn outputs() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(part(), 10).prop_map(|mut all| {
        all.push("true".to_owned());
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_proven_never_fails(input in input(), outputs in outputs(), text in expression(), seed in any::<u64>()) {
        let held = hold(&input, &outputs, &text, seed);
        prop_assert!(held.is_ok(), "{}", held.unwrap_err());
    }
}

#[test]
fn the_soundness_test_tests_something() {
    let runner = &mut proptest::test_runner::TestRunner::deterministic();
    let mut proven = 0;
    for seed in 0..300 {
        let [input, text] = [input().boxed(), expression().boxed()]
            .map(|of| proptest::strategy::ValueTree::current(&of.new_tree(runner).unwrap()));
        let outputs = proptest::strategy::ValueTree::current(&outputs().new_tree(runner).unwrap());
        proven += hold(&input, &outputs, &text, seed).unwrap();
    }
    assert!(proven > 500, "only {proven} messages held a proof to its word");
}
