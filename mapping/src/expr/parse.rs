//! Text to the syntax tree of the `cel` crate. CEL's syntax is CEL's: nothing here reads an expression itself.

use std::ops::Range;

use cel::{
    Env,
    common::ast::{IdedExpr, SourceInfo},
    parser::ParseError,
};

use super::MAX_EXPRESSION;

/// What is wrong with an expression, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Byte offsets in the expression's text.
    pub(crate) at: Range<usize>,
    /// In kebab case.
    pub(crate) code: &'static str,
    /// For the file's author.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
}

/// The expression's tree and the places of its nodes.
pub(super) fn parse(text: &str) -> Result<(IdedExpr, SourceInfo), Problem> {
    if text.len() > MAX_EXPRESSION {
        let message = format!("an expression has at most {MAX_EXPRESSION} bytes, this has {}", text.len());
        return Err(Problem::new(0..text.len(), "expression-too-long", message));
    }
    if text.trim().is_empty() {
        return Err(Problem::new(
            0..text.len(),
            "expression-syntax",
            "expected an expression between \"${\" and \"}\"",
        ));
    }
    // without macros: the plan has its own
    let parser = Env::default().with_optional_support(false).parser();
    parser.parse_with_source_info(text).map_err(|errors| match errors.errors.first() {
        Some(first) => match out_of_range(&first.msg) {
            Some(message) => Problem::new(place(text, first), "expression-number", message),
            None => Problem::new(place(text, first), "expression-syntax", sentence(&first.msg)),
        },
        None => Problem::new(0..text.len(), "expression-syntax", "not an expression"),
    })
}

// === impl Problem ===

impl Problem {
    pub(super) fn new(at: Range<usize>, code: &'static str, message: impl Into<String>) -> Self {
        Self { at, code, message: message.into(), help: None }
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The character at the parser's line and column, both from 1.
fn place(text: &str, error: &ParseError) -> Range<usize> {
    let (line, column) = (error.pos.0.max(1) as usize, error.pos.1.max(1) as usize);
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    let within = rest.char_indices().nth(column - 1);
    match within {
        Some((offset, c)) => start + offset..start + offset + c.len_utf8(),
        None => text.len()..text.len(),
    }
}

/// What is wrong with a number that the parser's grammar takes and its types do not.
fn out_of_range(message: &str) -> Option<&'static str> {
    match message.strip_prefix("invalid ")?.strip_suffix(" literal")? {
        "int" | "uint" => Some("the number is out of the range of 64 bits"),
        "double" => Some("the number is out of the range of a double"),
        _ => None,
    }
}

/// The parser's message without its list of every token it could have taken.
fn sentence(message: &str) -> String {
    if message.contains("Recursion limit") {
        return "nested too deep".to_owned();
    }
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting ").next().unwrap_or(message);
    let found =
        ["mismatched input ", "extraneous input ", "token recognition error at: ", "no viable alternative at input "]
            .iter()
            .find_map(|begin| message.strip_prefix(begin));
    match found {
        Some(found) if found.contains("<EOF>") => "unexpected end of the expression".to_owned(),
        Some(found) => format!("unexpected {}", found.chars().take(80).collect::<String>()),
        None => message.chars().take(160).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (Range<usize>, String) {
        let problem = parse(text).map(|_| ()).unwrap_err();
        (problem.at, problem.message)
    }

    #[test]
    fn a_syntax_error_has_a_place_and_a_short_sentence() {
        assert_eq!(refused("a +"), (3..3, "unexpected end of the expression".to_owned()));
        assert_eq!(refused("a @ b"), (2..3, "unexpected '@'".to_owned()));
        assert_eq!(refused("\"å\" + @").0, 7..8);
        assert_eq!(refused("a\n + %").0, 5..6);
        assert_eq!(refused(" ").1, "expected an expression between \"${\" and \"}\"");
        assert_eq!(refused("9223372036854775808").1, "the number is out of the range of 64 bits");
        let huge = parse(&format!("a + {}", "9".repeat(400))).map(|_| ()).unwrap_err();
        assert_eq!((huge.code, huge.at.start), ("expression-number", 4));
    }

    #[test]
    fn bombs_cost_nothing() {
        for bomb in ["(", "[", "f(", "1?", "a[", "!(", "-(", "{1:"] {
            assert!(parse(&bomb.repeat(MAX_EXPRESSION / bomb.len())).is_err(), "{bomb}");
        }
        let closed = format!("{}1{}", "(".repeat(1_000), ")".repeat(1_000));
        assert_eq!(refused(&closed).1, "nested too deep");
        assert!(refused(&"a".repeat(MAX_EXPRESSION + 1)).1.contains("at most 2048 bytes"));
    }
}
