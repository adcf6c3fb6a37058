//! What a client of MQTT 5.0 says beside the payload goes through mapping files both ways, with paho; what it sends and
//! prints is in `properties.py`.

use integration::{Gateway, client};
use serde_json::{Value, json};

use crate::{Floor, clients::run, paho::script};

const IN: &str = r#"mapping: reading-in
from: { bridge: floor, address: "in/{line}", decode: json }
envelope:
  topic: readings/${address.line}
  key: ${headers["x-key"]}
  conversation: ${headers["correlation-data"]}
  data:
    n: ${payload.n}
    unit: ${headers["x-unit"]}
    came_as: ${headers["content-type"]}
    answer_to: ${headers["response-topic"]}
    format: ${headers["payload-format-indicator"]}
    seconds: ${headers["message-expiry-interval"]}
ack: durable
"#;
const OUT: &str = r#"mapping: reading-out
from: { topic: readings/+ }
to:
  bridge: floor
  address: out/${envelope.topic.split("/")[1]}
  qos: at-least-once
  headers:
    content-type: ${payload.came_as}
    response-topic: ${payload.answer_to}
    correlation-data: ${envelope.conversation}
    message-expiry-interval: ${payload.seconds}
    payload-format-indicator: ${payload.format}
    x-key: ${envelope.key}
    x-unit: ${payload.unit}
  encode: json
  body: { n: "${payload.n}" }
"#;

#[test]
fn every_property_becomes_what_mapping_files_say_and_comes_out_as_a_property_at_an_address_of_theirs() {
    let floor = Floor::new();
    floor.site.write("mappings/reading-in.yaml", IN);
    floor.site.write("mappings/reading-out.yaml", OUT);
    let _gateway = Gateway::start(&floor.site);
    for qos in 0..=2 {
        let mut paho = script("properties.py");
        paho.args(["127.0.0.1", &floor.mqtt.port().to_string(), "in/7", "out/#", &qos.to_string()]);
        let (ended, said) = run(&mut paho);
        assert!(ended, "{said}");
        let mut heard: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let user = heard["user"].take();
        let expected = json!({
            "topic": "out/7",
            // that of the mapping, or the subscription's if that is less
            "qos": qos.min(1),
            "payload": r#"{"n":12345678901234567890.5}"#,
            "format": 1,
            "expiry": 500,
            "content_type": "application/json",
            "response_topic": "answers/7",
            "correlation": "00ff6279746573",
            "user": null,
        });
        assert_eq!(heard, expected, "at QoS {qos}");
        for (name, value) in [("x-key", "line 7"), ("x-unit", "°C"), ("partitionkey", "line 7"), ("hops", "plant-a")] {
            assert_eq!(user[name], value, "at QoS {qos}: {user}");
        }
    }
    floor.assert_balanced();
    let page = client::get(&floor.site.admin_url("/messages?topic=readings/7")).body;
    let envelopes = page["messages"].as_array().expect("messages");
    assert_eq!(envelopes.len(), 3, "{page}");
    for message in envelopes {
        let envelope = &message["envelope"];
        assert_eq!(envelope["partitionkey"], "line 7", "{envelope}");
        assert_eq!(envelope["conversation"], "hex:00ff6279746573", "{envelope}");
    }
}
