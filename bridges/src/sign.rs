//! The signature of what is posted, after Standard Webhooks 1.0: HMAC-SHA256 (RFC 2104) over the id, the time and the body, so
//! that none of them can be changed, and an old post can't be shown again later.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use sha2::Sha256;
use yaml::Secret;

/// The id of what is posted: the same whenever it is posted again.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When it is posted, in seconds since 1970.
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// `v1,` and the signature.
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What a secret in base64 begins with.
const BASE64: &str = "whsec_";

/// `v1,` and the signature of `{id}.{seconds}.{body}` in base64. The key is the text of the secret, or what it says in
/// base64 behind `whsec_`.
pub fn signature(secret: &Secret, id: &str, seconds: u64, body: &[u8]) -> String {
    let text = secret.expose();
    let decoded = text.strip_prefix(BASE64).and_then(|encoded| STANDARD.decode(encoded).ok());
    let key = decoded.as_deref().unwrap_or(text.as_bytes());
    // a key of any length is one (RFC 2104, section 2)
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    for part in [id.as_bytes(), b".", seconds.to_string().as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_one_of_the_standards_own_example() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let made = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_no_base64_is_its_own_bytes() {
        let secret = Secret::new("0123456789abcdef0123456789abcdef");
        let made = signature(&secret, "a", 1, b"{}");
        assert_ne!(made, signature(&secret, "b", 1, b"{}"));
        assert_ne!(made, signature(&secret, "a", 2, b"{}"));
        assert_ne!(made, signature(&secret, "a", 1, b"[]"));
    }
}
