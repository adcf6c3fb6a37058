//! The bridge to remote brokers, against Mosquitto: both directions and versions, and everything that goes wrong between
//! them.

mod circles;
mod crashes;
mod faults;
mod proxy;
mod safety;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use integration::{
    Gateway, Site, client, eventually,
    mosquitto::{Heard, Mosquitto},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const VERSIONS: [&str; 2] = ["v3.1.1", "v5"];

/// A gateway that takes `floor/...` of a broker in, and sends what is on `out/...` in the mesh to `mirror/...` of it.
struct Far {
    site: Site,
}

// === impl Far ===

impl Far {
    /// `more`: further keys of the bridge, after a comma.
    fn new(server: &str, version: &str, more: &str) -> Self {
        let far = Self { site: Site::shipped() };
        far.configure(&format!("servers: ['{server}'], version: {version}, max_backoff: 1s{more}"));
        far.site.write(
            "mappings/in.yaml",
            "mapping: in\nfrom: { bridge: far, address: \"floor/{line}/{kind}\", decode: json }\n\
             envelope: { topic: \"floor/${address.line}/${address.kind}\" }\nack: durable\n",
        );
        far.sends("at-least-once", "");
        far.site.write(
            "policies/far.cedar",
            "@id(\"far\")\npermit (principal == Principal::\"$bridge:far\", action in [Action::\"send\", Action::\"subscribe\"], resource);\n",
        );
        far.site.write(
            "mappings/post.yaml",
            "mapping: post\nfrom: { bridge: web, address: \"POST /out/{line}\", decode: json }\n\
             envelope: { topic: \"out/${address.line}\" }\nack: durable\n",
        );
        far
    }

    fn configure(&self, bridge: &str) {
        let text = format!(
            "domain: plant-a\njurisdictions: [eu]\nbackbone: {{ embedded: {{ path: {}, min_free: {{ percent: 1 }} }} }}\nadmin: {{ listen: {} }}\n\
             bridges:\n  web: {{ http: {{ listen: '{}' }} }}\n  floor: {{ mqtt: {{ listen: '127.0.0.1:0' }} }}\n  far: {{ mqtt_client: {{ {bridge} }} }}\n\
             mappings: mappings/\npolicy: policy.yaml\n",
            self.site.data().display(),
            self.site.admin,
            self.site.http,
        );
        self.site.write("gateway.yaml", &text);
    }

    /// The mapping that sends, at this QoS and with these further keys.
    fn sends(&self, qos: &str, more: &str) {
        let address = "mirror/${envelope.topic.split('/')[1]}";
        let text = format!(
            "mapping: out\nfrom: {{ topic: \"out/#\" }}\nto:\n  bridge: far\n  address: \"{address}\"\n  qos: {qos}\n  headers: {{ x-from: \"${{envelope.topic}}\" }}\n{more}"
        );
        self.site.write("mappings/out.yaml", &text);
    }

    /// Has a gateway that runs take up what changes.
    fn reloads(&self, change: impl FnOnce()) {
        let before = self.routes()["epoch"]["number"].clone();
        change();
        eventually("it is in force", PATIENCE, || (self.routes()["epoch"]["number"] != before).then_some(()));
    }

    /// An envelope that is to go out; 202.
    fn post(&self, line: &str, text: &str) {
        let answer = client::post(&self.site.url(&format!("/out/{line}")), text);
        assert_eq!(answer.status, 202, "{}", answer.text);
    }

    fn routes(&self) -> Value {
        client::get(&self.site.admin_url("/routes")).body
    }

    /// A connection of the bridge, `in` or `out`.
    fn connection(&self, direction: &str) -> Value {
        let routes = self.routes();
        let all = routes["connections"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["direction"] == direction).unwrap_or_default()
    }

    /// Both connections stand, and the broker has been asked for what mappings take.
    fn until_connected(&self, broker: &Mosquitto) {
        eventually("both connections stand", PATIENCE, || {
            (["in", "out"].iter().all(|way| self.connection(way)["state"] == "connected")
                && broker.log().contains("floor/+/+"))
            .then_some(())
        });
    }

    fn ledger(&self) -> Value {
        client::get(&self.site.admin_url("/ledger")).body
    }

    /// What the mapping `in` has stored.
    fn stored(&self) -> i64 {
        self.ledger()["bridges"]["far"]["routes"]["in"]["stored"].as_i64().unwrap_or_default()
    }

    /// The ledger's own word for it, once nothing is in flight and everything that was to go out has.
    fn assert_settled(&self, delivered: i64) {
        eventually("everything is settled", PATIENCE, || {
            let ledger = self.ledger();
            let out = &ledger["subscriptions"]["mapping:out"];
            let settled = ledger["balanced"] == true
                && ledger["bridges"]["far"]["in_flight"].as_i64().unwrap_or_default() == 0
                && out["pending"] == 0;
            (settled && out["delivered"].as_i64().unwrap_or_default() == delivered).then_some(())
        });
    }
}

/// How often each message came.
fn counted(heard: &Heard) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    heard.messages().into_iter().for_each(|message| *counted.entry(message).or_default() += 1);
    counted
}

fn url(address: SocketAddr) -> String {
    format!("mqtt://{address}")
}

#[test]
fn messages_go_in_and_out_in_both_versions_at_every_qos() {
    for version in VERSIONS {
        let broker = Mosquitto::start();
        let far = Far::new(&broker.url(), version, ", qos: exactly-once");
        let _gateway = Gateway::start(&far.site);
        far.until_connected(&broker);
        for qos in ["0", "1", "2"] {
            broker.publish(&["-q", qos, "-t", "floor/7/temp", "-m", &format!("{{\"qos\":{qos}}}")]);
        }
        eventually("all three are stored", PATIENCE, || (far.stored() == 3).then_some(()));
        let heard = broker.subscribe("heard", "mirror/#", "> %q %t %p %P");
        for (number, qos) in ["at-most-once", "at-least-once", "exactly-once"].iter().enumerate() {
            far.reloads(|| far.sends(qos, if number == 0 { "  encode: json\n" } else { "" }));
            far.post("7", &format!("{{\"n\":{number}}}"));
            eventually("it is out", PATIENCE, || (heard.messages().len() == number + 1).then_some(()));
        }
        far.assert_settled(3);
        let said = heard.messages();
        for (number, message) in said.iter().enumerate() {
            let expected = format!("{number} mirror/7 {{\"n\":{number}}}");
            assert!(message.starts_with(&expected), "{version}: {message}");
            let headers = message.contains("x-from:out/7") && message.contains("hops:plant-a");
            assert_eq!(headers, version == "v5", "{version}: {message}");
        }
    }
}

#[test]
fn what_is_retained_on_either_side_is_there_for_who_comes_later() {
    let broker = Mosquitto::start();
    broker.publish(&["-r", "-q", "1", "-t", "floor/7/temp", "-m", "{\"kept\":true}"]);
    let far = Far::new(&broker.url(), "v5", "");
    far.sends("at-least-once", "  retain: true\n");
    let gateway = Gateway::start(&far.site);
    eventually("the retained message is stored", PATIENCE, || (far.stored() == 1).then_some(()));
    assert_eq!(client::get(&far.site.url("/mesh/v1/last/floor/7/temp")).status, 200);
    far.post("7", "{\"a\":1}");
    far.assert_settled(1);
    let later = broker.subscribe("later", "mirror/#", "> %r %p");
    eventually("it is kept", PATIENCE, || (later.messages() == ["1 {\"a\":1}"]).then_some(()));
    // the session goes on: retained messages do not come again
    gateway.kill();
    let _gateway = Gateway::start(&far.site);
    far.until_connected(&broker);
    broker.publish(&["-q", "1", "-t", "floor/7/temp", "-m", "{}"]);
    eventually("only the new one came", PATIENCE, || (far.stored() == 2).then_some(()));
}

#[test]
fn a_reload_subscribes_to_what_new_mappings_take_and_to_what_old_ones_took_no_more() {
    let broker = Mosquitto::start();
    let far = Far::new(&broker.url(), "v5", "");
    let _gateway = Gateway::start(&far.site);
    far.until_connected(&broker);
    let hall = "mapping: in\nfrom: { bridge: far, address: \"hall/{line}\", decode: json }\nenvelope: { topic: \"hall/${address.line}\" }\nack: durable\n";
    far.reloads(|| far.site.write("mappings/in.yaml", hall));
    eventually("the broker is told", PATIENCE, || {
        let log = broker.log();
        (log.contains("hall/+") && log.contains("UNSUBSCRIBE")).then_some(())
    });
    broker.publish(&["-q", "1", "-t", "floor/7/temp", "-m", "{}"]);
    broker.publish(&["-q", "1", "-t", "hall/7", "-m", "{}"]);
    eventually("the new one is stored", PATIENCE, || (far.stored() == 1).then_some(()));
    assert_eq!(far.ledger()["bridges"]["far"]["received"], 1);
}
