//! Requests that somebody answers.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use integration::{Subscriber, client::Client};
use serde_json::json;

use crate::Stage;

pub(crate) const MAPPINGS: &[(&str, &str)] = &[(
    "kill-ask",
    "from: { bridge: web, address: \"POST /ask/{key}\" }\n\
     envelope: { topic: \"ask/${address.key}\", performative: query, data: { n: \"${payload.n}\" } }\n\
     reply:\n  - within: 1s\n    status: 200\n    body: { n: \"${payload.n}\" }\n",
)];

/// What became of them.
#[derive(Default)]
pub(crate) struct Asks {
    answered: AtomicU64,
    unanswered: AtomicU64,
    /// Nobody is killed any more.
    is_last: AtomicBool,
    answered_at_last: AtomicU64,
    is_over: AtomicBool,
}

// === impl Asks ===

impl Asks {
    pub(crate) fn begin_the_last(&self) {
        self.is_last.store(true, Ordering::SeqCst);
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    pub(crate) fn were_answered(&self) -> bool {
        self.answered_at_last.load(Ordering::SeqCst) > 10
    }
}

/// Asks; who is told an answer is told the one to its own question.
pub(crate) fn send(stage: &Stage, sender: u64) {
    let client = Client::new();
    for n in 0_u64.. {
        if stage.asks.is_over() {
            return;
        }
        let (key, number) = (format!("a{sender}-{n}"), sender * 1_000_000 + n);
        let answer = stage.offer(&client, &format!("/ask/{key}"), &key, &json!({ "n": number }).to_string());
        let asks = &stage.asks;
        match answer.status {
            200 => {
                assert_eq!(answer.body["n"], number, "{key} was told another's answer");
                asks.answered.fetch_add(1, Ordering::SeqCst);
                asks.answered_at_last.fetch_add(asks.is_last.load(Ordering::SeqCst).into(), Ordering::SeqCst);
            }
            // stored, and its answer was for a gateway that is no more
            502 | 504 => drop(asks.unanswered.fetch_add(1, Ordering::SeqCst)),
            other => panic!("{other}: {}", answer.text),
        }
    }
}

/// Answers what is asked, over every restart.
pub(crate) fn answer(stage: &Stage) {
    while !stage.asks.is_over() {
        let opened = Subscriber::open(stage.site.http, &["ask/#"], &json!("earliest"), Some("answers"), 64);
        let Some(mut subscriber) = opened else {
            thread::park_timeout(Duration::from_millis(2));
            continue;
        };
        while let Some(asked) = subscriber.message() {
            let envelope = &asked["envelope"];
            let reply = json!({ "op": "reply", "ref": "r", "to": envelope["replyto"], "inreplyto": envelope["id"],
                "payload": { "n": envelope["data"]["n"] } });
            if subscriber.send(&reply).is_none() || subscriber.ack(&asked).is_none() || stage.asks.is_over() {
                break;
            }
        }
    }
}

pub(crate) fn assert_answered(stage: &Stage) {
    let (answered, unanswered) =
        (stage.asks.answered.load(Ordering::SeqCst), stage.asks.unanswered.load(Ordering::SeqCst));
    println!("{answered} requests were answered, {unanswered} were not");
}
