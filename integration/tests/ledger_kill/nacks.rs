//! A durable consumer that gives some back for a while.

use std::{
    collections::{HashMap, HashSet},
    thread,
    time::{Duration, Instant},
};

use integration::Subscriber;
use serde_json::{Value, json};

use crate::{PATIENCE, Stage, many};

/// How long nothing may come before it comes back by itself.
const QUIET: Duration = Duration::from_secs(1);

/// What it has seen, over every connection.
#[derive(Default)]
struct Seen {
    /// Envelope id to position.
    all: HashMap<String, Value>,
    given_back: HashSet<String>,
}

/// Reads over every restart. Of three it gives back one when that comes first; it comes again, not before its time is over.
pub(crate) fn consume(stage: &Stage) {
    let mut seen = Seen::default();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE * 5, "{} of {} were given back", seen.given_back.len(), seen.all.len());
        let opened = Subscriber::open(stage.site.http, &many::FILTERS, &json!("earliest"), Some("nacks"), 64);
        let Some(mut subscriber) = opened else {
            thread::park_timeout(Duration::from_millis(2));
            continue;
        };
        subscriber.set_patience(QUIET);
        if read(stage, &mut subscriber, &mut seen).is_some() {
            println!("{} came, {} of them were given back", seen.all.len(), seen.given_back.len());
            return;
        }
    }
}

/// Until all has come, or the connection breaks (`None`): the gateway's memory of what is to wait goes with it.
fn read(stage: &Stage, subscriber: &mut Subscriber, seen: &mut Seen) -> Option<()> {
    let mut due = HashMap::new();
    while !stage.many.is_settled() {
        let message = subscriber.message()?;
        let id = message["envelope"]["id"].as_str().expect("an id").to_owned();
        if let Some(before) = seen.all.insert(id.clone(), message["position"].clone()) {
            assert_eq!(before, message["position"], "{id} is stored twice");
            assert_eq!(message["redelivered"], true, "{id} came again without the mark");
        }
        if let Some(due) = due.remove(&id) {
            let early = due - Instant::now().min(due);
            assert!(early.is_zero(), "{id} came again {early:?} too early");
        }
        // by a digit of the name that its sender gave it
        let is_given_back = message["envelope"]["data"]["name"].as_str().expect("a name").ends_with(['1', '4', '8']);
        if is_given_back && seen.given_back.insert(id.clone()) {
            let after = 1 + seen.given_back.len() as u64 % 40;
            due.insert(id, Instant::now() + Duration::from_millis(after));
            let nack = json!({ "op": "nack", "sub": "s", "positions": [message["position"]], "after_ms": after });
            subscriber.send(&nack)?;
        } else {
            subscriber.ack(&message)?;
            stage.many.settle(id);
        }
    }
    subscriber.flush()
}
