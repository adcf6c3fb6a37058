//! The admin API and the endpoints of an HTTP listener do what their OpenAPI documents say: schemathesis asks every operation
//! of a gateway that has something to show for what it should and should not do.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use integration::{
    Gateway, Site,
    client::{self, Client, Events, Subscriber},
    gateway::binary,
    site::repository,
};
use serde_json::{Value, json};

/// What keeps the last value of a topic, and what refuses messages and keeps them.
const MAPPINGS: [(&str, &str); 2] = [
    (
        "contract-kept",
        "mapping: contract-kept\nfrom: { bridge: web, address: \"POST /kept/{line}\" }\nkeep: last\n\
         envelope:\n  topic: doors/${address.line}\n  schema: telemetry/reading@v1.0.0\n  \
         data: { celsius: 1, line: \"${address.line}\" }\n",
    ),
    (
        "contract-letters",
        "mapping: contract-letters\nfrom: { bridge: web, address: \"POST /letters/{line}\" }\nunproven: dead-letter\n\
         envelope:\n  topic: telemetry/letters\n  schema: telemetry/reading@v1.0.0\n  \
         data: { celsius: \"${payload.c}\", line: \"${address.line}\" }\n",
    ),
];
/// The operator may read everything, and what operators do.
const POLICY: &str = "permit (principal == Principal::\"ada\", action == Action::\"subscribe\", resource);\n\
                      permit (principal == Principal::\"ada\", action == Action::\"subscribe\", resource in Topic::\"$mesh/audit\");\n";
/// That two parameters exclude each other is nothing that a document can say.
const LISTENER: &str = r#"
[[operations]]
include-path = "/mesh/v1/events"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "409", "422", "429", "503"]
"#;
/// Letters of each kind: so many that those which are asked for by chance are there.
const LETTERS: u64 = 20;

/// A gateway with messages, a last value, dead letters of two kinds and a durable subscription.
struct Stage {
    site: Site,
    _gateway: Gateway,
    /// `Authorization` of an operator.
    operator: String,
}

/// Standard output of an `openmesh` command that succeeds.
fn openmesh(arguments: &[&str], site: &Site) -> String {
    let config = site.config().join("gateway.yaml");
    let output = Command::new(binary()).args(arguments).arg("--config").arg(config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

// === impl Stage ===

impl Stage {
    fn seeded() -> Self {
        let site = Site::shipped();
        MAPPINGS.iter().for_each(|(name, text)| site.write(&format!("mappings/{name}.yaml"), text));
        site.write("policies/contract.cedar", POLICY);
        let config = fs::read_to_string(site.config().join("gateway.yaml")).unwrap();
        let patience = config.replace("embedded: {", "embedded: { max_deliveries: 2,");
        assert_ne!(patience, config);
        site.write("gateway.yaml", &patience);
        openmesh(&["user", "add", "ada", "--role", "operator"], &site);
        let made = openmesh(&["key", "new", "ada"], &site);
        let key = made.split_whitespace().find(|word| word.starts_with("om_")).expect("the key");
        let stage = Self { operator: format!("Bearer {key}"), _gateway: Gateway::start(&site), site };
        stage.seed();
        stage
    }

    fn seed(&self) {
        let (site, client) = (&self.site, Client::new());
        let post = |path: &str, body: &str| client.post(&site.url(path), &[], body.as_bytes());
        // durable and read by nobody from now on
        let url = site.url("/mesh/v1/events?filter=telemetry/%23&durable=screen");
        Events::open(&url, None).expect("a stream").event().expect("its greeting");
        let mut consumer =
            Subscriber::open(site.http, &["telemetry/#"], &json!("earliest"), Some("s"), 1_000).expect("a consumer");
        assert_eq!(post("/kept/1", "{}").status, 202);
        for n in 0..LETTERS {
            assert_eq!(post(&format!("/telemetry/{n}/temperature"), r#"{"f":50,"unit":"F"}"#).status, 202);
        }
        for _ in 0..2 * LETTERS {
            let message = consumer.message().expect("what is not acked comes again");
            let nack = json!({"op": "nack", "sub": "s", "positions": [message["position"]]});
            consumer.send(&nack).expect("a connection");
        }
        consumer.flush().expect("a connection");
        for n in 0..LETTERS {
            assert_eq!(post(&format!("/letters/{n}"), r#"{"c":"cold"}"#).status, 422);
        }
        let letters = self.page("/dead-letters?most=1000")["letters"].as_array().cloned().unwrap_or_default();
        let kinds: BTreeSet<_> = letters.iter().filter_map(|letter| letter["what"].as_str()).collect();
        assert_eq!(kinds, ["envelope", "message"].into(), "{letters:?}");
        assert!(self.page("/messages")["messages"].as_array().is_some_and(|messages| !messages.is_empty()));
        assert!(!self.page("/subscriptions")["subscriptions"]["sse:anonymous:screen"].is_null());
        assert_eq!(client.get(&site.url("/mesh/v1/last/doors/1")).status, 200);
    }

    /// A page of the admin API.
    fn page(&self, path: &str) -> Value {
        Client::new().get_with(&self.site.admin_url(path), &[("authorization", &self.operator)]).body
    }

    /// Has all operations of the document at `url` asked.
    fn check(&self, url: &str, more: &[&str]) {
        let document = client::get(url).body;
        let output = Command::new(repository().join("target/tools/bin/schemathesis"))
            .args(["run", url, "--no-color", "--generation-deterministic", "--max-examples", "25"])
            .args(["--header", &format!("Authorization: {}", self.operator)])
            .args(more)
            .current_dir(self.site.config())
            .output()
            .expect("schemathesis, which integration/install brings");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        // all but the document itself
        let operations = document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len());
        let all = operations.sum::<usize>() - 1;
        let asked = all - usize::from(more.contains(&"--exclude-path"));
        assert!(said.contains(&format!("{asked} selected / {all} total")), "{said}");
        assert!(!said.contains("only 401/403 responses"), "{said}");
    }
}

#[test]
fn every_operation_of_the_admin_api_keeps_its_contract() {
    let stage = Stage::seeded();
    stage.check(&stage.site.admin_url("/openapi.json"), &[]);
    // and it was no contract of refusals only
    let audit = stage.page("/messages?topic=$mesh/audit/admin&limit=1000");
    let done: BTreeSet<_> = audit["messages"]
        .as_array()
        .expect("the audit trail")
        .iter()
        .filter_map(|message| message["envelope"]["data"]["what"].as_str())
        .collect();
    for what in ["show-dead-letter", "replay-dead-letter", "drop-dead-letter", "drop-subscription", "reload"] {
        assert!(done.contains(what), "no {what} among {done:?}");
    }
    assert_eq!(stage.page("/ledger")["balanced"], true);
}

#[test]
fn every_endpoint_of_an_http_listener_keeps_its_contract() {
    let stage = Stage::seeded();
    stage.site.write("schemathesis.toml", LISTENER);
    // a stream of events has no end of its own; what is a WebSocket by now is no connection for the next request, so that one
    // is left to those who speak it
    let more = ["--request-timeout", "0.5", "--exclude-path", "/mesh/v1/ws"];
    stage.check(&stage.site.url("/mesh/v1/openapi.json"), &more);
    assert_eq!(stage.page("/ledger")["balanced"], true);
}

/// Every Rust file below a folder.
fn sources(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, into);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            into.push((entry.display().to_string(), fs::read_to_string(&entry).expect("a source")));
        }
    }
}

#[test]
fn no_route_is_registered_past_a_document() {
    let mut files = Vec::new();
    for folder in ["gateway/src", "bridges/src"] {
        sources(&repository().join(folder), &mut files);
    }
    assert!(files.len() > 100);
    for (name, text) in files.iter().filter(|(name, _)| !name.contains("/tests")) {
        for past in [".route(\"", ".route_service(", ".nest_service("] {
            assert!(!text.contains(past), "{name} has {past:?}: with `routes!` it is in the OpenAPI document as well");
        }
    }
}
