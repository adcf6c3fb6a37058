//! `table()` in a file.

use super::*;

fn looked_up(expression: &str, payload: &str) -> Result<String, String> {
    data(&format!("'${{{expression}}}'"), payload).map_err(|rejection| rejection.to_string())
}

#[test]
fn a_look_up_keeps_the_type_of_its_column() {
    let at = |expression: &str| looked_up(expression, r#"{"line":"7","other":"9","none":"x"}"#);
    assert_eq!(at("table(\"lines.jurisdiction\", payload.line)").as_deref(), Ok("\"no\""));
    assert_eq!(at("table(\"lines.limit\", payload.line)").as_deref(), Ok("80.50"), "a number keeps its spelling");
    assert_eq!(at("table(\"lines.limit\", address.line) + 0.5").as_deref(), Ok("81"));
    assert_eq!(at("table(\"lines.floor\", payload.other) / 4").as_deref(), Ok("0"), "whole numbers divide as in CEL");
    assert_eq!(at("table(\"lines.moved\", payload.other) ? 1 : 2").as_deref(), Ok("1"));
    assert_eq!(at("table(\"lines.moved\", payload.line) == null").as_deref(), Ok("true"));
    assert_eq!(at("table(\"lines.jurisdiction\", \"9\")").as_deref(), Ok("\"se\""), "settled when the file is loaded");
}

#[test]
fn a_key_that_is_not_there_is_malformed_or_what_the_default_says() {
    let at = |expression: &str| looked_up(expression, r#"{"line":"8","number":7}"#);
    let said = at("table(\"lines.jurisdiction\", payload.line)").unwrap_err();
    assert!(said.contains("malformed") && said.contains("table \"lines\" has no key \"8\""), "{said}");
    assert_eq!(at("table(\"lines.jurisdiction\", payload.line, \"eu\")").as_deref(), Ok("\"eu\""));
    assert_eq!(at("table(\"lines.limit\", payload.line, payload.number)").as_deref(), Ok("7"));
    assert!(at("table(\"lines.limit\", payload.line, payload.gone)").unwrap_err().contains("\"gone\" is missing"));
    assert!(at("table(\"lines.limit\", payload.number)").unwrap_err().contains("expected a string, as the keys"));
}

#[test]
fn what_can_be_known_at_load_is_an_error_of_the_file() {
    let of = |expression: &str| {
        let text = with("", &format!("  topic: t\n  data: '${{{expression}}}'"));
        let errors = load_all(&[&text]).map(|_| ()).unwrap_err();
        let error = errors.iter().next().unwrap().clone();
        format!("{} {} {}", error.code, error.message, error.help.unwrap_or_default())
    };
    for (expression, says) in [
        ("table(\"line.limit\", address.line)", "unknown-table unknown table \"line\" did you mean \"lines\"?"),
        ("table(\"lines\", address.line)", "unknown-column table \"lines\" has more than one column: say which"),
        ("table(\"lines.limits\", address.line)", "has no such column did you mean \"lines.limit\"?"),
        ("table(address.line, \"7\")", "must be known when the file is loaded"),
        ("table(\"lines.limit\")", "expected table(\"name\", key)"),
        ("table(\"lines.limit\", 7)", "the keys of table \"lines\" are texts, found a number"),
        ("table(\"lines.limit\", \"8\")", "expression-value table \"lines\" has no key \"8\""),
        ("table(\"lines.jurisdiction\", address.line) * 2", "expected a number, found a string"),
        ("\"x\".table(\"lines\")", "unknown function table"),
    ] {
        let said = of(expression);
        assert!(said.contains(says), "{expression}: {said}");
    }
}
