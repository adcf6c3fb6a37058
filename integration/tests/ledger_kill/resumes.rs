//! A subscription over WebSocket without a name: whoever comes back with the position of the last message goes on behind it.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use integration::Subscriber;
use serde_json::{Value, json};

use crate::{PATIENCE, Stage, many};

/// Reads over every restart, and sees each once, in the order of the store.
pub(crate) fn read(stage: &Stage) {
    let (mut start, mut seen) = (json!("earliest"), HashSet::new());
    let began = Instant::now();
    while !stage.many.is_read(&seen) {
        assert!(began.elapsed() < PATIENCE, "{} were read", seen.len());
        let Some(mut subscriber) = Subscriber::open(stage.site.http, &many::FILTERS, &start, None, 64) else {
            thread::park_timeout(Duration::from_millis(2));
            continue;
        };
        subscriber.set_patience(Duration::from_millis(500));
        while let Some(message) = subscriber.message() {
            assert_eq!(message["redelivered"], false, "{message}");
            let position = message["position"].as_str().expect("a position");
            assert!(start["after"].as_str().is_none_or(|last| last < position), "{position} came behind {start}");
            let id = message["envelope"]["id"].as_str().expect("an id");
            assert!(seen.insert(id.to_owned()), "{id} came twice");
            start = json!({ "after": position });
            if subscriber.ack(&message).is_none() {
                break;
            }
        }
    }
    println!("{} messages read by position", seen.len());
    assert_ne!(start, Value::from("earliest"));
}
