use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const XML: Codec = Codec::Xml(Charset::Utf8);
const CSV: Codec = Codec::Csv(Charset::Utf8, b',');
const FORM: Codec = Codec::UrlEncoded(Charset::Utf8);

#[test]
fn xml_becomes_a_tree_by_one_rule() {
    for (xml, json) in [
        ("<a/>", json!({"a": ""})),
        ("<a> x </a>", json!({"a": " x "})),
        ("<a b='1'/>", json!({"a": {"@b": "1"}})),
        ("<a b='1'>x</a>", json!({"a": {"@b": "1", "#text": "x"}})),
        ("<a>\n <b>1</b>\n <c/>\n</a>\n", json!({"a": {"b": "1", "c": ""}})),
        ("<a><b>1</b><c/><b><d/></b></a>", json!({"a": {"b": ["1", {"d": ""}], "c": ""}})),
        ("<a>x<b/>y</a>", json!({"a": {"#text": "xy", "b": ""}})),
        ("<a>1 &lt; 2 &#x41;&#66;<![CDATA[<&>]]></a>", json!({"a": "1 < 2 AB<&>"})),
        ("<a b=\"&quot;x&#10;y\n\tz\"/>", json!({"a": {"@b": "\"x\ny  z"}})),
        ("<s:a xmlns:s='u:1'><s:b/></s:a>", json!({"s:a": {"@xmlns:s": "u:1", "s:b": ""}})),
        (
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><!-- c --><?p i?><a>1\r\n2\r3</a><!-- d -->",
            json!({"a": "1\n2\n3"}),
        ),
    ] {
        assert_eq!(value(XML, xml), json, "{xml}");
    }
}

#[test]
fn a_second_byte_order_mark_before_xml_is_refused_in_every_charset() {
    let utf_16le = Codec::Xml(Charset::WORDS.into_iter().find(|(name, _)| *name == "utf-16le").unwrap().1);
    let utf_16: Vec<u8> = "\u{feff}\u{feff}<a>>\u{f6}</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused(utf_16le, &utf_16, "at line 1: a second byte order mark");
    refused(XML, "\u{feff}\u{feff}<a/>", "a second byte order mark");
    assert_eq!(value(XML, "\u{feff}<a/>"), json!({"a": ""}));
    assert_eq!(value(utf_16le, &utf_16[2..]), json!({"a": ">\u{f6}"}));
}

#[test]
fn a_document_type_is_refused_before_anything_of_it_is_read() {
    let laughs = "<!DOCTYPE a [<!ENTITY l \"lol\"><!ENTITY m \"&l;&l;&l;&l;&l;&l;&l;&l;&l;&l;\">]><a>&m;</a>";
    refused(XML, laughs, "at line 1: a document type, which is never read");
    refused(XML, "<!DOCTYPE a [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><a>&f;</a>", "a document type");
    refused(XML, "<!DOCTYPE a PUBLIC \"p\" \"http://example.org/a.dtd\"><a/>", "a document type");
    refused(XML, "<a>&f;</a>", "entity &f; is not defined");
    refused(XML, "<a b='&f;'/>", "entity &f; is not defined");
}

#[test]
fn what_is_not_well_formed_is_refused_with_its_line() {
    for (xml, says) in [
        ("", "there is no element"),
        ("\n<a>\n<b></a>", "XML at line 3: ill-formed document: expected `</b>`"),
        ("<a>", "<a> is not closed"),
        ("<a/><b/>", "a second root element"),
        ("<a/>x", "text outside of the root"),
        ("<a/>&amp;", "text outside of the root"),
        ("</a>", "close tag"),
        ("<a b=1/>", "attribute \"b\" has no value in quotes"),
        ("<a b/>", "attribute \"b\" has no value in quotes"),
        ("<a b='1'c='2'/>", "without white space before it"),
        ("<a b='<'/>", "a '<' within an attribute"),
        ("<a>\n<b c='1' c='2'/></a>", "at line 2: duplicate key \"@c\""),
        ("<1/>", "\"1\" is no name"),
        ("<a =''/>", "\"\" is no name"),
        ("<a>&#0;</a>", "no character is &#0;"),
        ("<a>&#xFFFFFFFFFF;</a>", "no character is"),
        ("<a>&#+65;</a>", "no character is"),
        ("<a>\u{1}</a>", "the character '\\u{1}'"),
        ("<a>]]></a>", "\"]]>\" within text"),
        ("<a><!-- -- --></a>", "forbidden string `--`"),
        (" <?xml version='1.0'?><a/>", "not at the beginning"),
        ("<?xml version='1.0' enco8ing='UTF-8'?><a/>", "says version, encoding and standalone"),
        ("<?xml encoding='UTF-8'?><a/>", "says version, encoding and standalone"),
        ("<?xml version='1.1'?><a/>", "a version other than 1.0"),
        ("<?xml version='1.0' encoding='iso-8859-1'?><a/>", "says it is in iso-8859-1, the mapping in UTF-8"),
        ("<a", "not closed"),
        ("<a><![CDATA[</a>", "CDATA not closed"),
    ] {
        refused(XML, xml, says);
    }
    let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>";
    assert_eq!(value(Codec::Xml(Charset::Latin1), latin), json!({"a": "é"}));
}

#[test]
fn deep_and_wide_documents_are_bounded() {
    let nested = |levels: usize| decoded(XML, "<a>".repeat(levels) + &"</a>".repeat(levels));
    assert!(nested(128).is_ok());
    assert!(nested(129).unwrap_err().contains("nested deeper than 128 levels"));
    assert!(nested(100_000).unwrap_err().contains("nested deeper than 128 levels"));
    let arrays = |levels: usize| decoded(XML, "<a><a/>".repeat(levels) + &"</a>".repeat(levels));
    assert!(arrays(60).is_ok());
    assert!(arrays(100).unwrap_err().contains("nested deeper than 128 levels"));
    let attributes: String = (0..20_000).map(|n| format!(" a{n}='{n}'")).collect();
    assert_eq!(value(XML, format!("<a{attributes}/>"))["a"]["@a19999"], "19999");
    let children: String = (0..20_000).map(|n| format!("<a{n}/>")).collect();
    assert_eq!(value(XML, format!("<a>{children}</a>"))["a"].as_object().unwrap().len(), 20_000);
}

#[test]
fn csv_becomes_an_array_of_objects() {
    for (csv, json) in [
        ("a,b\n1,2\n", json!([{"a": "1", "b": "2"}])),
        ("a,b\r\n1,\r\n\r\n,4", json!([{"a": "1", "b": ""}, {"a": "", "b": "4"}])),
        ("a\n\"x, \"\"y\"\"\nz\"\n\"\"\n", json!([{"a": "x, \"y\"\nz"}, {"a": ""}])),
        ("\u{feff}a\n1\n", json!([{"a": "1"}])),
        ("a,b\n", json!([])),
    ] {
        assert_eq!(value(CSV, csv), json, "{csv}");
    }
    let semicolons = Codec::Csv(Charset::Of(encoding_rs::WINDOWS_1252), b';');
    assert_eq!(value(semicolons, b"preis;ort\n1,5 \x80;K\xf6ln\n"), json!([{"preis": "1,5 €", "ort": "Köln"}]));
}

#[test]
fn csv_that_is_not_square_or_not_quoted_right_is_refused_with_its_line() {
    for (csv, says) in [
        ("", "there is no header row"),
        ("\n\n", "there is no header row"),
        ("a,b\n1,2\n3\n", "CSV at line 3: the row has 1 fields, the header has 2"),
        ("a,b\n\"1\n\",2\n3,4,5\n", "at line 4: the row has 3 fields"),
        ("a,a\n", "at line 1: two columns are named \"a\""),
        ("a\n\"x", "at line 2: a quote that does not close"),
        ("a\n\"x\"y\n", "at line 2: text behind the closing quote of field 1"),
        ("a\nx\"y\n", "at line 2: a quote within a field"),
        ("a\nx\ry\n", "a carriage return without a line feed"),
    ] {
        refused(CSV, csv, says);
    }
}

#[test]
fn form_data_becomes_an_object() {
    for (form, json) in [
        ("", json!({})),
        ("a=1&b=x+y&c=%C3%A9%26", json!({"a": "1", "b": "x y", "c": "é&"})),
        ("a=1&&b&c=&=d", json!({"a": "1", "b": "", "c": "", "": "d"})),
        ("a=1&b=2&%61=3", json!({"a": ["1", "3"], "b": "2"})),
        ("a=1=2", json!({"a": "1=2"})),
    ] {
        assert_eq!(value(FORM, form), json, "{form}");
    }
    assert_eq!(value(Codec::UrlEncoded(Charset::Latin1), "n=%E9"), json!({"n": "é"}));
    refused(FORM, "a=1&b=%", "form data at byte 6: a '%' without");
    refused(FORM, "a=1&%zz=1", "form data at byte 4: a '%' without");
    refused(FORM, "a=1&b=%E9", "form data at byte 4: not UTF-8");
}

#[test]
fn what_costs_more_memory_than_bytes_is_bounded() {
    refused(XML, "<a>".to_owned() + &"<b/>".repeat(1 << 18) + "</a>", "more than 262144 elements and attributes");
    let attributes: String = (0..=1 << 18).map(|n| format!(" a{n}=''")).collect();
    refused(XML, format!("<a{attributes}/>"), "more than 262144 attributes");
    refused(CSV, ",".repeat(1 << 20), "more than 65536 columns");
    let names: String = (0..=1 << 16).map(|n| format!("a{n}&")).collect();
    refused(FORM, names, "more than 65536 names");
}

/// Any tree that the rule for XML makes of elements without mixed content.
fn element() -> impl Strategy<Value = String> {
    let text = "[ a-z&<>\"'é\t]{0,12}".prop_map(|text| quick_xml::escape::escape(text.as_str()).into_owned());
    let attributes = proptest::collection::btree_map("[a-z]{1,3}", text.clone(), 0..3)
        .prop_map(|all| all.into_iter().map(|(name, value)| format!(" {name}=\"{value}\"")).collect::<String>());
    let leaf = ("[a-z]{1,2}", attributes.clone(), text)
        .prop_map(|(name, attrs, text)| format!("<{name}{attrs}>{text}</{name}>"));
    leaf.prop_recursive(4, 32, 6, move |inner| {
        ("[a-z]{1,2}", attributes.clone(), proptest::collection::vec(inner, 0..6))
            .prop_map(|(name, attrs, children)| format!("<{name}{attrs}>{}</{name}>", children.concat()))
    })
}

/// The rule, over another parser's tree.
fn by_the_rule(node: roxmltree::Node<'_, '_>) -> Value {
    let text: String = node.children().filter(|child| child.is_text()).filter_map(|child| child.text()).collect();
    if node.attributes().len() == 0 && !node.children().any(|child| child.is_element()) {
        return text.into();
    }
    let mut object = serde_json::Map::new();
    for attribute in node.attributes() {
        object.insert(format!("@{}", attribute.name()), attribute.value().into());
    }
    if !text.trim().is_empty() {
        object.insert("#text".to_owned(), text.into());
    }
    for child in node.children().filter(|child| child.is_element()) {
        let name = child.tag_name().name();
        let all: Vec<_> = node.children().filter(|child| child.tag_name().name() == name).map(by_the_rule).collect();
        let value = if all.len() == 1 { all[0].clone() } else { Value::from(all) };
        object.insert(name.to_owned(), value);
    }
    object.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn xml_is_what_another_parser_reads(xml in element()) {
        let document = roxmltree::Document::parse(&xml).unwrap();
        let root = document.root_element();
        prop_assert_eq!(value(XML, &xml), json!({ root.tag_name().name(): by_the_rule(root) }));
    }

    #[test]
    fn csv_is_what_another_writer_wrote(rows in proptest::collection::vec(("[a-z \",\n;é]{0,8}", "[^\r]{0,8}"), 0..12)) {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(["a", "b"]).unwrap();
        rows.iter().for_each(|(a, b)| writer.write_record([a, b]).unwrap());
        let rows: Vec<_> = rows.into_iter().map(|(a, b)| json!({"a": a, "b": b})).collect();
        prop_assert_eq!(value(CSV, writer.into_inner().unwrap()), Value::from(rows));
    }

    #[test]
    fn a_form_is_what_another_writer_wrote(fields in proptest::collection::btree_map(".{0,8}", ".{0,8}", 0..8)) {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
        prop_assert_eq!(value(FORM, form), json!(fields));
    }

    #[test]
    fn no_text_is_a_panic(text in "[<>/!?a&;#\\[\\]='\"%+,\r\n \\-xD]{0,60}") {
        for codec in [XML, CSV, FORM] {
            let _ = decoded(codec, &text);
        }
    }
}
