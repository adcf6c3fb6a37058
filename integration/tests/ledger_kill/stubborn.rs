//! What a consumer never takes becomes a dead letter after so many deliveries, and an operator has it delivered again.
//!
//! Who was told that a message is stored sees it taken in the end, and what is bad only once its letter was replayed; the
//! ledger knows of no letter then, and of each message once.

use std::{
    collections::{HashMap, HashSet},
    fs,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use integration::{Subscriber, client::Client, eventually, gateway::binary};
use serde_json::{Value, json};

use crate::{PATIENCE, Stage, letters};

pub(crate) const MAPPINGS: &[(&str, &str)] = &[(
    "kill-stubborn",
    "from: { bridge: web, address: \"POST /stubborn/{key}\" }\n\
     envelope: { topic: \"stubborn/${address.key}\", data: { n: \"${payload.n}\" } }\nack: durable\n",
)];

/// Within the gateway.
const NAME: &str = "ws:anonymous:stubborn";

/// What the sender was told, the operator did and the consumer saw; messages by their number.
#[derive(Default)]
pub(crate) struct Stubborn {
    told: Mutex<HashMap<u64, Value>>,
    /// Those that the operator has delivered again, or is about to.
    replayed: Mutex<HashSet<u64>>,
    taken: Mutex<HashMap<u64, Value>>,
    /// There is no sender any more.
    sent: AtomicBool,
    /// The operator has seen the last of what is left to the command line.
    listed: AtomicBool,
}

/// Whether the consumer gives it back until it is replayed.
fn is_bad(n: u64) -> bool {
    n % 5 == 3
}

/// Whether its letter stays until the end, for the command line.
fn is_left(n: u64) -> bool {
    n % 15 == 8
}

// === impl Stubborn ===

impl Stubborn {
    /// There is no sender any more.
    pub(crate) fn end(&self) {
        self.sent.store(true, Ordering::SeqCst);
    }

    fn missing(&self, counts: impl Fn(u64) -> bool) -> Vec<u64> {
        let (told, taken) = (self.told.lock().expect("told"), self.taken.lock().expect("taken"));
        told.keys().copied().filter(|n| counts(*n) && !taken.contains_key(n)).collect()
    }

    fn is_taken(&self, counts: impl Fn(u64) -> bool) -> bool {
        self.sent.load(Ordering::SeqCst) && self.missing(counts).is_empty()
    }
}

pub(crate) fn send(stage: &Stage) {
    let client = Client::new();
    for n in 0.. {
        if stage.is_over() {
            return;
        }
        let key = format!("t{n}");
        let answer = stage.offer(&client, &format!("/stubborn/{n}"), &key, &json!({ "n": n }).to_string());
        assert_eq!(answer.status, 202, "{}", answer.text);
        stage.stubborn.told.lock().expect("told").insert(n, answer.body["position"].clone());
    }
}

/// Takes what is good at once, and of the rest only what was replayed; over every restart.
pub(crate) fn consume(stage: &Stage) {
    let began = Instant::now();
    while !stage.stubborn.is_taken(|_| true) {
        assert!(began.elapsed() < PATIENCE * 5, "not taken: {:?}", stage.stubborn.missing(|_| true));
        let opened = Subscriber::open(stage.site.http, &["stubborn/#"], &json!("earliest"), Some("stubborn"), 16);
        let Some(mut subscriber) = opened else {
            thread::park_timeout(Duration::from_millis(2));
            continue;
        };
        subscriber.set_patience(Duration::from_secs(1));
        if read(stage, &mut subscriber).is_some() {
            return;
        }
    }
}

/// Until all is taken, or the connection breaks (`None`).
fn read(stage: &Stage, subscriber: &mut Subscriber) -> Option<()> {
    let stubborn = &stage.stubborn;
    while !stubborn.is_taken(|_| true) {
        let message = subscriber.message()?;
        let n = message["envelope"]["data"]["n"].as_u64().expect("its number");
        if is_bad(n) && !stubborn.replayed.lock().expect("replayed").contains(&n) {
            let nack = json!({ "op": "nack", "sub": "s", "positions": [message["position"]] });
            subscriber.send(&nack)?;
            continue;
        }
        let before = stubborn.taken.lock().expect("taken").insert(n, message["position"].clone());
        if is_bad(n) || before.is_some() {
            assert_eq!(message["redelivered"], true, "{n} came again without the mark");
        }
        assert!(before.is_none_or(|before| before == message["position"]), "{n} is stored twice");
        subscriber.ack(&message)?;
    }
    subscriber.flush()
}

/// Replays each letter as it comes, until it is known that it is done; but for those that are left to the command line.
pub(crate) fn operate(stage: &Stage) {
    let (client, stubborn) = (Client::new(), &stage.stubborn);
    let (mut after, mut seen, began) = (0, HashSet::new(), Instant::now());
    let left = |n| is_bad(n) && is_left(n);
    while !(stubborn.is_taken(|n| !left(n))
        && stubborn.told.lock().expect("told").keys().all(|n| !left(*n) || seen.contains(n)))
    {
        assert!(began.elapsed() < PATIENCE * 5, "no letter of {:?}", stubborn.missing(|_| true));
        let Some(letters) = letters::behind(stage, &client, after).filter(|letters| !letters.is_empty()) else {
            thread::park_timeout(Duration::from_millis(5));
            continue;
        };
        for letter in letters {
            after = letter["id"].as_u64().expect("its number");
            if letter["subscription"] != NAME {
                continue;
            }
            assert_eq!(letter["kind"], "unavailable", "{letter}");
            let n = n_of(&letter);
            assert!(is_bad(n) && seen.insert(n), "a second letter of {n}: {letter}");
            if !is_left(n) {
                stubborn.replayed.lock().expect("replayed").insert(n);
                let url = stage.site.admin_url(&format!("/dead-letters/{after}/replay"));
                stage.do_once(&format!("letter {after}"), |key| client.post(&url, key, b""));
            }
        }
    }
    stubborn.listed.store(true, Ordering::SeqCst);
}

/// The gateway is killed no more: what is left is replayed by the command line, all at once.
pub(crate) fn replay_the_rest(stage: &Stage) {
    eventually("the operator has seen every letter", PATIENCE, || {
        stage.stubborn.listed.load(Ordering::SeqCst).then_some(())
    });
    let left: Vec<_> = letters::all(stage).into_iter().filter(|letter| letter["subscription"] == NAME).collect();
    let numbers: Vec<_> = left.iter().map(n_of).collect();
    assert!(!left.is_empty() && numbers.iter().all(|n| is_left(*n)), "{numbers:?}");
    stage.stubborn.replayed.lock().expect("replayed").extend(numbers);
    let key = stage.site.scratch("ada.key");
    fs::write(&key, stage.key.trim_start_matches("Bearer ")).expect("the key's file");
    let ids = left.iter().map(|letter| letter["id"].to_string());
    let output = Command::new(binary())
        .args(["deadletter", "replay", "--url", &stage.site.admin_url(""), "--key-file"])
        .arg(&key)
        .args(ids)
        .output()
        .expect("to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn assert_taken(stage: &Stage) {
    assert!(letters::of_subscription(stage, NAME).is_empty(), "a letter is left");
    let (told, taken) = (stage.stubborn.told.lock().expect("told"), stage.stubborn.taken.lock().expect("taken"));
    assert_eq!(*taken, *told, "what was taken is what was stored");
    let counts = eventually("its acks are counted", PATIENCE, || {
        let counts = stage.ledger()["subscriptions"][NAME].take();
        (counts["pending"] == 0).then_some(counts)
    });
    assert_eq!((&counts["matched"], &counts["delivered"]), (&json!(told.len()), &json!(told.len())), "{counts}");
    assert_eq!(counts["dead_lettered"], json!({}), "{counts}");
    let bad = told.keys().filter(|n| is_bad(**n)).count();
    println!("{} messages for a stubborn consumer, {bad} letters replayed", told.len());
    assert!(bad > 10, "{bad} letters");
}

fn n_of(letter: &Value) -> u64 {
    letter["topic"].as_str().and_then(|topic| topic.rsplit('/').next()?.parse().ok()).expect("the number in its topic")
}
