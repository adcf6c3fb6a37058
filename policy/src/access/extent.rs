//! How much a policy may say: what is nested deeper than a stack is long is refused before anybody reads it.
//!
//! Cedar reads, checks and evaluates by recursion, one level a bracket and one an operator, and a stack that is used up
//! ends the process.

use std::ops::Range;

/// The most brackets within each other.
pub(super) const MAX_DEPTH: usize = 64;
/// The most words, brackets and operators of one policy: bounds how long a chain of operators is.
pub(super) const MAX_TOKENS: usize = 4_096;
/// What the deepest policy that passes needs, several times over.
pub(super) const STACK_BYTES: usize = 64 << 20;

/// Why a policy is refused, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exceeds {
    pub(super) at: Range<usize>,
    pub(super) why: String,
}

/// Looks at brackets, words and operators; not at what is in a text or a comment.
pub(super) fn check(text: &str) -> Result<(), Exceeds> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut tokens) = (0, 0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'"' => at = after_text(bytes, at),
            b'/' if bytes.get(at) == Some(&b'/') => {
                at = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |line| at + line);
                continue;
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' => {
                (depth, tokens) = (0, 0);
                continue;
            }
            _ if byte.is_ascii_whitespace() => continue,
            _ if is_word(*byte) => at += bytes[at..].iter().take_while(|byte| is_word(**byte)).count(),
            // an operator of two characters counts twice
            _ => {}
        }
        tokens += 1;
        let why = match () {
            () if depth > MAX_DEPTH => format!("brackets are nested deeper than {MAX_DEPTH}"),
            () if tokens > MAX_TOKENS => {
                format!("a policy of more than {MAX_TOKENS} words, brackets and operators: make several of it")
            }
            () => continue,
        };
        return Err(Exceeds { at: start..start + 1, why });
    }
    Ok(())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Behind the quote that ends a text.
fn after_text(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_words_are_counted_up_to_their_limits() {
        let nested = |depth: usize| format!("{}{};", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        let deep = check(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!((deep.at, deep.why.as_str()), (64..65, "brackets are nested deeper than 64"));
        let long = |words: usize| "a ".repeat(words) + ";";
        assert_eq!(check(&long(MAX_TOKENS)), Ok(()));
        assert!(check(&long(MAX_TOKENS + 1)).unwrap_err().why.contains("4096"));
        assert_eq!(check(&long(MAX_TOKENS).repeat(3)), Ok(()), "each policy by itself");
    }

    #[test]
    fn what_is_in_a_text_or_a_comment_counts_nothing() {
        let many = "(".repeat(100);
        for text in
            [format!("// {many}\n;"), format!("\"{many}\""), format!("\"\\\"{many}"), format!("\"\\\\\";\n// {many}")]
        {
            assert_eq!(check(&text), Ok(()), "{text}");
        }
        assert!(check(&format!("\"\\\\\"{many}")).is_err(), "the text ended before it");
        assert!(check(&format!("/{many}")).is_err());
    }
}
