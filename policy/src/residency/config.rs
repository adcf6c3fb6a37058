//! The section `residency` of `policy.yaml`.

use std::{collections::BTreeMap, sync::Arc};

use yaml::{Fields, Key, Kind, Node, Problems};

/// Where the places are that hold or carry data, and what holds for data that does not say.
///
/// ```yaml
/// residency:
///   store: [no]                        # left out: where the gateway is
///   bridges: { partners: [us] }        # one left out: where the gateway is
///   default: [no, eu]                  # of what no mapping, schema or principal labels; left out: anywhere
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResidencyConfig {
    /// Where the store is.
    pub store: Option<Labels>,
    /// Where the peers of bridges are.
    pub bridges: BTreeMap<Box<str>, Labels>,
    /// Where data may be that is not labelled.
    pub default: Option<Labels>,
}

/// Jurisdictions; at least one.
pub type Labels = Arc<[Arc<str>]>;

/// The most characters of a label, as of one in `gateway.yaml`.
const MAX_LABEL: usize = 63;
/// The most labels of one list.
const MAX_LABELS: usize = 64;

// === impl ResidencyConfig ===

impl ResidencyConfig {
    /// Reads the section; what is wrong goes to `problems`.
    pub(crate) fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let mut list = |key| match fields.optional(key) {
            Some(node) => labels(node, problems).map(Some),
            None => Some(None),
        };
        let (store, default) = (list("store"), list("default"));
        let bridges = match fields.optional("bridges") {
            Some(node) => node.map(problems).and_then(|entries| bridges(entries, problems)),
            None => Some(BTreeMap::new()),
        };
        fields.finish();
        Some(Self { store: store?, bridges: bridges?, default: default? })
    }
}

fn bridges(entries: &[(Key, Node)], problems: &Problems) -> Option<BTreeMap<Box<str>, Labels>> {
    let read: Vec<_> =
        entries.iter().map(|(key, node)| Some((key.name.as_str().into(), labels(node, problems)?))).collect();
    read.into_iter().collect()
}

/// One label or a list of them.
fn labels(node: &Node, problems: &Problems) -> Option<Labels> {
    let one = std::slice::from_ref(node);
    let items = if matches!(node.kind, Kind::String(_)) { one } else { node.list(problems)? };
    if !(1..=MAX_LABELS).contains(&items.len()) {
        let message = format!("{} jurisdictions, it is 1 to {MAX_LABELS}", items.len());
        problems.report(node.span, "out-of-range", message);
        return None;
    }
    let read: Vec<_> = items.iter().map(|item| label(item, problems)).collect();
    read.into_iter().collect()
}

fn label(node: &Node, problems: &Problems) -> Option<Arc<str>> {
    let text = node.string(problems)?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let sound = text.len() <= MAX_LABEL && text.starts_with(plain) && text.ends_with(plain);
    if sound && text.chars().all(|c| plain(c) || c == '-') {
        return Some(text.into());
    }
    node.mismatch("a jurisdiction such as no or us-ca", problems)
}
