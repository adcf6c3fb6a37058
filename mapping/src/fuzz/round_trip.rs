//! Out again as it came in: where one file sends what another takes, the payload must be the same value.

use bytes::Bytes;
use envelope::{
    Group, Lane, Timestamp,
    json::{Node, View},
};

use crate::{
    codec::{Codec, Decoded},
    egress::Egress,
    file::{Action, Mapping},
};

/// Whether a mapping that sends undoes one that takes in: it sends the same format to the same kind of address. Of the topics,
/// each message tells.
pub(super) fn inverts(egress: &Egress, mapping: &Mapping) -> bool {
    let one = matches!(mapping.action, Action::Envelope(_)) && mapping.keys.each.is_none();
    let format = egress.to.format(egress.decode) == Some(mapping.from.decode);
    let (sends, takes) = (egress.to.segments(), mapping.from.pattern.segments());
    one && format && takes.eq(sends.iter().map(Option::as_deref))
}

/// Sends an envelope, and holds what is sent to the payload that it was made of. `false`: it is not sent, because of its topic or
/// the file's `when`, or it is refused. The error is how it differs.
pub(super) fn back(egress: &Egress, mapping: &Mapping, group: &Group, payload: &Bytes) -> Result<bool, String> {
    let Group::One(envelope) = group else { return Ok(false) };
    if !egress.filter.matches(&envelope.subject) {
        return Ok(false);
    }
    let Ok(Some(sent)) = egress.map(envelope, Lane(0), Timestamp::from_micros(0)) else { return Ok(false) };
    let codec = mapping.from.decode;
    match difference(codec, payload, &sent.payload) {
        None => Ok(true),
        Some(how) => Err(format!("{:?} sends it to {:?} as another: {how}", egress.route.name(), sent.address)),
    }
}

/// How two payloads of a format differ as values.
fn difference(codec: Codec, came: &Bytes, sent: &Bytes) -> Option<String> {
    let (came, sent) = match (codec.decode(came), codec.decode(sent)) {
        (Ok(came), Ok(sent)) => (came, sent),
        // what did not come in does not go out
        (Err(_), _) => return None,
        (_, Err(rejection)) => return Some(rejection.detail),
    };
    match (&came, &sent) {
        (Decoded::Text(a), Decoded::Text(b)) => (a != b).then(|| format!("{a:?} became {b:?}")),
        (a, b) => match (a.tree(), b.tree()) {
            (Some(a), Some(b)) => differs(a.root(), b.root(), ""),
            (_, _) => None,
        },
    }
}

/// The first place, as JSON Pointer, and what stands there.
fn differs(a: Node<'_>, b: Node<'_>, at: &str) -> Option<String> {
    let other = || {
        let short = |node: Node<'_>| node.source().chars().take(64).collect::<String>();
        Some(format!("{at:?}: {} became {}", short(a), short(b)))
    };
    match (a.view(), b.view()) {
        (View::Null, View::Null) => None,
        (View::Bool(a), View::Bool(b)) if a == b => None,
        (View::String(a), View::String(b)) if a == b => None,
        (View::Number(a), View::Number(b)) if same_number(a, b) => None,
        (View::Array(a), View::Array(b)) if a.len() == b.len() => {
            a.zip(b).enumerate().find_map(|(n, (a, b))| differs(a, b, &format!("{at}/{n}")))
        }
        (View::Object(members), View::Object(others)) => {
            let (count, others) = (members.len(), others.len());
            let found = members.into_iter().find_map(|(name, of)| {
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                match b.get(name) {
                    Some(b) => differs(of, b, &at),
                    None => Some(format!("{at:?} is gone")),
                }
            });
            found.or_else(|| (count != others).then(|| format!("{at:?}: members were added")))
        }
        (_, _) => other(),
    }
}

/// Whole numbers of any length exactly, others as doubles.
fn same_number(a: &str, b: &str) -> bool {
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => a == b,
        (_, _) => a == b || a.parse::<f64>().ok() == b.parse::<f64>().ok(),
    }
}
