//! Reads a map key by key and refuses what nobody asked for.

use crate::{Key, Kind, Node, Problems, Span, suggest};

/// The entries of a map whose keys are known. Ask for each, then [`finish`](Self::finish).
#[derive(Debug)]
#[must_use = "`finish` reports the unknown keys"]
pub struct Fields<'n, 'p> {
    span: Span,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
    problems: &'p Problems,
}

// === impl Fields ===

impl<'n, 'p> Fields<'n, 'p> {
    /// Reports and gives `None` if `node` is no map.
    pub fn of(node: &'n Node, problems: &'p Problems) -> Option<Self> {
        let entries = node.map(problems)?;
        Some(Self { span: node.span, entries, known: Vec::new(), problems })
    }

    /// The value of `key`; reports if it is missing.
    pub fn required(&mut self, key: &'static str) -> Option<&'n Node> {
        let found = self.optional(key);
        if found.is_none() {
            self.problems.report(self.span.first(), "missing-key", format!("key \"{key}\" is missing"));
        }
        found
    }

    /// The value of `key`, if it is there.
    pub fn optional(&mut self, key: &'static str) -> Option<&'n Node> {
        self.entry(key).map(|(_, node)| node)
    }

    /// The entry of `key` with the place of the key itself, if it is there.
    pub fn entry(&mut self, key: &'static str) -> Option<(&'n Key, &'n Node)> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.iter().find(|(k, _)| k.name == key).map(|(key, node)| (key, node))
    }

    /// Where the map stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        let unknown = self.entries.iter().filter(|(key, _)| !self.known.contains(&key.name.as_str()));
        for (key, _) in unknown {
            let message = format!("unknown key {}", suggest::quote(&key.name));
            let valid = format!("valid keys: {}", suggest::list(&self.known));
            let help = match suggest::nearest(&key.name, &self.known) {
                Some(near) => format!("did you mean \"{near}\"? {valid}"),
                None => valid,
            };
            self.problems.report_with_help(key.span, "unknown-key", message, help);
        }
    }
}

// === impl Node ===

impl Node {
    /// The entries of a map whose keys are the author's own. Reports if this is no map.
    pub fn map(&self, problems: &Problems) -> Option<&[(Key, Node)]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            _ => self.mismatch("a map of keys to values", problems),
        }
    }
}
