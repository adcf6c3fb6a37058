use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Json, JsonError> {
    Json::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn problem(text: &str) -> Problem {
    parse(text).map(|_| ()).unwrap_err().problem
}

/// Our tree as serde_json sees it: the oracle.
fn to_serde(node: Node<'_>) -> serde_json::Value {
    match node.view() {
        View::Null => serde_json::Value::Null,
        View::Bool(b) => b.into(),
        View::Number(text) => serde_json::from_str(text).unwrap(),
        View::String(text) => text.into(),
        View::Array(items) => items.map(to_serde).collect(),
        View::Object(members) => members.map(|(k, v)| (k.to_owned(), to_serde(v))).collect(),
    }
}

#[test]
fn values_are_found_by_path_and_keep_their_source_text() {
    let json =
        parse(r#" {"a": [1, {"b": 12.10}], "n": 1152921504606846977, "s": "x\ny", "t": true, "z": null} "#).unwrap();
    let root = json.root();
    assert_eq!(root.get("a").unwrap().item(1).unwrap().get("b").unwrap().as_number(), Some("12.10"));
    assert_eq!(root.get("n").unwrap().source(), "1152921504606846977");
    assert_eq!(root.get("s").unwrap().as_str(), Some("x\ny"));
    assert_eq!(root.get("s").unwrap().source(), r#""x\ny""#);
    assert_eq!(root.get("a").unwrap().source(), r#"[1, {"b": 12.10}]"#);
    assert_eq!(root.get("t").unwrap().as_bool(), Some(true));
    assert!(root.get("z").unwrap().is_null());
    assert!(root.get("q").is_none() && root.item(0).is_none() && root.get("a").unwrap().get("b").is_none());
    assert_eq!(root.as_object().unwrap().len(), 5);
}

#[test]
fn duplicate_keys_are_malformed_however_they_are_written() {
    assert_eq!(problem(r#"{"amount":1,"amount":1000000}"#), Problem::DuplicateKey("amount".into()));
    assert_eq!(problem(r#"{"a":1,"\u0061":2}"#), Problem::DuplicateKey("a".into()));
    let many = |last: &str| {
        let members: Vec<_> = (0..100).map(|n| format!(r#""k{n}":{{"k{n}":0}}"#)).collect();
        format!(r#"{{{},"{last}":0}}"#, members.join(","))
    };
    assert_eq!(problem(&many("k7")), Problem::DuplicateKey("k7".into()));
    assert!(parse(&many("k100")).is_ok());
    let place = parse("{\n  \"a\":1,\n  \"a\":2}").unwrap_err();
    assert_eq!((place.offset, place.line, place.column), (13, 3, 3));
}

#[test]
fn nesting_is_bounded_and_ten_thousand_levels_do_not_hurt() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(parse(&deep(MAX_DEPTH)).is_ok());
    assert_eq!(problem(&deep(MAX_DEPTH + 1)), Problem::TooDeep);
    assert_eq!(problem(&"[".repeat(10_000)), Problem::TooDeep);
    assert_eq!(problem(&r#"{"a":"#.repeat(10_000)), Problem::TooDeep);
}

#[test]
fn numbers_out_of_range_are_malformed() {
    assert!(parse("1e308").is_ok() && parse(&"9".repeat(300)).is_ok());
    assert_eq!(problem("1e309"), Problem::NumberRange);
    assert_eq!(problem(&"9".repeat(400)), Problem::NumberRange);
}

#[test]
fn what_is_not_utf_8_is_refused_with_its_place() {
    let error = Json::parse(Bytes::from_static(b"{\"a\":\"\xff\"}")).unwrap_err();
    assert_eq!((error.offset, error.problem), (6, Problem::NotUtf8));
}

#[test]
fn what_is_not_a_whole_json_text_is_refused() {
    for bad in [
        "",
        " ",
        "{",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1",
        "{a:1}",
        "{'a':1}",
        "[1 2]",
        "[1}",
        "{\"a\":1]",
        "tru",
        "nul",
        "truex",
        "1 2",
        "{} x",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\n\"",
        "NaN",
        "Infinity",
        "\u{feff}{}",
        "}",
        "]",
        ",",
        ":",
        "[\"a\":1]",
        "{\"a\" 1}",
        "{1:2}",
    ] {
        assert!(parse(bad).is_err(), "{bad:?} was taken");
        assert!(serde_json::from_str::<serde_json::Value>(bad).is_err(), "{bad:?} is JSON after all");
    }
}

fn text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| format!("{f:?}")),
        any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[ {} ]", items.join(" ,\t"))),
            prop::collection::btree_map(any::<String>(), inner, 0..20).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(k, v)| format!("{}\n: {v}", serde_json::to_string(k).unwrap())).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn our_tree_is_what_serde_json_reads(text in text()) {
        let json = parse(&text).unwrap();
        prop_assert_eq!(to_serde(json.root()), serde_json::from_str::<serde_json::Value>(&text).unwrap());
    }

    #[test]
    fn cut_or_bent_texts_are_taken_only_where_serde_json_takes_them(text in text(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        for bent in [bytes[..at].to_vec(), { bytes[at] = byte; bytes }] {
            let ours = Json::parse(Bytes::from(bent.clone()));
            let oracle = serde_json::from_slice::<serde_json::Value>(&bent);
            match (ours, oracle) {
                (Ok(json), oracle) => prop_assert_eq!(to_serde(json.root()), oracle.unwrap()),
                (Err(e), Ok(_)) => prop_assert!(matches!(e.problem, Problem::DuplicateKey(_) | Problem::NumberRange), "{}", e),
                (Err(_), Err(_)) => {}
            }
        }
    }

    #[test]
    fn a_written_string_reads_back(text in any::<String>()) {
        let mut out = Vec::new();
        write_string(&mut out, &text);
        let json = Json::parse(out.into()).unwrap();
        prop_assert_eq!(json.root().as_str(), Some(&*text));
    }
}
