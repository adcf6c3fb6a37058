//! The mappings that are shipped load and pass their own tests.

use std::{fs, path::Path};

use super::*;
use crate::Abilities;

#[test]
fn shipped_mappings_load_and_pass_their_tests() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut schemas = Schemas::default();
    read(&config.join("schemas"), "", &mut |name, text| {
        if let Some(name) = name.strip_suffix(".json") {
            schemas.insert(Schema::compile(name, text.as_bytes()).unwrap());
        }
    });
    let read_all = |folder: &str| {
        let mut files = Vec::new();
        read(&config.join(folder), "", &mut |name, text| files.push((name.to_owned(), text)));
        files
    };
    let (mappings, library) = (read_all("mappings"), read_all("library"));
    let mut tables = Vec::new();
    read(&config.join("tables"), "", &mut |path, text| tables.push((path.to_owned(), text)));
    let tables: Vec<_> =
        tables.iter().map(|(path, text)| TableSource { path, name: path.rsplit_once('.').unwrap().0, text }).collect();
    let (tables, errors) = Tables::load(&tables);
    assert_eq!(errors, []);
    let shipped = [Bridge { replies: true, ..Bridge::named("web") }];
    let able = [
        Bridge { replies: true, ..Bridge::named("web") },
        Bridge { sends: true, ..Bridge::named("chat") },
        Bridge { sends: true, ..Bridge::named("cloud") },
        Bridge { shows: true, ..Bridge::named("floor") },
        Bridge::named("prices"),
    ];
    for (files, bridges) in [(mappings, &shipped[..]), (library, &able), (manual(), &able)] {
        let gateway = Abilities { later_acks: true, last_values: true, ..Abilities::default() };
        let context = Context { gateway, ..Context::new("plant-a", bridges, &schemas, &tables) };
        let files: Vec<_> = files.iter().map(|(path, text)| Source { path, text }).collect();
        let mappings = load(&files, &context).unwrap_or_else(|errors| panic!("{errors}"));
        let results = mappings.run_tests();
        assert!(!results.is_empty());
        for result in results {
            assert_eq!(result.outcome, Outcome::Passed, "{} {}", result.file, result.name);
        }
        for mapping in &mappings.all {
            for test in &mapping.tests {
                described::hold(&test.made(&mappings, mapping), "plant-a");
            }
        }
        for result in mappings.fuzz(1, 64, |_| true) {
            assert_eq!(result.failure, None, "{}", result.file);
        }
    }
}

/// The examples of the manual that no bridge of the shipped configuration can run: `yaml library`.
fn manual() -> Vec<(String, String)> {
    let manual = [
        include_str!("../../../docs/mapping.md"),
        include_str!("../../../docs/bridges/webhook.md"),
        include_str!("../../../docs/bridges/mqtt.md"),
        include_str!("../../../docs/bridges/mqtt-client.md"),
        include_str!("../../../docs/bridges/websocket.md"),
    ];
    let of =
        |page: &'static str| page.split("```yaml library\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let examples = manual.into_iter().flat_map(of);
    examples.enumerate().map(|(n, text)| (format!("example {n}"), text.to_owned())).collect()
}

fn read(folder: &Path, prefix: &str, each: &mut impl FnMut(&str, String)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            read(&path, &format!("{name}/"), each);
        } else {
            each(&name, fs::read_to_string(&path).unwrap());
        }
    }
}
