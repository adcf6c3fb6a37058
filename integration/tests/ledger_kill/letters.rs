//! What a mapping can make nothing of, and keeps.

use std::{collections::HashSet, sync::Mutex};

use integration::client::Client;
use serde_json::Value;

use crate::Stage;

pub(crate) const MAPPINGS: &[(&str, &str)] = &[(
    "kill-letter",
    "from: { bridge: web, address: \"POST /letters/{key}\" }\n\
     envelope:\n  topic: telemetry/letters\n  schema: telemetry/reading@v1.0.0\n  \
     data: { celsius: \"${payload.c}\", line: \"${address.key}\" }\nunproven: dead-letter\n",
)];

/// The keys of messages whose sender heard that they were refused.
#[derive(Default)]
pub(crate) struct Letters(Mutex<HashSet<String>>);

pub(crate) fn send(stage: &Stage) {
    let client = Client::new();
    for n in 0.. {
        if stage.is_over() {
            return;
        }
        let key = format!("l{n}");
        let answer = stage.offer(&client, &format!("/letters/{key}"), &key, "{\"c\":\"cold\"}");
        assert_eq!(answer.status, 422, "{}", answer.text);
        stage.letters.0.lock().expect("letters").insert(key);
    }
}

/// Who was told that a message is refused finds it among the letters.
pub(crate) fn assert_kept(stage: &Stage) {
    let kept: HashSet<_> = all(stage)
        .iter()
        .filter(|letter| letter["mapping"] == "kill-letter")
        .map(|letter| letter["address"].as_str().expect("its address").replace("POST /letters/", ""))
        .collect();
    let told = stage.letters.0.lock().expect("letters");
    let missing: Vec<_> = told.difference(&kept).collect();
    assert!(missing.is_empty(), "{} of {} are not kept: {missing:?}", missing.len(), told.len());
    assert!(!told.is_empty(), "some were refused");
    println!("{} letters of messages, {} of them told", kept.len(), told.len());
}

/// The topics of what a subscription gave up.
pub(crate) fn of_subscription(stage: &Stage, name: &str) -> Vec<String> {
    let letters = all(stage).into_iter().filter(|letter| letter["subscription"] == name);
    letters.map(|letter| letter["topic"].as_str().expect("its topic").to_owned()).collect()
}

/// All that are kept.
pub(crate) fn all(stage: &Stage) -> Vec<Value> {
    let (client, mut all) = (Client::new(), Vec::new());
    loop {
        let after = all.last().map_or(0, |letter: &Value| letter["id"].as_u64().expect("its number"));
        let page = behind(stage, &client, after).expect("a gateway that answers");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// A page of letters; `None` if nobody answers.
pub(crate) fn behind(stage: &Stage, client: &Client, after: u64) -> Option<Vec<Value>> {
    let url = stage.site.admin_url(&format!("/dead-letters?most=1000&after={after}"));
    let mut page = client.get_with(&url, &[("authorization", &stage.key)]);
    match (page.status, page.body["letters"].take()) {
        (200, Value::Array(letters)) => Some(letters),
        (0 | 503, _) => None,
        _ => panic!("{}", page.text),
    }
}
