//! Mosquitto's clients, in both versions of the protocol and at every QoS.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use integration::{Gateway, client, eventually};

use crate::{Floor, PATIENCE};

/// What came of a command that ends by itself.
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the client to run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A client that ends by itself, or after half a minute.
pub(crate) fn tool(name: &str, floor: &Floor, version: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["30", name]).args(broker(floor, version));
    command
}

/// `mosquitto_sub` as the child itself (`stdbuf` becomes it), so that to kill the child is to kill the client.
pub(crate) fn subscribing(floor: &Floor, version: &str) -> Command {
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "mosquitto_sub", "-W", "30"]).args(broker(floor, version));
    command
}

fn broker(floor: &Floor, version: &str) -> [String; 6] {
    ["-h", "127.0.0.1", "-p", &floor.mqtt.port().to_string(), "-V", version].map(str::to_owned)
}

/// A subscriber that has heard SUBACK.
pub(crate) fn subscriber(command: &mut Command) -> (Child, std::io::Lines<BufReader<std::process::ChildStdout>>) {
    let mut child = command.arg("-d").stdout(Stdio::piped()).spawn().expect("mosquitto_sub to run");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let subscribed = lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("Subscribed"));
    assert!(subscribed, "mosquitto_sub ended early");
    (child, lines)
}

#[test]
fn every_qos_goes_in_and_out_in_both_versions() {
    let floor = Floor::new();
    let _gateway = Gateway::start(&floor.site);
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let mut command = subscribing(&floor, version);
            let (mut child, lines) = subscriber(command.args(["-q", qos, "-t", "floor/#", "-C", "1"]));
            let text = format!("{{\"text\":\"{version} {qos}\"}}");
            let topic = "floor/7/text";
            let (sent, said) =
                run(tool("mosquitto_pub", &floor, version).args(["-q", qos, "-t", topic, "-m", &text, "-d"]));
            assert!(sent, "{said}");
            let heard = lines.map_while(Result::ok).find(|line| line.contains(&text));
            assert!(heard.is_some(), "{version} at QoS {qos}");
            child.wait().expect("its end");
        }
    }
    floor.assert_balanced();
    let ledger = client::get(&floor.site.admin_url("/ledger")).body;
    assert_eq!(ledger["bridges"]["floor"]["accepted"], 6, "{ledger}");
}

#[test]
fn a_refusal_is_told_with_its_reason() {
    let floor = Floor::new();
    let _gateway = Gateway::start(&floor.site);
    let publish = |topic: &str, text: &str| {
        run(tool("mosquitto_pub", &floor, "mqttv5").args(["-q", "1", "-t", topic, "-m", text, "-d"])).1
    };
    let unmapped = publish("nowhere", "{}");
    assert!(unmapped.contains("RC:144") && unmapped.contains("no mapping takes"), "{unmapped}");
    let malformed = publish("floor/7/text", "no JSON");
    assert!(malformed.contains("RC:153") && malformed.contains("not valid JSON"), "{malformed}");
    floor.assert_balanced();
}

#[test]
fn a_retained_message_is_there_for_who_subscribes_later() {
    let floor = Floor::new();
    let gateway = Gateway::start(&floor.site);
    let publish = |arguments: &[&str]| {
        let (sent, said) =
            run(tool("mosquitto_pub", &floor, "mqttv5").args(["-q", "1", "-r", "-t", "floor/7/text"]).args(arguments));
        assert!(sent, "{said}");
    };
    publish(&["-m", "{\"kept\":true}"]);
    gateway.kill();
    let _gateway = Gateway::start(&floor.site);
    let mut later = tool("mosquitto_sub", &floor, "mqttv5");
    let (heard, said) = run(later.args(["-t", "floor/#", "-C", "1", "-F", "%r %p", "-W", "10"]));
    assert!(heard && said.contains("1 {\"kept\":true}"), "{said}");
    // the mapping decodes JSON, which nothing at all is not
    publish(&["-n"]);
    let mut nothing = tool("mosquitto_sub", &floor, "mqttv5");
    let (heard, said) = run(nothing.args(["-t", "floor/#", "--retained-only", "-C", "1", "-W", "3"]));
    assert!(!heard && said.trim() == "Timed out", "{said}");
}

#[test]
fn clients_that_share_a_subscription_get_each_message_once_in_both_versions() {
    let floor = Floor::new();
    let _gateway = Gateway::start(&floor.site);
    let share = ["-q", "1", "-t", "$share/workers/floor/#", "-C", "10"];
    let members: Vec<_> =
        ["mqttv311", "mqttv5"].iter().map(|version| subscriber(subscribing(&floor, version).args(share))).collect();
    for n in 0..20 {
        let text = format!("{{\"n\":{n}}}");
        let (sent, said) =
            run(tool("mosquitto_pub", &floor, "mqttv5").args(["-q", "1", "-t", "floor/7/job", "-m", &text]));
        assert!(sent, "{said}");
    }
    let mut heard = Vec::new();
    for (mut child, lines) in members {
        heard.extend(lines.map_while(Result::ok).filter(|line| line.starts_with("{\"n\":")));
        child.wait().expect("its end");
    }
    heard.sort_unstable();
    let mut expected: Vec<_> = (0..20).map(|n| format!("{{\"n\":{n}}}")).collect();
    expected.sort_unstable();
    assert_eq!(heard, expected);
    floor.assert_balanced();
}

#[test]
fn what_is_published_while_a_client_of_a_session_is_away_waits_for_it_over_a_kill() {
    let floor = Floor::new();
    let gateway = Gateway::start(&floor.site);
    let session = ["-i", "away", "-c", "-q", "1", "-t", "floor/#"];
    let (mut child, _lines) = subscriber(subscribing(&floor, "mqttv311").args(session));
    child.kill().expect("to kill it");
    child.wait().expect("its end");
    eventually("the gateway has noticed", PATIENCE, || {
        let metrics = client::get(&floor.site.admin_url("/metrics")).text;
        metrics
            .lines()
            .any(|line| line.starts_with("openmesh_bridge_mqtt_connections") && line.ends_with(" 0"))
            .then_some(())
    });
    let (sent, said) =
        run(tool("mosquitto_pub", &floor, "mqttv5").args(["-q", "1", "-t", "floor/7/a", "-m", "{\"waits\":1}"]));
    assert!(sent, "{said}");
    gateway.kill();
    let _gateway = Gateway::start(&floor.site);
    let (heard, said) = run(tool("mosquitto_sub", &floor, "mqttv311").args(session).args(["-C", "1", "-W", "10"]));
    assert!(heard && said.contains("{\"waits\":1}"), "{said}");
    floor.assert_balanced();
}
