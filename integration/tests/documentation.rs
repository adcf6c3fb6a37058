//! Every example of the README and `docs/` runs.
//!
//! - ```` ```console ````: lines after `$ ` are run by bash against a fresh gateway, with `openmesh` on the path and the
//!   documented ports replaced by private ones; the lines below are the output, where `...` stands for anything.
//! - ```` ```yaml ```` with a `mapping:` key: loaded into a copy of the shipped config, and its own tests run.
//! - ```` ```yaml run PATH ````, or of another language: what this file of the config says while the document's console
//!   examples run.
//! - ```` ```yaml gateway ```` and ```` ```yaml policy ```` : a whole `gateway.yaml` or `policy.yaml`, checked.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use integration::{Gateway, Site, gateway::binary, site::repository};

struct Example {
    place: String,
    info: String,
    text: String,
}

fn documents() -> Vec<PathBuf> {
    let mut found = vec![repository().join("README.md")];
    let mut folders = vec![repository().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("md") => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn examples(document: &Path) -> Vec<Example> {
    let text = fs::read_to_string(document).unwrap();
    let mut found: Vec<Example> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        match (open, line.strip_prefix("```")) {
            (false, Some(info)) => {
                let place = format!("{}:{}", document.file_name().unwrap().to_string_lossy(), number + 1);
                found.push(Example { place, info: info.trim().to_owned(), text: String::new() });
                open = true;
            }
            (true, Some(_)) => open = false,
            (true, None) => found.last_mut().unwrap().text.extend([line, "\n"]),
            (false, None) => {}
        }
    }
    assert!(!open, "{} ends inside an example", document.display());
    found
}

fn openmesh(arguments: &[&str], config: &Path) -> (bool, String) {
    let output =
        Command::new(binary()).args(arguments).arg("--config").arg(config.join("gateway.yaml")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn every_mapping_in_the_docs_loads_and_passes_its_tests() {
    let mut count = 0;
    for example in documents().iter().flat_map(|d| examples(d)).filter(|e| e.info == "yaml") {
        if !example.text.lines().any(|line| line.starts_with("mapping:")) {
            continue;
        }
        let site = Site::shipped();
        for shipped in fs::read_dir(site.config().join("mappings")).unwrap() {
            fs::remove_file(shipped.unwrap().path()).unwrap();
        }
        site.write("mappings/example.yaml", &example.text);
        let (checked, said) = openmesh(&["check"], &site.config());
        assert!(checked, "{}: {said}", example.place);
        let (tested, said) = openmesh(&["test"], &site.config());
        assert!(tested, "{}: {said}", example.place);
        count += 1;
    }
    assert!(count >= 3, "only {count} mappings in the docs");
}

#[test]
fn every_gateway_config_and_policy_in_the_docs_is_valid() {
    for (info, file) in [("yaml gateway", "gateway.yaml"), ("yaml policy", "policy.yaml")] {
        let mut count = 0;
        for example in documents().iter().flat_map(|d| examples(d)).filter(|e| e.info == info) {
            let site = Site::shipped();
            site.write(file, &example.text);
            let (checked, said) = openmesh(&["check"], &site.config());
            assert!(checked, "{}: {said}", example.place);
            count += 1;
        }
        assert!(count >= 1, "no {file} in the docs");
    }
}

#[test]
fn every_console_example_in_the_docs_says_what_it_says_there() {
    let mut count = 0;
    for document in documents() {
        let console: Vec<_> = examples(&document).into_iter().filter(|example| example.info == "console").collect();
        if console.is_empty() {
            continue;
        }
        // one gateway a document: its examples build on each other
        let site = Site::shipped();
        for (path, text) in
            examples(&document).iter().filter_map(|one| Some((one.info.split_once(" run ")?.1, &one.text)))
        {
            let data = format!("path: {} }}", site.data().display());
            site.write(path, &local(&site, text).replace("path: data }", &data));
        }
        let _gateway = Gateway::start(&site);
        for example in console {
            count += run(&site, &example);
        }
    }
    assert!(count >= 5, "only {count} commands in the docs");
}

/// With the ports of this site.
fn local(site: &Site, text: &str) -> String {
    text.replace("127.0.0.1:8080", &site.http.to_string()).replace("127.0.0.1:9090", &site.admin.to_string())
}

fn run(site: &Site, example: &Example) -> usize {
    let local = local(site, &example.text);
    let mut commands: Vec<(String, Vec<&str>)> = Vec::new();
    for line in local.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), Vec::new())),
            (None, Some((command, expected))) if command.ends_with('\\') && expected.is_empty() => {
                command.extend(["\n", line]);
            }
            (None, Some((_, expected))) => expected.push(line),
            (None, None) => panic!("{}: output before a command", example.place),
        }
    }
    for (command, expected) in &commands {
        let prelude = format!("exec 2>&1\nopenmesh() {{ {} \"$@\"; }}\n", binary().display());
        // its default port is the documented one
        let command = command.replace("openmesh tail", &format!("openmesh tail --url ws://{}/mesh/v1/ws", site.http));
        // as is that of the commands that speak to a gateway
        let (admin, http) = (format!(" --url http://{}", site.admin), format!(" --url http://{}", site.http));
        let command =
            ["deadletter list", "deadletter show", "subscription list", "subscription drop", "openmesh status"]
                .iter()
                .fold(command, |command, asks| command.replace(asks, &format!("{asks}{admin}")));
        let command = command.replace("openmesh send", &format!("openmesh send{http}"));
        let output = Command::new("timeout")
            .args(["30", "bash", "-c", &format!("{prelude}{command}")])
            .current_dir(site.config().parent().unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            matches(expected, &said),
            "{}: $ {command}\nexpected:\n{}\nsaid:\n{said}",
            example.place,
            expected.join("\n")
        );
    }
    commands.len()
}

/// `...` stands for any text within a line, and a line of it for any number of lines.
fn matches(expected: &[&str], said: &str) -> bool {
    let said: Vec<_> = said.lines().collect();
    lines(expected, &said)
}

fn lines(expected: &[&str], said: &[&str]) -> bool {
    match (expected.split_first(), said.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((&"...", rest)), _) => (0..=said.len()).any(|skip| lines(rest, &said[skip..])),
        (Some(_), None) => false,
        (Some((first, rest)), Some((line, left))) => line_matches(first, line) && lines(rest, left),
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let (mut left, mut parts) = (line.trim_end(), expected.trim_end().split("...").peekable());
    let Some(rest) = parts.next().and_then(|first| left.strip_prefix(first)) else { return false };
    left = rest;
    while let Some(part) = parts.next() {
        // the last part is the end of the line, wherever else it may stand
        let at = if parts.peek().is_none() { left.len().checked_sub(part.len()) } else { left.find(part) };
        let Some(rest) = at.and_then(|at| left.get(at..)?.strip_prefix(part)) else { return false };
        left = rest;
    }
    left.is_empty()
}
