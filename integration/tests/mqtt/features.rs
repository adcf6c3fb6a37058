//! What the listener does beside publishing and subscribing, with Mosquitto's clients.

use integration::{Gateway, client, eventually};

use crate::{
    Floor, PATIENCE,
    clients::{run, subscriber, subscribing, tool},
};

#[test]
fn with_a_prefix_clients_hear_each_other_without_a_mapping_and_the_mesh_knows_the_whole_topic() {
    let floor = Floor::with("prefix: devices");
    let gateway = Gateway::start(&floor.site);
    let (mut child, lines) =
        subscriber(subscribing(&floor, "mqttv5").args(["-q", "1", "-t", "press/#", "-C", "1", "-F", "%t %p %C %R"]));
    let mut publish = tool("mosquitto_pub", &floor, "mqttv5");
    let properties = ["-D", "publish", "content-type", "text/csv", "-D", "publish", "response-topic", "press/answers"];
    let (sent, said) = run(publish.args(["-q", "1", "-r", "-t", "press/1", "-m", "a,b"]).args(properties));
    assert!(sent, "{said}");
    let heard: Vec<_> = lines.map_while(Result::ok).filter(|line| line.contains("a,b")).collect();
    assert_eq!(heard, ["press/1 a,b text/csv press/answers"]);
    child.wait().expect("its end");
    let found = client::get(&floor.site.admin_url("/messages?topic=devices/press/1")).body;
    assert_eq!(found["messages"][0]["envelope"]["subject"], "devices/press/1", "{found}");
    floor.assert_balanced();
    let ledger = client::get(&floor.site.admin_url("/ledger")).body;
    assert_eq!(ledger["bridges"]["floor"]["routes"]["one-to-one:floor"]["accepted"], 1, "{ledger}");
    gateway.kill();
    let _gateway = Gateway::start(&floor.site);
    let mut later = tool("mosquitto_sub", &floor, "mqttv311");
    let (heard, said) = run(later.args(["-t", "#", "-C", "1", "-F", "%r %t", "-W", "10"]));
    assert!(heard && said.contains("1 press/1"), "{said}");
}

#[test]
fn sys_is_read_by_who_may_and_by_nobody_else() {
    let floor = Floor::new();
    let _gateway = Gateway::start(&floor.site);
    let read =
        || run(tool("mosquitto_sub", &floor, "mqttv5").args(["-t", "$SYS/broker/version", "-C", "1", "-W", "5"]));
    let (_, said) = read();
    assert!(said.contains("denied"), "a policy has to name it: {said}");
    floor.site.write(
        "policies/sys.cedar",
        "@id(\"sys\") permit (principal, action == Action::\"subscribe\", resource in Topic::\"$SYS\");\n",
    );
    let said =
        eventually("the policy is in force", PATIENCE, || Some(read().1).filter(|said| !said.contains("denied")));
    assert!(said.starts_with("openmesh "), "{said}");
}

#[test]
fn a_will_that_waits_is_published_after_the_gateway_was_killed() {
    let floor = Floor::new();
    let gateway = Gateway::start(&floor.site);
    let mut command = subscribing(&floor, "mqttv5");
    command.args(["-i", "wills", "-c", "-x", "600", "-t", "floor/#", "-q", "1", "--will-topic", "floor/7/state"]);
    command.args(["--will-payload", "{\"gone\":1}", "--will-qos", "1", "--will-retain"]);
    command.args(["-D", "will", "will-delay-interval", "2"]);
    let (mut child, _lines) = subscriber(&mut command);
    child.kill().expect("to kill it");
    child.wait().expect("its end");
    gateway.kill();
    let _gateway = Gateway::start(&floor.site);
    let mut later = tool("mosquitto_sub", &floor, "mqttv311");
    let (heard, said) = run(later.args(["-t", "floor/7/state", "-C", "1", "-F", "%p", "-W", "20"]));
    assert!(heard && said.trim() == "{\"gone\":1}", "{said}");
    floor.assert_balanced();
}

#[test]
fn who_subscribes_to_an_address_sees_there_what_a_mapping_makes_over_a_kill() {
    let floor = Floor::new();
    floor.site.write(
        "mappings/display.yaml",
        "mapping: display\nfrom: { topic: \"floor/+/temp\" }\nto:\n  bridge: floor\n  address: display/${envelope.topic.split(\"/\")[1]}\n  \
         encode: text\n  body: ${payload.celsius}\n",
    );
    let gateway = Gateway::start(&floor.site);
    let session = ["-i", "display", "-c", "-q", "1", "-t", "display/#", "-F", "%t %p"];
    let (mut child, _lines) = subscriber(subscribing(&floor, "mqttv311").args(session));
    child.kill().expect("to kill it");
    child.wait().expect("its end");
    eventually("the gateway has noticed", PATIENCE, || {
        let metrics = client::get(&floor.site.admin_url("/metrics")).text;
        let connections = metrics.lines().find(|line| line.starts_with("openmesh_bridge_mqtt_connections"))?;
        connections.ends_with(" 0").then_some(())
    });
    for (line, celsius) in [("7", "10.5"), ("8", "11")] {
        let text = format!("{{\"celsius\":{celsius}}}");
        let topic = format!("floor/{line}/temp");
        let (sent, said) = run(tool("mosquitto_pub", &floor, "mqttv5").args(["-q", "1", "-t", &topic, "-m", &text]));
        assert!(sent, "{said}");
    }
    gateway.kill();
    let _gateway = Gateway::start(&floor.site);
    let (heard, said) = run(tool("mosquitto_sub", &floor, "mqttv311").args(session).args(["-C", "2", "-W", "10"]));
    assert!(heard && said.contains("display/7 10.5") && said.contains("display/8 11"), "{said}");
    floor.assert_balanced();
    let ledger = client::get(&floor.site.admin_url("/ledger")).body;
    assert!(ledger["subscriptions"]["mapping:display"].is_null(), "nothing is sent by itself: {ledger}");
}
