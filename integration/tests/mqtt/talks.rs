//! Requests by HTTP that clients of MQTT 5.0 answer, and conversations that keep their correlation data.

use std::{
    io::BufReader,
    process::{Child, ChildStdout},
    thread,
};

use integration::{Gateway, client};

use crate::{
    Floor,
    clients::{run, subscriber, subscribing, tool},
};

const ASKS: &str = "mapping: asks
from: { bridge: web, address: POST /ask }
envelope: { topic: market/ask, performative: request, conversation: \"${payload.talk}\", recipients: [ada, \"bob b\"] }
reply:
  - within: 20s
    status: '${envelope.performative == \"refuse\" ? 409 : 200}'
    body: { price: \"${payload.price}\", said: \"${envelope.performative}\", by: \"${envelope.source}\" }
";
const TALKS: &str = "mapping: talks
from: { bridge: floor, address: talks }
envelope:
  topic: talks
  conversation: '${has(headers[\"correlation-data\"]) ? headers[\"correlation-data\"] : null}'
";
const MAY_REPLY: &str = "permit (principal == Principal::\"anonymous\", action == Action::\"reply\", resource in Topic::\"$mesh/reply\");\n";

/// What `mosquitto_sub` says of a request: where its answer goes, its conversation, its user properties.
struct Asked {
    to: String,
    correlation: String,
    properties: String,
}

impl Asked {
    fn next(lines: &mut std::io::Lines<BufReader<ChildStdout>>) -> Self {
        let line = lines.map_while(Result::ok).find(|line| line.starts_with("asked|")).expect("a request");
        let mut parts = line.splitn(4, '|').skip(1).map(str::to_owned);
        let mut part = || parts.next().expect("a part");
        Self { to: part(), correlation: part(), properties: part() }
    }

    fn id(&self) -> &str {
        let id = self.properties.split(' ').find_map(|property| property.strip_prefix("id:"));
        id.expect("an id")
    }
}

fn agent(floor: &Floor) -> (Child, std::io::Lines<BufReader<ChildStdout>>) {
    let mut command = subscribing(floor, "mqttv5");
    subscriber(command.args(["-q", "1", "-t", "market/#", "-C", "2", "-F", "asked|%R|%D|%P"]))
}

/// What a client is told of an answer.
fn answer(floor: &Floor, to: &str, id: &str, more: &[&str]) -> String {
    let mut publish = tool("mosquitto_pub", floor, "mqttv5");
    publish.args(["-q", "1", "-d", "-t", to, "-m", "{\"price\":17}"]);
    run(publish.args(["-D", "publish", "user-property", "inreplyto", id]).args(more)).1
}

#[test]
fn a_request_by_http_is_answered_by_a_client_of_mqtt() {
    let floor = Floor::new();
    floor.site.write("mappings/asks.yaml", ASKS);
    floor.site.write("policies/replies.cedar", MAY_REPLY);
    let _gateway = Gateway::start(&floor.site);
    let (mut child, mut lines) = agent(&floor);
    let url = format!("http://{}/ask", floor.site.http);
    let ask = |talk: &str| {
        let (url, body) = (url.clone(), format!("{{\"talk\":\"{talk}\"}}"));
        thread::spawn(move || client::post(&url, &body))
    };

    let asks = ask("talk-33");
    let asked = Asked::next(&mut lines);
    assert!(asked.to.starts_with("$mesh/reply/plant-a/"), "{}", asked.to);
    assert_eq!(asked.correlation, "talk-33");
    assert!(asked.properties.contains("recipients:ada bob%20b"), "{}", asked.properties);
    assert!(asked.properties.contains("replyby:"), "{}", asked.properties);
    let other = "0192f0c4-7d3e-7a10-8000-000000000001";
    for (to, id, code, why) in [
        (&*asked.to, other, "RC:135", "does not answer the envelope of this reply topic"),
        ("$mesh/reply/plant-a/00000000000000000000000000000000", asked.id(), "RC:135", "does not answer the envelope"),
        (&*asked.to, "m0", "RC:153", "is no id of an envelope"),
    ] {
        let said = answer(&floor, to, id, &[]);
        assert!(said.contains(code) && said.contains(why), "{to} {id}: {said}");
    }
    let said = answer(&floor, &asked.to, asked.id(), &[]);
    assert!(said.contains("RC:0"), "{said}");
    let told = asks.join().expect("its answer");
    let by = "mesh://plant-a/floor/anonymous";
    assert_eq!((told.status, &told.body["price"], &told.body["by"]), (200, &17.into(), &by.into()), "{}", told.text);
    let again = answer(&floor, &asked.to, asked.id(), &[]);
    assert!(again.contains("it was answered before"), "{again}");

    let asks = ask("");
    let asked = Asked::next(&mut lines);
    assert_eq!(asked.correlation, "");
    let refuses = ["-D", "publish", "user-property", "performative", "refuse"];
    let said = answer(&floor, &asked.to, asked.id(), &refuses);
    assert!(said.contains("RC:0"), "{said}");
    assert_eq!(asks.join().expect("its answer").status, 409);
    child.wait().expect("its end");
    floor.assert_balanced();
}

#[test]
fn correlation_data_goes_through_a_mapping_as_it_came_and_finds_its_messages() {
    let floor = Floor::new();
    floor.site.write("mappings/talks.yaml", TALKS);
    let _gateway = Gateway::start(&floor.site);
    let mut command = subscribing(&floor, "mqttv5");
    let (mut child, mut lines) = subscriber(command.args(["-t", "talks", "-C", "2", "-F", "heard|%D|%p"]));
    for properties in [&["-D", "publish", "correlation-data", "talk 7"][..], &[]] {
        let mut publish = tool("mosquitto_pub", &floor, "mqttv5");
        let (sent, said) = run(publish.args(["-q", "1", "-t", "talks", "-m", "1"]).args(properties));
        assert!(sent, "{said}");
        let heard = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("heard|")).expect("a message");
        let expected = if properties.is_empty() { "heard||1" } else { "heard|talk 7|1" };
        assert_eq!(heard, expected);
    }
    child.wait().expect("its end");
    let page = client::get(&floor.site.admin_url("/messages?conversation=talk%207")).body;
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1), "{page}");
    floor.assert_balanced();
}
