//! What CEL's extensions have beside the plainest: formats, quotes, roots, bits, sorting by a key.

use super::tests::{fails, gives, of};

#[test]
fn a_format_puts_each_value_where_its_clause_stands() {
    gives("'%s is %d%%'.format([payload.unit, 7])", r#""F is 7%""#);
    gives("'%s %s %s'.format([payload.exact, payload.f * 1.0, 2.50])", r#""12.10 50 2.5""#);
    gives("'%s'.format([[1, 'a', [true, null]]])", r#""[1, a, [true, null]]""#);
    gives("'%s'.format([{'b': 1, 'a': payload.deep}])", r#""{a: {a: {b: c}}, b: 1}""#);
    gives("'%s %s'.format([timestamp(0), duration('90s')])", r#""1970-01-01T00:00:00.000000Z 90s""#);
    gives("'%d %d %d'.format([payload.ids[0], -4.5, 1e3])", r#""18446744073709551615 -4.5 1000""#);
    gives("'%f %.1f %.0f %.3e %e'.format([1.5, 2.25, 2.5, 1234.5, 0])", r#""1.500000 2.2 2 1.234e+03 0.000000e+00""#);
    gives("'%b %b %o %x %X'.format([5, true, -8, 255, 255])", r#""101 1 -10 ff FF""#);
    gives("'%x %X'.format(['a€', 'k'])", r#""61e282ac 6B""#);
    gives("'a'.format([1, 2])", r#""a""#);
    gives("payload.q.format([])", r#""say \"hi\"\n""#);
}

#[test]
fn a_format_that_is_wrong_is_an_error_when_the_file_is_loaded() {
    fails("'%y'.format([payload.f])", "0..4 %y is no clause: there are %s, %d, ");
    fails("'100%'.format([payload.f])", "a percent sign is %%");
    fails("'%.101f'.format([payload.f])", "a precision is a number from 0 to 100, found \"101\"");
    fails("'%.f'.format([payload.f])", "a precision is a number from 0 to 100");
    fails("'%s %s'.format([payload.f])", "the format asks for 2 values, the array has 1");
    fails("'%s'.format(payload.unit)", "expected an array, found a value of type string at /unit");
    fails("'%s %s %s %s %s'.format(payload.items)", "the format asks for value 5, the array has 4");
    fails("'%d'.format([payload.unit])", "expected a number, found a value of type string at /unit");
    fails("'%x'.format([payload.neg])", "expected a whole number or a string, found a value of type number at /neg");
    fails("'%o'.format([payload.on])", "expected a whole number, found a value of type boolean at /on");
    fails("payload.unit.format(payload.f)", "expected an array, found a value of type number at /f");
}

#[test]
fn a_text_in_quotes_has_nothing_that_ends_it() {
    gives("strings.quote('a\"b\\\\c\\n')", r#""\"a\\\"b\\\\c\\n\"""#);
    gives("strings.quote('\\a\\b\\f\\r\\t\\vø')", r#""\"\\a\\b\\f\\r\\t\\vø\"""#);
    fails("strings.quote(payload.f)", "expected a string, found a value of type number at /f");
    fails("quote(payload.unit)", "unknown function quote");
}

#[test]
fn the_last_place_before_a_character_is_found() {
    gives("['a-b-c'.lastIndexOf('-', 3), 'a-b-c'.lastIndexOf('-', 2), 'a-b-c'.lastIndexOf('-', 0)]", "[3,1,-1]");
    gives("['€a€b€'.lastIndexOf('€', 3), '€a€b€'.lastIndexOf('a€', 1), 'abab'.lastIndexOf('bab', 2)]", "[2,1,1]");
    gives("['abc'.lastIndexOf('', 2), 'abc'.lastIndexOf(''), 'é€'.lastIndexOf('x', 1)]", "[2,3,-1]");
    fails("payload.unit.lastIndexOf('a', 2)", "behind the end of the text");
    fails("payload.unit.lastIndexOf('a', -1)", "whole number from 0");
}

#[test]
fn roots_and_bits() {
    gives("[math.sqrt(81), math.sqrt(payload.f + 6.25), math.sqrt(0)]", "[9,7.5,0]");
    gives("[math.isNaN(payload.f), math.isInf(1.5), math.isFinite(payload.ids[0])]", "[false,false,true]");
    gives("[math.bitAnd(6, 3), math.bitOr(4, -2), math.bitXor(4, -2), math.bitNot(-1)]", "[2,-2,-6,0]");
    gives(
        "[math.bitShiftLeft(1, 63), math.bitShiftLeft(1, 64), math.bitShiftLeft(-1, 2)]",
        "[-9223372036854775808,0,-4]",
    );
    gives("[math.bitShiftRight(-1024, 3), math.bitShiftRight(payload.f, 1)]", "[2305843009213693824,25]");
    gives("math.bitAnd(payload.big, 1) == 1", "true");
    gives("math.bitShiftRight(1024, 9223372036854775807)", "0");
    fails("math.sqrt(payload.neg)", "a negative number has no square root at /neg");
    fails("math.bitAnd(payload.neg, 1)", "expected a whole number of 64 bits at /neg");
    fails("math.bitOr(payload.ids[0], 1)", "expected a whole number of 64 bits");
    fails("math.bitShiftLeft(payload.f, -1)", "expected a whole number from 0");
    fails("math.bitNot('x')", "math.bitNot takes a number here, found a string");
}

#[test]
fn decimals_of_the_payload_beside_a_computed_one_have_an_order() {
    let mut random = fastrand::Rng::with_seed(7);
    let decimal =
        |n: usize| if n.is_multiple_of(3) { "-0.1".to_owned() } else { format!("0.1{:021}", random.u64(..100)) };
    let list = (0..300).map(decimal).collect::<Vec<_>>().join(",");
    // in binary each of them is 0.1
    let sorted = of(&format!("[{list}]"), "payload.map(x, x < 0 ? -x : x).sort()");
    assert_eq!(sorted, Ok(format!("[{}]", list.replace('-', ""))));
}

#[test]
fn an_array_is_sorted_by_what_is_made_of_each_element() {
    gives("[3, 1, 2, 4, 5].sortBy(x, x % 2)", "[2,4,3,1,5]");
    gives("['bb', 'a', payload.unit].sortBy(t, -size(t))", r#"["bb","a","F"]"#);
    gives("[{'n': 2, 'of': [1]}, {'n': 1}].sortBy(x, x.n).map(x, x.n)", "[1,2]");
    gives("[].sortBy(x, x)", "[]");
    gives("[timestamp(9), timestamp(3)].sortBy(t, t)[0] == timestamp(3)", "true");
    fails(
        "payload.items.sortBy(x, x)",
        "expected numbers, strings, timestamps or durations only, found a value of type string",
    );
    fails("[1, 2].sortBy(x, [x])", "expected a number, a string, a timestamp or a duration, found an array");
    fails("[payload.on].sortBy(x, x)", "found a value of type boolean");
    fails("payload.deep.sortBy(x, x)", "expected an array, found a value of type object at /deep");
    fails("{'a': 1}.sortBy(x, x)", "expected an array, found an object");
    fails("payload.items.sortBy(1)", "expected list.sortBy(x, ...)");
}

#[test]
fn what_these_would_make_too_much_of_is_cut_off() {
    let zeros = format!("[{}0]", "0,".repeat(99_999));
    let text = format!("{:?}", "a".repeat(1 << 20));
    for (payload, expr) in [
        (&zeros, "payload.all(x, size(payload.sortBy(y, y)) > 0)"),
        (&zeros, "payload.all(x, size('%s'.format([payload])) > 0)"),
        (&zeros, "payload.sortBy(x, size(payload.sortBy(y, y)))"),
        (
            &text,
            "'%s%s%s%s%s%s%s%s%s'.format([payload, payload, payload, payload, payload, payload, payload, payload, payload])",
        ),
        (&text, "'%x%x%x%x%x'.format([payload, payload, payload, payload, payload])"),
        (
            &text,
            "size(lists.range(9).map(x, strings.quote(payload)).map(x, lists.range(100).map(y, strings.quote(x))))",
        ),
    ] {
        assert!(of(payload, expr).unwrap_err().too_large, "{expr}");
    }
}
