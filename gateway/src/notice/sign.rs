//! The signature of a post: HMAC-SHA256 (RFC 2104) over the time and the body, so that neither can be changed, and an old
//! post can't be shown again later.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// `v1=` and the signature of `{seconds}.{body}` in hexadecimal.
pub(super) fn signature(secret: &str, seconds: u64, body: &[u8]) -> String {
    // a key of any length is one (RFC 2104, section 2)
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut out = String::from("v1=");
    for byte in mac.finalize().into_bytes() {
        // writing to a String can't fail
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_hmac_of_time_and_body() {
        // printf '1764000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        let made = signature("0123456789abcdef0123456789abcdef", 1_764_000_000, br#"{"a":1}"#);
        assert_eq!(made, "v1=020c626f1ccd9fdc1fb78034d6735bdca794ce2de3efea76942a018a08ac78bc");
        assert_ne!(made, signature("0123456789abcdef0123456789abcdef", 1_764_000_001, br#"{"a":1}"#));
    }
}
