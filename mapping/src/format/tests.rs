use std::{collections::BTreeSet, fs, path::Path};

use envelope::Json;
use schema::{Schema, Schemas};

use super::*;
use crate::{Abilities, Bridge, Context, Source, Tables, compare::write_json, load};

fn checked_in() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/formats/mapping.json")
}

/// `OPENMESH_GENERATE=1 cargo test -p mapping generated -- --test-threads=1` writes anew what is generated.
#[test]
fn the_schema_that_editors_find_is_the_generated_one() {
    if std::env::var_os("OPENMESH_GENERATE").is_some() {
        fs::create_dir_all(checked_in().parent().unwrap()).unwrap();
        fs::write(checked_in(), json_schema()).unwrap();
    }
    assert_eq!(fs::read_to_string(checked_in()).unwrap(), json_schema(), "set OPENMESH_GENERATE=1 to write it anew");
}

#[test]
fn the_keys_in_the_manual_are_the_generated_ones() {
    crate::manual::holds("keys", &manual());
}

fn conforms(text: &str) -> Result<(), String> {
    let schema = Schema::compile("mapping", json_schema().as_bytes()).unwrap();
    let file = yaml::File::parse("m.yaml", text).map_err(|errors| errors.to_string())?;
    let mut json = Vec::new();
    write_json(file.root(), &mut json);
    let json = Json::parse(json.into()).unwrap();
    schema.check(&json).map_err(|violation| format!("{}: {}", violation.pointer, violation.detail))
}

#[test]
fn every_mapping_that_is_shipped_or_shown_in_the_manual_conforms() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut count = 0;
    for entry in fs::read_dir(root.join("config/mappings")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        conforms(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.starts_with("# yaml-language-server: $schema=../formats/mapping.json\n"), "{}", path.display());
        count += 1;
    }
    let manual = fs::read_to_string(root.join("docs/mapping.md")).unwrap();
    for example in manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        if example.lines().any(|line| line.starts_with("mapping:")) {
            conforms(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}

#[test]
fn what_does_not_load_does_not_conform() {
    let least = "mapping: m\nfrom: { bridge: web, address: a }\nenvelope: { topic: t }\n";
    conforms(least).unwrap();
    for wrong in [
        least.replace("mapping: m\n", ""),
        least.replace("envelope: { topic: t }\n", ""),
        least.replace("topic: t", "topics: t"),
        least.replace("topic: t", "performative: inform"),
        least.replace("topic: t", "topic: 7"),
        least.replace("topic: t", "topic: t, performative: infrom"),
        least.replace("topic: t", "topic: t, expires: soon"),
        least.replace("address: a", "address: a, decode: yaml"),
        least.replace("address: a", "address: a, decode: { csv: {}, xml: {} }"),
        format!("{least}ack: sometimes\n"),
        format!("{least}order: first\n"),
        format!("{least}drop: 1\n"),
        format!("{least}when: [a]\n"),
        format!("{least}when: ${{payload.a}}\n"),
        format!("{least}let: [a]\n"),
        format!("{least}tests: {{}}\n"),
        format!("{least}tests: [{{ name: a }}]\n"),
        format!("{least}tests: [{{ name: a, given: {{ adress: a }}, expect: {{ topic: t }} }}]\n"),
        format!("{least}tests: [{{ name: a, given: {{ address: a }}, expect: {{ topics: t }} }}]\n"),
        format!("{least}unproven: maybe\n"),
        format!("{least}extra: 1\n"),
        "[]".to_owned(),
    ] {
        assert!(conforms(&wrong).is_err(), "{wrong}");
        let bridges = [Bridge::named("web")];
        let schemas = Schemas::default();
        let context = Context::new("d", &bridges, &schemas, Tables::none());
        assert!(load(&[Source { path: "m.yaml", text: &wrong }], &context).is_err(), "{wrong}");
    }
}

/// The keys that the loader asks a map for: it names them where it finds one that it does not know.
fn asked(text: &str, at: &str) -> BTreeSet<String> {
    let bridges = [Bridge { sends: true, replies: true, ..Bridge::named("web") }];
    let schemas = Schemas::default();
    let gateway = Abilities { last_values: true, later_acks: true, pass_through: true };
    let context = Context { gateway, ..Context::new("d", &bridges, &schemas, Tables::none()) };
    let errors = load(&[Source { path: "m.yaml", text }], &context).map(|_| ()).unwrap_err();
    let unknown = errors.iter().find(|error| error.code == "unknown-key").unwrap_or_else(|| panic!("{at}: {errors}"));
    let help = unknown.help.as_deref().unwrap();
    let valid = help.split("valid keys: ").nth(1).unwrap();
    valid.split(", ").map(|key| key.trim_matches('"').to_owned()).collect()
}

#[test]
fn the_loader_asks_for_the_declared_keys_and_no_others() {
    let ingress = "mapping: m\nfrom: { bridge: web, address: a }\nenvelope: { topic: t }\n";
    let egress = "mapping: m\nfrom: { topic: t }\nto: { bridge: web, address: a }\n";
    let probes = [
        ("file", vec![format!("{ingress}zzz: 1\n"), format!("{egress}zzz: 1\n")]),
        (
            "from",
            vec![ingress.replace("address: a", "address: a, zzz: 1"), egress.replace("topic: t", "topic: t, zzz: 1")],
        ),
        ("envelope", vec![ingress.replace("topic: t", "topic: t, zzz: 1")]),
        ("to", vec![egress.replace("address: a", "address: a, zzz: 1")]),
        ("reply", vec![format!("{ingress}reply: {{ on: accepted, zzz: 1 }}\n")]),
        (
            "given",
            vec![
                format!("{ingress}tests: [{{ name: a, given: {{ address: a, zzz: 1 }}, expect: {{ topic: t }} }}]\n"),
                format!("{egress}tests: [{{ name: a, given: {{ zzz: 1 }}, expect: {{ address: a }} }}]\n"),
            ],
        ),
        (
            "expect",
            vec![
                format!("{ingress}tests: [{{ name: a, given: {{ address: a }}, expect: {{ topic: t, zzz: 1 }} }}]\n"),
                format!("{egress}tests: [{{ name: a, given: {{ payload: 1 }}, expect: {{ address: a, zzz: 1 }} }}]\n"),
            ],
        ),
        (
            "test",
            vec![format!("{ingress}tests: [{{ name: a, given: {{ address: a }}, expect: {{ topic: t }}, zzz: 1 }}]\n")],
        ),
    ];
    for (name, texts) in probes {
        let asked: BTreeSet<String> = texts.iter().flat_map(|text| asked(text, name)).collect();
        let map = MAPS.iter().find(|map| map.name == name).unwrap();
        let declared: BTreeSet<String> = map.keys.iter().map(|key| key.name.to_owned()).collect();
        assert_eq!(asked, declared, "{name}");
    }
    assert_eq!(MAPS.len(), 8, "each is probed");
}
