//! What the sections of bridges have in common: how listeners are written, and their bounds.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use yaml::{Fields, Node, Problems};

use crate::{BridgeError, net::share_of, private::Block};

const CONNECTIONS: RangeInclusive<i64> = 1..=65_536;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// Whether a listener can be reached from outside of this host.
pub(crate) fn is_exposed(listen: SocketAddr) -> bool {
    !listen.ip().to_canonical().is_loopback()
}

/// Refuses plain text that can be reached from outside of this host, unless it is `sound`: TLS, or meant.
pub(crate) fn check_plain_text(listen: SocketAddr, sound: bool) -> Result<(), BridgeError> {
    if sound || !is_exposed(listen) { Ok(()) } else { Err(BridgeError::PlainText(listen)) }
}

/// Where to listen.
pub(crate) fn listen(node: &Node, problems: &Problems) -> Option<SocketAddr> {
    let Ok(address) = node.string(problems)?.parse() else {
        return node.mismatch("an IP address and port such as 127.0.0.1:8080", problems);
    };
    Some(address)
}

/// A number of bytes.
pub(crate) fn size(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    default: usize,
    range: RangeInclusive<u64>,
    problems: &Problems,
) -> Option<usize> {
    let Some(node) = fields.optional(key) else { return Some(default) };
    node.bytes(range, problems).and_then(|bytes| usize::try_from(bytes).ok())
}

/// A number of things.
pub(crate) fn count(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    default: u32,
    range: RangeInclusive<i64>,
    problems: &Problems,
) -> Option<u32> {
    let Some(node) = fields.optional(key) else { return Some(default) };
    node.integer(range, problems).and_then(|count| u32::try_from(count).ok())
}

/// The most connections of a listener, and of one address: a share of all where the config does not say.
pub(crate) fn connections(fields: &mut Fields<'_, '_>, default: u32, problems: &Problems) -> Option<(usize, usize)> {
    let all = count(fields, "max_connections", default, CONNECTIONS, problems);
    let of_address = optional(fields, "max_connections_per_address", |node| node.integer(CONNECTIONS, problems));
    let all = usize::try_from(all?).ok()?;
    match of_address? {
        Some(of_address) => Some((all, usize::try_from(of_address).ok()?)),
        None => Some((all, share_of(all))),
    }
}

/// A time to wait, in seconds if left out.
pub(crate) fn timeout(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    seconds: u64,
    problems: &Problems,
) -> Option<Duration> {
    let Some(node) = fields.optional(key) else { return Some(Duration::from_secs(seconds)) };
    node.duration(TIMEOUT, problems)
}

/// A list of words that pass `valid`, in lower case.
pub(crate) fn words(node: &Node, expected: &str, valid: fn(&str) -> bool, problems: &Problems) -> Option<Vec<String>> {
    let read: Vec<_> = node
        .list(problems)?
        .iter()
        .map(|item| match item.string(problems)? {
            word if valid(word) => Some(word.to_ascii_lowercase()),
            _ => item.mismatch(expected, problems),
        })
        .collect();
    read.into_iter().collect()
}

/// `Some(None)`: it is left out.
pub(crate) fn optional<T>(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    read: impl FnOnce(&Node) -> Option<T>,
) -> Option<Option<T>> {
    match fields.optional(key) {
        Some(node) => read(node).map(Some),
        None => Some(None),
    }
}

/// Blocks of addresses.
pub(crate) fn blocks(node: &Node, problems: &Problems) -> Option<Vec<Block>> {
    let read: Vec<_> = node
        .list(problems)?
        .iter()
        .map(|item| match item.string(problems)?.parse() {
            Ok(block) => Some(block),
            Err(error) => {
                problems.report(item.span, "bad-address", format!("{error}"));
                None
            }
        })
        .collect();
    read.into_iter().collect()
}
