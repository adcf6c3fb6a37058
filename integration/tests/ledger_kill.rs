//! The gateway is killed with SIGKILL at random points under load, 50 times, and started again on the same data.
//!
//! No receipt is given and then lost, every equation of the ledger holds at every start and at the end, and the durable
//! consumer sees every accepted message at least once, again only where it is marked as redelivery.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use integration::{Gateway, Site, Subscriber, client::Client, eventually};
use serde_json::{Value, json};

const KILLS: usize = 50;
const SENDERS: usize = 8;

/// What the senders were told, and what the consumer saw.
#[derive(Default)]
struct Record {
    /// Envelope id to (idempotency key, position) of each receipt.
    receipts: Mutex<HashMap<String, (String, Value)>>,
    /// Envelope id to position of each delivery.
    seen: Mutex<HashMap<String, Value>>,
    refused: AtomicU64,
    repeats: AtomicU64,
    /// The senders are to end.
    stop: AtomicBool,
    /// They have: there is no receipt any more that is not in `receipts`.
    sent: AtomicBool,
}

#[test]
fn killed_fifty_times_under_load_nothing_acked_is_lost_and_the_ledger_balances() {
    let site = Arc::new(Site::shipped());
    site.write(
        "mappings/kill-drop.yaml",
        "mapping: kill-drop\nfrom: { bridge: web, address: \"POST /noise\" }\ndrop: true\n",
    );
    site.write(
        "mappings/kill-order.yaml",
        "mapping: kill-order\nfrom: { bridge: web, address: \"POST /orders/{key}\" }\n\
         envelope: { topic: \"orders/${address.key}\", data: { n: \"${payload.n}\" } }\nack: durable\n",
    );
    let record = Arc::new(Record::default());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let senders: Vec<_> = (0..SENDERS).map(|n| spawn(&site, &record, n, send)).collect();
    let consumer = spawn(&site, &record, 0, consume);

    for round in 0..KILLS {
        let gateway = Gateway::start(&site);
        assert_balanced(&site, round);
        let until = Instant::now() + Duration::from_millis(random.u64(5..250));
        eventually("it is time to kill", Duration::from_secs(1), || (Instant::now() >= until).then_some(()));
        gateway.kill();
    }

    let gateway = Gateway::start(&site);
    record.stop.store(true, Ordering::SeqCst);
    for sender in senders {
        sender.join().expect("a sender's end");
    }
    record.sent.store(true, Ordering::SeqCst);
    let receipts = record.receipts.lock().expect("receipts").clone();
    assert_all_come(&site, &record, &receipts);
    consumer.join().expect("the consumer's end");
    assert_settled(&site, &record, &receipts);
    drop(gateway);
}

fn spawn(site: &Arc<Site>, record: &Arc<Record>, n: usize, run: fn(&Site, &Record, usize)) -> thread::JoinHandle<()> {
    let (site, record) = (site.clone(), record.clone());
    thread::spawn(move || run(&site, &record, n))
}

/// Sends orders with a key until each has an answer, as a client that retries would, among noise of every other outcome.
fn send(site: &Site, record: &Record, sender: usize) {
    let client = Client::new();
    for n in 0.. {
        if record.stop.load(Ordering::SeqCst) {
            return;
        }
        let key = format!("{sender}-{n}");
        let (url, body) = (site.url(&format!("/orders/{key}")), json!({"n": n}).to_string());
        loop {
            let answer = client.post(&url, &[("idempotency-key", &key)], body.as_bytes());
            match answer.status {
                202 => {
                    let id = answer.body["id"].as_str().expect("an id").to_owned();
                    let told = (key.clone(), answer.body["position"].clone());
                    let before = record.receipts.lock().expect("receipts").insert(id, told.clone());
                    assert!(before.is_none_or(|before| before == told), "one id, two messages");
                    break;
                }
                0 | 503 => thread::park_timeout(Duration::from_millis(1)),
                other => panic!("{other}: {}", answer.text),
            }
        }
        let (path, body, expected) = match n % 8 {
            0 => ("/noise", "{}", 202),
            1 => ("/orders/x", "{\"n\":", 422),
            2 => ("/nowhere", "{}", 404),
            _ => continue,
        };
        let answer = client.post(&site.url(path), &[], body.as_bytes());
        assert!([0, 503, expected].contains(&answer.status), "{path}: {}", answer.text);
        record.refused.fetch_add(u64::from(answer.status > 400), Ordering::Relaxed);
    }
}

/// Reads with a durable name, acks most messages at once and forgets some, over every restart.
fn consume(site: &Site, record: &Record, _: usize) {
    let mut random = fastrand::Rng::new();
    loop {
        let opened = Subscriber::open(site.http, &["orders/#"], &json!("earliest"), Some("kill"), 64);
        let Some(mut subscriber) = opened else {
            if record.sent.load(Ordering::SeqCst) && all_seen(record) {
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
            if record.sent.load(Ordering::SeqCst) && all_seen(record) {
                for message in &unacked {
                    subscriber.ack(message).expect("the last acks");
                }
                // the gateway answers frames in order: once this one is refused the acks before it are settled
                subscriber.send(&json!({"op": "nonsense"})).expect("the last frame");
                while subscriber.frame().is_some_and(|frame| frame["op"] != "error") {}
                return;
            }
        }
    }
}

fn note(record: &Record, message: &Value) {
    let id = message["envelope"]["id"].as_str().expect("an id").to_owned();
    let before = record.seen.lock().expect("seen").insert(id.clone(), message["position"].clone());
    if let Some(before) = before {
        assert_eq!(before, message["position"], "{id} is stored twice");
        assert_eq!(message["redelivered"], true, "{id} came again without the mark");
        record.repeats.fetch_add(1, Ordering::Relaxed);
    }
}

fn all_seen(record: &Record) -> bool {
    let receipts = record.receipts.lock().expect("receipts");
    let seen = record.seen.lock().expect("seen");
    receipts.keys().all(|id| seen.contains_key(id))
}

/// However slow the disk is: the consumer goes on to see what it has not.
fn assert_all_come(site: &Site, record: &Record, receipts: &HashMap<String, (String, Value)>) {
    let missing = || -> HashMap<_, _> {
        let seen = record.seen.lock().expect("seen");
        receipts.iter().filter(|(id, _)| !seen.contains_key(*id)).collect()
    };
    let (mut left, mut since) = (missing(), Instant::now());
    while !left.is_empty() {
        assert!(since.elapsed() < Duration::from_secs(20), "receipts not seen: {left:?} {:#}", ledger(site));
        thread::park_timeout(Duration::from_millis(5));
        let now = missing();
        if now.len() < left.len() {
            (left, since) = (now, Instant::now());
        }
    }
}

fn ledger(site: &Site) -> Value {
    integration::client::get(&site.admin_url("/ledger")).body
}

fn assert_balanced(site: &Site, round: usize) {
    let ledger = ledger(site);
    assert_eq!(ledger["balanced"], true, "after {round} kills: {ledger:#}");
}

fn assert_settled(site: &Site, record: &Record, receipts: &HashMap<String, (String, Value)>) {
    let positions: HashSet<_> = receipts.values().map(|(_, position)| position.to_string()).collect();
    assert_eq!(positions.len(), receipts.len(), "every receipt has a position of its own");
    for (id, position) in record.seen.lock().expect("seen").iter() {
        if let Some((key, told)) = receipts.get(id) {
            assert_eq!(told, position, "{key} was told another position");
        }
    }
    // What a kill cut off has an outcome too: it is interrupted, and not in flight for ever.
    let ledger = eventually("nothing is in flight", Duration::from_secs(10), || {
        let ledger = ledger(site);
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
