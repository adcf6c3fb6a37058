//! Lists as one CloudEvents String: space-separated percent-encoded tokens.

use std::sync::Arc;

/// Appends the list. Visible ASCII other than `%` stays as it is, every other byte becomes `%XX`; an empty token is
/// `%`. One list has one spelling.
pub fn write_tokens(out: &mut Vec<u8>, list: &[Arc<str>]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for (n, token) in list.iter().enumerate() {
        if n > 0 {
            out.push(b' ');
        }
        if token.is_empty() {
            out.push(b'%');
        }
        for byte in token.bytes() {
            if byte.is_ascii_graphic() && byte != b'%' {
                out.push(byte);
            } else {
                out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
}

/// Reads what [`write_tokens`] writes; `None` for a bad escape, two spaces, or what is not UTF-8 once decoded.
pub fn parse_tokens(text: &str) -> Option<Vec<Arc<str>>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(' ').map(token).collect()
}

fn token(text: &str) -> Option<Arc<str>> {
    match text {
        "" => return None,
        "%" => return Some("".into()),
        plain if !plain.contains('%') => return Some(plain.into()),
        _ => {}
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok().map(Arc::from)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(list: &[Arc<str>]) -> String {
        let mut out = Vec::new();
        write_tokens(&mut out, list);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_list_is_readable_and_what_would_end_a_token_is_encoded() {
        let list: [Arc<str>; 5] = ["no".into(), "eu".into(), "a b".into(), "100%".into(), "".into()];
        assert_eq!(written(&list), "no eu a%20b 100%25 %");
        assert_eq!(written(&[]), "");
        assert_eq!(written(&["ø\n".into()]), "%C3%B8%0A");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in ["a  b", " a", "a ", "%2", "%zz", "a% b", "%FF", "%+1"] {
            assert_eq!(parse_tokens(bad), None, "{bad:?}");
        }
        assert_eq!(parse_tokens(""), Some(Vec::new()));
        assert_eq!(parse_tokens("%c3%b8"), Some(vec!["ø".into()]));
    }

    proptest! {
        #[test]
        fn a_list_reads_back(list in prop::collection::vec(any::<String>().prop_map(Arc::from), 0..5)) {
            let text = written(&list);
            prop_assert!(text.is_ascii() && !text.contains(char::is_control));
            prop_assert_eq!(parse_tokens(&text), Some(list));
        }
    }
}
