//! The direction of the crates, as the README draws it.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// What each crate may depend on, tests and benchmarks aside.
const ARROWS: [(&str, &[&str]); 9] = [
    ("envelope", &[]),
    ("yaml", &[]),
    ("schema", &["envelope"]),
    ("mapping", &["envelope", "schema", "yaml"]),
    ("policy", &["envelope", "schema", "yaml"]),
    ("backbone", &["envelope"]),
    ("bridges", &["envelope", "yaml"]),
    ("gateway", &["envelope", "yaml", "schema", "mapping", "policy", "backbone", "bridges"]),
    ("integration", &["envelope", "yaml", "schema", "mapping", "policy", "backbone", "bridges", "gateway"]),
];

#[test]
fn crates_depend_only_in_the_direction_of_the_arrows() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata");
    let members: BTreeMap<_, _> = metadata.packages.iter().map(|package| (package.name.to_string(), package)).collect();
    let expected: BTreeSet<_> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(members.keys().cloned().collect::<BTreeSet<_>>(), expected, "a crate that no arrow knows");
    for (name, allowed) in ARROWS {
        for dependency in &members[name].dependencies {
            let ours = members.contains_key(&dependency.name) && dependency.kind == DependencyKind::Normal;
            let known = allowed.contains(&dependency.name.as_str());
            assert!(!ours || known, "{name} depends on {}, against the arrows", dependency.name);
        }
    }
}

#[test]
fn every_crate_takes_lints_edition_and_licence_from_the_workspace() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata");
    for package in &metadata.packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        for line in ["[lints]\nworkspace = true", "edition.workspace = true", "license.workspace = true"] {
            assert!(manifest.contains(line), "{} lacks {line:?}", package.name);
        }
        assert_eq!(package.license.as_deref(), Some("Apache-2.0"), "{}", package.name);
    }
}
