//! What is not stored: whoever heard that it is delivered finds it at the webhook's server.

use std::{collections::HashSet, sync::Mutex};

use integration::client::Client;
use serde_json::json;

use crate::Stage;

pub(crate) const MAPPINGS: &[(&str, &str)] = &[
    (
        "kill-pass",
        "from: { bridge: web, address: \"POST /passes/{key}\" }\n\
         envelope: { topic: \"passes/${address.key}\", data: { n: \"${payload.n}\" } }\n\
         store: false\nack: delivered\nack_within: 5s\n",
    ),
    (
        "kill-pass-on",
        "from: { topic: passes/# }\nto: { bridge: hooks, address: POST /passes, body: { n: \"${payload.n}\" } }\n",
    ),
];

/// The ids of messages whose sender heard that they are delivered.
#[derive(Default)]
pub(crate) struct Passes(Mutex<HashSet<String>>);

pub(crate) fn send(stage: &Stage) {
    let client = Client::new();
    // the server takes all of these
    for n in (0..).step_by(7) {
        if stage.is_over() {
            return;
        }
        let key = format!("p{n}");
        let answer = stage.offer(&client, &format!("/passes/{key}"), &key, &json!({ "n": n }).to_string());
        // a drain or a kill may come before the server's answer
        if answer.status == 504 {
            continue;
        }
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert!(answer.body["position"].is_null(), "{}", answer.text);
        stage.passes.0.lock().expect("passes").insert(answer.body["id"].as_str().expect("an id").to_owned());
    }
}

pub(crate) fn assert_passed(stage: &Stage) {
    let told = stage.passes.0.lock().expect("passes");
    let missing: Vec<_> = told.iter().filter(|id| !stage.hook.has(id)).collect();
    assert!(missing.is_empty(), "{} of {} never came: {missing:?}", missing.len(), told.len());
    assert!(!told.is_empty(), "some were passed on");
    let route = &stage.ledger()["bridges"]["web"]["routes"]["kill-pass"];
    assert_eq!((route["stored"].as_u64(), route["accepted"].as_u64()), (Some(0), Some(0)), "{route}");
    println!("{} passed on without being stored", told.len());
}
