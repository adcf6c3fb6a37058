//! `METHOD URL`: where one message goes. Pure.
//!
//! The URL is whole, or a path below the bridge's `url`. It names neither user nor password, and no fragment, which nobody
//! would see.

use std::fmt::Write;

use http::{Method, Uri, uri};

use super::written::{self, Piece, in_server, target};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) method: Method,
    /// With scheme, host and path.
    pub(super) url: Uri,
}

/// The methods that bring something to a server.
const METHODS: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
/// What stands in for an expression when a file is checked.
const ANY: &str = "x";
/// What stands in for a URL that a table gives.
const SOME_URL: &str = "https://x.example/";

/// The address of a message, as its mapping made it.
pub(super) fn parse(text: &str, base: Option<&Uri>, plain_text: bool) -> Result<Address, String> {
    let Some((method, target)) = text.split_once(' ') else {
        return Err("an address is METHOD URL, such as POST https://hooks.example/alerts".to_owned());
    };
    let Some(method) = METHODS.into_iter().find(|known| known.as_str() == method) else {
        return Err(format!(
            "the method is one of {}, not {method:?}",
            METHODS.map(|known| known.to_string()).join(", ")
        ));
    };
    let target = encoded(target);
    let whole = match (target.starts_with('/'), base) {
        (false, _) => target,
        (true, Some(base)) => {
            let text = base.to_string();
            format!("{}{target}", text.trim_end_matches('/'))
        }
        (true, None) => return Err("a path without a host needs the \"url\" of the bridge".to_owned()),
    };
    Ok(Address { method, url: url(&whole, plain_text)? })
}

/// The `url` of a bridge.
pub(super) fn base(text: &str, plain_text: bool) -> Result<Uri, String> {
    let url = url(text, plain_text)?;
    if url.query().is_some() { Err("a query belongs to the address of a mapping".to_owned()) } else { Ok(url) }
}

/// What a mapping file writes; `${...}` may be anything that an address may have there.
pub(super) fn check_written(written: &str, base: Option<&Uri>, plain_text: bool) -> Result<(), String> {
    let pieces = written::pieces(written);
    let to = target(&pieces);
    if let Some(expression) = in_server(&to) {
        return Err(format!(
            "${{{expression}}} chooses the server that is sent to, and with it whoever sends the message would: write the server, \
             or take it from a table, without anything beside it"
        ));
    }
    let plain: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Expression(_) => ANY,
        })
        .collect();
    // what a table says is known with each message
    let by_table = |pieces: &[Piece<'_>]| matches!(pieces, [Piece::Expression(_), ..]);
    let Some((method, rest)) = plain.split_once(' ') else {
        return if by_table(&to) { Ok(()) } else { parse(&plain, base, plain_text).map(drop) };
    };
    let method = if by_table(&pieces) { METHODS[0].as_str() } else { method };
    let rest = if by_table(&to) { SOME_URL } else { rest };
    parse(&format!("{method} {rest}"), base, plain_text).map(drop)
}

fn url(text: &str, plain_text: bool) -> Result<Uri, String> {
    if text.contains('#') {
        return Err("a fragment is never sent".to_owned());
    }
    let url: Uri = text.parse().map_err(|error: uri::InvalidUri| format!("no URL: {error}"))?;
    let Some(authority) = url.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err("no host: expected https://HOST/PATH".to_owned());
    };
    if authority.as_str().contains('@') {
        return Err("a name and password have no place in a URL".to_owned());
    }
    let has_port = authority.as_str().len() > authority.host().len();
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return Err("the port is none: 1 to 65535".to_owned());
    }
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if plain_text => Ok(url),
        Some("http") => Err("http can be read on the way: https, or plain_text: true of the bridge".to_owned()),
        _ => Err("neither https nor http".to_owned()),
    }
}

/// What is not ASCII is percent-encoded, as in RFC 3987, section 3.1.
fn encoded(target: &str) -> String {
    if target.is_ascii() {
        return target.to_owned();
    }
    let mut out = String::with_capacity(target.len() + 16);
    for c in target.chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            // writing to a String can't fail
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> Result<String, String> {
        let base = "https://hooks.example/in/".parse().unwrap();
        parse(text, Some(&base), false).map(|address| format!("{} {}", address.method, address.url))
    }

    #[test]
    fn an_address_is_a_method_and_a_url_or_a_path_below_the_bridges() {
        assert_eq!(to("POST https://a.example/b?c=d").unwrap(), "POST https://a.example/b?c=d");
        assert_eq!(to("PUT /räume/7").unwrap(), "PUT https://hooks.example/in/r%C3%A4ume/7");
        assert_eq!(to("DELETE https://a.example").unwrap(), "DELETE https://a.example/");
        assert_eq!(parse("POST /x", None, false).unwrap_err(), "a path without a host needs the \"url\" of the bridge");
        assert!(parse("POST http://a.example/x", None, true).is_ok());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, why) in [
            ("", "METHOD URL"),
            ("POST", "METHOD URL"),
            ("GET https://a.example", "the method is one of"),
            ("post https://a.example", "the method is one of"),
            ("POST http://a.example", "can be read on the way"),
            ("POST ftp://a.example", "neither https nor http"),
            ("POST a.example", "neither https nor http"),
            ("POST https://", "no URL"),
            ("POST https:///x", "no"),
            ("POST https://u:p@a.example/", "name and password"),
            ("POST https://a.example/#x", "fragment"),
            ("POST https://a.example/ b", "no URL"),
            ("POST https://a.example/\r\nx: y", "no URL"),
            ("POST https://a.example:x/", "port"),
            ("POST https://a.example:0/", "port"),
            ("POST https://a.example:99999/", ""),
        ] {
            let said = to(text).unwrap_err();
            assert!(said.contains(why), "{text:?}: {said}");
        }
    }

    #[test]
    fn what_a_file_writes_is_checked_as_far_as_it_is_known() {
        assert_eq!(check_written("POST https://a.example/${x}/b", None, false), Ok(()));
        assert_eq!(check_written("${table('hooks', payload.shop).url}", None, false), Ok(()));
        assert_eq!(check_written("POST ${table('hooks', payload.shop).url}/${payload.id}", None, false), Ok(()));
        assert_eq!(
            check_written("${table('methods', payload.kind)} https://a.example/${payload.id}", None, false),
            Ok(())
        );
        for (written, why) in [
            ("POST x.example/in", "no URL"),
            ("POST xyz", "neither https nor http"),
            ("xyz", "an address is METHOD URL"),
            ("GET ${table('hooks', payload.shop).url}", "the method is one of"),
        ] {
            let said = check_written(written, None, false).unwrap_err();
            assert!(said.contains(why), "{written}: {said}");
        }
        for written in [
            "${payload.where}",
            "POST ${payload.where}",
            "POST https://${payload.x}/b",
            "POST https://a.${payload.x}/b",
            "POST ${payload.scheme}://a/b",
            "POST https://a.example${payload.x}/b",
            "POST https://${table('hosts', payload.shop) + payload.x}/b",
        ] {
            let said = check_written(written, None, false).unwrap_err();
            assert!(said.contains("chooses the server"), "{written}: {said}");
        }
        assert!(check_written("POST /${x}", None, false).unwrap_err().contains("url"));
        assert!(check_written("POST http://a.example/${x}", None, false).unwrap_err().contains("plain_text"));
    }
}
