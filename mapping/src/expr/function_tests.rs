use super::{
    function::{OTHERS, SIGNATURES},
    tests::{fails, gives, names, of, run},
    *,
};

#[test]
fn text_is_searched() {
    gives("payload.q.contains('hi')", "true");
    gives("payload.q.startsWith('say') && !payload.q.endsWith('hi')", "true");
    gives("payload.q.indexOf('\"')", "4");
    gives("payload.q.lastIndexOf('\"')", "7");
    gives("payload.q.indexOf('\"', 5)", "7");
    gives("'€x€'.indexOf('€', 1)", "2");
    gives("payload.q.indexOf('z')", "-1");
    gives("''.indexOf('')", "0");
    fails("payload.unit.indexOf('a', 2)", "behind the end");
    fails("payload.unit.indexOf('a', -1)", "whole number from 0");
    fails("payload.f.contains('x')", "expected a string, found a value of type number at /f");
}

#[test]
fn text_is_cut_by_characters() {
    gives("'søster'.substring(1, 3)", r#""øs""#);
    gives("payload.q.substring(4)", r#""\"hi\"\n""#);
    gives("'ab'.substring(2)", r#""""#);
    gives("'€uro'.charAt(0) + '€uro'.charAt(4)", r#""€""#);
    gives("'  x '.trim() + payload.unit.trim()", r#""xF""#);
    gives("'aÅ'.lowerAscii() + 'aÅ'.upperAscii()", r#""aÅAÅ""#);
    gives("'aå€'.reverse()", r#""€åa""#);
    fails("payload.unit.substring(2)", "no part of a text of 1 characters");
    fails("payload.q.substring(3, 2)", "3 to 2 is no part");
    fails("payload.q.substring(9223372036854775807)", "no part");
    fails("payload.q.substring(1.5)", "whole number from 0");
    fails("payload.unit.charAt(2)", "there is no character 2, the text has 1");
    fails("'ab'.substring(3)", "0..17 3 to 2 is no part of a text of 2 characters");
}

#[test]
fn text_is_replaced_split_and_joined() {
    gives("'a-b-c'.replace('-', '')", r#""abc""#);
    gives("'a-b-c'.replace('-', '+', 1)", r#""a+b-c""#);
    gives("'a-b-c'.replace('-', '+', -1)", r#""a+b+c""#);
    gives("'ab'.replace('', '-')", r#""-a-b-""#);
    gives("payload.q.split(' ')", r#"["say","\"hi\"\n"]"#);
    gives("'a,b,c'.split(',', 2)", r#"["a","b,c"]"#);
    gives("'a,b,c'.split(',', 0)", "[]");
    gives("'aå'.split('')", r#"["a","å"]"#);
    gives("'abc'.split('', 2)", r#"["a","bc"]"#);
    gives("''.split(',')", r#"[""]"#);
    gives("payload.q.split(' ')[0].upperAscii()", r#""SAY""#);
    gives("['a', payload.unit].join('/')", r#""a/F""#);
    gives("size('a,b'.split(',')) + size([])", "2");
    fails("payload.items.join(',')", "expected an array of strings only, found a value of type number at /items");
    fails("payload.q.split(' ')[2]", "element 2 is missing");
}

#[test]
fn a_pattern_is_compiled_at_load_and_linear() {
    gives("payload.unit.matches('^[CF]$')", "true");
    gives("matches(payload['line-id'], 'L[0-9]+')", "true");
    gives("'abc'.matches('b')", "true");
    fails("payload.q.matches(payload.unit)", "18..30 the pattern must be known");
    fails("payload.q.matches('(')", "18..21 no pattern of RE2's syntax: unclosed group");
    fails("payload.q.matches('(?:a{1000}){1000}')", "compiled pattern has more than");
    fails("payload.q.matches('(a)\\\\1')", "no pattern of RE2's syntax");
    let hostile = format!("{:?}", "a".repeat(1 << 18));
    assert_eq!(of(&hostile, "payload.matches('^(a+)+$') && !payload.matches('(a*)*b')").unwrap(), "true");
}

#[test]
fn arrays_are_sorted_cut_and_joined() {
    gives("[3, 1.5, payload.f, 1].sort()", "[1,1.5,3,50]");
    gives("['b', payload.unit, 'a'].sort()", r#"["F","a","b"]"#);
    gives("[duration('2s'), duration('1s')].sort()", r#"["1s","2s"]"#);
    gives("[].sort()", "[]");
    fails("[1, payload.unit].sort()", "strings, timestamps or durations only, found a value of type string");
    fails("[payload.on].sort()", "found a value of type boolean");
    gives("[1, 2, 1.0, payload.unit, 'F', null, null].distinct()", r#"[1,2,"F",null]"#);
    fails("[payload.deep].distinct()", "values that can be compared");
    gives("[1, 2, 3, 4].slice(1, 3)", "[2,3]");
    gives("[1].slice(1, 1)", "[]");
    fails("[1, payload.f].slice(1, 3)", "1 to 3 is no part of an array of 2 elements");
    fails("[1, payload.f].slice(2, 1)", "2 to 1 is no part");
    gives("[1, [2, [3, [4]]]].flatten()", "[1,2,[3,[4]]]");
    gives("[1, [2, [3, [4]]]].flatten(2)", "[1,2,3,[4]]");
    gives("[1, [2]].flatten(0)", "[1,[2]]");
    fails("[payload.f].flatten(-1)", "whole number from 0");
    gives("lists.range(3).map(n, n * payload.f)", "[0,50,100]");
    gives("lists.range(0)", "[]");
    fails("lists.range(100001).map(n, payload.f)", "more than 100000 elements");
    gives("[1, 2, payload.unit].reverse()", r#"["F",2,1]"#);
    fails("payload.f.reverse()", "expected a string or an array, found a value of type number");
    fails("payload.unit.sort()", "expected an array, found a value of type string");
}

#[test]
fn numbers_are_rounded_and_compared() {
    gives("math.greatest(1, payload.f, 3.5)", "50");
    gives("math.greatest(payload.ids)", "18446744073709551615");
    gives("math.least(payload.exact, 100)", "12.10");
    gives("[math.ceil(1.2), math.floor(-1.2), math.round(-2.5), math.trunc(-1.9)]", "[2,-2,-3,-1]");
    gives("[math.abs(payload.neg), math.sign(payload.neg), math.sign(0.0), math.abs(-3)]", "[4.5,-1,0,3]");
    gives("math.floor(payload.big)", "1152921504606846977");
    gives("math.abs(payload.f) / 4", "12.5");
    fails("math.abs(-9223372036854775808)", "out of range");
    fails("math.abs('x')", "9..12 math.abs takes a number here, found a string");
    fails("math.greatest()", "expected at least one number");
    fails("math.least([])", "without elements");
    fails("math.greatest(payload.f, payload.unit)", "expected a number, found a value of type string at /unit");
}

#[test]
fn values_are_converted() {
    gives("[int('42'), int(-1.9), int(payload.big), int(timestamp(7))]", "[42,-1,1152921504606846977,7]");
    gives("[double('1.50'), double(7) / 2]", "[1.5,3.5]");
    gives("string(payload.exact) + string(true) + string(1.5) + payload.unit", r#""12.10true1.5F""#);
    gives("bool('true') && !bool('0') && bool(payload.on)", "true");
    fails("int(payload.unit)", "no whole number of 64 bits at /unit");
    fails("int(payload.ids[0])", "out of the range of 64 bits");
    fails("int(1e300)", "out of the range");
    fails("double('inf')", "no number");
    fails("double('1e999')", "no number");
    fails("bool('ja')", "expected \"true\" or \"false\"");
    fails("string(payload.deep)", "found a value of type object at /deep");
    fails("int(true)", "4..8 int takes a number or a string or a timestamp here, found a boolean");
}

#[test]
fn times_and_durations_have_arithmetic() {
    gives("timestamp('2026-11-23T10:00:00+01:00') + duration('90m')", r#""2026-11-23T10:30:00.000000Z""#);
    gives("timestamp(1000) - timestamp(payload.f)", r#""950s""#);
    gives("now - duration('-1h') > now && now == timestamp(0)", "true");
    gives("duration('1h') + duration('1m') - duration('30s')", r#""3630s""#);
    gives("-duration('1.5s')", r#""-1.5s""#);
    gives("timestamp('2024-02-29T23:59:58Z').getFullYear() + now.getMonth()", "2024");
    gives("(now + duration('26h')).getHours() + duration('26h').getHours()", "28");
    gives("timestamp('2024-12-31T00:00:00Z').getDayOfYear() + now.getDayOfMonth()", "365");
    gives("string(now) + ''", r#""1970-01-01T00:00:00.000000Z""#);
    gives("timestamp('2026-07-01T22:30:00Z').getHours('Europe/Oslo') + now.getHours('+01:00')", "1");
    gives("timestamp('2026-12-31T23:30:00Z').getDayOfMonth('Europe/Oslo')", "0");
    gives("timestamp('2026-12-31T23:30:00Z').getFullYear('Asia/Tokyo')", "2027");
    gives("[now.getFullYear('-00:30'), now.getMonth('-00:30'), now.getDayOfWeek('America/New_York')]", "[1969,11,3]");
    gives("[now.getMinutes('05:45'), now.getMilliseconds('-12:00'), now.getHours('UTC')]", "[45,0,0]");
    fails("now.getHours('Europe/Olso')", "\"Europe/Olso\" is no time zone, as in \"Europe/Oslo\"");
    fails("now.getHours('+24:00')", "is no time zone");
    fails("now.getHours('../../etc/localtime')", "is no time zone");
    fails("now.getHours(payload.unit)", "no time zone, as in");
    fails("duration('1h').getHours('UTC')", "expected a timestamp");
    fails("now - duration('1s')", "between 1970 and 9999");
    fails("timestamp('gestern')", "no RFC 3339 timestamp");
    fails("timestamp(payload.unit)", "no RFC 3339 timestamp, as in 2026-11-23T10:00:00Z at /unit");
    fails("timestamp(1.5)", "whole seconds");
    fails("duration('5 minutes')", "no duration, as in 90s");
    fails("now + 5", "6..7 expected a timestamp or a duration, found a number");
    fails("now < '2026'", "expected a timestamp, as on the other side");
    fails("'at ' + now", "8..11 expected a string, as the other terms, found a timestamp");
    fails("duration('1h').getFullYear()", "getFullYear takes a timestamp here");
}

#[test]
fn text_is_encoded_hashed_and_parsed() {
    gives("base64.encode('søt')", r#""c8O4dA==""#);
    gives("base64.decode('c8O4dA==')", r#""søt""#);
    gives("hash('sha256', 'abc').substring(0, 16)", r#""ba7816bf8f01cfea""#);
    gives("size(hash('sha512', payload.unit))", "128");
    gives("parse_json('{\"a\": [1.50, {\"b\": null}]}').a", r#"[1.50,{"b":null}]"#);
    gives("parse_json('[18446744073709551615]')[0] == payload.ids[0]", "true");
    fails("base64.decode(payload.q)", "no base64");
    fails("base64.decode('/w==')", "not UTF-8");
    fails("hash('md5', 'x')", "expected \"sha256\" or \"sha512\"");
    fails("parse_json(payload.q)", "not valid JSON at byte 0");
    fails("parse_json('{\"a\":1,\"a\":2}')", "not valid JSON");
}

#[test]
fn macros_go_over_arrays_and_keys() {
    gives("payload.ids.all(x, x > 5) && payload.ids.exists(i, i == payload.ids[1])", "true");
    gives("payload.items.filter(x, x in [1, 2])", "[1,2.0]");
    gives("payload.items.map(x, {'v': x})", r#"[{"v":1},{"v":2.0},{"v":"x"},{"v":{"y":9}}]"#);
    gives("payload.deep.map(k, k + '!')", r#"["a!"]"#);
    gives("[1, 2, 3].exists_one(x, x > 2)", "true");
    gives("[[1, 2], [3]].map(l, l.map(x, x * size(l)))", "[[2,4],[3]]");
    gives("[1, 2].map(x, [10, 20].map(y, x + y))", "[[11,21],[12,22]]");
    gives("[].all(x, x) && ![].exists(x, x)", "true");
    gives("payload.items.exists(x, x.y == 9)", "true");
    fails("payload.items.filter(x, has(x.y))", "member \"y\" is looked for in a value of type number");
}

#[test]
fn a_macro_says_what_is_wrong_with_it() {
    fails("payload.f.all(x, true)", "expected an array or an object, found a value of type number at /f");
    fails("payload.items.all(x, x + 1 > 0)", "expected a string, found a value of type number");
    fails("payload.items.map(x.y, 1)", "expected list.map(x, ...)");
    fails("payload.items.map(x, 1, 2)", "expected list.map(x, ...)");
    fails("'a'.map(x, x)", "0..3 expected an array or an object, found a string");
    fails("[1].all(x, 'y')", "11..14 expected true or false, found a string");
    fails("payload.items.map(x, y)", "21..22 unknown name \"y\"");
    fails("x", "unknown name \"x\"");
}

#[test]
fn arrays_objects_and_indexes_are_made_and_read() {
    gives("[1, 'a', payload.exact, [], {}]", r#"[1,"a",12.10,[],{}]"#);
    gives("{'a': payload.deep, \"b\\n\": [now]}", r#"{"a":{"a":{"b":"c"}},"b\n":["1970-01-01T00:00:00.000000Z"]}"#);
    gives("payload.items[payload.f - 49]", "2.0");
    gives("payload[payload.unit == 'F' ? 'f' : 'c']", "50");
    gives("{'a': {'b': 7}}.a.b + [1, 2][1]", "9");
    gives("has({'a': 1}.a) && !has({'a': 1}.b)", "true");
    gives("'a' in {'a': 1} && 3 in [1, 2].map(x, x + 1)", "true");
    fails("payload.items[payload.neg]", "a whole number from 0 at /neg");
    fails("payload.items[payload.f]", "element 50 is missing");
    fails("{'a': 1, 'a': 2}", "9..12 the key \"a\" is there twice");
    fails("{payload.unit: 1}", "the key of a member is a string literal");
    fails("'abc'[0]", "expected an array or an object, found a string");
}

#[test]
fn an_unknown_function_gets_the_nearest() {
    let help = |text| compile(text, names(&[])).unwrap_err()[0].help.clone().unwrap_or_default();
    assert_eq!(help("payload.unit.startWith('F')"), "did you mean startsWith?");
    assert_eq!(help("math.flor(1.5)"), "did you mean math.floor?");
    assert_eq!(help("contains(payload.unit, 'F')"), "expected string.contains(string)");
    assert!(help("frobnicate(1)").starts_with("there are contains, "));
    fails("payload.unit.replace('a')", "expected string.replace(string, string, number)");
}

#[test]
fn what_would_take_too_long_or_too_much_is_cut_off() {
    let zeros = format!("[{}0]", "0,".repeat(99_999));
    for (payload, text) in [
        (format!("{:?}", "a".repeat(1 << 20)), "payload.replace('a', 'bbbbbbbbbbbbbbbb')"),
        (format!("{:?}", "a".repeat(1 << 20)), "payload.replace('', 'bbbbbbbb')"),
        (format!("{:?}", ",".repeat(1_000_000)), "size(payload.split(','))"),
        (format!("{:?}", "x".repeat(1_000_000)), "payload.split('')"),
        (zeros.clone(), "payload.all(x, payload.all(y, payload.all(z, x == y)))"),
        (zeros.clone(), "payload.map(x, payload)"),
        (zeros.clone(), "payload.map(x, payload.map(y, payload))"),
        (zeros.clone(), "payload.all(x, !(1 in payload))"),
        (zeros.clone(), "payload.all(x, payload[99999] == 0)"),
        (zeros.clone(), "payload.all(x, size(payload.sort()) > 0)"),
        (zeros.clone(), "payload.all(x, size(payload.slice(0, 1)) > 0)"),
        (zeros.clone(), "payload.all(x, size(lists.range(100000)) > 0)"),
        (zeros.clone(), "payload.map(x, [x, x]).flatten()"),
        (zeros.clone(), "lists.range(size(payload)).distinct()"),
        (format!("[{}0]", "0,".repeat(100_000)), "payload.reverse()"),
        (format!("[{}0]", "0,".repeat(100_000)), "payload.filter(x, true)"),
        (format!(r#"{{"a":{zeros},"t":{:?}}}"#, "t".repeat(1 << 20)), "payload.a.all(x, payload.t == payload.t)"),
        (format!(r#"{{"a":{zeros},"t":{:?}}}"#, "t".repeat(1 << 20)), "payload.a.all(x, size(payload.t) > 0)"),
        (format!(r#"{{"a":{zeros},"t":{:?}}}"#, "t".repeat(1 << 20)), "payload.a.all(x, payload.t.matches('t'))"),
        (format!(r#"{{"a":{zeros},"t":{:?}}}"#, "t".repeat(1 << 20)), "payload.a.all(x, payload.t + 'x' != '')"),
        (
            format!(r#"{{"a":{zeros},"t":{:?}}}"#, "t".repeat(1 << 20)),
            "payload.a.all(x, [payload.t].all(y, y.trim() != ''))",
        ),
    ] {
        assert!(of(&payload, text).unwrap_err().too_large, "{text}");
    }
}

#[test]
fn calls_and_macros_as_deep_as_they_may_be_stay_within_the_stack() {
    let nested =
        |open: &str, inner: &str, close: &str, depth| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
    gives(&nested("string(", "payload.unit", ")", 60), r#""F""#);
    gives(&nested("[1].all(x, ", "payload.on", ")", 60), "true");
    gives(&format!("size({})", nested("[1].map(x, ", "payload.unit", ")", 60)), "1");
    fails(&nested("string(", "payload.unit", ")", 64), "nested deeper than 64 operations");
    fails(&format!("payload.unit{}", ".trim()".repeat(200)), "nested");
}

#[test]
fn names_are_made_of_text_and_text_is_hidden() {
    gives("uuid('a') == uuid('a') && uuid('a') != uuid('b')", "true");
    gives("uuid('').matches('^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$')", "true");
    gives("redact('geheim')", r#""******""#);
    gives("redact('øø12', 2)", r#""**12""#);
    gives("redact('123', 2) + redact('', 4)", r#""***""#);
    fails("redact(payload.unit, -1)", "whole number from 0");
}

#[test]
fn every_function_has_its_line_in_the_manual_and_every_example_there_is_true() {
    let manual = include_str!("../../../docs/mapping.md");
    let (_, table) = manual.split_once("| function | gives | for example |").unwrap();
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with("| `")).collect();
    for name in SIGNATURES.iter().map(|of| of.name).chain(OTHERS.iter().copied()) {
        assert!(rows.iter().any(|row| row.contains(&format!("{name}("))), "{name}");
    }
    for row in rows {
        let example = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        match example.split_once(" is ") {
            Some((text, value)) => {
                let made = run(text.trim_matches('`')).unwrap_or_else(|error| panic!("{row}: {error}"));
                assert_eq!(made.replace(',', ", "), value.trim_matches('`'), "{row}");
            }
            None => assert!(run(example.trim_matches('`')).is_ok(), "{row}"),
        }
    }
}
