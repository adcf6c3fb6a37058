//! Orders, and a durable consumer of them.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use integration::{Subscriber, client::Client, eventually};
use serde_json::{Value, json};

use crate::{KILLS, SENDERS, Stage};

pub(crate) const MAPPINGS: &[(&str, &str)] = &[
    ("kill-drop", "from: { bridge: web, address: \"POST /noise\" }\ndrop: true\n"),
    (
        "kill-order",
        "from: { bridge: web, address: \"POST /orders/{key}\" }\n\
         envelope: { topic: \"orders/${address.key}\", data: { n: \"${payload.n}\" } }\nack: durable\n",
    ),
];

/// How long the consumer may see nothing new while there is something.
const STALLED: Duration = Duration::from_secs(30);

/// What the senders were told, and what the consumer saw.
#[derive(Default)]
pub(crate) struct Orders {
    /// Envelope id to (idempotency key, position) of each receipt.
    pub(crate) receipts: Mutex<HashMap<String, (String, Value)>>,
    /// Envelope id to position of each delivery.
    seen: Mutex<HashMap<String, Value>>,
    refused: AtomicU64,
    repeats: AtomicU64,
    /// The senders have ended: there is no receipt any more that is not in `receipts`.
    sent: AtomicBool,
}

// === impl Orders ===

impl Orders {
    /// There is no sender any more.
    pub(crate) fn end(&self) {
        self.sent.store(true, Ordering::SeqCst);
    }

    fn is_complete(&self) -> bool {
        self.sent.load(Ordering::SeqCst) && self.missing().is_empty()
    }

    /// Those that were told to be stored and did not come.
    fn missing(&self) -> Vec<(String, Value)> {
        let (receipts, seen) = (self.receipts.lock().expect("receipts"), self.seen.lock().expect("seen"));
        receipts.iter().filter(|(id, _)| !seen.contains_key(*id)).map(|(_, told)| told.clone()).collect()
    }
}

/// Sends orders with a key until each has an answer, as a client that retries would, among noise of every other outcome.
pub(crate) fn send(stage: &Stage, sender: usize) {
    let client = Client::new();
    for n in 0.. {
        if stage.is_over() {
            return;
        }
        let key = format!("{sender}-{n}");
        let answer = stage.offer(&client, &format!("/orders/{key}"), &key, &json!({ "n": n }).to_string());
        assert_eq!(answer.status, 202, "{}", answer.text);
        let id = answer.body["id"].as_str().expect("an id").to_owned();
        let told = (key, answer.body["position"].clone());
        let before = stage.orders.receipts.lock().expect("receipts").insert(id, told.clone());
        assert!(before.is_none_or(|before| before == told), "one id, two messages");
        let (path, body, expected) = match n % 8 {
            0 => ("/noise", "{}", 202),
            1 => ("/orders/x", "{\"n\":", 422),
            2 => ("/nowhere", "{}", 404),
            _ => continue,
        };
        let answer = client.post(&stage.site.url(path), &[], body.as_bytes());
        assert!([0, 503, expected].contains(&answer.status), "{path}: {}", answer.text);
        stage.orders.refused.fetch_add(u64::from(answer.status > 400), Ordering::Relaxed);
    }
}

/// Reads with a durable name, acks most messages at once and forgets some, over every restart.
pub(crate) fn consume(stage: &Stage) {
    let record = &stage.orders;
    let mut random = fastrand::Rng::new();
    loop {
        let opened = Subscriber::open(stage.site.http, &["orders/#"], &json!("earliest"), Some("kill"), 64);
        let Some(mut subscriber) = opened else {
            if record.is_complete() {
                return;
            }
            thread::park_timeout(Duration::from_millis(2));
            continue;
        };
        let mut unacked = Vec::new();
        while let Some(message) = subscriber.message() {
            note(record, &message);
            if random.u8(..) < 16 && unacked.len() < 32 {
                unacked.push(message);
            } else if subscriber.ack(&message).is_none() {
                break;
            }
            if record.is_complete() {
                for message in &unacked {
                    subscriber.ack(message).expect("the last acks");
                }
                subscriber.flush().expect("the last acks are taken");
                return;
            }
        }
        // it saw everything before it was known to be all, and has acked it: nothing will come any more
        if unacked.is_empty() && record.is_complete() {
            return;
        }
    }
}

fn note(record: &Orders, message: &Value) {
    let id = message["envelope"]["id"].as_str().expect("an id").to_owned();
    let before = record.seen.lock().expect("seen").insert(id.clone(), message["position"].clone());
    if let Some(before) = before {
        assert_eq!(before, message["position"], "{id} is stored twice");
        assert_eq!(message["redelivered"], true, "{id} came again without the mark");
        record.repeats.fetch_add(1, Ordering::Relaxed);
    }
}

/// However slow the disk is: the consumer goes on to see what it has not.
pub(crate) fn assert_all_come(stage: &Stage) {
    let (mut left, mut since) = (stage.orders.missing(), Instant::now());
    while !left.is_empty() {
        assert!(since.elapsed() < STALLED, "receipts not seen: {left:?} {:#}", stage.ledger());
        thread::park_timeout(Duration::from_millis(5));
        let now = stage.orders.missing();
        if now.len() < left.len() {
            (left, since) = (now, Instant::now());
        }
    }
}

pub(crate) fn assert_settled(stage: &Stage) {
    let record = &stage.orders;
    let receipts = record.receipts.lock().expect("receipts");
    let positions: HashSet<_> = receipts.values().map(|(_, position)| position.to_string()).collect();
    assert_eq!(positions.len(), receipts.len(), "every receipt has a position of its own");
    for (id, position) in record.seen.lock().expect("seen").iter() {
        if let Some((key, told)) = receipts.get(id) {
            assert_eq!(told, position, "{key} was told another position");
        }
    }
    // What a kill cut off has an outcome too: it is interrupted, and not in flight for ever.
    let ledger = eventually("nothing is in flight", Duration::from_secs(10), || {
        let ledger = stage.ledger();
        (ledger["bridges"]["web"]["in_flight"] == 0).then_some(ledger)
    });
    assert_eq!(ledger["balanced"], true, "at the end: {ledger:#}");
    let route = &ledger["bridges"]["web"]["routes"]["kill-order"];
    assert_eq!(route["accepted"], route["stored"], "one envelope a message: {ledger:#}");
    assert!(route["accepted"].as_u64() >= Some(receipts.len() as u64), "every receipt is counted: {ledger:#}");
    let subscriptions = ledger["subscriptions"].as_object().expect("subscriptions");
    let (_, consumer) = subscriptions.iter().find(|(name, _)| name.ends_with("kill")).expect("the durable name");
    let unsettled = consumer["pending"].as_u64().expect("a count");
    assert_eq!(consumer["matched"], consumer["delivered"].as_u64().expect("a count") + unsettled, "{ledger:#}");
    let seen = record.seen.lock().expect("seen").len();
    println!(
        "{} receipts, {seen} seen, {} repeats, {} refusals",
        receipts.len(),
        record.repeats.load(Ordering::Relaxed),
        record.refused.load(Ordering::Relaxed)
    );
    assert!(receipts.len() > KILLS * SENDERS, "the load was one");
    println!("{ledger:#}");
}
