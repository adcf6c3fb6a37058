//! Many messages at once: events in batches, arrays of which each item becomes an envelope, and frames of a WebSocket.
//!
//! Each envelope has a name. Who was told that a message is stored told of all that it becomes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use integration::{Subscriber, client::Client};
use serde_json::{Value, json};

use crate::Stage;

/// Where they come out again, with those that the shipped mapping of CloudEvents takes.
pub(crate) const FILTERS: [&str; 2] = ["many/#", "events/#"];

pub(crate) const MAPPINGS: &[(&str, &str)] = &[
    (
        "kill-array",
        "from: { bridge: web, address: \"POST /arrays/{key}\" }\neach: payload.items\n\
         envelope: { topic: many/arrays, data: { name: \"${item}\" } }\nack: durable\n",
    ),
    (
        "kill-frame",
        "from: { bridge: web, address: \"POST /frames/{key}\" }\n\
         envelope: { topic: many/frames, data: { name: \"${payload.name}\" } }\nack: durable\n",
    ),
];

/// How many publishes of a WebSocket wait for their receipts.
const WINDOW: usize = 4;

/// What the senders were told.
#[derive(Default)]
pub(crate) struct Many {
    /// Envelope id to name of all that is stored.
    told: Mutex<HashMap<String, String>>,
    /// Ids that a consumer has seen, and what it has given back since.
    settled: Mutex<HashSet<String>>,
    /// Id and name of each event of the stream, in order.
    streamed: Mutex<Vec<(String, String)>>,
    /// The senders have ended.
    sent: AtomicBool,
}

// === impl Many ===

impl Many {
    /// There is no sender any more.
    pub(crate) fn end(&self) {
        self.sent.store(true, Ordering::SeqCst);
    }

    /// A consumer is done with this one.
    pub(crate) fn settle(&self, id: String) {
        self.settled.lock().expect("settled").insert(id);
    }

    /// All that was stored has a consumer that is done with it.
    pub(crate) fn is_settled(&self) -> bool {
        let is_sent = self.sent.load(Ordering::SeqCst);
        let (told, settled) = (self.told.lock().expect("told"), self.settled.lock().expect("settled"));
        is_sent && told.keys().all(|id| settled.contains(id))
    }

    /// The stream has shown this one.
    pub(crate) fn show(&self, id: &str, name: &str) {
        self.streamed.lock().expect("streamed").push((id.to_owned(), name.to_owned()));
    }

    /// The stream has shown as many as were stored.
    pub(crate) fn is_streamed(&self) -> bool {
        let is_sent = self.sent.load(Ordering::SeqCst);
        is_sent && self.streamed.lock().expect("streamed").len() >= self.told.lock().expect("told").len()
    }

    /// All that was stored is among these.
    pub(crate) fn is_read(&self, ids: &HashSet<String>) -> bool {
        let is_sent = self.sent.load(Ordering::SeqCst);
        is_sent && self.told.lock().expect("told").keys().all(|id| ids.contains(id))
    }

    /// Those that were told to be stored and that the stream has not shown.
    pub(crate) fn unstreamed(&self) -> Vec<String> {
        let streamed: HashSet<_> = self.streamed.lock().expect("streamed").iter().map(|(id, _)| id.clone()).collect();
        let told = self.told.lock().expect("told");
        told.iter().filter(|(id, _)| !streamed.contains(*id)).map(|(_, name)| name.clone()).collect()
    }

    /// Of all that was stored.
    pub(crate) fn ids(&self) -> HashSet<String> {
        self.told.lock().expect("told").keys().cloned().collect()
    }

    /// Somebody was told that this is stored.
    pub(crate) fn tell(&self, id: String, name: String) {
        let before = self.told.lock().expect("told").insert(id, name.clone());
        assert!(before.is_none_or(|before| before == name), "one id, two messages: {name}");
    }
}

/// Sends batches, in most of which an event is none: that takes nothing from the others.
pub(crate) fn send_batches(stage: &Stage) {
    let client = Client::new();
    for n in 0.. {
        if stage.is_over() {
            return;
        }
        let name = |item: usize| format!("b{n}-{item}");
        let is_none = |item: usize| item == n % 7;
        let event = |item: usize| match is_none(item) {
            true => json!({ "specversion": "1.0", "id": name(item), "source": "/kill" }),
            false => json!({ "specversion": "1.0", "id": name(item), "source": "/kill", "type": "batch",
                "data": { "name": name(item) } }),
        };
        let batch: Vec<_> = (0..1 + n % 6).map(event).collect();
        let verdicts = offer_batch(stage, &client, &Value::from(batch.clone()).to_string());
        assert_eq!(verdicts.len(), batch.len(), "{verdicts:?}");
        for (item, verdict) in verdicts.into_iter().enumerate() {
            assert_eq!(verdict["status"], if is_none(item) { 422 } else { 202 }, "{verdict}");
            if !is_none(item) {
                stage.many.tell(verdict["id"].as_str().expect("an id").to_owned(), name(item));
            }
        }
    }
}

/// Sends a batch until each of its verdicts is final.
fn offer_batch(stage: &Stage, client: &Client, body: &str) -> Vec<Value> {
    loop {
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let mut answer = client.post(&stage.site.url("/events"), &headers, body.as_bytes());
        match (answer.status, answer.body.take()) {
            (0 | 503, _) => thread::park_timeout(Duration::from_millis(1)),
            (_, Value::Array(verdicts)) => return verdicts,
            _ => panic!("{}: {}", answer.status, answer.text),
        }
    }
}

/// Sends arrays of 0 to 4 items: all of them are stored, or none.
pub(crate) fn send_arrays(stage: &Stage) {
    let client = Client::new();
    for n in 0.. {
        if stage.is_over() {
            return;
        }
        let key = format!("a{n}");
        let names: Vec<_> = (0..n % 5).map(|item| format!("{key}-{item}")).collect();
        let answer = stage.offer(&client, &format!("/arrays/{key}"), &key, &json!({ "items": names }).to_string());
        assert_eq!(answer.status, 202, "{}", answer.text);
        if names.is_empty() {
            assert_eq!(answer.body["filtered"], true, "{}", answer.text);
            continue;
        }
        let id = answer.body["id"].as_str().and_then(|id| id.split('.').next()).expect("an id");
        for (item, name) in names.into_iter().enumerate() {
            stage.many.tell(format!("{id}.{item}"), name);
        }
    }
}

/// Publishes by WebSocket, a few ahead of the receipts; what has none when the connection breaks is sent again, in order.
pub(crate) fn send_frames(stage: &Stage, sender: usize) {
    let (mut next, mut waiting, mut last) = (0, VecDeque::new(), String::new());
    while !(stage.is_over() && waiting.is_empty()) {
        let Some(mut socket) = Subscriber::connect(stage.site.http) else {
            thread::park_timeout(Duration::from_millis(2));
            continue;
        };
        let mut is_open = waiting.iter().all(|n| publish(&mut socket, sender, *n).is_some());
        while is_open && !(stage.is_over() && waiting.is_empty()) {
            while is_open && waiting.len() < WINDOW && !stage.is_over() {
                is_open = publish(&mut socket, sender, next).is_some();
                waiting.push_back(next);
                next += 1;
            }
            let Some(receipt) = socket.frame() else { break };
            assert_eq!(receipt["op"], "receipt", "{receipt}");
            let n = waiting.pop_front().expect("a publish without a receipt");
            let name = format!("f{sender}-{n}");
            assert_eq!(receipt["ref"], name, "receipts come in order");
            let position = receipt["position"].as_str().expect("a position").to_owned();
            assert!(last < position, "{name} is stored at {position}, before {last}");
            last = position;
            stage.many.tell(receipt["id"].as_str().expect("an id").to_owned(), name);
        }
    }
}

fn publish(socket: &mut Subscriber, sender: usize, n: usize) -> Option<()> {
    let name = format!("f{sender}-{n}");
    let address = format!("POST /frames/{sender}");
    socket.send(&json!({ "op": "publish", "ref": name, "key": name, "address": address, "payload": { "name": name } }))
}

/// The stream had exactly what was stored, each once; so has the ledger, by mapping and for who gave some back.
pub(crate) fn assert_counted(stage: &Stage) {
    let (told, streamed) = (stage.many.told.lock().expect("told"), stage.many.streamed.lock().expect("streamed"));
    let shown: HashMap<_, _> = streamed.iter().cloned().collect();
    assert_eq!(shown.len(), streamed.len(), "some came twice");
    assert_eq!(shown, *told, "what was streamed is what was stored");
    for sender in ["f0-", "f1-", "r0-"] {
        let order: Vec<usize> =
            streamed.iter().filter_map(|(_, name)| name.strip_prefix(sender)?.parse().ok()).collect();
        assert!(order.iter().copied().eq(0..order.len()), "{sender} came as {order:?}");
    }
    let ledger = stage.ledger();
    for (first, route) in [('a', "kill-array"), ('b', "cloudevents-in"), ('f', "kill-frame"), ('r', "kill-raw")] {
        let count = told.values().filter(|name| name.starts_with(first)).count();
        assert_eq!(ledger["bridges"]["web"]["routes"][route]["stored"], count, "{route}: {ledger:#}");
        assert!(count > crate::KILLS, "{route} took {count}");
        println!("{count} envelopes of {route}");
    }
    let subscriptions = ledger["subscriptions"].as_object().expect("subscriptions");
    let (_, consumer) = subscriptions.iter().find(|(name, _)| name.ends_with("nacks")).expect("the durable name");
    assert_eq!((&consumer["matched"], &consumer["pending"]), (&json!(told.len()), &json!(0)), "{consumer}");
    assert_eq!(consumer["delivered"], told.len(), "{consumer}");
}
