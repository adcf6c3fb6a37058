//! Messages that would go in a circle: over a broker that sends back what it was sent, and over another gateway whose mappings
//! and ours send to each other.

use std::{fs, process::Command};

use integration::{Gateway, client, eventually, gateway::binary};
use serde_json::Value;

use super::{Far, Mosquitto, PATIENCE};
use crate::{
    Floor,
    clients::{run, tool},
};

const CIRCLE: &str = "mapping: out\nfrom: { topic: \"out/#\" }\nto: { bridge: far, address: \"floor/${envelope.topic.split('/')[1]}/temp\" }\n";

#[test]
fn in_mqtt_5_what_the_gateway_sent_is_not_taken_in_again() {
    let broker = Mosquitto::start();
    let far = Far::new(&broker.url(), "v5", "");
    far.site.write("mappings/out.yaml", CIRCLE);
    let _gateway = Gateway::start(&far.site);
    far.until_connected(&broker);
    far.post("1", "{}");
    far.assert_settled(1);
    eventually("its echo is filtered", PATIENCE, || (far.ledger()["bridges"]["far"]["filtered"] == 1).then_some(()));
    assert_eq!(far.stored(), 0);
}

#[test]
fn in_mqtt_3_a_circle_is_an_error_at_load_and_what_is_the_gateways_own_is_not_taken_in() {
    let broker = Mosquitto::start();
    let far = Far::new(&broker.url(), "v3.1.1", "");
    far.site.write("mappings/out.yaml", CIRCLE);
    let check = || {
        let path = far.site.config().join("gateway.yaml");
        let output = Command::new(binary()).arg("check").arg("--config").arg(path).output().expect("the check to run");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (sound, said) = check();
    assert!(
        !sound && said.contains("error[circle]: mapping \"out\" sends to \"floor/+/temp\" of bridge \"far\""),
        "{said}"
    );
    far.configure(&format!("servers: ['{}'], version: v3.1.1, own: ['floor/+/temp']", broker.url()));
    assert!(check().0, "{}", check().1);
    let _gateway = Gateway::start(&far.site);
    far.until_connected(&broker);
    far.post("1", "{}");
    broker.publish(&["-q", "1", "-t", "floor/1/other", "-m", "{}"]);
    far.assert_settled(1);
    eventually("only what is not its own is stored", PATIENCE, || (far.stored() == 1).then_some(()));
    eventually("its own is counted", PATIENCE, || {
        let metrics = client::get(&far.site.admin_url("/metrics")).text;
        metrics.contains("openmesh_mqtt_client_echoes_total{bridge=\"far\"} 1").then_some(())
    });
    assert_eq!(far.ledger()["bridges"]["far"]["received"], 1);
}

/// So many messages begin on each side.
const MESSAGES: i64 = 20;

/// A gateway with a listener, and one of another domain that takes all of it in and sends all of it there.
struct Circle {
    floor: Floor,
    far: Far,
    _gateways: [Gateway; 2],
}

impl Circle {
    /// `echo`: whether what has come from the other is to be sent back.
    fn new(version: &str, more: &str, echo: bool) -> Self {
        let floor = Floor::new();
        let far = Far::new(&format!("mqtt://{}", floor.mqtt), version, more);
        let config = fs::read_to_string(far.site.config().join("gateway.yaml")).expect("its configuration");
        far.site.write("gateway.yaml", &config.replace("plant-a", "plant-b"));
        let all = CIRCLE.replace("out/#", "floor/#").replace("/temp\" }", &format!("/temp\", echo: {echo} }}"));
        far.site.write("mappings/out.yaml", &all);
        let post = "mapping: post\nfrom: { bridge: web, address: \"POST /out/{line}\", decode: json }\n\
                    envelope: { topic: \"floor/${address.line}/temp\" }\nack: durable\n";
        far.site.write("mappings/post.yaml", post);
        let gateways = [Gateway::start(&floor.site), Gateway::start(&far.site)];
        let circle = Self { floor, far, _gateways: gateways };
        eventually("both connections stand", PATIENCE, || {
            ["in", "out"].iter().all(|way| circle.far.connection(way)["state"] == "connected").then_some(())
        });
        eventually("the one is subscribed at the other", PATIENCE, || {
            let subscriptions = circle.of_floor()["subscriptions"].clone();
            subscriptions.as_object()?.keys().any(|name| name.starts_with("mqtt:floor:")).then_some(())
        });
        circle
    }

    fn of_floor(&self) -> Value {
        client::get(&self.floor.site.admin_url("/ledger")).body
    }

    /// A client of the listener publishes.
    fn publish(&self, version: &str, topic: &str) {
        let arguments = ["-q", "1", "-t", topic, "-m", "{}"];
        let (sent, said) = run(tool("mosquitto_pub", &self.floor, version).args(arguments));
        assert!(sent, "{said}");
    }

    /// Both ledgers, once all of it has come to rest: what the listener and the bridge of the other gateway have received,
    /// stored and filtered, and what that one has sent.
    fn assert_at_rest(&self, [floor, far]: [[i64; 3]; 2], sent: i64) {
        self.far.assert_settled(sent);
        self.floor.assert_balanced();
        let counted = |ledger: &Value, bridge: &str, route: &str| {
            let of = &ledger["bridges"][bridge];
            let number = |value: &Value| value.as_i64().unwrap_or_default();
            [number(&of["received"]), number(&of["routes"][route]["stored"]), number(&of["filtered"])]
        };
        eventually("both ledgers know of all of it", PATIENCE, || {
            let (one, other) = (self.of_floor(), self.far.ledger());
            let counts = [counted(&one, "floor", "floor"), counted(&other, "far", "in")];
            (counts == [floor, far]).then_some(()).or_else(|| {
                let over = counts.iter().flatten().zip([floor, far].iter().flatten()).any(|(is, most)| is > most);
                assert!(!over, "{counts:?}, where it goes round no further: {one} {other}");
                None
            })
        });
    }
}

#[test]
fn in_mqtt_5_a_message_passes_each_of_two_gateways_once_though_their_mappings_are_a_circle() {
    let circle = Circle::new("v5", ", qos: exactly-once", true);
    for _ in 0..MESSAGES {
        // from here to there and back, where it is known
        circle.far.post("1", "{}");
        // and the other way round
        circle.publish("mqttv5", "floor/2/temp");
    }
    let n = MESSAGES;
    // the listener stores what its clients and the other gateway send, and hears the former again
    let (floor, far) = ([3 * n, 2 * n, n], [2 * n, n, n]);
    circle.assert_at_rest([floor, far], 2 * n);
    // and it stays so: whatever would go round is overtaken by one message more
    circle.far.post("1", "{}");
    circle.assert_at_rest([[3 * n + 1, 2 * n + 1, n], [2 * n + 1, n, n + 1]], 2 * n + 1);
}

#[test]
fn what_has_come_from_a_gateway_is_not_sent_back_to_it_unless_the_mapping_says_so() {
    let circle = Circle::new("v5", "", false);
    for _ in 0..MESSAGES {
        circle.publish("mqttv5", "floor/2/temp");
    }
    let n = MESSAGES;
    circle.assert_at_rest([[n, n, 0], [n, n, 0]], 0);
    assert_eq!(circle.far.ledger()["subscriptions"]["mapping:out"]["left_out"], n);
}

#[test]
fn in_mqtt_3_a_message_goes_round_over_two_gateways_as_far_as_the_topics_that_are_declared() {
    let circle = Circle::new("v3.1.1", ", own: ['floor/+/temp']", true);
    for _ in 0..MESSAGES {
        circle.far.post("1", "{}");
        circle.publish("mqttv311", "floor/2/other");
    }
    let n = MESSAGES;
    // what comes in under a topic that is not its own is sent on under one that is
    circle.assert_at_rest([[3 * n, 3 * n, 0], [n, n, 0]], 2 * n);
    let echoes = format!("openmesh_mqtt_client_echoes_total{{bridge=\"far\"}} {}", 2 * n);
    eventually("what it has sent it does not take in", PATIENCE, || {
        client::get(&circle.far.site.admin_url("/metrics")).text.contains(&echoes).then_some(())
    });
    circle.publish("mqttv311", "floor/2/other");
    circle.assert_at_rest([[3 * n + 2, 3 * n + 2, 0], [n + 1, n + 1, 0]], 2 * n + 1);
}
