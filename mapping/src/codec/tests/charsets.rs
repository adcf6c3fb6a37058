use proptest::prelude::*;

use super::*;

fn text(charset: Charset, bytes: &[u8]) -> Result<String, String> {
    match Codec::Text(charset).decode(&Bytes::copy_from_slice(bytes)) {
        Ok(Decoded::Text(text)) => Ok(text.into_owned()),
        Ok(_) => Err("no text".to_owned()),
        Err(rejection) => Err(rejection.detail.to_string()),
    }
}

fn charset(word: &str) -> Charset {
    Charset::WORDS.into_iter().find(|(name, _)| *name == word).unwrap().1
}

#[test]
fn each_charset_reads_its_bytes() {
    for (word, bytes, is) in [
        ("utf-8", &b"\xef\xbb\xbfna\xc3\xafve"[..], "naïve"),
        ("latin-1", b"na\xefve \x80", "naïve \u{80}"),
        ("windows-1252", b"na\xefve \x80", "naïve €"),
        ("iso-8859-15", b"\xa4", "€"),
        ("windows-1251", b"\xc6", "Ж"),
        ("shift_jis", b"\x83e\x83X\x83g", "テスト"),
        ("utf-16le", b"\xff\xfea\x00\x3d\xd8\x00\xde", "a😀"),
        ("utf-16le", b"a\x00", "a"),
        ("utf-16be", b"\xfe\xff\x00a", "a"),
        ("utf-16be", b"", ""),
    ] {
        assert_eq!(text(charset(word), bytes).as_deref(), Ok(is), "{word}");
    }
}

#[test]
fn a_byte_that_a_charset_does_not_have_is_named_and_never_replaced() {
    for (word, bytes, says) in [
        ("utf-8", &b"a\xff"[..], "payload is not UTF-8 at byte 1"),
        ("utf-8", b"\xef\xbb\xbf\xff", "payload is not UTF-8 at byte 3"),
        ("windows-1252", b"ab\x81", "payload is not windows-1252 at byte 2"),
        ("windows-1251", b"\x98", "payload is not windows-1251 at byte 0"),
        ("shift_jis", b"ab\x83", "payload is not shift_jis at byte 2"),
        ("shift_jis", b"ab\xff\x41", "payload is not shift_jis at byte 2"),
        ("utf-16le", b"a\x00\x00\xd8b\x00", "payload is not utf-16le at byte 2"),
        ("utf-16le", b"\xff\xfea\x00\x00\xdc", "payload is not utf-16le at byte 4"),
        ("utf-16le", b"a\x00b", "payload is not utf-16le at byte 2"),
        ("utf-16le", b"\xfe\xff\x00a", "payload is not utf-16le at byte 0"),
    ] {
        assert_eq!(text(charset(word), bytes), Err(says.to_owned()), "{word} {bytes:?}");
    }
}

proptest! {
    #[test]
    fn what_can_be_written_in_a_charset_is_read_back(words in "[a-zé-ÿ€Ж字 ]{0,20}") {
        for (name, charset) in Charset::WORDS {
            if let Some(bytes) = charset.encode(&words) {
                let read = text(charset, &bytes);
                prop_assert_eq!(read.as_deref(), Ok(&*words), "{}", name);
            }
        }
    }

    #[test]
    fn nothing_is_ever_replaced(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
        for (name, charset) in Charset::WORDS {
            // gb18030 and UTF-16 have the replacement character itself
            if let Ok(text) = text(charset, &bytes) && !charset.is_utf16() && name != "gb18030" && name != "utf-8" {
                prop_assert!(!text.contains('\u{fffd}'), "{}", name);
            }
        }
    }

    #[test]
    fn one_byte_charsets_lose_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
        for word in ["latin-1", "windows-1252", "iso-8859-15", "koi8-r"] {
            let charset = charset(word);
            if let Ok(text) = text(charset, &bytes) {
                prop_assert_eq!(charset.encode(&text), Some(bytes.clone()), "{}", word);
            }
        }
    }
}
