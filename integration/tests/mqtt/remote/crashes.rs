//! Either side ends, in order or by SIGKILL, and nothing that was acknowledged is lost.

use std::collections::BTreeSet;

use integration::{Gateway, Subscriber, client, eventually};
use serde_json::json;

use super::{Far, Mosquitto, PATIENCE, VERSIONS, counted};

const MESSAGES: usize = 300;
/// When the gateway is killed. What is without an answer then, it sends again as another message: as many as Mosquitto takes.
const GATEWAY_KILLED: usize = 180;
const WINDOW: usize = 20;

fn text(n: usize) -> String {
    format!("{{\"n\":{n}}}")
}

/// The numbers that are stored on a topic of the mesh, and how many records there are.
fn stored(far: &Far, topic: &str, count: usize) -> (BTreeSet<i64>, usize) {
    let start = json!("earliest");
    let mut subscriber = Subscriber::open(far.site.http, &[topic], &start, None, 1_000).expect("a subscription");
    let (mut found, mut all) = (BTreeSet::new(), 0);
    while found.len() < count {
        let message = subscriber.message();
        let message =
            message.unwrap_or_else(|| panic!("{topic}: {} of {count}: {}", found.len(), far.ledger()["bridges"]));
        found.insert(message["envelope"]["data"]["n"].as_i64().expect("its number"));
        all += 1;
        subscriber.ack(&message).expect("an open subscription");
    }
    (found, all)
}

#[test]
fn what_comes_while_the_gateway_is_killed_again_and_again_is_stored_and_at_qos_2_once() {
    for version in VERSIONS {
        let mut broker = Mosquitto::start();
        let far = Far::new(&broker.url(), version, ", qos: exactly-once, receive_maximum: 20");
        let mut gateway = Gateway::start(&far.site);
        far.until_connected(&broker);
        for round in 0..4 {
            broker.publish_many(&format!("floor/{round}/two"), "2", MESSAGES);
            broker.publish_many(&format!("floor/{round}/one"), "1", MESSAGES);
            if round == 2 {
                broker.end();
                broker.up();
            }
            gateway.kill();
            gateway = Gateway::start(&far.site);
        }
        for round in 0..4 {
            for kind in ["one", "two"] {
                let (found, all) = stored(&far, &format!("floor/{round}/{kind}"), MESSAGES);
                assert_eq!(found.len(), MESSAGES, "{version} {round} {kind}");
                assert!(kind == "one" || all == MESSAGES, "{version} {round}: {all} at QoS 2");
            }
        }
        eventually("nothing is in flight", PATIENCE, || {
            let ledger = far.ledger();
            (ledger["balanced"] == true && ledger["bridges"]["far"]["in_flight"] == 0).then_some(())
        });
        let twos: i64 = far.stored();
        assert!(twos >= 8 * MESSAGES as i64, "{twos}");
        drop(gateway);
    }
}

#[test]
fn what_goes_out_while_either_side_restarts_arrives_and_is_settled() {
    for version in VERSIONS {
        for qos in ["at-least-once", "exactly-once"] {
            let mut broker = Mosquitto::start();
            let far = Far::new(&broker.url(), version, "");
            far.sends(qos, "");
            let mut gateway = Gateway::start(&far.site);
            far.until_connected(&broker);
            // `mosquitto_sub` does not live through a restart of its broker, and of what Mosquitto 2.0.11 has kept at QoS 2 over one
            // it sends the first 20
            drop(broker.subscribe_at("1", "heard", "mirror/#", "> %p"));
            for n in 0..MESSAGES {
                far.post(&(n % 5).to_string(), &text(n));
                match n {
                    60 | 120 => {
                        broker.end();
                        broker.up();
                        // or what waits would be in flight at the next interruption, too
                        far.assert_settled(n as i64 + 1);
                    }
                    GATEWAY_KILLED => {
                        gateway.kill();
                        gateway = Gateway::start(&far.site);
                        far.assert_settled(n as i64 + 1);
                    }
                    _ => {}
                }
            }
            far.assert_settled(MESSAGES as i64);
            let heard = broker.subscribe_at("1", "heard", "mirror/#", "> %p");
            eventually("everything arrives", PATIENCE, || (counted(&heard).len() == MESSAGES).then_some(()));
            let twice: Vec<_> = counted(&heard).into_iter().filter(|(_, times)| *times > 1).collect();
            assert!(qos == "at-least-once" || twice.len() <= WINDOW, "{version}: {twice:?}");
            drop(gateway);
        }
    }
}

#[test]
fn a_broker_that_is_killed_is_waited_for_and_found_again() {
    let mut broker = Mosquitto::start();
    let far = Far::new(&broker.url(), "v5", "");
    let _gateway = Gateway::start(&far.site);
    far.until_connected(&broker);
    far.post("1", "{\"n\":1}");
    far.assert_settled(1);
    broker.kill();
    for n in 2..50 {
        far.post("1", &format!("{{\"n\":{n}}}"));
    }
    eventually("the mapping says that it fails", PATIENCE, || {
        let routes = far.routes();
        let out = &routes["sends"][0]["now"];
        (out["state"] == "failing" && out["why"].as_str()?.contains("no connection")).then_some(())
    });
    assert_eq!(far.connection("in")["state"], "away");
    broker.up();
    let heard = broker.subscribe("heard", "mirror/#", "> %p");
    broker.publish(&["-q", "1", "-t", "floor/7/temp", "-m", "{}"]);
    eventually("what waited comes in order", PATIENCE, || (heard.messages().len() >= 48).then_some(()));
    let expected: Vec<_> = (2..50).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert_eq!(heard.messages(), expected);
    far.assert_settled(49);
    eventually("what the broker has comes in", PATIENCE, || (far.stored() >= 1).then_some(()));
    assert_eq!(client::get(&far.site.admin_url("/readyz")).status, 200);
}

#[test]
fn a_drain_settles_what_is_in_flight_and_the_next_start_goes_on() {
    let broker = Mosquitto::start();
    let far = Far::new(&broker.url(), "v5", ", qos: exactly-once");
    let gateway = Gateway::start(&far.site);
    far.until_connected(&broker);
    broker.publish_many("floor/1/two", "2", MESSAGES);
    let ended = gateway.terminate();
    assert!(ended.success(), "{ended}");
    let _gateway = Gateway::start(&far.site);
    let (found, all) = stored(&far, "floor/1/two", MESSAGES);
    assert_eq!((found.len(), all), (MESSAGES, MESSAGES));
}
