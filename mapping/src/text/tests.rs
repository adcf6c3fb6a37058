//! Templates in files are in `crate::tests::sending`; here is what they may not do.

use super::*;

fn read(text: &str) -> Result<TextTemplate, String> {
    read_in(text, Codec::Text(crate::codec::Charset::Utf8))
}

fn read_in(text: &str, codec: Codec) -> Result<TextTemplate, String> {
    let file = yaml::File::parse("t.yaml", format!("{text:?}")).map_err(|e| e.to_string())?;
    let names = Names {
        payload: PayloadKind::Json,
        captures: Some(&[]),
        subject: crate::expr::Subject::Inbound,
        own: crate::expr::OwnNames::NONE,
        tables: crate::Tables::none(),
    };
    file.read(|node, problems| TextTemplate::read(node, codec, names, problems)).map_err(|errors| errors.to_string())
}

fn laid(text: &str, payload: &str) -> Result<String, String> {
    let json = envelope::Json::parse(payload.to_owned().into()).unwrap();
    let scope = Scope { payload: expr::ScopePayload::Json(json.root()), ..Scope::NOTHING };
    read(text)?.lay(&scope).map_err(|rejection| rejection.to_string())
}

#[test]
fn a_template_lays_out_values() {
    let payload = r#"{"who":"Ida","lines":[{"sku":"a-1","n":2},{"sku":"b","n":1.50}],"none":null}"#;
    let text = "{{ payload.who|upper }}:{% for l in payload.lines %}{{ l.sku }}={{ l.n }}{% if not loop.last %};{% endif %}{% endfor %}{{ payload.none }}";
    assert_eq!(laid(text, payload).as_deref(), Ok("IDA:a-1=2;b=1.5"));
    assert_eq!(laid("{{ payload.gone|default('x') }}", "{}").as_deref(), Ok("x"));
    assert_eq!(
        laid("{{ 'a|b' if payload is defined else \"c|d\" }}{# |x #}{% raw %}{{ a|b }}{% endraw %}", "1").as_deref(),
        Ok("a|b{{ a|b }}")
    );
    assert_eq!(
        laid("{{ payload }}", "340282366920938463463374607431768211456").as_deref(),
        Ok("340282366920938463463374607431768211456")
    );
}

#[test]
fn a_boolean_and_null_are_written_as_the_format_writes_them() {
    let payload = r#"{"yes":true,"no":false,"none":null}"#;
    let text = "{{ payload.yes }},{{ payload.no }},{{ payload.none }}";
    let json = envelope::Json::parse(payload.to_owned().into()).unwrap();
    let scope = Scope { payload: expr::ScopePayload::Json(json.root()), ..Scope::NOTHING };
    for (codec, written) in
        [("json", "true,false,null"), ("xml", "true,false,"), ("csv", "true,false,"), ("text", "true,false,")]
    {
        let codec = yaml::File::parse("c.yaml", codec.to_owned()).unwrap().read(Codec::read);
        let read = read_in(text, codec.unwrap()).unwrap();
        assert_eq!(read.lay(&scope).unwrap(), written);
    }
}

#[test]
fn a_template_without_an_end_says_the_limit_of_its_steps() {
    let list = format!("[{}1]", "1,".repeat(2_000));
    let text = "{% for a in payload %}{% for b in payload %}{% endfor %}{% endfor %}";
    assert!(laid(text, &list).unwrap_err().contains("takes more than 1000000 steps"));
}

#[test]
fn what_is_no_single_value_is_named_with_its_article() {
    assert!(laid("{{ payload }}", "[1]").unwrap_err().contains("found an array"));
    assert!(laid("{{ payload }}", "{}").unwrap_err().contains("found an object"));
}

#[test]
fn a_template_that_tries_to_read_files_is_an_error_at_load() {
    for text in [
        "{% include \"/etc/passwd\" %}",
        "{% include payload.file %}",
        "{% import \"/etc/passwd\" as x %}",
        "{% from \"a\" import b %}",
        "{% extends \"/etc/passwd\" %}",
        "{{ include(\"/etc/passwd\") }}",
        "{{ load(\"x\") }}",
        "{{ env.HOME }}",
        "{% macro a() %}{% endmacro %}",
        "{{ payload|safe }}",
        "{{ payload|tojson }}",
        "{{ range(9) }}",
        "{{ payload is filter }}",
        "{% filter unknown %}a{% endfilter %}",
        "{{ payload.a",
        "{% for x in payload %}",
    ] {
        let Err(said) = read(text) else { panic!("{text} loads") };
        assert!(said.contains("error[template]") || said.contains("error[unknown-name]"), "{text}: {said}");
    }
}

#[test]
fn an_error_has_its_place() {
    let said = read("{{ payload.a }} {{ paylod.b }}").map(|_| ()).unwrap_err();
    assert!(said.contains("t.yaml:1:21") && said.contains("did you mean payload?"), "{said}");
    let said = read("{{ payload.a|uper }}").map(|_| ()).unwrap_err();
    assert!(said.contains("t.yaml:1:15") && said.contains("unknown filter \"uper\""), "{said}");
    assert!(read(&"x".repeat(MAX_TEMPLATE + 1)).map(|_| ()).unwrap_err().contains("at most 65536 bytes"));
}

#[test]
fn what_is_not_there_refuses_the_message() {
    assert!(laid("{{ payload.a }}", "{}").unwrap_err().contains("malformed"));
    assert!(laid("{{ payload }}", "{}").unwrap_err().contains("expected one value, found an object"));
}

#[test]
fn what_would_take_too_long_or_too_much_is_cut_off() {
    let items = format!("[{}]", vec!["1"; 2_000].join(","));
    let nested =
        "{% for a in payload %}{% for b in payload %}{% for c in payload %}.{% endfor %}{% endfor %}{% endfor %}";
    let said = laid(nested, &items).unwrap_err();
    assert!(said.starts_with("too-large"), "{said}");
    let doubled = format!("{{% set a = \"x\" %}}{}{{{{ a }}}}", "{% set a = a ~ a %}".repeat(40));
    assert!(laid(&doubled, "1").unwrap_err().starts_with("too-large"));
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    assert!(laid(&"{{ payload }}".repeat(9), &long).unwrap_err().starts_with("too-large"));
    assert!(laid("{{ payload * 1000000000000 }}", "\"x\"").is_err());
    let deep = format!("{}x{}", "{% if payload %}".repeat(200), "{% endif %}".repeat(200));
    assert!(read(&deep).is_err() || laid(&deep, "1").is_ok());
}
