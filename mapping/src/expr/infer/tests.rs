use envelope::Json;

use super::*;
use crate::{
    expr::{compile, tests::names},
    proof::{Document, Held},
};

const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"required":["f","n","s","state","lines"],"properties":{
    "f":{"type":"number","minimum":0,"maximum":100},"n":{"type":"integer","minimum":1,"maximum":10},
    "s":{"type":"string","minLength":1},"state":{"enum":["running","fault"]},"note":{"type":"string"},
    "on":{"type":"boolean"},"mixed":{"type":["string","number"]},"when":{"type":"string","format":"date-time"},
    "lines":{"type":"array","minItems":1,"items":{"type":"object","required":["sku"],"properties":{
        "sku":{"type":"string"},"qty":{"type":"integer"}}}}}}"#;

fn inferred(text: &str) -> (Inferred, Vec<String>) {
    let mut expr = compile(text, names(&[])).unwrap_or_else(|found| panic!("{text}: {found:?}"));
    let json = Json::parse(SCHEMA.to_owned().into()).unwrap();
    let env = Env::new(Document::of(json.root()).admits());
    expr.mark_whole(&env);
    let (of, errors) = expr.infer(&env, None);
    (of, errors.into_iter().map(|e| format!("{} {}", e.message, e.help.unwrap_or_default())).collect())
}

#[track_caller]
fn sure(text: &str) -> Type {
    let (inferred, errors) = inferred(text);
    assert_eq!((inferred.doubts.as_slice(), errors.as_slice()), (&[][..], &[][..]), "{text}");
    inferred.of
}

#[track_caller]
fn doubtful(text: &str, why: &str) {
    let (inferred, errors) = inferred(text);
    assert!(errors.is_empty(), "{text}: {errors:?}");
    let all: Vec<_> = inferred.doubts.into_iter().map(|doubt| doubt.why).collect();
    assert!(all.iter().any(|found| found.contains(why)), "{text}: {all:?}");
}

#[track_caller]
fn wrong(text: &str, why: &str) {
    let (_, errors) = inferred(text);
    assert!(errors.iter().any(|found| found.contains(why)), "{text}: {errors:?}");
}

#[test]
fn what_the_schema_requires_is_there_and_the_rest_may_be_missing() {
    assert_eq!(sure("payload.s").kinds(), Kinds::TEXT);
    assert_eq!(sure("payload.lines[0].sku").kinds(), Kinds::TEXT);
    doubtful("payload.note", "payload.note: member \"note\" may be missing");
    doubtful("payload.lines[1].sku", "element 1 may be missing");
    doubtful("headers.etag", "header \"etag\" may be missing");
    doubtful("payload.mixed + 'x'", "may be missing");
}

#[test]
fn a_name_that_a_closed_schema_does_not_have_is_an_error_with_what_was_meant() {
    wrong("payload.stat", "the schema has no member \"stat\" here did you mean \"state\"?");
    wrong("has(payload.nota) ? 1 : 2", "did you mean \"note\"?");
    wrong("payload.s.x", "member \"x\" is looked for in a string");
    wrong("payload.s * 2", "expected a number, found a string");
    wrong("payload.s[0]", "element 0 is looked for in a string");
}

#[test]
fn a_condition_narrows_what_follows() {
    sure("has(payload.note) ? payload.note : ''");
    sure("has(payload.note) && payload.note != '' ? payload.note : 'none'");
    sure("!has(payload.note) || payload.note == ''");
    sure("size(payload.lines) > 2 ? payload.lines[2].sku : ''");
    sure("payload.lines.filter(l, has(l.qty)).map(l, l.qty)");
    sure("payload.lines.filter(l, has(l.qty) && l.qty > 0).map(l, 10 / l.qty)");
    let of = sure("payload.state == 'fault' ? payload.state : 'ok'");
    assert_eq!(of.text.unwrap().only.unwrap().len(), 2);
    let of = sure("payload.state != 'fault' ? payload.state : 'down'");
    assert!(!of.text.unwrap().only.unwrap().contains("fault"));
    doubtful("has(payload.on) ? payload.note : ''", "may be missing");
    let of = sure("payload.f > 50 ? payload.f : 50.0");
    assert_eq!(of.number.unwrap().low, 50.0);
}

#[test]
fn a_word_that_is_never_it_is_an_error() {
    wrong("payload.state == 'falt' ? 1 : 2", "payload.state is never \"falt\" did you mean \"fault\"?");
    wrong("payload.state in ['running', 'stopped']", "payload.state is never \"stopped\"");
    sure("payload.state == 'fault'");
}

#[test]
fn numbers_keep_their_bounds() {
    let of = sure("(payload.f - 32) * 5 / 9").number.unwrap();
    assert_eq!((of.low, of.high), (-32.0 * 5.0 / 9.0, 68.0 * 5.0 / 9.0));
    let of = sure("size(payload.lines)").number.unwrap();
    assert!(of.whole && of.low == 1.0);
    sure("1 / payload.n");
    doubtful("1 / payload.f", "payload.f: may be 0");
    sure("payload.f > 0 ? 1 / payload.f : 0.0");
    sure("payload.f != 0 ? 1 / payload.f : 0.0");
}

#[test]
fn whole_numbers_of_the_schema_are_whole_in_arithmetic_and_text_elsewhere() {
    let of = sure("payload.n / 2").number.unwrap();
    assert!(of.whole && of.held == Held::Int);
    assert!(!sure("payload.f / 2").number.unwrap().whole);
    assert_eq!(sure("payload.n").number.unwrap().held, Held::Source);
}

#[test]
fn functions_doubt_what_their_texts_may_not_be() {
    doubtful("int(payload.s)", "payload.s: may be no whole number");
    sure("int(payload.f)");
    doubtful("has(payload.when) ? timestamp(payload.s) : now", "may be no RFC 3339 timestamp");
    sure("has(payload.when) ? timestamp(payload.when) : now");
    doubtful("payload.s.substring(0, 3)", "the text may be shorter");
    sure("payload.s.substring(0, 1)");
    sure("payload.s.split(',').join('-')");
    doubtful("parse_json(payload.s)", "may be no JSON");
    sure("hash('sha256', payload.s)");
    sure("math.greatest(payload.lines.map(l, 1))");
    doubtful("math.greatest(payload.lines.filter(l, has(l.qty)).map(l, l.qty))", "the array may be empty");
}

#[test]
fn what_is_never_reached_is_not_looked_at() {
    sure("has(payload.state) ? 1 : payload.s * 2");
    sure("payload.n > 20 ? payload.s * 2 : 1");
}

#[test]
fn roots_bits_formats_and_sorting_are_proven_by_what_they_get() {
    let root = sure("math.sqrt(payload.f)").number.unwrap();
    assert_eq!((root.low, root.high), (0.0, 10.0));
    doubtful("math.sqrt(payload.f - 50)", "may be negative, and has no square root then");
    let bits = sure("math.bitAnd(payload.n, 3)").number.unwrap();
    assert_eq!((bits.low, bits.high, bits.held), (0.0, 3.0, Held::Int));
    sure("math.bitShiftLeft(payload.n, payload.n)");
    doubtful("math.bitOr(payload.n, payload.f)", "may be no whole number of 64 bits");
    doubtful("math.bitShiftRight(payload.n, payload.n - 5)", "or no number of places from 0");
    assert_eq!(sure("math.isFinite(payload.f)").bools, Bools::only(true));
    let text = sure("'at %s: %.2f'.format([payload.s, payload.f])").text.unwrap();
    assert_eq!(text.least, 5);
    sure("'%x %s'.format([payload.n, payload.lines])");
    doubtful("'%d'.format([payload.mixed])", "may be a string");
    doubtful("'%x'.format([payload.f])", "payload.f: may be no whole number of 64 bits");
    doubtful("'%s %s'.format(payload.lines)", "may have fewer values than the 2 of the format");
    doubtful("payload.s.format([1])", "may be no format of these values");
    wrong("'%d'.format([payload.s])", "expected a number, found a string");
    assert_eq!(sure("strings.quote(payload.s)").text.unwrap().least, 2);
    let sorted = sure("payload.lines.sortBy(l, l.sku)").list.unwrap();
    assert_eq!((sorted.least, sorted.items().kinds()), (1, Kinds::OBJECT));
    doubtful("payload.lines.sortBy(l, l.qty)", "member \"qty\" may be missing");
    doubtful("payload.lines.sortBy(l, has(l.qty) ? l.qty : l.sku)", "not all keys may be of one kind");
    sure("payload.s.lastIndexOf('a', 1)");
    doubtful("payload.s.lastIndexOf('a', 2)", "the text may be shorter");
}
