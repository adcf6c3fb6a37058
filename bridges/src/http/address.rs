//! A request's method and path as the address that mappings are matched against: `POST /telemetry/7`.
//!
//! Percent-encoding is undone once, here, so that a path has one spelling. What two readers could take for two
//! different paths is refused instead: dot segments, empty segments, an encoded slash, control characters.

use std::sync::Arc;

use http::StatusCode;

use super::Problem;

/// Paths below it are the gateway's own endpoints and never a mapping's.
pub(super) const RESERVED: &str = "/mesh/v1";

/// The longest path, percent-encoded.
const MAX_PATH_BYTES: usize = 8_192;

/// Methods that name no message: they ask about a resource, or about the connection.
const NOT_PUBLISHED: [&str; 5] = ["CONNECT", "HEAD", "OPTIONS", "TRACE", WEBSOCKET];

/// In place of a method in the address of what comes as a frame. No request has it.
pub(super) const WEBSOCKET: &str = "WEBSOCKET";

/// The methods that publish.
const METHODS: &str = "DELETE, GET, PATCH, POST, PUT";

/// Why a method and path are no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("method {0} publishes nothing")]
    Method(String),
    #[error("the path does not begin with '/'")]
    NotAbsolute,
    #[error("'%' at byte {0} of the path is not followed by two hexadecimal digits")]
    Escape(usize),
    #[error("the path has an encoded '/' at byte {0}")]
    EncodedSlash(usize),
    #[error("the path is not UTF-8 once decoded")]
    NotUtf8,
    #[error("the path is {0} bytes, limit is {MAX_PATH_BYTES}")]
    TooLong(usize),
    #[error("the path has the control character U+{0:04X}")]
    Control(u32),
    #[error("the path has an empty segment")]
    EmptySegment,
    #[error("the path has the segment \"{0}\"")]
    DotSegment(&'static str),
    #[error("no endpoint has this path; paths under /mesh/v1 are never mapped")]
    Reserved,
}

// === impl AddressError ===

impl From<AddressError> for Problem {
    fn from(error: AddressError) -> Self {
        let detail = error.to_string();
        match error {
            AddressError::Method(_) => {
                Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "http", detail).allow(&METHODS)
            }
            AddressError::Reserved => Self::new(StatusCode::NOT_FOUND, "not-found", "http", detail),
            AddressError::TooLong(_) => Self::new(StatusCode::URI_TOO_LONG, "bad-request", "http", detail),
            _ => Self::new(StatusCode::BAD_REQUEST, "bad-request", "http", detail),
        }
    }
}

/// Whether a decoded path is the gateway's own.
pub(super) fn is_reserved(path: &str) -> bool {
    path.strip_prefix(RESERVED).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The address of `method` and the percent-encoded `path`, which comes without its query.
pub(super) fn address(method: &str, path: &str) -> Result<Arc<str>, AddressError> {
    if NOT_PUBLISHED.contains(&method) {
        return Err(AddressError::Method(method.to_owned()));
    }
    address_of(method, path)
}

/// The address of the frames of a WebSocket at this percent-encoded path.
pub(super) fn address_of_frames(path: &str) -> Result<Arc<str>, AddressError> {
    address_of(WEBSOCKET, path)
}

fn address_of(method: &str, path: &str) -> Result<Arc<str>, AddressError> {
    if !path.starts_with('/') {
        return Err(AddressError::NotAbsolute);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(AddressError::TooLong(path.len()));
    }
    let mut address = Vec::with_capacity(method.len() + 1 + path.len());
    address.extend_from_slice(method.as_bytes());
    address.push(b' ');
    decode(path.as_bytes(), &mut address)?;
    let address = String::from_utf8(address).map_err(|_| AddressError::NotUtf8)?;
    check(&address[method.len() + 1..])?;
    Ok(address.into())
}

fn decode(path: &[u8], out: &mut Vec<u8>) -> Result<(), AddressError> {
    let mut rest = path;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let offset = path.len() - rest.len() + at;
        let digit = |index: usize| rest.get(at + index).and_then(|byte| char::from(*byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(1), digit(2)) else {
            return Err(AddressError::Escape(offset));
        };
        let byte = (high << 4 | low) as u8;
        if byte == b'/' {
            return Err(AddressError::EncodedSlash(offset));
        }
        out.extend_from_slice(&rest[..at]);
        out.push(byte);
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

fn check(path: &str) -> Result<(), AddressError> {
    if !is_plain(path.as_bytes()) {
        check_each(path)?;
    }
    if is_reserved(path) { Err(AddressError::Reserved) } else { Ok(()) }
}

/// Whether nothing of it is refused for its characters or segments: most paths are seen in one pass.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|byte| {
        let opens = std::mem::replace(&mut before, *byte) == b'/';
        matches!(*byte, b' '..=b'~') && !(opens && matches!(*byte, b'/' | b'.'))
    })
}

fn check_each(path: &str) -> Result<(), AddressError> {
    if let Some(control) = path.chars().find(|c| c.is_control()) {
        return Err(AddressError::Control(u32::from(control)));
    }
    if path.contains("//") {
        return Err(AddressError::EmptySegment);
    }
    for dots in [".", ".."] {
        if path.split('/').any(|segment| segment == dots) {
            return Err(AddressError::DotSegment(dots));
        }
    }
    Ok(())
}

/// Whether a decoded path can be one of messages.
pub(super) fn check_path(path: &str) -> Result<(), AddressError> {
    if !path.starts_with('/') {
        return Err(AddressError::NotAbsolute);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(AddressError::TooLong(path.len()));
    }
    check(path)
}

/// Whether messages can come by what a mapping file writes; `frames` are the paths of the config whose frames are messages.
pub(super) fn check_written(written: &str, frames: &[String]) -> Result<(), String> {
    let any = |segment: &str| segment == "+" || segment.starts_with('{');
    let (method, path) = written.split_at(written.find('/').unwrap_or(written.len()));
    let method = match method.strip_suffix(' ') {
        _ if any(method) => None,
        Some(method) if !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase()) => Some(method),
        _ => return Err(format!("an address of HTTP is \"METHOD /path\", such as \"POST /orders\"; {METHODS}")),
    };
    if method == Some(WEBSOCKET) && frames.is_empty() {
        return Err("no frames are messages: the bridge has no \"websocket: { paths: ... }\"".to_owned());
    }
    if let Some(method) = method.filter(|method| *method != WEBSOCKET && NOT_PUBLISHED.contains(method)) {
        return Err(AddressError::Method(method.to_owned()).to_string());
    }
    if path.contains('?') {
        return Err("a query is no part of an address: headers[\"query\"] has it".to_owned());
    }
    let plain: Vec<_> = path.split('/').map(|segment| if any(segment) { "x" } else { segment }).collect();
    check_path(&plain.join("/")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_writes_is_an_address_that_messages_can_have() {
        let frames = ["/MESSAGES".to_owned()];
        for written in ["POST /", "GET /a/{b}/+", "+/a", "{method}/a", "PUT /caf\u{e9} 7", "WEBSOCKET /MESSAGES"] {
            assert_eq!(check_written(written, &frames), Ok(()), "{written}");
        }
        for (written, says) in [
            ("", "METHOD /path"),
            ("/a", "METHOD /path"),
            ("post /a", "METHOD /path"),
            ("POST a", "METHOD /path"),
            ("POST  /a", "METHOD /path"),
            ("HEAD /a", "method HEAD publishes nothing"),
            ("POST /mesh/v1/x", "paths under /mesh/v1 are never mapped"),
            ("POST /a?x=1", "a query is no part"),
            ("POST /a/../b", "the segment \"..\""),
            ("POST /a//b", "an empty segment"),
        ] {
            assert!(check_written(written, &frames).unwrap_err().contains(says), "{written}");
        }
        assert!(check_written("WEBSOCKET /a", &[]).unwrap_err().contains("no frames are messages"));
    }

    fn post(path: &str) -> Result<String, AddressError> {
        address("POST", path).map(|address| address.to_string())
    }

    #[test]
    fn a_path_is_decoded_once() {
        assert_eq!(post("/telemetry/7"), Ok("POST /telemetry/7".to_owned()));
        assert_eq!(post("/a%20b/%C3%A9"), Ok("POST /a b/é".to_owned()));
        assert_eq!(post("/%2541"), Ok("POST /%41".to_owned()));
        assert_eq!(post("/"), Ok("POST /".to_owned()));
        assert_eq!(post("/a..b/.c"), Ok("POST /a..b/.c".to_owned()));
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for (path, why) in [
            ("", AddressError::NotAbsolute),
            ("*", AddressError::NotAbsolute),
            ("/a/../b", AddressError::DotSegment("..")),
            ("/a/%2e%2E", AddressError::DotSegment("..")),
            ("/./a", AddressError::DotSegment(".")),
            ("/a//b", AddressError::EmptySegment),
            ("/a%2Fb", AddressError::EncodedSlash(2)),
            ("/a%2fb", AddressError::EncodedSlash(2)),
            ("/a%", AddressError::Escape(2)),
            ("/a%4", AddressError::Escape(2)),
            ("/%41%zz", AddressError::Escape(4)),
            ("/a%00", AddressError::Control(0)),
            ("/a%0a", AddressError::Control(10)),
            ("/a%C2%85", AddressError::Control(0x85)),
            ("/%ff", AddressError::NotUtf8),
            ("/%C3", AddressError::NotUtf8),
        ] {
            assert_eq!(post(path), Err(why), "{path}");
        }
    }

    #[test]
    fn a_path_at_the_limit_passes_and_one_over_it_is_refused() {
        let at = format!("/{}", "a".repeat(MAX_PATH_BYTES - 1));
        assert!(post(&at).is_ok());
        assert_eq!(post(&format!("{at}a")), Err(AddressError::TooLong(MAX_PATH_BYTES + 1)));
    }

    #[test]
    fn the_gateways_own_paths_are_never_an_address() {
        for path in ["/mesh/v1", "/mesh/v1/", "/mesh/v1/other", "/%6desh/v1/ws", "/mesh/v%31"] {
            assert_eq!(post(path), Err(AddressError::Reserved), "{path}");
        }
        assert!(post("/mesh/v10").is_ok());
    }

    #[test]
    fn methods_that_ask_publish_nothing() {
        for method in NOT_PUBLISHED {
            assert_eq!(address(method, "/a"), Err(AddressError::Method(method.to_owned())));
        }
    }

    #[test]
    fn however_a_path_is_encoded_it_is_the_same_address() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let segment = |random: &mut fastrand::Rng| -> String {
                let letters = ['a', 'Z', '7', '.', '-', '%', '+', ' ', 'é', 'е', '\u{200b}', '#'];
                (0..random.usize(1..5)).map(|_| letters[random.usize(..letters.len())]).collect()
            };
            let path: String = (0..random.usize(1..4)).map(|_| format!("/{}", segment(&mut random))).collect();
            let encode = |random: &mut fastrand::Rng, all: bool| -> String {
                let byte = |byte: u8| match byte {
                    b'/' => "/".to_owned(),
                    b'%' => "%25".to_owned(),
                    byte if !all && byte.is_ascii_graphic() && random.bool() => char::from(byte).to_string(),
                    byte if random.bool() => format!("%{byte:02X}"),
                    byte => format!("%{byte:02x}"),
                };
                path.bytes().map(byte).collect()
            };
            let all = post(&encode(&mut random, true));
            assert_eq!(post(&encode(&mut random, false)), all, "{path:?}");
            if let Ok(address) = all {
                assert_eq!(address, format!("POST {path}"));
            }
        }
    }
}
