//! A crash between the store and PUBACK: what the client sends again is the message that is stored.

use integration::{Gateway, Site, client, eventually, mosquitto::Mosquitto, site::free_port};
use serde_json::Value;

use crate::{Floor, PATIENCE, paho::Paho};

/// A listener whose messages are acknowledged once a remote broker, which is away, has them.
fn floor(broker: &Mosquitto) -> Floor {
    let (site, mqtt, websocket) = (Site::shipped(), free_port(), free_port());
    let text = format!(
        "domain: plant-a\njurisdictions: [eu]\nbackbone: {{ embedded: {{ path: {} }} }}\nadmin: {{ listen: {} }}\n\
         bridges:\n  web: {{ http: {{ listen: '{}' }} }}\n  floor: {{ mqtt: {{ listen: '{mqtt}' }} }}\n  \
         far: {{ mqtt_client: {{ servers: ['{}'], max_backoff: 1s }} }}\nmappings: mappings/\npolicy: policy.yaml\n",
        site.data().display(),
        site.admin,
        site.http,
        broker.url(),
    );
    site.write("gateway.yaml", &text);
    site.write(
        "mappings/floor.yaml",
        "mapping: floor\nfrom: { bridge: floor, address: \"floor/{line}/{kind}\", decode: json }\n\
         envelope: { topic: \"floor/${address.line}/${address.kind}\" }\nack: delivered\nack_within: 1h\n",
    );
    site.write(
        "mappings/out.yaml",
        "mapping: out\nfrom: { topic: \"floor/#\" }\nto: { bridge: far, address: \"mirror/${envelope.topic.split('/')[2]}\" }\n",
    );
    site.write(
        "policies/far.cedar",
        "@id(\"far\")\npermit (principal == Principal::\"$bridge:far\", action == Action::\"subscribe\", resource);\n",
    );
    Floor { site, mqtt, websocket }
}

#[test]
fn what_is_stored_and_not_acknowledged_when_the_gateway_is_killed_is_stored_once() {
    for version in ["4", "5"] {
        for qos in ["1", "2"] {
            let mut broker = Mosquitto::prepared("allow_anonymous true\n", &[]);
            let floor = floor(&broker);
            let counted = |what: &str| -> Value {
                let ledger = client::get(&floor.site.admin_url("/ledger")).body;
                ledger["bridges"]["floor"][what].clone()
            };
            let gateway = Gateway::start(&floor.site);
            let publisher = Paho::start(&floor, &["publish", version, qos, "5"]);
            let stored = || counted("accepted") == 5;
            eventually("all of it is stored", PATIENCE, || stored().then_some(()));
            gateway.kill();
            let gateway = Gateway::start(&floor.site);
            eventually("all of it comes again", PATIENCE, || (counted("duplicate") == 5).then_some(()));
            assert!(stored() && publisher.lines().is_empty(), "MQTT {version} at QoS {qos}");
            broker.up();
            eventually("all of it is acknowledged", PATIENCE, || (publisher.lines().len() == 5).then_some(()));
            floor.assert_balanced();
            let ledger = client::get(&floor.site.admin_url("/ledger")).body;
            assert_eq!(ledger["subscriptions"]["mapping:out"]["delivered"], 5, "MQTT {version} at QoS {qos}: {ledger}");
            drop(gateway);
        }
    }
}
