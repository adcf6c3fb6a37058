//! What is written reads back, and what a format can't say is refused.

use proptest::prelude::*;

use super::{super::Decoded, *};

const UTF8: Charset = Charset::Utf8;

fn json(text: &str) -> Json {
    Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn written(codec: Codec, text: &str) -> Result<String, String> {
    let bytes = codec.encode(&json(text)).map_err(|unfit| format!("{}: {}", unfit.pointer, unfit.problem))?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

fn read_back(codec: Codec, text: &str) -> String {
    let bytes = codec.encode(&json(text)).unwrap_or_else(|unfit| panic!("{text}: {unfit:?}"));
    match codec.decode(&bytes).unwrap_or_else(|rejection| panic!("{text}: {rejection}")) {
        Decoded::Json(json) | Decoded::Tree(json) => json.as_str().to_owned(),
        Decoded::Text(text) => text.into_owned(),
        Decoded::Bytes => BASE64_STANDARD.encode(&bytes),
    }
}

#[test]
fn xml_is_written_by_the_rule_it_is_read_by() {
    let order = r##"{"order":{"@number":"17 \"a\"","customer":"Ida & <Ole>","line":[{"sku":"A-1"},{"sku":2}],"note":null,"#text":"]]>"}}"##;
    let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<order number=\"17 &quot;a&quot;\"><customer>Ida &amp; &lt;Ole&gt;</customer><line><sku>A-1</sku></line><line><sku>2</sku></line><note></note>]]&gt;</order>\n";
    assert_eq!(written(Codec::Xml(UTF8), order).as_deref(), Ok(xml));
    let back = read_back(Codec::Xml(UTF8), r#"{"a":{"@b":"x\ty","c":["1","2"]}}"#);
    assert_eq!(back, r#"{"a":{"@b":"x\ty","c":["1","2"]}}"#);
    let latin = Codec::Xml(Charset::Latin1).encode(&json(r#"{"a":"é€"}"#)).unwrap();
    assert_eq!(&latin[..], b"<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<a>\xe9&#8364;</a>\n");
}

#[test]
fn csv_and_forms_are_written_as_they_are_read() {
    let rows = r#"[{"a":"x","b":12.10},{"b":null,"a":"y \"z\", w"}]"#;
    assert_eq!(written(Codec::Csv(UTF8, b','), rows).as_deref(), Ok("a,b\r\nx,12.10\r\n\"y \"\"z\"\", w\",\r\n"));
    assert_eq!(read_back(Codec::Csv(UTF8, b';'), r#"[{"a":""},{"a":"b;c"}]"#), r#"[{"a":""},{"a":"b;c"}]"#);
    let form = r#"{"a b":"ä&=","n":[1,true]}"#;
    assert_eq!(written(Codec::UrlEncoded(UTF8), form).as_deref(), Ok("a+b=%C3%A4%26%3D&n=1&n=true"));
    assert_eq!(read_back(Codec::UrlEncoded(UTF8), form), r#"{"a b":"ä&=","n":["1","true"]}"#);
    assert_eq!(written(Codec::Text(UTF8), "12.10").as_deref(), Ok("12.10"));
    assert_eq!(read_back(Codec::Bytes, "\"AQID\""), "AQID");
}

#[test]
fn what_a_format_can_not_say_is_refused_with_its_place() {
    for (codec, text, says) in [
        (Codec::Xml(UTF8), "[]", ": xml is made of an object with one member"),
        (Codec::Xml(UTF8), r#"{"a":1,"b":2}"#, ": xml is made of an object with one member"),
        (Codec::Xml(UTF8), r#"{"a":[1]}"#, "/a: a document has one root element"),
        (Codec::Xml(UTF8), r#"{"a b":1}"#, "/a b: \"a b\" is no name of an element"),
        (Codec::Xml(UTF8), r#"{"a":{"@":1}}"#, "/a/@: \"\" is no name of an attribute"),
        (Codec::Xml(UTF8), r#"{"a":{"b":[[1]]}}"#, "/a/b/0: an array within an array"),
        (Codec::Xml(UTF8), r#"{"a":"\u0001"}"#, "/a: the character '\\u{1}' is none of XML"),
        (Codec::Xml(UTF8), r#"{"a":{"@b":{}}}"#, "/a/@b: expected one value"),
        (Codec::Csv(UTF8, b','), "{}", ": csv is made of an array"),
        (Codec::Csv(UTF8, b','), "[]", ": an array of nothing has no header row"),
        (Codec::Csv(UTF8, b','), r#"[{"a":1},{"b":1}]"#, "/1/a: the first row has such a member"),
        (Codec::Csv(UTF8, b','), r#"[{"a":1},{}]"#, "/1: the row has 0 members, the first has 1"),
        (Codec::Csv(UTF8, b','), r#"[{"a":[]}]"#, "/0/a: expected one value, found an array"),
        (Codec::UrlEncoded(UTF8), "7", ": form data is made of an object"),
        (Codec::UrlEncoded(UTF8), r#"{"a/b":{}}"#, "/a~1b: expected one value, found an object"),
        (Codec::Text(Charset::Latin1), "\"€\"", ": iso-8859-1 has no '€'"),
        (Codec::Text(UTF8), "{}", ": expected one value, found an object"),
        (Codec::Bytes, "7", ": bytes are given as a text in base64"),
        (Codec::Bytes, "\"a\"", ": not base64 with padding"),
        (Codec::MsgPack, "[18446744073709551616]", "/0: a whole number of more than 64 bits"),
        (Codec::Cbor, "340282366920938463463374607431768211456", ": a whole number of more than 128 bits"),
    ] {
        let said = written(codec, text).unwrap_err();
        assert!(said.starts_with(says), "{text}: {said}");
    }
}

#[test]
fn whole_numbers_are_written_in_the_narrowest_way() {
    for (number, cbor, msgpack) in [
        ("0", "00", "00"),
        ("23", "17", "17"),
        ("24", "1818", "18"),
        ("255", "18ff", "ccff"),
        ("65536", "1a00010000", "ce00010000"),
        ("18446744073709551615", "1bffffffffffffffff", "cfffffffffffffffff"),
        ("-1", "20", "ff"),
        ("-32", "381f", "e0"),
        ("-33", "3820", "d0df"),
        ("-9223372036854775808", "3b7fffffffffffffff", "d38000000000000000"),
        ("1.5", "fb3ff8000000000000", "cb3ff8000000000000"),
    ] {
        let hex = |codec: Codec| -> String {
            codec.encode(&json(number)).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!((hex(Codec::Cbor).as_str(), hex(Codec::MsgPack).as_str()), (cbor, msgpack), "{number}");
    }
    assert_eq!(
        read_back(Codec::Cbor, "[-18446744073709551617,18446744073709551616]"),
        "[-18446744073709551617,18446744073709551616]"
    );
}

/// Any JSON text of texts, whole numbers and doubles.
fn values() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e300..1e300_f64).prop_map(Into::into),
        ".{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Into::into),
            prop::collection::btree_map(".{0,8}", inner, 0..20)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn binary_formats_read_back_what_was_written(value in values()) {
        let text = value.to_string();
        for codec in [Codec::Cbor, Codec::MsgPack] {
            let back: serde_json::Value = serde_json::from_str(&read_back(codec, &text)).unwrap();
            prop_assert_eq!(&back, &value);
        }
    }

    #[test]
    fn text_formats_read_back_texts(rows in prop::collection::vec(("[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\u{fffe}\\u{ffff}]{0,20}", "[ -~é€]{0,20}"), 1..8)) {
        let rows: Vec<_> = rows.iter().map(|(a, b)| serde_json::json!({ "a": a, "b": b })).collect();
        let text = serde_json::Value::from(rows.clone()).to_string();
        let back: serde_json::Value = serde_json::from_str(&read_back(Codec::Csv(UTF8, b';'), &text)).unwrap();
        prop_assert_eq!(back, serde_json::Value::from(rows.clone()));
        for row in rows {
            let back: serde_json::Value = serde_json::from_str(&read_back(Codec::UrlEncoded(UTF8), &row.to_string())).unwrap();
            prop_assert_eq!(&back, &row);
            let element = serde_json::json!({ "row": { "@a": row["a"], "b": row["b"] } });
            let back: serde_json::Value = serde_json::from_str(&read_back(Codec::Xml(UTF8), &element.to_string())).unwrap();
            prop_assert_eq!(back, element);
        }
    }
}
