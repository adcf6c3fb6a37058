//! The `source` of an envelope: `mesh://<domain>/<bridge>/<principal>`.

/// The same for every message of a mapping: all but the principal.
pub(crate) fn source_prefix(domain: &str, bridge: &str) -> Box<str> {
    let mut out = "mesh://".to_owned();
    write_segment(&mut out, domain);
    out.push('/');
    write_segment(&mut out, bridge);
    out.push('/');
    out.into()
}

/// Appends a path segment. What it can't have (RFC 3986) is percent-encoded, so that a principal's name never adds
/// another.
pub(crate) fn write_segment(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b':' | b'@');
    if text.bytes().all(plain) {
        return out.push_str(text);
    }
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(principal: &str) -> String {
        let mut out = String::from(source_prefix("plant-a", "web"));
        write_segment(&mut out, principal);
        out
    }

    #[test]
    fn a_principal_is_one_segment_whatever_it_is_called() {
        assert_eq!(source("press-7"), "mesh://plant-a/web/press-7");
        assert_eq!(source("spiffe://x/y z"), "mesh://plant-a/web/spiffe:%2F%2Fx%2Fy%20z");
        assert_eq!(source("é%"), "mesh://plant-a/web/%C3%A9%25");
    }
}
