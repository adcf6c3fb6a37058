//! MQTT with clients that others wrote: Mosquitto's, paho's and mqtt.js's, as child processes, against the built gateway.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

mod answers;
mod clients;
mod features;
mod javascript;
mod paho;
mod pressure;
mod promises;
mod properties;
mod remote;
mod repeats;
mod restarts;
mod sealed;
mod shares;
mod silence;
mod talks;
mod websocket;

use std::{net::SocketAddr, time::Duration};

use integration::{Site, client, eventually, site::free_port};

const PATIENCE: Duration = Duration::from_secs(30);

/// The shipped policy, a listener for MQTT, and a mapping of `floor/...`.
struct Floor {
    site: Site,
    mqtt: SocketAddr,
    /// Of MQTT over WebSocket.
    websocket: SocketAddr,
}

impl Floor {
    fn new() -> Self {
        Self::with("max_qos: 2")
    }

    /// With another key of the listener.
    fn with(key: &str) -> Self {
        let (site, mqtt, websocket) = (Site::shipped(), free_port(), free_port());
        let text = format!(
            "domain: plant-a\njurisdictions: [eu]\nbackbone: {{ embedded: {{ path: {} }} }}\nadmin: {{ listen: {} }}\n\
             bridges:\n  web: {{ http: {{ listen: '{}' }} }}\n  floor: {{ mqtt: {{ listen: '{mqtt}', {key}, websocket: {{ listen: '{websocket}' }} }} }}\n\
             mappings: mappings/\npolicy: policy.yaml\n",
            site.data().display(),
            site.admin,
            site.http,
        );
        site.write("gateway.yaml", &text);
        site.write(
            "mappings/floor.yaml",
            "mapping: floor\nfrom: { bridge: floor, address: \"floor/{line}/{kind}\", decode: json }\n\
             envelope: { topic: \"floor/${address.line}/${address.kind}\" }\nack: durable\n",
        );
        Self { site, mqtt, websocket }
    }

    /// How many connections were closed because of what they brought.
    fn unconnected(&self, reason: &str) -> u64 {
        let metrics = client::get(&self.site.admin_url("/metrics")).text;
        let name = format!("openmesh_bridge_mqtt_unconnected_total{{bridge=\"floor\",reason=\"{reason}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("{metrics}"));
        value.parse().expect("a number")
    }

    /// The ledger's own word for it, once nothing is in flight.
    fn assert_balanced(&self) {
        eventually("the ledger balances", PATIENCE, || {
            let ledger = client::get(&self.site.admin_url("/ledger")).body;
            (ledger["balanced"] == true && ledger["bridges"]["floor"]["in_flight"] == 0).then_some(())
        });
    }
}
