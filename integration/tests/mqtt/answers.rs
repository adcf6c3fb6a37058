//! Answers that come by MQTT: Mosquitto's clients answer what is asked over HTTP, at once and in parts.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use integration::Gateway;

use crate::{
    Floor,
    clients::{run, subscriber, subscribing, tool},
};

const ASKS: &str = "mapping: asks
from: { bridge: web, address: POST /ask }
envelope: { topic: market/ask, performative: request }
reply: { within: 20s, body: { n: \"${payload.n}\", said: \"${envelope.performative}\" } }
";
const MAY_REPLY: &str = "@id(\"replies\") permit (principal, action == Action::\"reply\", resource in Topic::\"$mesh/reply\");\n\
    @id(\"market\") permit (principal, action, resource in Topic::\"market\");\n";

#[test]
fn a_client_of_mqtt_5_answers_a_request_at_once_and_in_parts() {
    let floor = Floor::new();
    floor.site.write("mappings/asks.yaml", ASKS);
    floor.site.write("policies/replies.cedar", MAY_REPLY);
    let _gateway = Gateway::start(&floor.site);
    for parts in [1, 3] {
        let mut command = subscribing(&floor, "mqttv5");
        let (mut agent, lines) = subscriber(command.args(["-q", "1", "-t", "market/ask", "-C", "1", "-F", "> %R %P"]));
        let mut curl = Command::new("curl")
            .args(["-sN", "-m", "30", "-d", "{}", &floor.site.url("/ask")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl to run");
        let asked = lines.map_while(Result::ok).find(|line| line.starts_with("> ")).expect("what is asked");
        let mut words = asked.trim_start_matches("> ").split(' ');
        let to = words.next().expect("a response topic").to_owned();
        let id = words.find_map(|word| word.strip_prefix("id:")).expect("its id").to_owned();
        agent.wait().expect("its end");
        let mut heard = BufReader::new(curl.stdout.take().expect("its output")).lines();
        for n in 1..=parts {
            let more = if n < parts { "true" } else { "false" };
            let mut publish = tool("mosquitto_pub", &floor, "mqttv5");
            let payload = format!("{{\"n\":{n}}}");
            publish.args(["-q", "1", "-t", &to, "-m", &payload]);
            for (name, value) in [("inreplyto", &*id), ("more", more), ("performative", "agree")] {
                publish.args(["-D", "publish", "user-property", name, value]);
            }
            let (sent, said) = run(&mut publish);
            assert!(sent, "{said}");
            // as soon as it is there
            let line = heard.next().expect("a part").expect("text");
            assert_eq!(line, format!("{{\"n\":{n},\"said\":\"agree\"}}"));
        }
        assert!(heard.next().is_none());
        assert!(curl.wait().expect("its end").success());
        let mut late = tool("mosquitto_pub", &floor, "mqttv5");
        late.args(["-q", "1", "-t", &to, "-m", "{\"n\":9}", "-d", "-D", "publish", "user-property", "inreplyto", &id]);
        let (_, said) = run(&mut late);
        assert!(said.contains("RC:131"), "the first answer counts: {said}");
    }
    floor.assert_balanced();
}
