//! `openmesh explain` and `openmesh policy replay`, as the built binary.

use std::{fs, path::Path, process::Command};

use gateway::drain::Drained;
use serde_json::Value;

use super::support::{Site, post, web};

/// What the command prints; whether it did what it was asked to.
pub(crate) async fn openmesh(args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_openmesh"));
    command.args(args);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

const MAPPING: &str = "mapping: notes
from: { bridge: web, address: \"POST /notes/{place}\" }
envelope: { topic: \"notes/${address.place}\", residency: \"${address.place}\" }
";

#[tokio::test]
async fn each_layer_says_what_it_decides_and_the_last_one_why_not() {
    let site = Site::shipped();
    site.write("mappings/notes.yaml", MAPPING);
    site.write("policy.yaml", "anonymous: true\nlimits: { principals: { anonymous: { messages_per_second: 9 } } }\n");
    let message = site.data().with_file_name("message.json");
    let explain = async |text: &str| {
        fs::write(&message, text).unwrap();
        openmesh(&["explain", "--message", path(&message), "--config", path(&site.config())]).await
    };
    let (done, said) = explain(r#"{"address": "POST /notes/us", "payload": {"n": 12.10}}"#).await;
    assert!(done, "{said}");
    for line in [
        "payload_limit   passes    12 of at most 1048576 bytes",
        "principal_limit passes    9 messages a second",
        "mapping         passes    \"notes\" makes notes/us",
        "access          passes    permitted by ",
        "residency       refused   denied by residency: the data may be in us, and this gateway is in no, eu",
        "=> denied",
        "\"data\":{\"n\": 12.10}",
    ] {
        assert!(said.contains(line), "{line} in\n{said}");
    }
    let stranger = r#"{"address": "POST /notes/no", "payload": {}, "principal": {"id": "press-7", "roles": ["a"]}}"#;
    let (done, said) = explain(stranger).await;
    assert!(
        done && said.contains("access          refused   denied by access: no policy permits \"press-7\""),
        "{said}"
    );
    let (done, said) = explain(r#"{"address": "POST /notes/no", "text": "x", "peer": "192.0.2.1"}"#).await;
    assert!(done && said.contains("=> malformed"), "{said}");
    for (wrong, why) in [
        (r#"{"address": "POST /a"}"#, "either \"payload\" or a string \"text\""),
        (r#"{"address": "POST /a", "payload": 1, "adress": 1}"#, "unknown member \"adress\""),
        (r#"{"address": "POST /a", "payload": 1, "bridge": "wbe"}"#, "no bridge \"wbe\"; bridges: web"),
        (r#"{"address": "POST /a", "payload": 1, "principal": {"id": "a", "trust": 101}}"#, "from 0 to 100"),
    ] {
        let (done, said) = explain(wrong).await;
        assert!(!done && said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn a_stored_envelope_is_explained_and_replayed_against_a_candidate() {
    let site = Site::shipped();
    site.write("mappings/notes.yaml", MAPPING);
    let running = site.start().await;
    let web = web(&running);
    let mut ids = Vec::new();
    for place in ["no", "eu", "no"] {
        let answer = post(web, &format!("/notes/{place}"), "{}").await;
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    let url = format!("ws://{web}/mesh/v1/ws");
    let config = site.config();
    let args = ["--config", path(&config), "--url", &url];
    let (done, said) = openmesh(&[&["explain", "--json", "--id", &ids[1]], &args[..]].concat()).await;
    let told: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(done && told["outcome"] == "passes" && told["layers"][0]["found"] == "may be in eu", "{told}");
    let absent = "0190163d-8694-739b-aea5-966c26f8ad91";
    let (done, said) = openmesh(&[&["explain", "--id", absent], &args[..]].concat()).await;
    assert!(!done && said.contains(absent), "{said}");

    let candidate = Site::shipped();
    candidate.write("policy.yaml", "anonymous: true\nresidency: { store: [eu] }\n");
    let folder = candidate.config().parent().unwrap().to_owned();
    let replay = |from: &'static str| {
        let args = [&["policy", "replay", "--candidate", path(&folder), "--from", from], &args[..]].concat();
        let args: Vec<_> = args.into_iter().map(str::to_owned).collect();
        async move { openmesh(&args.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let (done, said) = replay("2026-01-01T00:00:00Z").await;
    assert!(done, "{said}");
    let differs = |id: &str| format!("{id}  notes/no  passes  ->  denied by residency");
    assert!(said.contains(&differs(&ids[0])) && said.contains(&differs(&ids[2])) && !said.contains(&ids[1]), "{said}");
    assert!(said.contains("3 envelopes, 2 decided otherwise\n  2: passes  ->  denied by residency\n"), "{said}");
    assert!(replay("2999-01-01T00:00:00Z").await.1.contains("0 envelopes, 0 decided otherwise"));
    assert_eq!(running.drain().await, Drained::Clean);
}
