//! What a mapping file writes as the address of a request: text, and expressions that stand in it as `${...}`. Pure.
//!
//! The server is the file's: whoever sends a message chooses at most one of those that a table of the gateway names.

/// A piece of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'w> {
    /// As it is.
    Text(&'w str),
    /// What stands between `${` and `}`.
    Expression(&'w str),
}

/// How far a URL has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// The scheme, and the slashes behind it that were seen.
    Scheme(u8),
    /// Host and port.
    Server,
    /// A table has given the URL up to here, or its scheme alone: what follows shows it.
    Table,
}

/// What is written, in pieces. `$${` stands for `${`.
pub(super) fn pieces(written: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), written);
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            pieces.push(Piece::Text(&rest[..at - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        pieces.push(Piece::Text(&rest[..at]));
        let behind = &rest[at + 2..];
        // without its end it is no file that is read
        let end = past(behind, b'}').map_or(behind.len(), |end| end - 1);
        pieces.push(Piece::Expression(&behind[..end]));
        rest = behind.get(end + 1..).unwrap_or_default();
    }
    pieces.push(Piece::Text(rest));
    pieces.retain(|piece| *piece != Piece::Text(""));
    pieces
}

/// What follows the method, which is all of it where an expression gives the method too.
pub(super) fn target<'w>(pieces: &[Piece<'w>]) -> Vec<Piece<'w>> {
    let space = pieces.iter().enumerate().find_map(|(at, piece)| match piece {
        Piece::Text(text) => text.split_once(' ').map(|(_, behind)| (at, behind)),
        Piece::Expression(_) => None,
    });
    match space {
        // what stands for the method can't bring a URL along: there would be a space in it
        Some((at, behind)) if pieces[..at].iter().all(is_of_the_gateway) => {
            let first = Some(Piece::Text(behind)).filter(|_| !behind.is_empty());
            first.into_iter().chain(pieces[at + 1..].iter().copied()).collect()
        }
        Some(_) | None => pieces.to_vec(),
    }
}

/// An expression that a part of the server is made of, other than by a table.
pub(super) fn in_server<'w>(target: &[Piece<'w>]) -> Option<&'w str> {
    if matches!(target, [Piece::Text(text), ..] if text.starts_with('/')) {
        return None;
    }
    let mut within = Within::Scheme(0);
    for (at, piece) in target.iter().enumerate() {
        let text = match piece {
            Piece::Expression(expression) if !is_look_up(expression) => return Some(expression),
            Piece::Expression(_) => {
                // the scheme is a part of it: what it is made of may bring the rest along
                within = if at == 0 { Within::Table } else { within };
                continue;
            }
            Piece::Text(text) => *text,
        };
        let mut rest = text;
        if within == Within::Table {
            // a table of schemes, or one of servers
            within = if rest.starts_with(":/") || rest.starts_with("//") { Within::Scheme(0) } else { Within::Server };
        }
        while let Some(at) = rest.find(['/', '?']) {
            within = match within {
                Within::Scheme(slashes) if rest[at..].starts_with('/') && slashes < 1 => Within::Scheme(slashes + 1),
                Within::Scheme(_) if rest[at..].starts_with('/') => Within::Server,
                Within::Scheme(_) | Within::Server | Within::Table => return None,
            };
            rest = &rest[at + 1..];
        }
    }
    None
}

fn is_of_the_gateway(piece: &Piece<'_>) -> bool {
    match piece {
        Piece::Text(_) => true,
        Piece::Expression(expression) => is_look_up(expression),
    }
}

/// Whether an expression is what a table of the gateway says and nothing else: `table("name", key)`, perhaps with members, and
/// with a default only where that is written out.
fn is_look_up(expression: &str) -> bool {
    let Some(arguments) = expression.trim().strip_prefix("table(") else { return false };
    let Some(end) = past(arguments, b')') else { return false };
    let (arguments, members) = (&arguments[..end - 1], &arguments[end..]);
    let default = commas(arguments).get(1).map(|at| arguments[at + 1..].trim());
    default.is_none_or(is_literal) && is_members(members)
}

/// `.a.b`, or nothing.
fn is_members(text: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    text.is_empty() || text.strip_prefix('.').is_some_and(|names| names.split('.').all(is_name))
}

/// One string, or the null that stands for none.
fn is_literal(text: &str) -> bool {
    let Some(quote) = text.bytes().next().filter(|byte| matches!(byte, b'"' | b'\'')) else { return text == "null" };
    text.len() > 1 && text.ends_with(char::from(quote)) && !text[1..text.len() - 1].contains(['"', '\'', '\\'])
}

/// Where a comma stands in no bracket and no string.
fn commas(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    while let Some(next) = past(&text[found.last().map_or(0, |at| at + 1)..], b',') {
        found.push(found.last().map_or(0, |at| at + 1) + next - 1);
    }
    found
}

/// Behind the first `end` that stands in no bracket and no string.
fn past(text: &str, end: u8) -> Option<usize> {
    let (mut open, mut quote, mut escaped) = (0_usize, None, false);
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(end), _) if byte == end => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, _) if open == 0 && byte == end => return Some(at + 1),
            (None, b'{' | b'(' | b'[') => open += 1,
            (None, b'}' | b')' | b']') => open = open.checked_sub(1)?,
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(written: &str) -> Option<&str> {
        in_server(&target(&pieces(written)))
    }

    #[test]
    fn what_is_written_falls_into_pieces() {
        use Piece::{Expression, Text};
        assert_eq!(pieces("a${ {'}': 1}['}'] }b"), [Text("a"), Expression(" {'}': 1}['}'] "), Text("b")]);
        assert_eq!(pieces("a$b$${c}${d"), [Text("a$b"), Text("${"), Text("c}"), Expression("d")]);
        assert_eq!(target(&pieces("POST ${a}/b")), [Expression("a"), Text("/b")]);
    }

    #[test]
    fn the_server_is_the_files_or_a_tables() {
        for written in [
            "POST https://a.example/${payload.x}",
            "POST https://a.example?x=${payload.x}",
            "POST /${payload.x}",
            "${table('hooks', payload.shop).url}",
            "POST ${table('hooks.url', payload.shop)}/${payload.id}",
            "POST ${table('schemes', payload.shop)}://a.example/${payload.id}",
            "POST ${table('hooks.url', payload.shop)}:8443/${payload.id}",
            "${table('methods', payload.kind)} https://a.example/${payload.id}",
            "POST https://${table('hosts', payload.shop, 'a.example')}/${payload.id}",
            "POST https://${table('hosts', payload.shop, null).name}.a.example:8443/${payload.id}",
            "POST https://${table(\"hosts\", payload.names[0] + \"(,)\")}/x",
        ] {
            assert_eq!(chosen(written), None, "{written}");
        }
    }

    #[test]
    fn a_sender_chooses_no_server() {
        for written in [
            "${payload.where}",
            "POST https://${payload.x}/b",
            "POST https://${table('h', k) + payload.x}/",
            "POST https://${table('h', k, payload.x)}/",
            "POST https://${table('h', k, '' + payload.x)}/",
            "POST https://${table('h', k, 'a' + payload.x + 'b')}/",
            "POST https://${table('h', k)[payload.x]}/",
            "POST https://${table('h', k) == 'a' ? payload.x : 'b'}/",
            "POST https://${table('h', k).replace('a', payload.x)}/",
            "POST https://${table('h', ')') + payload.x}/",
            "POST https://${table('h', k)}${payload.x}/",
            "POST https://${table('h', k)}:${payload.port}/",
            "POST https://$a${payload.x}/",
            "POST ${table('schemes', k)}://${payload.x}/",
            "POST ${table('schemes', k)}//${payload.x}/",
            "${table('methods', k)} https://${payload.x}/",
            "${payload.method} https://a.example/",
            "POST https://${table('h', k}/",
        ] {
            assert!(chosen(written).is_some(), "{written}");
        }
    }
}
