//! Last values: what was acked last is what is read.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use integration::client::Client;

use crate::Stage;

pub(crate) const MAPPINGS: &[(&str, &str)] = &[(
    "kill-state",
    "from: { bridge: web, address: \"POST /state/{key}\" }\n\
     envelope: { topic: \"state/${address.key}\", data: { n: \"${payload.n}\" } }\nack: durable\nkeep: last\n",
)];

/// What each of the writers was acked last, from 1.
#[derive(Default)]
pub(crate) struct States([AtomicU64; 2]);

/// Each topic has one writer, so nobody can come between what it was acked and what it reads.
pub(crate) fn send(stage: &Stage, writer: usize) {
    let client = Client::new();
    for n in 1.. {
        if stage.is_over() {
            return;
        }
        let answer =
            stage.offer(&client, &format!("/state/{writer}"), &format!("s{writer}-{n}"), &format!("{{\"n\":{n}}}"));
        assert_eq!(answer.status, 202, "{}", answer.text);
        stage.states.0[writer].store(n, Ordering::SeqCst);
        read(stage, &client, writer);
    }
}

pub(crate) fn assert_last(stage: &Stage) {
    (0..2).for_each(|writer| read(stage, &Client::new(), writer));
}

fn read(stage: &Stage, client: &Client, writer: usize) {
    let (told, url) =
        (stage.states.0[writer].load(Ordering::SeqCst), stage.site.url(&format!("/mesh/v1/last/state/{writer}")));
    loop {
        let answer = client.get(&url);
        match answer.status {
            0 | 503 => thread::park_timeout(Duration::from_millis(1)),
            _ => return assert_eq!(answer.body["data"]["n"], told, "{}", answer.text),
        }
    }
}
