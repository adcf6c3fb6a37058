//! The gateway is killed with SIGKILL at random points under load, 50 times, and started again on the same data.
//!
//! No receipt is given and then lost, every equation of the ledger holds at every start and at the end, and whoever
//! consumes sees every accepted message at least once, again only where it is marked as redelivery: a durable WebSocket, a
//! webhook whose server refuses some for good, which become dead letters, one that gets what is not stored, who answers
//! requests, and who gives a part back for a while. A mapping that sends comes and goes, and misses nothing. Streams that go on
//! behind their last event, or position over WebSocket, see each once, in order.
//! Messages come as requests, in batches, as many in one, and by WebSocket, in frames of both kinds. Last values are what was
//! acked last, what a mapping could make nothing of is kept, and `store check` finds nothing wrong. What nobody takes becomes a
//! dead letter after so many deliveries and is replayed; subscriptions are made and dropped; stored messages are read page by page.
//!
//! About a minute on two cores; each wait is bounded by `PATIENCE`. Retention is killed in `retention_kill.rs`, keys in
//! `keys_kill.rs`, MQTT in `mqtt/restarts.rs`.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

mod asks;
mod drops;
mod hook;
mod letters;
mod many;
mod nacks;
mod orders;
mod pages;
mod parks;
mod passes;
mod raw;
mod resumes;
mod states;
mod stream;
mod stubborn;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use integration::{Gateway, Site, client::Client, eventually, gateway::binary};
use serde_json::Value;

const KILLS: usize = 50;
const SENDERS: usize = 8;
/// The store is checked after every so many kills.
const CHECKED: usize = 10;
/// How long what is stored may take to get where it should.
const PATIENCE: Duration = Duration::from_secs(120);

const CONFIG: &str = "\
domain: plant-a
jurisdictions: [eu]
backbone: { embedded: { path: DATA, dead_letters: { sender_bytes: 256MiB, sender_per_minute: 1000000 }, max_deliveries: 8 } }
admin: { listen: ADMIN }
bridges:
  web: { http: { listen: 'HTTP', heartbeat: 100ms, websocket: { paths: [/raw/*] } } }
  hooks:
    webhook:
      url: http://HOOK
      plain_text: true
      allow_private: [127.0.0.1/32]
      breaker: { failures: 1000, pause: 100ms }
mappings: mappings/
policy: policy.yaml
";
const POLICIES: &str = r#"
permit (principal == Principal::"$bridge:hooks", action == Action::"subscribe", resource in Topic::"orders");
permit (principal == Principal::"$bridge:hooks", action == Action::"subscribe", resource in Topic::"passes");
permit (principal == Principal::"anonymous", action == Action::"reply", resource in Topic::"$mesh/reply");
"#;

/// What everybody who takes part shares.
struct Stage {
    site: Site,
    hook: hook::Hook,
    orders: orders::Orders,
    states: states::States,
    letters: letters::Letters,
    asks: asks::Asks,
    passes: passes::Passes,
    many: many::Many,
    stubborn: stubborn::Stubborn,
    drops: drops::Drops,
    pages: pages::Pages,
    stop: AtomicBool,
    /// The operator's `Authorization`.
    key: String,
}

#[test]
fn killed_fifty_times_under_load_nothing_acked_is_lost_and_the_ledger_balances() {
    let stage = Arc::new(Stage::new());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut senders: Vec<_> = (0..SENDERS).map(|n| stage.run(move |stage| orders::send(stage, n))).collect();
    senders.extend((0..2).map(|n| stage.run(move |stage| states::send(stage, n))));
    senders.push(stage.run(letters::send));
    senders.push(stage.run(passes::send));
    senders.extend((0..2).map(|n| stage.run(move |stage| many::send_frames(stage, n))));
    senders.push(stage.run(many::send_batches));
    senders.push(stage.run(many::send_arrays));
    senders.push(stage.run(|stage| raw::send(stage, 0)));
    senders.extend([stage.run(stubborn::send), stage.run(drops::run), stage.run(pages::read)]);
    let askers: Vec<_> = (0..2).map(|n| stage.run(move |stage| asks::send(stage, n))).collect();
    let consumers = [stage.run(orders::consume), stage.run(asks::answer), stage.run(nacks::consume)];
    let stubborn = [stage.run(stubborn::consume), stage.run(stubborn::operate)];
    let readers = [stage.run(stream::read), stage.run(resumes::read)];

    for round in 0..KILLS {
        if round > 0 && round % CHECKED == 0 {
            stage.assert_in_order();
        }
        parks::turn(&stage, round);
        let gateway = Gateway::start(&stage.site);
        stage.assert_balanced(round);
        parks::assert_parked(&stage, round);
        drops::assert_known(&stage);
        let until = Instant::now() + Duration::from_millis(random.u64(5..250));
        eventually("it is time to kill", Duration::from_secs(1), || (Instant::now() >= until).then_some(()));
        gateway.kill();
    }

    stage.assert_in_order();
    parks::turn(&stage, 0);
    let gateway = Gateway::start(&stage.site);
    stage.stop.store(true, Ordering::SeqCst);
    senders.into_iter().for_each(|sender| sender.join().expect("a sender's end"));
    stage.orders.end();
    stage.many.end();
    stage.stubborn.end();
    stage.asks.begin_the_last();
    eventually("requests are answered after all", PATIENCE, || stage.asks.were_answered().then_some(()));
    stage.asks.end();
    askers.into_iter().for_each(|asker| asker.join().expect("the end of who asks"));
    orders::assert_all_come(&stage);
    consumers.into_iter().for_each(|consumer| consumer.join().expect("a consumer's end"));
    readers.into_iter().for_each(|reader| reader.join().expect("the end of a stream"));
    stubborn::replay_the_rest(&stage);
    stubborn.into_iter().for_each(|part| part.join().expect("the end of the operator, or of who is stubborn"));
    orders::assert_settled(&stage);
    hook::assert_told(&stage);
    parks::assert_sent(&stage);
    letters::assert_kept(&stage);
    states::assert_last(&stage);
    asks::assert_answered(&stage);
    passes::assert_passed(&stage);
    many::assert_counted(&stage);
    stubborn::assert_taken(&stage);
    drops::assert_known(&stage);
    pages::assert_paged(&stage);
    gateway.kill();
    stage.assert_in_order();
}

// === impl Stage ===

impl Stage {
    fn new() -> Self {
        let (site, hook) = (Site::shipped(), hook::Hook::start());
        let config = CONFIG
            .replace("DATA", &site.data().display().to_string())
            .replace("ADMIN", &site.admin.to_string())
            .replace("HTTP", &site.http.to_string())
            .replace("HOOK", &hook.at.to_string());
        site.write("gateway.yaml", &config);
        site.write("policies/kill.cedar", POLICIES);
        let all = [
            orders::MAPPINGS,
            hook::MAPPINGS,
            states::MAPPINGS,
            letters::MAPPINGS,
            asks::MAPPINGS,
            passes::MAPPINGS,
            many::MAPPINGS,
            raw::MAPPINGS,
            stubborn::MAPPINGS,
        ];
        for (name, mapping) in all.into_iter().flatten() {
            site.write(&format!("mappings/{name}.yaml"), &format!("mapping: {name}\n{mapping}"));
        }
        openmesh(&site, &["user", "add", "ada", "--role", "operator"]);
        let key = format!("Bearer {}", openmesh(&site, &["key", "new", "ada"]));
        Self {
            site,
            hook,
            orders: orders::Orders::default(),
            states: states::States::default(),
            letters: letters::Letters::default(),
            asks: asks::Asks::default(),
            passes: passes::Passes::default(),
            many: many::Many::default(),
            stubborn: stubborn::Stubborn::default(),
            drops: drops::Drops::default(),
            pages: pages::Pages::default(),
            stop: AtomicBool::new(false),
            key,
        }
    }

    fn run(self: &Arc<Self>, part: impl FnOnce(&Self) + Send + 'static) -> thread::JoinHandle<()> {
        let stage = self.clone();
        thread::spawn(move || part(&stage))
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Sends with a key until there is an answer that is final, as a client that retries would.
    fn offer(&self, client: &Client, path: &str, key: &str, body: &str) -> integration::Answer {
        loop {
            let answer = client.post(&self.site.url(path), &[("idempotency-key", key)], body.as_bytes());
            if ![0, 503].contains(&answer.status) {
                return answer;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Asks for what can be done once until it is known that it is. A kill may take the answer, and only then may it be done
    /// already.
    fn do_once(&self, what: &str, ask: impl Fn(&[(&str, &str)]) -> integration::Answer) {
        let mut is_cut = false;
        loop {
            let answer = ask(&[("authorization", &self.key)]);
            match answer.status {
                200 => return,
                404 if is_cut => return,
                0 | 503 => is_cut = true,
                other => panic!("{what}: {other}: {}", answer.text),
            }
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn ledger(&self) -> Value {
        integration::client::get(&self.site.admin_url("/ledger")).body
    }

    fn assert_balanced(&self, round: usize) {
        let ledger = self.ledger();
        assert_eq!(ledger["balanced"], true, "after {round} kills: {ledger:#}");
    }

    /// The gateway does not run: its store is whole.
    fn assert_in_order(&self) {
        let said = openmesh(&self.site, &["store", "check"]);
        assert!(said.ends_with("are in order"), "{said}");
    }
}

/// Runs a command of the operator's on the site and says what it says.
fn openmesh(site: &Site, arguments: &[&str]) -> String {
    let config = site.config().join("gateway.yaml");
    let output = Command::new(binary()).args(arguments).arg("--config").arg(config).output().expect("to run");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said.trim().to_owned()
}
