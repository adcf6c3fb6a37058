//! Reads `users.yaml` strictly.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use envelope::Timestamp;
use yaml::{Fields, Kind, Node, Problems};

use super::{Key, User};
use crate::{
    authenticate::{
        identity::{MAX_ROLES, check_id, is_role},
        key::{KeyHash, is_id},
        password::StoredPassword,
    },
    config::Attributes,
};

/// The most users, and the most keys of all users together.
const MAX_ENTRIES: usize = 100_000;

pub(super) fn users(root: &Node, attributes: &Attributes, problems: &Problems) -> Option<BTreeMap<String, User>> {
    if root.is_null() {
        return Some(BTreeMap::new());
    }
    let mut fields = Fields::of(root, problems)?;
    let users = fields.optional("users");
    fields.finish();
    let Some(node) = users.filter(|node| !node.is_null()) else { return Some(BTreeMap::new()) };
    let entries = node.map(problems)?;
    if entries.len() > MAX_ENTRIES {
        problems.report(node.span, "too-many", format!("{} users, limit is {MAX_ENTRIES}", entries.len()));
        return None;
    }
    let mut keys = BTreeSet::new();
    let mut read = BTreeMap::new();
    let mut sound = true;
    for (key, node) in entries {
        if let Err(error) = check_id(&key.name) {
            problems.report(key.span, "bad-id", format!("{:?} {error}", shown(&key.name)));
            sound = false;
        }
        match user(node, attributes, &mut keys, problems) {
            Some(user) => _ = read.insert(key.name.clone(), user),
            None => sound = false,
        }
    }
    sound.then_some(read)
}

fn user(node: &Node, attributes: &Attributes, keys: &mut BTreeSet<String>, problems: &Problems) -> Option<User> {
    if node.is_null() {
        return Some(User::default());
    }
    let mut fields = Fields::of(node, problems)?;
    let roles = fields.optional("roles").map_or(Some(Vec::new()), |node| roles(node, attributes, problems));
    let jurisdiction = match fields.optional("jurisdiction") {
        Some(node) => node.non_empty(problems).map(|label| Some(label.into())),
        None => Some(None),
    };
    let trust = fields.optional("trust").map_or(Some(0), |node| trust(node, problems));
    let disabled = fields.optional("disabled").map_or(Some(false), |node| node.bool(problems));
    let attributes =
        fields.optional("attributes").map_or(Some(BTreeMap::new()), |node| attributes.read(node, problems));
    let password = fields.optional("password").map_or(Some(None), |node| password(node, problems).map(Some));
    let keys = fields.optional("keys").map_or(Some(BTreeMap::new()), |node| all_keys(node, keys, problems));
    fields.finish();
    Some(User {
        roles: roles?,
        jurisdiction: jurisdiction?,
        trust: trust?,
        disabled: disabled?,
        attributes: attributes?,
        password: password?,
        keys: keys?,
    })
}

/// Sorted, each once.
pub(crate) fn roles(node: &Node, declared: &Attributes, problems: &Problems) -> Option<Vec<Arc<str>>> {
    let items = node.list(problems)?;
    if items.len() > MAX_ROLES {
        problems.report(node.span, "too-many", format!("{} roles, limit is {MAX_ROLES}", items.len()));
        return None;
    }
    let declared = |item: &Node| {
        let role = role(item, problems)?;
        let Some((message, help)) = declared.unknown_role(&role) else { return Some(role) };
        match help {
            Some(help) => problems.report_with_help(item.span, "unknown-name", message, help),
            None => problems.report(item.span, "unknown-name", message),
        }
        None
    };
    let read: Option<BTreeSet<_>> = items.iter().map(declared).collect();
    Some(read?.into_iter().collect())
}

/// The name of a role.
pub(crate) fn role(item: &Node, problems: &Problems) -> Option<Arc<str>> {
    let role = item.non_empty(problems)?;
    if is_role(role) {
        return Some(Arc::from(role));
    }
    let message = format!("{:?} is no role: too long, or with control characters", shown(role));
    problems.report(item.span, "bad-role", message);
    None
}

/// 0 to 100.
pub(crate) fn trust(node: &Node, problems: &Problems) -> Option<u8> {
    node.integer(0..=100, problems).and_then(|trust| u8::try_from(trust).ok())
}

fn password(node: &Node, problems: &Problems) -> Option<StoredPassword> {
    match StoredPassword::parse(node.string(problems)?) {
        Ok(stored) => Some(stored),
        Err(error) => {
            // never the text: it may be a password that somebody wrote down here
            problems.report_with_help(node.span.first(), "bad-hash", error.to_string(), "openmesh user writes one");
            None
        }
    }
}

fn all_keys(node: &Node, taken: &mut BTreeSet<String>, problems: &Problems) -> Option<BTreeMap<String, Key>> {
    let mut read = BTreeMap::new();
    let mut sound = true;
    for (id, node) in node.map(problems)? {
        if !is_id(&id.name) {
            problems.report(id.span, "bad-id", format!("{:?} is no key's id: 1 to 32 of a-z 0-9", shown(&id.name)));
            sound = false;
        }
        if !taken.insert(id.name.clone()) || taken.len() > MAX_ENTRIES {
            problems.report(
                id.span,
                "conflict",
                format!("key {:?} is one of another user already, or one too many", shown(&id.name)),
            );
            sound = false;
        }
        match key(node, problems) {
            Some(key) => _ = read.insert(id.name.clone(), key),
            None => sound = false,
        }
    }
    sound.then_some(read)
}

fn key(node: &Node, problems: &Problems) -> Option<Key> {
    let mut fields = Fields::of(node, problems)?;
    let hash = fields.required("hash").and_then(|node| {
        let hash = KeyHash::parse(node.string(problems)?);
        if hash.is_none() {
            // never the text: it may be the key itself
            let message = "no hash of a key: sha256: and 64 hexadecimal digits";
            problems.report_with_help(node.span.first(), "bad-hash", message, "openmesh key writes one");
        }
        hash
    });
    let expires = match fields.optional("expires") {
        Some(node) => time(node, problems).map(Some),
        None => Some(None),
    };
    fields.finish();
    Some(Key { hash: hash?, expires: expires? })
}

fn time(node: &Node, problems: &Problems) -> Option<Timestamp> {
    let expected = "a time in UTC such as 2027-01-01T00:00:00Z";
    match &node.kind {
        Kind::String(text) => match Timestamp::parse(&text.value) {
            Some(time) => Some(time),
            None => node.mismatch(expected, problems),
        },
        Kind::Null | Kind::Bool(_) | Kind::Integer(..) | Kind::Float(..) | Kind::List(_) | Kind::Map(_) => {
            node.mismatch(expected, problems)
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
