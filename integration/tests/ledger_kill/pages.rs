//! Stored messages page by page, over every restart: what was told to be stored before a look began is in it, once, in order.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use integration::client::Client;
use serde_json::Value;

use crate::{PATIENCE, Stage, many};

/// Small ones, so that a kill comes between two.
const LIMIT: usize = 50;

/// How many looks came to an end, and how many kills came between two pages of one.
#[derive(Default)]
pub(crate) struct Pages {
    looks: AtomicU64,
    cuts: AtomicU64,
}

/// Looks again and again until it is over.
pub(crate) fn read(stage: &Stage) {
    let client = Client::new();
    while !stage.is_over() {
        look(stage, &client);
    }
}

/// At the end it is exactly what was told.
pub(crate) fn assert_paged(stage: &Stage) {
    let (found, told) = (look(stage, &Client::new()), stage.many.ids());
    assert_eq!(found, told, "what is found is what was stored");
    let [looks, cuts] = [&stage.pages.looks, &stage.pages.cuts].map(|count| count.load(Ordering::Relaxed));
    println!("{looks} looks at the stored messages, {cuts} of their pages after a kill");
    assert!(cuts > 0, "no kill came between two pages");
}

fn look(stage: &Stage, client: &Client) -> HashSet<String> {
    let (told, mut found) = (stage.many.ids(), HashSet::new());
    for filter in many::FILTERS {
        let (mut cursor, mut last) = (String::new(), String::new());
        loop {
            let page = page(stage, client, &filter.replace('#', "%23"), &cursor);
            for message in page["messages"].as_array().expect("messages") {
                let position = message["position"].as_str().expect("a position");
                assert!(*last < *position, "{position} came behind {last}");
                position.clone_into(&mut last);
                let id = message["envelope"]["id"].as_str().expect("an id");
                assert!(found.insert(id.to_owned()), "{id} is there twice");
            }
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
    }
    let missing: Vec<_> = told.difference(&found).collect();
    assert!(missing.is_empty(), "{} of {} are not found: {missing:?}", missing.len(), told.len());
    stage.pages.looks.fetch_add(1, Ordering::Relaxed);
    found
}

/// A page, asked for until somebody answers.
fn page(stage: &Stage, client: &Client, topic: &str, cursor: &str) -> Value {
    let behind = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
    let url = stage.site.admin_url(&format!("/messages?topic={topic}&limit={LIMIT}{behind}"));
    let (began, mut is_cut) = (Instant::now(), false);
    loop {
        assert!(began.elapsed() < PATIENCE, "no page behind {cursor:?}");
        let answer = client.get(&url);
        match answer.status {
            200 => {
                stage.pages.cuts.fetch_add((is_cut && !cursor.is_empty()).into(), Ordering::Relaxed);
                return answer.body;
            }
            0 | 503 => is_cut = true,
            other => panic!("{other}: {}", answer.text),
        }
        thread::park_timeout(Duration::from_millis(1));
    }
}
