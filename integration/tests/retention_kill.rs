//! Retention while the gateway is killed with SIGKILL under load: by number, by bytes and by age.
//!
//! What is there is the end of what was stored, whole and each once; nothing comes back once it went, and nothing goes before
//! its time. What a consumer had not settled is counted as lapsed to the last one, a last value stays, who comes back to what
//! is gone is told of the gap, and a sender that retries hears what it heard before. Number and bytes take about ten seconds
//! each; age, which is at least a minute, about eighty, and two minutes at most.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use integration::{Events, Gateway, Site, Subscriber, client, client::Client, eventually, gateway::binary};
use serde_json::{Value, json};

const SENDERS: usize = 4;
/// How many of its first ones the lazy consumer takes before it leaves.
const TAKEN: usize = 5;
const PATIENCE: Duration = Duration::from_secs(30);
const AGE: Duration = Duration::from_secs(60);

const MAPPINGS: [(&str, &str); 2] = [
    (
        "order",
        "from: { bridge: web, address: \"POST /orders/{key}\" }\n\
         envelope: { topic: \"orders/${address.key}\", data: { key: \"${address.key}\", filling: \"${payload.filling}\" } }\n\
         ack: durable\n",
    ),
    (
        "state",
        "from: { bridge: web, address: \"POST /state/{key}\" }\n\
         envelope: { topic: \"state/${address.key}\" }\nack: durable\nkeep: last\n",
    ),
];

/// What senders were told of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    key: String,
    id: String,
    /// When it was sent at the earliest.
    at: Instant,
}

struct Stage {
    site: Site,
    /// By position.
    told: Mutex<BTreeMap<String, Told>>,
    /// Positions that the quick consumer saw.
    seen: Mutex<BTreeMap<String, String>>,
    is_over: AtomicBool,
    is_read: AtomicBool,
    /// How long a sender waits between two messages; where it does, they go by age.
    pause: Duration,
}

#[test]
fn killed_while_the_oldest_go_by_number_the_rest_is_whole_and_what_lapsed_is_counted() {
    let most = 300;
    let stage = killed("records: 300", 25, 50..400, Duration::ZERO, |store| {
        let records = store["last_sequence"].as_u64().unwrap() + 1 - store["first_sequence"].as_u64().unwrap();
        // a group of the senders may be there before what it pushes out
        assert!(records <= most + SENDERS as u64 + 2, "{records} records: {store}");
    });
    assert!(stage.told.lock().unwrap().len() > 600, "too few to lose some");
}

#[test]
fn killed_while_the_oldest_go_by_bytes_the_rest_is_whole_and_what_lapsed_is_counted() {
    let most = 1 << 20;
    let stage = killed("bytes: 1MiB", 25, 50..400, Duration::ZERO, |store| {
        let bytes = store["bytes"].as_u64().unwrap();
        assert!(bytes <= most + 16 * SENDERS as u64 * 1_024, "{bytes} bytes: {store}");
    });
    assert!(stage.told.lock().unwrap().len() > 600, "too few to lose some");
}

#[test]
fn killed_while_the_oldest_go_by_age_none_goes_before_its_time_and_the_rest_is_whole() {
    let stage = killed("age: 60s", 8, 3_000..9_000, Duration::from_millis(50), |_| {});
    assert!(stage.told.lock().unwrap().len() > 600, "too few to lose some");
}

/// Kills a gateway with this retention so many times, each after so many milliseconds, and checks what is there at the end.
fn killed(
    retention: &str,
    kills: usize,
    within: std::ops::Range<u64>,
    pause: Duration,
    is_bounded: impl Fn(&Value),
) -> Arc<Stage> {
    let stage = Arc::new(Stage::new(retention, pause));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let gateway = Gateway::start(&stage.site);
    stage.begin();
    gateway.kill();
    let senders: Vec<_> = (0..SENDERS).map(|n| stage.run(move |stage| stage.send(n))).collect();
    let reader = stage.run(Stage::read);
    let mut first = 0;
    for round in 0..kills {
        let gateway = Gateway::start(&stage.site);
        let until = Instant::now() + Duration::from_millis(random.u64(within.clone()));
        loop {
            let ledger = client::get(&stage.site.admin_url("/ledger")).body;
            assert_eq!(ledger["balanced"], true, "after {round} kills: {ledger:#}");
            let now = ledger["store"]["first_sequence"].as_u64().expect("a sequence");
            assert!(now >= first, "what was before {first} came back: {ledger:#}");
            first = now;
            is_bounded(&ledger["store"]);
            if Instant::now() >= until {
                break;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        gateway.kill();
    }
    let gateway = Gateway::start(&stage.site);
    eventually("more went than the lazy consumer took", AGE * 2, || {
        let first = &client::get(&stage.site.admin_url("/ledger")).body["store"]["first_sequence"];
        (first.as_u64() > Some(TAKEN as u64 + 2)).then_some(())
    });
    stage.is_over.store(true, Ordering::SeqCst);
    senders.into_iter().for_each(|sender| sender.join().expect("a sender's end"));
    stage.is_read.store(true, Ordering::SeqCst);
    reader.join().expect("the reader's end");
    stage.assert_whole();
    gateway.kill();
    let config = stage.site.config().join("gateway.yaml");
    let said = Command::new(binary()).args(["store", "check", "--config"]).arg(config).output().expect("to run");
    let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    assert!(said.ends_with("are in order"), "{said}");
    stage
}

// === impl Stage ===

impl Stage {
    fn new(retention: &str, pause: Duration) -> Self {
        let site = Site::shipped();
        let text = format!(
            "domain: plant-a\njurisdictions: [eu]\nbackbone: {{ embedded: {{ path: {}, retention: {{ {retention} }} }} }}\n\
             admin: {{ listen: {} }}\nbridges:\n  web: {{ http: {{ listen: '{}' }} }}\nmappings: mappings/\npolicy: policy.yaml\n",
            site.data().display(),
            site.admin,
            site.http
        );
        site.write("gateway.yaml", &text);
        for (name, mapping) in MAPPINGS {
            site.write(&format!("mappings/{name}.yaml"), &format!("mapping: {name}\n{mapping}"));
        }
        let (told, seen) = (Mutex::default(), Mutex::default());
        Self { site, told, seen, is_over: AtomicBool::new(false), is_read: AtomicBool::new(false), pause }
    }

    fn run(self: &Arc<Self>, part: impl FnOnce(&Self) + Send + 'static) -> thread::JoinHandle<()> {
        let stage = self.clone();
        thread::spawn(move || part(&stage))
    }

    /// A last value whose record will go, and a consumer that takes the first few and leaves.
    fn begin(&self) {
        let client = Client::new();
        assert_eq!(client.post(&self.site.url("/state/0"), &[], br#"{"n":7}"#).status, 202);
        let mut lazy = Subscriber::open(self.site.http, &["orders/#"], &json!("earliest"), Some("lazy"), 64).unwrap();
        for n in 0..TAKEN {
            self.offer(&client, format!("first-{n}"));
            let message = lazy.message().expect("the first ones");
            lazy.ack(&message).expect("it is there");
        }
        lazy.flush().expect("it is there");
    }

    fn send(&self, sender: usize) {
        let client = Client::new();
        for n in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            self.offer(&client, format!("{sender}-{n}"));
            if !self.pause.is_zero() {
                thread::park_timeout(self.pause);
            }
        }
    }

    /// Sends it until it is stored, as a client that retries would.
    fn offer(&self, client: &Client, key: String) {
        let at = Instant::now();
        let answer = self.ask(client, &key);
        let [id, position] = ["id", "position"].map(|name| answer[name].as_str().expect("a text").to_owned());
        let before = self.told.lock().unwrap().insert(position, Told { key, id, at });
        assert_eq!(before, None, "two messages at one position");
    }

    fn ask(&self, client: &Client, key: &str) -> Value {
        let (url, body) =
            (self.site.url(&format!("/orders/{key}")), json!({ "filling": "x".repeat(4_000) }).to_string());
        loop {
            let answer = client.post(&url, &[("idempotency-key", key)], body.as_bytes());
            match answer.status {
                202 => return answer.body,
                0 | 503 => thread::park_timeout(Duration::from_millis(1)),
                other => panic!("{other}: {}", answer.text),
            }
        }
    }

    /// The quick consumer: acks all that it sees.
    fn read(&self) {
        let mut began = Instant::now();
        loop {
            let opened = Subscriber::open(self.site.http, &["orders/#"], &json!("earliest"), Some("quick"), 64);
            let Some(mut subscriber) = opened else {
                assert!(began.elapsed() < PATIENCE, "the gateway is away");
                thread::park_timeout(Duration::from_millis(2));
                continue;
            };
            subscriber.set_patience(Duration::from_millis(500));
            while let Some(message) = subscriber.message() {
                let position = message["position"].as_str().expect("a position").to_owned();
                let id = message["envelope"]["id"].as_str().expect("an id").to_owned();
                if let Some(before) = self.seen.lock().unwrap().insert(position, id.clone()) {
                    assert_eq!((before, &message["redelivered"]), (id, &json!(true)), "{message}");
                }
                if subscriber.ack(&message).is_none() {
                    break;
                }
            }
            began = Instant::now();
            // nothing came for a while, and nothing will
            if self.is_read.load(Ordering::SeqCst) && subscriber.flush().is_some() {
                return;
            }
        }
    }

    fn assert_whole(&self) {
        let (told, seen, client) = (self.told.lock().unwrap(), self.seen.lock().unwrap(), Client::new());
        let (there, ledger) = self.at_rest(&client);
        let oldest = there.keys().next().expect("the newest always stays");
        let end: BTreeMap<_, _> = told.range(oldest.clone()..).map(|(at, one)| (at.clone(), one.id.clone())).collect();
        assert_eq!(there, end, "what is there is the end of what was stored");
        let gone: Vec<_> = told.range(..oldest.clone()).collect();
        assert!(gone.len() > TAKEN, "nothing went");
        if !self.pause.is_zero() {
            let early = gone.iter().find(|(_, one)| one.at.elapsed() < AGE);
            assert_eq!(early, None, "it went before its time");
        }
        assert_eq!(ledger["balanced"], true, "{ledger:#}");
        let count = |name: &str, what: &str| {
            let counts = &ledger["subscriptions"][format!("ws:anonymous:{name}")];
            usize::try_from(counts[what].as_u64().unwrap_or_else(|| panic!("no {what}: {counts}"))).unwrap()
        };
        assert_eq!((count("lazy", "matched"), count("lazy", "delivered")), (told.len(), TAKEN), "{ledger:#}");
        assert_eq!(count("lazy", "pending"), there.len(), "{ledger:#}");
        assert_eq!(count("lazy", "lapsed"), told.len() - TAKEN - there.len(), "{ledger:#}");
        // what went before the quick one was first there it never had
        let missed = told.keys().filter(|at| !seen.contains_key(*at)).count();
        let lapsed = count("quick", "lapsed") + told.len() - count("quick", "matched");
        assert!(missed <= lapsed, "{missed} never came, and {lapsed} are said to have lapsed: {ledger:#}");
        assert_eq!(count("quick", "delivered") + count("quick", "lapsed"), count("quick", "matched"), "{ledger:#}");
        assert!(seen.iter().all(|(at, id)| told.get(at).is_some_and(|one| one.id == *id)), "it saw what nobody sent");
        println!("{} stored, {} there, {} seen", told.len(), there.len(), seen.len());

        let (first, one) = gone[0];
        let again = self.ask(&client, &one.key);
        assert_eq!((&again["id"], &again["position"]), (&json!(one.id), &json!(first)), "{again}");
        let ledger = client.get(&self.site.admin_url("/ledger")).body;
        assert_eq!(ledger["store"]["last_sequence"], told.len() + 1, "a retry is no second message: {ledger:#}");
        let last = client.get(&self.site.url("/mesh/v1/last/state/0"));
        assert_eq!((last.status, &last.body["data"]["n"]), (200, &json!(7)), "{}", last.text);
        self.assert_gap(first, &there);
    }

    /// What is stored, and the ledger of the same moment: nothing goes between two looks, and every ack is counted.
    fn at_rest(&self, client: &Client) -> (BTreeMap<String, String>, Value) {
        let ledger = || client.get(&self.site.admin_url("/ledger")).body;
        eventually("nothing goes for a moment", PATIENCE, || {
            let (before, there, after) = (ledger(), self.stored(client), ledger());
            let is_counted = after["subscriptions"]["ws:anonymous:quick"]["pending"] == 0;
            (is_counted && before["store"]["first_sequence"] == after["store"]["first_sequence"])
                .then_some((there, after))
        })
    }

    /// What is stored of the orders, by position.
    fn stored(&self, client: &Client) -> BTreeMap<String, String> {
        let (mut there, mut cursor) = (BTreeMap::new(), String::new());
        loop {
            let url = self.site.admin_url(&format!("/messages?topic=orders/%23&limit=1000{cursor}"));
            let page = client.get(&url);
            for message in page.body["messages"].as_array().unwrap_or_else(|| panic!("{}", page.text)) {
                let [id, at] = [&message["envelope"]["id"], &message["position"]].map(|text| text.as_str().unwrap());
                assert!(there.insert(at.to_owned(), id.to_owned()).is_none(), "{at} is there twice");
            }
            match page.body["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        there
    }

    /// Who goes on behind the first one is told that there is a hole, and gets what is there.
    fn assert_gap(&self, first: &str, there: &BTreeMap<String, String>) {
        let url = self.site.url("/mesh/v1/events?filter=orders/%23");
        let mut events = Events::open(&url, Some(first)).expect("a stream");
        // how long to wait before coming back, and signs of life, are no events
        let mut next = || loop {
            let event = events.event().expect("what is there");
            if !(event.kind.is_empty() && event.data.is_null()) {
                return event;
            }
        };
        assert_eq!(next().kind, "gap");
        let mut event = next();
        let rest: Vec<_> = there.range(event.id.clone()..).collect();
        // by age they go on going while this looks; otherwise everything is there still
        let is_whole = rest.len() == there.len() || !self.pause.is_zero();
        assert!(is_whole && !rest.is_empty(), "{} of {} came", rest.len(), there.len());
        for (n, (at, id)) in rest.iter().enumerate() {
            if n > 0 {
                event = next();
            }
            assert_eq!((&event.id, event.data["id"].as_str()), (*at, Some(id.as_str())));
        }
    }
}
