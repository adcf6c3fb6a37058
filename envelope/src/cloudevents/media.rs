//! What a content type says about how data can stand in a JSON text.

/// How data of a content type stands in a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// As the JSON value that it is.
    Json,
    /// As a JSON string.
    Text,
    /// As base64.
    Binary,
}

// === impl Media ===

impl Media {
    /// Without a content type data is JSON, as CloudEvents says.
    pub(super) fn of(content_type: Option<&str>) -> Self {
        let Some(content_type) = content_type else {
            return Self::Json;
        };
        let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let Some((kind, subtype)) = essence.trim().split_once('/') else {
            return Self::Binary;
        };
        if subtype.eq_ignore_ascii_case("json") || ends_with_ignore_case(subtype, "+json") {
            return Self::Json;
        }
        if kind.eq_ignore_ascii_case("text") && is_utf_8(parameters) { Self::Text } else { Self::Binary }
    }
}

/// No charset, or UTF-8 or its subset.
fn is_utf_8(parameters: &str) -> bool {
    parameters.split(';').filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || value.eq_ignore_ascii_case("utf-8")
            || value.eq_ignore_ascii_case("us-ascii")
    })
}

fn ends_with_ignore_case(text: &str, suffix: &str) -> bool {
    let at = text.len().checked_sub(suffix.len());
    at.and_then(|at| text.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_says_how_data_stands_in_json() {
        for (content_type, media) in [
            (None, Media::Json),
            (Some("application/json"), Media::Json),
            (Some("Application/JSON; charset=utf-8"), Media::Json),
            (Some("application/problem+json"), Media::Json),
            (Some("text/json"), Media::Json),
            (Some("text/plain"), Media::Text),
            (Some("text/csv; header=present; Charset=\"UTF-8\""), Media::Text),
            (Some("text/plain; charset=iso-8859-1"), Media::Binary),
            (Some("application/octet-stream"), Media::Binary),
            (Some("application/xml"), Media::Binary),
            (Some("json"), Media::Binary),
            (Some("é/+jsoñ"), Media::Binary),
            (Some(""), Media::Binary),
        ] {
            assert_eq!(Media::of(content_type), media, "{content_type:?}");
        }
    }
}
