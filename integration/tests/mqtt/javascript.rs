//! mqtt.js as a child process, over TCP and WebSocket; what it does is in `round_trip.mjs`.

use std::process::Command;

use integration::{Gateway, site::repository};

use crate::Floor;

#[test]
fn every_qos_goes_in_and_out_with_mqtt_js_in_both_versions() {
    let floor = Floor::new();
    let _gateway = Gateway::start(&floor.site);
    for url in [format!("mqtt://{}", floor.mqtt), format!("ws://{}/mqtt", floor.websocket)] {
        for version in ["4", "5"] {
            for qos in ["0", "1", "2"] {
                let output = Command::new("node")
                    .arg(repository().join("integration/tests/mqtt/round_trip.mjs"))
                    .args([&url, version, qos])
                    .env("NODE_PATH", repository().join("target/tools/node_modules"))
                    .output()
                    .expect("node to run");
                let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                assert!(output.status.success() && said.ends_with("ok\n"), "{url} {version} {qos}: {said}");
            }
        }
    }
    floor.assert_balanced();
}
