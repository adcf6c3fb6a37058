//! The value of an `Authorization` header: `Bearer` with a key or a token, or `Basic` (RFC 7617) with a password.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::key;

/// What a header presents.
#[derive(PartialEq, Eq)]
pub(super) enum Presented<'h> {
    /// An API key: its id and its secret.
    Key { id: String, secret: [u8; 32] },
    /// What may be a token.
    Token(&'h str),
    /// A name and its password.
    Password { name: String, password: Vec<u8> },
}

/// Why a header presents nothing. Says nothing of what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("the credentials are not visible ASCII")]
    NotText,
    #[error("credentials are Bearer with a key or a token, or Basic with a name and a password")]
    Scheme,
    #[error("the API key is not of the form om_<id>_<64 hexadecimal digits>")]
    Key,
    #[error("the name and password are not in base64, or not joined by ':'")]
    Basic,
}

impl<'h> Presented<'h> {
    pub(super) fn of(header: &'h [u8]) -> Result<Self, HeaderError> {
        let text = std::str::from_utf8(header).ok().filter(|text| text.is_ascii()).ok_or(HeaderError::NotText)?;
        let (scheme, value) = text.split_once(' ').ok_or(HeaderError::Scheme)?;
        let value = value.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") && !value.is_empty() {
            return if value.starts_with(key::PREFIX) { key_of(value) } else { Ok(Self::Token(value)) };
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(HeaderError::Scheme);
        }
        let decoded = STANDARD.decode(value).map_err(|_| HeaderError::Basic)?;
        let colon = decoded.iter().position(|byte| *byte == b':').ok_or(HeaderError::Basic)?;
        let name = std::str::from_utf8(&decoded[..colon]).map_err(|_| HeaderError::Basic)?;
        Ok(Self::Password { name: name.to_owned(), password: decoded[colon + 1..].to_vec() })
    }
}

/// The header that presents what a protocol without headers has as a name and a password: an API key in the password's
/// place is one, whatever the name; without a name it is a token; else it is a password.
pub(super) fn header(name: &str, password: &[u8]) -> Vec<u8> {
    if name.is_empty() || password.starts_with(key::PREFIX.as_bytes()) {
        return [b"Bearer ", password].concat();
    }
    // a name has no ':': one that does would be another name with another password
    let pair = [name.replace(':', "\0").as_bytes(), b":", password].concat();
    format!("Basic {}", STANDARD.encode(pair)).into_bytes()
}

fn key_of<'h>(value: &str) -> Result<Presented<'h>, HeaderError> {
    let (id, secret) = key::parse(value).ok_or(HeaderError::Key)?;
    Ok(Presented::Key { id: id.to_owned(), secret })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> Result<(String, Vec<u8>), HeaderError> {
        let header = format!("Basic {}", STANDARD.encode(text));
        match Presented::of(header.as_bytes())? {
            Presented::Password { name, password } => Ok((name, password)),
            Presented::Key { .. } | Presented::Token(_) => panic!("it is a password"),
        }
    }

    #[test]
    fn a_password_is_all_behind_the_first_colon() {
        assert_eq!(basic("ada:secret"), Ok(("ada".to_owned(), b"secret".to_vec())));
        assert_eq!(basic("ada:a:b é"), Ok(("ada".to_owned(), "a:b é".into())));
        assert_eq!(basic("ada:"), Ok(("ada".to_owned(), Vec::new())));
        assert_eq!(basic("ada"), Err(HeaderError::Basic));
    }

    #[test]
    fn a_name_and_a_password_present_what_a_header_would() {
        let password = |name, password: &[u8]| match Presented::of(&header(name, password)) {
            Ok(Presented::Password { name, password }) => (name, password),
            Ok(Presented::Key { .. } | Presented::Token(_)) | Err(_) => panic!("it is a password"),
        };
        assert_eq!(password("ada", b"a:b \xff"), ("ada".to_owned(), b"a:b \xff".to_vec()));
        assert_ne!(password("ada:a", b"b").0, "ada", "never another user's name");
        let key = format!("om_abc_{}", "0f".repeat(32));
        for name in ["", "abc", "anything"] {
            let header = header(name, key.as_bytes());
            assert!(matches!(Presented::of(&header), Ok(Presented::Key { id, .. }) if id == "abc"));
        }
        assert!(matches!(Presented::of(&header("", b"a.b.c")), Ok(Presented::Token("a.b.c"))));
        assert!(Presented::of(&header("", b"")).is_err());
    }

    #[test]
    fn a_bearer_is_a_key_by_how_it_begins_and_a_token_else() {
        let key = format!("bearer om_abc_{}", "0f".repeat(32));
        assert!(matches!(Presented::of(key.as_bytes()), Ok(Presented::Key { id, .. }) if id == "abc"));
        assert!(matches!(Presented::of(b"BEARER  a.b.c "), Ok(Presented::Token("a.b.c"))));
        assert_eq!(Presented::of(b"Bearer om_abc_00").err(), Some(HeaderError::Key), "never taken for a token");
    }

    #[test]
    fn what_presents_nothing_is_refused() {
        for (header, why) in [
            (&b""[..], HeaderError::Scheme),
            (b"Bearer", HeaderError::Scheme),
            (b"Bearer ", HeaderError::Scheme),
            (b"Digest a", HeaderError::Scheme),
            (b"om_abc_00", HeaderError::Scheme),
            (b"Basic !", HeaderError::Basic),
            (b"Basic ", HeaderError::Basic),
            (b"Basic /////w==", HeaderError::Basic),
            (b"Bearer \xff", HeaderError::NotText),
            ("Bearer é".as_bytes(), HeaderError::NotText),
        ] {
            assert_eq!(Presented::of(header).err(), Some(why), "{header:?}");
        }
    }
}
