//! Inboxes: what names a principal as its recipient waits for it, also while it is away and over a restart.

use std::net::SocketAddr;

use gateway::Running;
use policy::{NewKey, User, UsersFile};
use serde_json::{Value, json};

use crate::{
    mqtt::{Client, Wire},
    support::{PATIENCE, Site, Socket, bridge, get, post, web},
};

const OFFERS: &str = "mapping: offers
from: { bridge: web, address: POST /offers, decode: json }
envelope: { topic: market/offers, performative: propose, recipients: '${payload.to}', data: '${payload.n}' }
";
/// As offers, for a moment.
const BRIEF: &str = "mapping: brief
from: { bridge: web, address: POST /brief, decode: json }
envelope: { topic: market/offers, recipients: '${payload.to}', data: '${payload.n}', expires: 20ms }
";
const INBOX: &str =
    "@id(\"inbox\") permit(principal, action == Action::\"subscribe\", resource in Topic::\"$mesh/inbox\");\n";

struct Inboxes {
    site: Site,
    keys: Vec<(&'static str, String)>,
}

impl Inboxes {
    fn new() -> Self {
        Self::keeping("")
    }

    /// Whoever has no name sends and reads all topics but the reserved ones; ada and bob have an inbox, and nothing else.
    /// `store`: more of the section of the store.
    fn keeping(store: &str) -> Self {
        let site = Site::shipped();
        site.remove("mappings");
        site.write("mappings/offers.yaml", OFFERS);
        let floor = "  floor: { mqtt: { listen: 127.0.0.1:0, prefix: devices } }\n";
        site.write("mappings/brief.yaml", BRIEF);
        site.write("gateway.yaml", &site.config_text(floor).replace("data }", &format!("data{store} }}")));
        site.write("policies/inbox.cedar", INBOX);
        let mut users = UsersFile::default();
        let keys = ["ada", "bob"].map(|name| {
            let key = NewKey::generate().unwrap();
            users.add_user(name, User::default()).unwrap();
            users.add_key(name, &key, None).unwrap();
            (name, key.key.expose().to_owned())
        });
        site.write("users.yaml", &users.to_string());
        Self { site, keys: keys.into() }
    }

    fn key(&self, who: &str) -> &str {
        &self.keys.iter().find(|(name, _)| *name == who).unwrap().1
    }

    /// What a WebSocket of this one hears when it subscribes.
    async fn subscribe(&self, at: SocketAddr, who: &str, filter: &str) -> (Socket, Value) {
        let authorization = self.keys.iter().any(|(name, _)| *name == who).then(|| format!("Bearer {}", self.key(who)));
        let mut socket = Socket::open_as(at, authorization.as_deref()).await.unwrap();
        let frame = json!({ "op": "subscribe", "ref": "s", "filters": [filter], "start": "new", "credit": 16, "durable": "in" });
        socket.send(&frame).await;
        let answer = socket.next().await;
        (socket, answer)
    }

    async fn inbox(&self, at: SocketAddr, who: &str) -> Socket {
        let (socket, answer) = self.subscribe(at, who, &format!("$mesh/inbox/{who}")).await;
        assert_eq!(answer["op"], "subscribed", "{answer}");
        socket
    }

    async fn mqtt(&self, running: &Running, who: &str) -> Client {
        Client::staying("inbox", Wire::tcp(bridge(running, "floor")).await, ("", self.key(who))).await
    }
}

/// Offers with these numbers, by turns to ada, to bob and to both.
async fn offer(at: SocketAddr, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let to = [json!("ada"), json!("bob"), json!(["bob", "ada"])][usize::try_from(n % 3).unwrap()].clone();
        let answer = post(at, "/offers", &json!({ "to": to, "n": n }).to_string()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
}

/// Waits until nobody consumes a durable subscription.
async fn until_left(running: &Running) {
    let asked = async {
        loop {
            let ledger = get(running.addresses().admin, "/ledger").await.json();
            let all = ledger["subscriptions"].as_object().unwrap();
            if all.values().all(|counts| counts["attached"] == false) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
}

async fn assert_balanced(running: &Running) {
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_away_over_a_restart_gets_what_is_for_it_once_and_in_order() {
    let inboxes = Inboxes::new();
    let running = inboxes.site.start().await;
    drop(inboxes.inbox(web(&running), "ada").await);
    let mut all = Socket::subscribe(web(&running), "market/#", "new", None).await;
    all.frame("subscribed").await;
    offer(web(&running), 0..150).await;
    assert_eq!(all.envelope().await["subject"], "market/offers", "subscribers of the topic see it as ever");
    drop((all, running.drain().await));

    let running = inboxes.site.start().await;
    let at = web(&running);
    let mut ada = inboxes.inbox(at, "ada").await;
    for n in (0..150).filter(|n| n % 3 != 1) {
        let envelope = ada.envelope().await;
        assert_eq!((&envelope["data"], &envelope["subject"]), (&json!(n), &json!("market/offers")), "{envelope}");
        assert!(envelope["recipients"].as_str().unwrap().contains("ada"), "{envelope}");
    }
    // bob's was not open while they came
    let mut bob = inboxes.inbox(at, "bob").await;
    offer(at, 150..153).await;
    assert_eq!([ada.envelope().await["data"].clone(), ada.envelope().await["data"].clone()], [150, 152]);
    assert_eq!([bob.envelope().await["data"].clone(), bob.envelope().await["data"].clone()], [151, 152]);
    assert_balanced(&running).await;
    drop(running.drain().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_is_open_to_its_principal_only() {
    let inboxes = Inboxes::new();
    let running = inboxes.site.start().await;
    let at = web(&running);
    for (who, filter) in [
        ("bob", "$mesh/inbox/ada"),
        ("bob", "$mesh/inbox/+"),
        ("anonymous", "$mesh/inbox/ada"),
        ("anonymous", "$mesh/inbox/anonymous"),
        ("ada", "market/#"),
    ] {
        let (_, answer) = inboxes.subscribe(at, who, filter).await;
        let refused = (&answer["op"], &answer["status"]) == (&json!("error"), &json!(403));
        // a wildcard selects no inbox: it may be opened, and gets nothing of them
        assert!(refused || filter.ends_with('+'), "{who} {filter}: {answer}");
    }
    let mut floor = inboxes.mqtt(&running, "bob").await;
    assert_eq!(floor.subscribe("$mesh/inbox/ada").await.code, 0x80);
    drop(running.drain().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mqtt_client_that_is_away_over_a_restart_gets_what_is_for_it_once_and_in_order() {
    let inboxes = Inboxes::new();
    let running = inboxes.site.start().await;
    let mut ada = inboxes.mqtt(&running, "ada").await;
    assert_eq!(ada.subscribe("$mesh/inbox/ada").await.code, 1);
    drop(ada);
    offer(web(&running), 0..150).await;
    drop(running.drain().await);

    let running = inboxes.site.start().await;
    let mut ada = inboxes.mqtt(&running, "ada").await;
    for n in (0..150).filter(|n| n % 3 != 1) {
        assert_eq!(ada.take().await, ("$mesh/inbox/ada".to_owned(), n.to_string()));
    }
    offer(web(&running), 150..151).await;
    assert_eq!(ada.take().await.1, "150");
    assert_balanced(&running).await;
    drop(running.drain().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_than_may_wait_the_oldest_are_given_up_and_counted_over_both() {
    let inboxes = Inboxes::keeping(", max_waiting: 20");
    let running = inboxes.site.start().await;
    drop(inboxes.inbox(web(&running), "ada").await);
    let mut floor = inboxes.mqtt(&running, "ada").await;
    assert_eq!(floor.subscribe("$mesh/inbox/ada").await.code, 1);
    drop(floor);
    // whoever leaves without a word may be handed one or the other yet
    until_left(&running).await;
    offer(web(&running), 0..60).await;
    drop(running.drain().await);

    let running = inboxes.site.start().await;
    let (mut ada, answer) = inboxes.subscribe(web(&running), "ada", "$mesh/inbox/ada").await;
    assert_eq!((&answer["op"], &answer["gap"]), (&json!("subscribed"), &json!(true)), "{answer}");
    let mut floor = inboxes.mqtt(&running, "ada").await;
    for n in (30..60).filter(|n| n % 3 != 1) {
        assert_eq!(ada.envelope().await["data"], json!(n));
        assert_eq!(floor.take().await.1, n.to_string());
    }
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    for (name, counts) in ledger["subscriptions"].as_object().unwrap() {
        assert_eq!((&counts["matched"], &counts["over"]), (&json!(40), &json!(20)), "{name}");
    }
    assert_balanced(&running).await;
    drop(running.drain().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_while_its_principal_was_away_is_not_handed_out() {
    let inboxes = Inboxes::new();
    let running = inboxes.site.start().await;
    drop(inboxes.inbox(web(&running), "ada").await);
    let answer = post(web(&running), "/brief", &json!({ "to": "ada", "n": 1 }).to_string()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let stored = std::time::Instant::now();
    drop(running.drain().await);

    let running = inboxes.site.start().await;
    while stored.elapsed().as_millis() < 20 {
        tokio::task::yield_now().await;
    }
    let mut ada = inboxes.inbox(web(&running), "ada").await;
    offer(web(&running), 3..4).await;
    assert_eq!(ada.envelope().await["data"], json!(3));
    let counted = async {
        while get(running.addresses().admin, "/ledger").await.json()["subscriptions"]["ws:ada:in"]["expired"] != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("it is counted as expired");
    drop(running.drain().await);
}
