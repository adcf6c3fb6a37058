use super::*;

fn parse(text: &str) -> Result<bool, String> {
    PolicyConfig::parse("policy.yaml", text).map(|c| c.anonymous).map_err(|errors| errors.to_string())
}

#[test]
fn nobody_gets_in_unless_the_file_says_so() {
    for text in ["", "\n", "# anonymous: true\n", "{}", "anonymous: false\n"] {
        assert_eq!(parse(text), Ok(false), "{text:?}");
    }
    assert_eq!(parse("anonymous: true\n"), Ok(true));
}

#[test]
fn what_is_not_understood_is_an_error_with_its_place() {
    for (text, what) in [
        ("anonymus: true\n", "anonymus"),
        ("anonymous: yes\n", "1:12"),
        ("anonymous: \"true\"\n", "1:12"),
        ("anonymous:\n", "policy.yaml"),
        ("anonymous: true\nanonymous: true\n", "policy.yaml:2"),
        ("anonymous: true\nallow: all\n", "allow"),
        ("- anonymous\n", "policy.yaml:1"),
        ("true\n", "policy.yaml:1"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(what), "{text:?}: {error}");
    }
}
