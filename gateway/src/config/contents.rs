//! What a configuration says, in as little as tells two of them apart: what a reload brings, and what waits for a
//! restart.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use mapping::Mappings;
use policy::PolicyConfig;
use serde::Serialize;
use utoipa::ToSchema;
use yaml::{Kind, Node};

/// Everything that a configuration says, by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Contents {
    mappings: BTreeMap<String, String>,
    schemas: BTreeMap<String, u64>,
    tables: BTreeMap<String, u64>,
    /// With the digest of users and Cedar policies.
    policy: (PolicyConfig, u64),
    /// What only a start takes up of `gateway.yaml`.
    sections: BTreeMap<String, u64>,
}

/// What is different between two configurations, and in force as soon as the second one is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Changes {
    /// Mappings, as `name@version`.
    pub mappings: Differences,
    /// Schemas, by name.
    pub schemas: Differences,
    /// Tables, by name.
    pub tables: Differences,
    /// The policy, the users or the Cedar policies say something else.
    pub policy: bool,
}

/// What is different between two sets of named files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Differences {
    /// Only in the second.
    pub added: Vec<String>,
    /// Only in the first.
    pub removed: Vec<String>,
    /// In both, and not the same; named as in the second.
    pub changed: Vec<String>,
}

/// The keys of `gateway.yaml` whose files are read anew with every load.
const RELOADED: [&str; 6] = ["mappings", "schemas", "tables", "policy", "users", "policies"];

// === impl Contents ===

impl Contents {
    pub(super) fn of(
        root: &Node,
        mappings: &Mappings,
        schemas: BTreeMap<String, u64>,
        tables: BTreeMap<String, u64>,
        policy: (PolicyConfig, u64),
    ) -> Self {
        let routes = mappings.routes().map(|route| route.route).chain(mappings.senders().map(|sender| sender.route));
        let versions = routes.map(|route| (route.name().to_owned(), route.version().to_owned())).collect();
        Self { mappings: versions, schemas, tables, policy, sections: sections(root) }
    }

    /// What is different from `before`, but for what needs a restart.
    pub(crate) fn changes_since(&self, before: &Self) -> Changes {
        Changes {
            mappings: differences(&before.mappings, &self.mappings, |name, version| format!("{name}@{version}")),
            schemas: differences(&before.schemas, &self.schemas, |name, _| name.to_owned()),
            tables: differences(&before.tables, &self.tables, |name, _| name.to_owned()),
            policy: before.policy != self.policy,
        }
    }

    /// The sections of `gateway.yaml` that differ from those that the process was started with, a bridge as
    /// `bridges.NAME`: none of these is in force.
    pub(crate) fn needs_restart(&self, started: &Self) -> Vec<String> {
        let sections = differences(&started.sections, &self.sections, |name, _| name.to_owned());
        let mut names: Vec<_> = [sections.added, sections.removed, sections.changed].concat();
        names.sort();
        names
    }
}

fn differences<V: PartialEq>(
    before: &BTreeMap<String, V>,
    after: &BTreeMap<String, V>,
    shown: impl Fn(&str, &V) -> String,
) -> Differences {
    let mut found = Differences::default();
    for (name, value) in after {
        match before.get(name) {
            None => found.added.push(shown(name, value)),
            Some(other) if other != value => found.changed.push(shown(name, value)),
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
    found.removed.extend(gone.map(|(name, value)| shown(name, value)));
    found
}

fn sections(root: &Node) -> BTreeMap<String, u64> {
    let mut sections = BTreeMap::new();
    for (name, node) in entries(root) {
        if name == "bridges" {
            let bridges = entries(node).map(|(bridge, node)| (format!("bridges.{bridge}"), digest_of(node)));
            sections.extend(bridges);
        } else if !RELOADED.contains(&name) {
            sections.insert(name.to_owned(), digest_of(node));
        }
    }
    sections
}

fn entries(node: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let entries = match &node.kind {
        Kind::Map(entries) => entries.as_slice(),
        Kind::Null | Kind::Bool(_) | Kind::Integer(..) | Kind::Float(..) | Kind::String(_) | Kind::List(_) => &[],
    };
    entries.iter().map(|(key, node)| (key.name.as_str(), node))
}

/// Tells texts of one process apart.
pub(super) fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Of what a value says, wherever and however it is written.
fn digest_of(node: &Node) -> u64 {
    let mut hasher = DefaultHasher::new();
    feed(node, &mut hasher);
    hasher.finish()
}

fn feed(node: &Node, hasher: &mut DefaultHasher) {
    std::mem::discriminant(&node.kind).hash(hasher);
    match &node.kind {
        Kind::Null => {}
        Kind::Bool(value) => value.hash(hasher),
        Kind::Integer(_, source) | Kind::Float(_, source) => source.hash(hasher),
        Kind::String(text) => text.value.hash(hasher),
        Kind::List(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| feed(item, hasher));
        }
        Kind::Map(entries) => {
            entries.len().hash(hasher);
            // The order of keys says nothing.
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
            for (key, value) in sorted {
                key.name.hash(hasher);
                feed(value, hasher);
            }
        }
    }
}

// === impl Changes ===

impl Changes {
    /// Nothing is different.
    pub fn is_empty(&self) -> bool {
        self.mappings.is_empty() && self.schemas.is_empty() && self.tables.is_empty() && !self.policy
    }
}

// === impl Differences ===

impl Differences {
    /// Nothing is different.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "domain: a\nlimits: { max_in_flight: 5, drain_timeout: 3s }\npolicy: p.yaml\n\
                          bridges: { web: { http: {} }, floor: { http: {} } }\n";

    fn contents(text: &str) -> Contents {
        let file = yaml::File::parse("gateway.yaml", text).unwrap();
        Contents { sections: sections(file.root()), ..Contents::default() }
    }

    #[test]
    fn a_bridge_and_a_section_that_changed_need_a_restart_and_a_path_does_not() {
        let after = "domain: a\nlimits: { max_in_flight: 6, drain_timeout: 3s }\npolicy: q.yaml\nlog: { filter: info }\n\
                     bridges: { web: { http: { a: 1 } }, hall: { http: {} } }\n";
        let named = contents(after).needs_restart(&contents(BEFORE));
        assert_eq!(named, ["bridges.floor", "bridges.hall", "bridges.web", "limits", "log"]);
    }

    #[test]
    fn another_way_to_write_the_same_is_no_change() {
        let after = "# new\nbridges:\n  floor: { http: {} }\n  web:\n    http: {}\nlimits:\n  drain_timeout: \"3s\"\n  \
                     max_in_flight: 5\ndomain: 'a'\n";
        assert_eq!(contents(after).needs_restart(&contents(BEFORE)), Vec::<String>::new());
    }

    #[test]
    fn files_are_added_removed_and_changed_by_name() {
        let set = |all: &[(&str, &str)]| Contents {
            mappings: all.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect(),
            ..Contents::default()
        };
        let changes =
            set(&[("a", "1"), ("b", "3"), ("d", "4")]).changes_since(&set(&[("a", "1"), ("b", "2"), ("c", "3")]));
        let expected = Differences {
            added: vec!["d@4".to_owned()],
            removed: vec!["c@3".to_owned()],
            changed: vec!["b@3".to_owned()],
        };
        assert_eq!(changes.mappings, expected);
        assert!(!changes.is_empty() && changes.schemas.is_empty());
        assert!(set(&[("a", "1")]).changes_since(&set(&[("a", "1")])).is_empty());
    }
}
