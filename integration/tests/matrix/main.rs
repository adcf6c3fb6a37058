//! Every way in to every way out, by mapping files only: one gateway, one message for each pair.
//!
//! The clients are those that others wrote (curl, Mosquitto's, a plain WebSocket), the mapping files stand in `mappings/`, and
//! what each side can say beside the data is read from the tables of `docs/bridges/README.md`: what both sides can say has to
//! arrive, and nothing arrives twice.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panic")]

mod ins;
mod outs;
mod peers;
mod table;

use std::{fs, net::SocketAddr, time::Duration};

use integration::{Gateway, Site, client, eventually, mosquitto::Mosquitto, site::free_port, site::repository};
use serde_json::Value;

use outs::Arrival;
use peers::{Feed, Hook};
use table::Says;

const PATIENCE: Duration = Duration::from_secs(30);
const TYPE: &str = "matrix/reading@v1.0.0";
/// Of whoever can say one.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLASS: &str = "internal";
const SCHEMA: &str = r#"{"type": "object", "required": ["line", "n", "price"],
    "properties": {"line": {"type": "string"}, "n": {"type": "integer"}, "price": {"type": "number"},
    "conversation": {"type": "string"}, "class": {"type": "string"}}}"#;
const POLICY: &str = r#"
permit (principal == Principal::"$bridge:cloud", action in [Action::"send", Action::"subscribe"], resource in Topic::"matrix");
permit (principal == Principal::"$bridge:prices", action in Action::"send", resource in Topic::"matrix");
permit (principal == Principal::"$bridge:hooks", action == Action::"subscribe", resource in Topic::"matrix");
"#;

/// The gateway's config and everybody around it.
struct Stage {
    site: Site,
    mqtt: SocketAddr,
    broker: Mosquitto,
    feed: Feed,
    hook: Hook,
}

/// What one message says.
struct Message {
    /// The way out that it is for.
    to: &'static str,
    n: usize,
    conversation: String,
}

#[test]
fn what_comes_in_any_way_goes_out_every_way_once_with_all_that_both_sides_can_say() {
    let stage = Stage::new();
    let gateway = Gateway::start(&stage.site);
    stage.until_connected();
    let (ways_in, ways_out) = (table::read("in"), table::read("out"));
    assert_eq!(table::names(&ways_in), ins::ALL.map(|way| way.0), "docs/bridges/README.md has all ways in");
    assert_eq!(table::names(&ways_out), outs::ALL.map(|way| way.0), "docs/bridges/README.md has all ways out");

    let listening = outs::ALL.map(|(_, out, listen)| (out, listen(&stage)));
    let mut receipts = Vec::new();
    for (row, (_, from, send)) in ins::ALL.iter().enumerate() {
        for (column, (to, _)) in listening.iter().enumerate() {
            let message = Message::new(to, 100 * (row + 1) + column);
            receipts.push((*from, *to, send(&stage, &message)));
        }
    }
    eventually("everything is stored", PATIENCE, || {
        (stage.stored("matrix/%23").len() == ins::ALL.len() * outs::ALL.len()).then_some(())
    });
    // of the same key, so behind all others wherever there is an order
    for (to, _) in listening.iter().filter(|(to, _)| *to != "last") {
        ins::http(&stage, &Message { to, n: 0, conversation: "the end".to_owned() });
    }

    for (column, (to, listener)) in listening.into_iter().enumerate() {
        let mut arrivals = listener.all(&stage);
        assert!(!arrivals.is_empty(), "nothing arrives by {to}");
        for (row, (_, from, _)) in ins::ALL.iter().enumerate() {
            let place = format!("{from} to {to}");
            let at = arrivals.iter().position(|arrival| arrival.from == *from && arrival.n() != Some(0));
            let arrival = arrivals.remove(at.unwrap_or_else(|| panic!("{place}: nothing in {arrivals:#?}")));
            let stored = stage.stored(&format!("matrix/{from}/{to}"));
            let message = Message::new(to, 100 * (row + 1) + column);
            let stored = stored.iter().find(|one| one["data"]["n"] == message.n).expect("what is stored");
            let (_, _, receipt) = receipts.iter().find(|one| (one.0, one.1) == (*from, to)).expect("it was sent");
            assert!(receipt.as_ref().is_none_or(|id| stored["id"] == id.as_str()), "{place}: {receipt:?} {stored}");
            let (said, heard) = (&ways_in[row].1, &ways_out[column].1);
            assert_arrived(&place, &arrival, &message, stored, said, heard);
        }
        // nothing but the last one is left
        arrivals.retain(|arrival| arrival.n() != Some(0));
        assert!(arrivals.is_empty(), "{to}, more than once: {arrivals:#?}");
    }
    stage.assert_settled();
    assert!(gateway.terminate().success());
}

fn assert_arrived(place: &str, is: &Arrival, message: &Message, stored: &Value, said: &Says, heard: &Says) {
    assert_eq!(is.data, message.data(), "{place}: {is:#?}");
    let text = |name: &str| stored[name].as_str().map(str::to_owned);
    assert_eq!(stored["type"], TYPE, "{place}");
    assert_eq!(stored["conversation"], message.conversation.as_str(), "{place}: {stored}");
    assert_eq!((&stored["partitionkey"], &stored["classification"]), (&"7".into(), &CLASS.into()), "{place}");
    if heard.headers {
        for (name, attribute) in [("id", "id"), ("type", "type"), ("class", "classification"), ("key", "partitionkey")]
        {
            assert_eq!(is.said(name), text(attribute), "{place}, {name}: {is:#?}");
        }
    }
    let conversation = heard.correlation.then(|| message.conversation.clone());
    assert_eq!(is.said("conversation"), conversation, "{place}: {is:#?}");
    let trace = is.said("trace").is_some_and(|trace| trace.contains(TRACE));
    assert_eq!(trace, said.trace && heard.trace, "{place}: {is:#?}");
    assert!(is.qos.is_none_or(|qos| qos == 2), "{place}: {is:#?}");
}

// === impl Stage ===

impl Stage {
    fn new() -> Self {
        let (site, mqtt) = (Site::shipped(), free_port());
        let (broker, feed, hook) = (Mosquitto::start(), Feed::start(), Hook::start());
        for mapping in fs::read_dir(repository().join("integration/tests/matrix/mappings")).expect("the mappings") {
            let path = mapping.expect("a file").path();
            let name = path.file_name().expect("its name").to_string_lossy().into_owned();
            site.write(&format!("mappings/{name}"), &fs::read_to_string(path).expect("its text"));
        }
        for file in ["schemas/matrix.json", "schemas/matrix/reading@v1.0.0.json"] {
            site.write(file, SCHEMA);
        }
        site.write("policies/matrix.cedar", POLICY);
        let text = format!(
            "domain: plant-a\njurisdictions: [eu]\nbackbone: {{ embedded: {{ path: {} }} }}\nadmin: {{ listen: {} }}\nbridges:\n  \
             web: {{ http: {{ listen: '{}', websocket: {{ paths: [/frames/*] }} }} }}\n  \
             floor: {{ mqtt: {{ listen: '{mqtt}' }} }}\n  \
             cloud: {{ mqtt_client: {{ servers: ['{}'], qos: exactly-once }} }}\n  \
             prices: {{ websocket_client: {{ url: '{}', channel: /to }} }}\n  \
             hooks: {{ webhook: {{ url: 'http://{}', plain_text: true, allow_private: [127.0.0.1/32] }} }}\n\
             mappings: mappings/\npolicy: policy.yaml\n",
            site.data().display(),
            site.admin,
            site.http,
            broker.url(),
            feed.url(),
            hook.at(),
        );
        site.write("gateway.yaml", &text);
        Self { site, mqtt, broker, feed, hook }
    }

    fn until_connected(&self) {
        eventually("the bridges are connected", PATIENCE, || {
            let routes = client::get(&self.site.admin_url("/routes")).body;
            let connections = routes["connections"].as_array().cloned().unwrap_or_default();
            let all = connections.len() == 3 && connections.iter().all(|one| one["state"] == "connected");
            (all && self.broker.log().contains("in/+")).then_some(())
        });
    }

    /// The envelopes that are stored on topics of this filter.
    fn stored(&self, filter: &str) -> Vec<Value> {
        let found = client::get(&self.site.admin_url(&format!("/messages?topic={filter}"))).body;
        let messages = found["messages"].as_array().cloned().unwrap_or_default();
        messages.into_iter().map(|mut message| message["envelope"].take()).collect()
    }

    /// The ledger balances, nothing waits, and each mapping that sends has sent one of each way in, and the last one.
    fn assert_settled(&self) {
        eventually("everything is settled", PATIENCE, || {
            let ledger = client::get(&self.site.admin_url("/ledger")).body;
            let sent = |name: &str| {
                let of = &ledger["subscriptions"][name];
                of["pending"] == 0 && of["delivered"] == ins::ALL.len() + 1
            };
            (ledger["balanced"] == true && sent("mapping:out-broker") && sent("mapping:out-webhook")).then_some(())
        });
    }
}

// === impl Message ===

impl Message {
    fn new(to: &'static str, n: usize) -> Self {
        Self { to, n, conversation: format!("talk-{n}") }
    }

    /// What a sender that has headers says.
    fn payload(&self) -> String {
        format!(r#"{{"n":{},"line":"7","price":12.10}}"#, self.n)
    }

    /// What one says that has none.
    fn whole_payload(&self) -> String {
        let Self { to, n, conversation } = self;
        format!(r#"{{"to":"{to}","conversation":"{conversation}","class":"{CLASS}","n":{n},"line":"7","price":12.10}}"#)
    }

    /// The data of the envelope.
    fn data(&self) -> String {
        format!(r#"{{"line":"7","n":{},"price":12.10}}"#, self.n)
    }

    fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01")),
            ("x-conversation", self.conversation.clone()),
            ("x-class", CLASS.to_owned()),
        ]
    }
}
