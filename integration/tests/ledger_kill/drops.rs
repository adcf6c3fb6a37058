//! Durable subscriptions that are made and dropped: whoever was told that one is there, or is gone, finds it so after any kill.

use std::{
    collections::HashMap,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use integration::{Subscriber, client::Client};
use serde_json::{Value, json};

use crate::{PATIENCE, Stage, many};

/// Of the subscription that comes and goes; the others stay.
const BRIEF: &str = "brief";
/// How many stay.
const LASTING: usize = 8;

/// What is known of a subscription, and of which time it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    There(usize),
    Gone(usize),
    /// It was asked for, and nobody has answered.
    Unknown,
}

/// By name.
#[derive(Default)]
pub(crate) struct Drops(Mutex<HashMap<String, Known>>);

// === impl Drops ===

impl Drops {
    fn know(&self, name: &str, known: Known) {
        self.0.lock().expect("drops").insert(name.to_owned(), known);
    }
}

/// Makes one, reads a little with it and drops it, and makes it anew: it begins at the beginning.
pub(crate) fn run(stage: &Stage) {
    let (client, mut first) = (Client::new(), None);
    let url = stage.site.admin_url(&format!("/subscriptions/ws:anonymous:{BRIEF}"));
    for n in 0.. {
        if stage.is_over() {
            return println!("{n} subscriptions were made and dropped");
        }
        open(stage, BRIEF, n, &mut first);
        if n % 4 == 0 && n / 4 < LASTING {
            open(stage, &format!("lasting-{n}"), n, &mut first);
        }
        stage.drops.know(BRIEF, Known::Unknown);
        stage.do_once(BRIEF, |key| client.delete(&url, key));
        stage.drops.know(BRIEF, Known::Gone(n));
    }
}

fn open(stage: &Stage, name: &str, n: usize, first: &mut Option<Value>) {
    stage.drops.know(name, Known::Unknown);
    let began = Instant::now();
    let mut subscriber = loop {
        assert!(began.elapsed() < PATIENCE, "{name} is not made");
        match Subscriber::open(stage.site.http, &many::FILTERS, &json!("earliest"), Some(name), 4) {
            Some(subscriber) => break subscriber,
            None => thread::park_timeout(Duration::from_millis(2)),
        }
    };
    stage.drops.know(name, Known::There(n));
    subscriber.set_patience(Duration::from_millis(500));
    let Some(message) = subscriber.message() else { return };
    let first = first.get_or_insert_with(|| message["position"].clone());
    // a consumer that is cut before it acks sees the first again, and one that acked nothing sees nothing else
    assert_eq!(message["position"], *first, "{name}, made for the {n}th time, goes on where the one before it was");
    if name == BRIEF {
        // it may be gone with the kill: nobody is told
        let _is_sent = subscriber.ack(&message);
    }
}

/// What was known before the ledger is read and is known behind it is what the ledger says.
pub(crate) fn assert_known(stage: &Stage) {
    let before = stage.drops.0.lock().expect("drops").clone();
    let ledger = stage.ledger();
    let after = stage.drops.0.lock().expect("drops").clone();
    for (name, known) in before.into_iter().filter(|(name, known)| after.get(name) == Some(known)) {
        let row = &ledger["subscriptions"][format!("ws:anonymous:{name}")];
        match known {
            Known::There(_) => assert!(row.is_object(), "{name} is gone: {ledger:#}"),
            Known::Gone(_) => assert!(row.is_null(), "{name} is there again: {ledger:#}"),
            Known::Unknown => {}
        }
    }
}
