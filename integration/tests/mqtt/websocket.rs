//! MQTT over WebSocket with paho, in both versions of the protocol.

use integration::{Gateway, eventually};

use crate::{Floor, PATIENCE, paho::Paho};

#[test]
fn every_qos_goes_in_and_out_over_websocket_in_both_versions() {
    let floor = Floor::new();
    let _gateway = Gateway::start(&floor.site);
    let port = floor.websocket.port();
    for version in ["4", "5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("floor/{version}/{qos}");
            let subscriber = Paho::over("websockets", port, &["subscribe", version, qos, &topic]);
            eventually("a subscription", PATIENCE, || subscriber.lines().contains(&"ready".to_owned()).then_some(()));
            let publisher = Paho::over("websockets", port, &["publish", version, qos, "50"]);
            eventually("everything is acknowledged", PATIENCE, || (publisher.lines().len() == 50).then_some(()));
            let expected: Vec<_> = (0..50).map(|n| format!("{{\"n\":{n}}}")).collect();
            eventually("everything is delivered, in order", PATIENCE, || {
                let heard: Vec<_> = subscriber.lines().into_iter().filter(|line| line != "ready").collect();
                (heard == expected).then_some(())
            });
        }
    }
    floor.assert_balanced();
}
