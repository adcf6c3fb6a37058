use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// A section's number, and the statement's within it.
type Statement = (String, u32);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every source file below a folder: where it is, and its text.
fn sources_below(folder: &Path, sources: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_below(&path, sources);
        } else if path.extension().is_some_and(|is| is == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            sources.push((path, text));
        }
    }
}

/// Of names as `mqtt_3_3_1_5_to_8_and_3_2_2_1_and_2_words`.
fn named(name: &str, into: &mut BTreeSet<Statement>) {
    let mut words = name.split('_').peekable();
    let mut last: Option<Statement> = None;
    let mut before = "";
    while let Some(word) = words.next() {
        let mut run = Vec::new();
        if word.parse::<u32>().is_ok() {
            run.push(word);
            while let Some(next) = words.next_if(|next| next.parse::<u32>().is_ok()) {
                run.push(next);
            }
        }
        last = match (&run[..], last) {
            ([part, chapter, section, number], _) => {
                Some((format!("{part}.{chapter}.{section}"), number.parse().unwrap()))
            }
            ([number], Some((section, from))) if before == "to" => {
                let to = number.parse().unwrap();
                into.extend((from..=to).map(|number| (section.clone(), number)));
                Some((section, to))
            }
            ([number], Some((section, _))) if before == "and" => Some((section, number.parse().unwrap())),
            ([], last) if matches!(word, "mqtt" | "and" | "to") => last,
            _ => None,
        };
        if !run.is_empty() {
            into.extend(last.clone());
        }
        before = word;
    }
}

#[test]
fn every_statement_about_a_server_is_tested_or_said_not_to_hold() {
    let list = include_str!("statements.txt");
    let sections: BTreeMap<&str, &str> = list.lines().filter_map(|line| line.split_once(": ")).collect();
    let mut all = BTreeSet::new();
    for (section, range) in
        sections.into_iter().filter(|(section, _)| section.starts_with(|c: char| c.is_ascii_digit()))
    {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let range = from.parse::<u32>().unwrap()..=to.parse().unwrap();
        all.extend(range.map(|number| (section.to_owned(), number)));
    }
    let mut sources = Vec::new();
    let folders = ["bridges/src/mqtt", "integration/tests/mqtt", "gateway/tests"];
    folders.iter().for_each(|folder| sources_below(&repository().join(folder), &mut sources));
    let (name, number) = (
        Regex::new(r"#\[(?:tokio::)?test[^\n]*\n\s*(?:async )?fn (\w+)").unwrap(),
        Regex::new(r"\b(\d\.\d{1,2}\.\d{1,2})-(\d{1,2})\b").unwrap(),
    );
    let names: BTreeSet<_> =
        sources.iter().flat_map(|(_, text)| name.captures_iter(text)).map(|one| one[1].to_owned()).collect();
    // what the cases of tests say of themselves
    let is_of_tests =
        |path: &Path| path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests"));
    let mut tested: BTreeSet<Statement> = sources
        .iter()
        .filter(|(path, _)| is_of_tests(path.strip_prefix(repository()).unwrap()))
        .flat_map(|(_, text)| number.captures_iter(text))
        .map(|one| (one[1].to_owned(), one[2].parse().unwrap()))
        .collect();
    names.iter().filter(|name| name.starts_with("mqtt_")).for_each(|name| named(name, &mut tested));
    let docs = fs::read_to_string(repository().join("docs/bridges/mqtt.md")).unwrap();
    let mut said = BTreeSet::new();
    for row in docs.lines().filter_map(|line| line.strip_prefix("| MQTT-")) {
        let (statements, _) = row.split_once(':').unwrap();
        let mut section = "";
        for one in statements.split(", ") {
            let (of, number) = one.trim_start_matches("MQTT-").rsplit_once('-').unwrap();
            section = if of.is_empty() { section } else { of };
            said.insert((section.to_owned(), number.parse().unwrap()));
        }
    }
    let mut listed = BTreeSet::new();
    for line in list.lines() {
        let Some((kind, rest)) = line.split_once(' ').filter(|(kind, _)| ["client", "none", "by"].contains(kind))
        else {
            continue;
        };
        let (statement, test) = rest.split_once([':', ' ']).unwrap_or((rest, ""));
        assert!(kind != "by" || names.contains(test), "there is no test {test}");
        let (section, number) = statement.rsplit_once('-').unwrap();
        listed.insert((section.to_owned(), number.parse().unwrap()));
    }
    let unknown: Vec<_> = tested.union(&said).chain(&listed).filter(|one| !all.contains(*one)).collect();
    assert!(unknown.is_empty(), "the standard has no such statements: {unknown:?}");
    let needless: Vec<_> = listed.intersection(&tested).collect();
    assert!(needless.is_empty(), "tests name these themselves: {needless:?}");
    let missing: Vec<_> =
        all.iter().filter(|one| !tested.contains(*one) && !said.contains(*one) && !listed.contains(*one)).collect();
    assert!(missing.is_empty(), "of these nothing is said: {missing:?}");
}
