//! Connections that are cut in the worst moments, and brokers that are slow.

use integration::{Gateway, client, eventually};

use super::{Far, Mosquitto, PATIENCE, VERSIONS, counted, proxy::Proxy, url};

#[test]
fn a_connection_cut_in_the_middle_of_qos_2_neither_loses_nor_repeats_what_goes_out() {
    // PUBREC and PUBCOMP of the broker, PUBREL of the gateway
    for version in VERSIONS {
        for first in [0x50, 0x70, 0x62] {
            let broker = Mosquitto::start();
            let proxy = Proxy::to(broker.address);
            let far = Far::new(&url(proxy.address), version, ", qos: at-least-once");
            far.sends("exactly-once", "");
            let _gateway = Gateway::start(&far.site);
            far.until_connected(&broker);
            let heard = broker.subscribe("heard", "mirror/#", "> %p");
            proxy.cut_on(first, 3);
            for n in 0..20 {
                far.post("1", &format!("{{\"n\":{n}}}"));
            }
            far.assert_settled(20);
            assert_eq!(proxy.cuts(), 3, "{version} 0x{first:X}");
            eventually("everything arrives", PATIENCE, || (heard.messages().len() >= 20).then_some(()));
            let expected: Vec<_> = (0..20).map(|n| format!("{{\"n\":{n}}}")).collect();
            assert_eq!(heard.messages(), expected, "{version} 0x{first:X}: each once, in order");
        }
    }
}

#[test]
fn a_connection_cut_in_the_middle_of_qos_2_neither_loses_nor_repeats_what_comes_in() {
    // PUBREC and PUBCOMP of the gateway, PUBREL of the broker
    for version in VERSIONS {
        for first in [0x50, 0x70, 0x62] {
            let broker = Mosquitto::start();
            let proxy = Proxy::to(broker.address);
            let far = Far::new(&url(proxy.address), version, ", qos: exactly-once");
            let _gateway = Gateway::start(&far.site);
            far.until_connected(&broker);
            proxy.cut_on(first, 3);
            broker.publish_many("floor/1/two", "2", 20);
            eventually("everything is stored", PATIENCE, || (far.stored() >= 20 && proxy.cuts() == 3).then_some(()));
            far.assert_settled(0);
            assert_eq!(far.stored(), 20, "{version} 0x{first:X}: each once");
        }
    }
}

#[test]
fn a_slow_broker_is_sent_no_more_than_the_window_and_nothing_is_lost() {
    let broker = Mosquitto::start();
    let proxy = Proxy::to(broker.address);
    let far = Far::new(&url(proxy.address), "v5", ", max_in_flight: 4");
    // a call at a time for each of these
    far.sends("at-least-once", "  key: ${envelope.topic}\n");
    let _gateway = Gateway::start(&far.site);
    far.until_connected(&broker);
    let heard = broker.subscribe("heard", "mirror/#", "> %p");
    proxy.hold(true);
    for n in 0..50 {
        far.post(&(n % 10).to_string(), &format!("{{\"n\":{n}}}"));
    }
    eventually("the window is full", PATIENCE, || {
        let metrics = client::get(&far.site.admin_url("/metrics")).text;
        let published = metrics.lines().find(|line| line.starts_with("openmesh_mqtt_client_published_total"))?;
        (published.rsplit(' ').next() == Some("4")).then_some(())
    });
    assert_eq!(far.ledger()["subscriptions"]["mapping:out"]["pending"], 50);
    proxy.hold(false);
    far.assert_settled(50);
    eventually("everything arrives", PATIENCE, || (counted(&heard).len() == 50).then_some(()));
}

#[test]
fn several_brokers_are_asked_in_turn() {
    let mut broker = Mosquitto::start();
    let nobody = integration::site::free_port();
    let far = Far::new(&url(nobody), "v5", "");
    far.configure(&format!("servers: ['{}', '{}'], max_backoff: 1s", url(nobody), broker.url()));
    let _gateway = Gateway::start(&far.site);
    far.until_connected(&broker);
    assert_eq!(far.connection("out")["peer"], broker.url());
    broker.end();
    eventually("it is away", PATIENCE, || (far.connection("out")["state"] == "away").then_some(()));
    broker.up();
    far.until_connected(&broker);
    far.post("1", "{}");
    far.assert_settled(1);
}

#[test]
fn a_broker_that_is_killed_is_followed_by_the_next_one_and_comes_back() {
    let mut brokers = [Mosquitto::start(), Mosquitto::start()];
    let far = Far::new(&brokers[0].url(), "v5", "");
    far.configure(&format!("servers: ['{}', '{}'], max_backoff: 1s", brokers[0].url(), brokers[1].url()));
    let _gateway = Gateway::start(&far.site);
    far.until_connected(&brokers[0]);
    for (sent, now) in [0, 1, 0].into_iter().enumerate() {
        let heard = brokers[now].subscribe(&format!("heard-{sent}"), "mirror/#", "> %p");
        eventually("it has the other one", PATIENCE, || {
            let stands = |way: &&str| {
                let one = far.connection(way);
                one["state"] == "connected" && one["peer"] == brokers[now].url()
            };
            ["in", "out"].iter().all(stands).then_some(())
        });
        far.post("1", &format!("{{\"n\":{sent}}}"));
        far.assert_settled(sent as i64 + 1);
        eventually("it arrives there", PATIENCE, || (heard.messages() == [format!("{{\"n\":{sent}}}")]).then_some(()));
        brokers[now].publish(&["-q", "1", "-t", "floor/7/temp", "-m", "{}"]);
        eventually("what is there comes in", PATIENCE, || (far.stored() == sent as i64 + 1).then_some(()));
        drop(heard);
        brokers[now].kill();
        brokers[1 - now].again();
    }
}
