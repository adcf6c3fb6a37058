//! Reading the head of a request.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The values of a header, in order. Most requests have few headers: to compare each name costs less than to hash this one.
pub(super) fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &HeaderValue> {
    headers.iter().filter(move |(own, _)| **own == name).map(|(_, value)| value)
}

/// The first value of a header.
pub(super) fn value(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    values(headers, name).next()
}

/// Whether this content type is JSON, by its own name or by its suffix (RFC 6839, section 3.1).
pub(super) fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    essence == b"application/json" || essence.ends_with(b"+json")
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn json_is_known_by_its_name_or_its_suffix() {
        for json in ["application/json", "Application/JSON ; charset=utf-8", "application/cloudevents+json"] {
            assert!(is_json(json.as_bytes()), "{json}");
        }
        for other in ["", "application/jsonl", "text/plain; a=application/json", "application/x-ndjson"] {
            assert!(!is_json(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_values_of_a_header_come_in_their_order_and_no_others() {
        let mut headers = HeaderMap::new();
        for (name, text) in [(header::TE, "1"), (header::VIA, "2"), (header::TE, "3"), (header::TE, "4")] {
            headers.append(name, HeaderValue::from_static(text));
        }
        assert_eq!(values(&headers, header::TE).collect::<Vec<_>>(), ["1", "3", "4"]);
        assert_eq!(value(&headers, header::VIA), Some(&HeaderValue::from_static("2")));
        assert_eq!(value(&headers, header::AGE), None);
    }
}
