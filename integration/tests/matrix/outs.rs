//! The ways out: each listens for what is for it, and says what arrived.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use integration::{eventually, mosquitto::Heard};
use serde_json::Value;
use tungstenite::{Message, WebSocket};

use crate::{PATIENCE, Stage, ins};

type Listen = fn(&Stage) -> Listener;

/// By the name in the docs and the one in topics.
pub(crate) const ALL: [(&str, &str, Listen); 8] = [
    ("WebSocket `subscribe`", "websocket", |stage| Listener::WebSocket(Box::new(subscribed(stage)))),
    ("server-sent events", "events", |stage| Listener::Events(Curl::events(stage))),
    ("last value", "last", |_| Listener::Last),
    ("MQTT 5.0 client", "mqtt-5", |stage| heard(stage.mqtt.port(), "mqttv5", "matrix/+/mqtt-5")),
    ("MQTT 3.1.1 client", "mqtt-3", |stage| heard(stage.mqtt.port(), "mqttv311", "matrix/+/mqtt-3")),
    ("MQTT address of a mapping", "address", |stage| heard(stage.mqtt.port(), "mqttv5", "shown/+")),
    ("remote MQTT broker", "broker", |stage| heard(stage.broker.address.port(), "mqttv5", "mirror/+")),
    ("webhook", "webhook", |_| Listener::Hook),
];

/// Who listens.
pub(crate) enum Listener {
    WebSocket(Box<WebSocket<TcpStream>>),
    Events(Curl),
    Last,
    Mqtt(Heard),
    Hook,
}

/// A message as it arrived.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The way in that its topic or address names.
    pub(crate) from: String,
    pub(crate) data: String,
    pub(crate) qos: Option<u8>,
    said: BTreeMap<&'static str, String>,
}

/// `curl`, which goes on.
pub(crate) struct Curl(Child);

// === impl Listener ===

impl Listener {
    /// What arrived up to the last one, whose number is 0; of last values there is none behind the others.
    pub(crate) fn all(self, stage: &Stage) -> Vec<Arrival> {
        let last = |all: &[Arrival]| all.iter().any(|arrival| arrival.n() == Some(0));
        match self {
            Self::WebSocket(mut socket) => {
                let mut all = Vec::new();
                while !last(&all) {
                    let text = socket.read().expect("a message").into_text().expect("text");
                    if text.starts_with(r#"{"op":"message""#) {
                        let frame: Value = serde_json::from_str(&text).expect("JSON");
                        all.push(Arrival::of_envelope(&frame["envelope"], &text));
                    }
                }
                all
            }
            Self::Events(mut curl) => {
                let mut all = Vec::new();
                let output = curl.0.stdout.take().expect("its output");
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let Some(text) = line.strip_prefix("data: ") else { continue };
                    all.push(Arrival::of_envelope(&serde_json::from_str(text).expect("JSON"), text));
                    if last(&all) {
                        break;
                    }
                }
                all
            }
            Self::Last => {
                let get = |(_, from, _): &(_, &str, _)| {
                    let url = stage.site.url(&format!("/mesh/v1/last/matrix/{from}/last"));
                    let text =
                        Command::new("curl").args(["-s", "-m", "30", &url]).output().expect("curl to run").stdout;
                    let text = String::from_utf8(text).expect("text");
                    Arrival::of_envelope(&serde_json::from_str(&text).expect("JSON"), &text)
                };
                ins::ALL.iter().map(get).collect()
            }
            Self::Mqtt(heard) => {
                let all = || heard.messages().iter().map(|line| Arrival::of_mqtt(line)).collect::<Vec<_>>();
                eventually("the last message", PATIENCE, || Some(all()).filter(|all| last(all)))
            }
            Self::Hook => {
                let all = || {
                    let requests = stage.hook.requests();
                    requests.iter().map(|(path, headers, body)| Arrival::of_hook(path, headers, body)).collect()
                };
                eventually("the last webhook", PATIENCE, || Some(all()).filter(|all: &Vec<_>| last(all)))
            }
        }
    }
}

fn subscribed(stage: &Stage) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(stage.site.http).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let url = format!("ws://{}/mesh/v1/ws", stage.site.http);
    let (mut socket, _) = tungstenite::client(url, stream).expect("a WebSocket");
    let subscribe = r#"{"op":"subscribe","ref":"s","filters":["matrix/+/websocket"],"start":"new","credit":100}"#;
    socket.send(Message::text(subscribe)).expect("to send");
    let answer = socket.read().expect("an answer").into_text().expect("text");
    assert!(answer.contains("subscribed"), "{answer}");
    socket
}

/// Mosquitto's client, at QoS 2.
fn heard(port: u16, version: &str, filter: &str) -> Listener {
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &port.to_string(), "-V", version, "-q", "2"]);
    let format = if version == "mqttv5" { "> %t|%q|%p|%D|%P" } else { "> %t|%q|%p" };
    Listener::Mqtt(Heard::of(command.args(["-t", filter, "-F", format, "-d"])))
}

// === impl Curl ===

impl Curl {
    /// From the earliest on, so that nothing has to be waited for.
    fn events(stage: &Stage) -> Self {
        let url = stage.site.url("/mesh/v1/events?filter=matrix/%2B/events&start=earliest");
        let mut command = Command::new("curl");
        command.args(["-sN", "-m", "60", &url]).stdout(Stdio::piped());
        Self(command.spawn().expect("curl to run"))
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

// === impl Arrival ===

impl Arrival {
    /// What it says under this name, if it says anything.
    pub(crate) fn said(&self, name: &str) -> Option<String> {
        self.said.get(name).cloned()
    }

    /// The number of the message.
    pub(crate) fn n(&self) -> Option<u64> {
        serde_json::from_str::<Value>(&self.data).ok()?["n"].as_u64()
    }

    /// `text` has the envelope with its data as it is written.
    fn of_envelope(envelope: &Value, text: &str) -> Self {
        let topic = envelope["subject"].as_str().unwrap_or_else(|| panic!("no envelope: {text}"));
        let (_, data) = text.split_once(r#""data":"#).unwrap_or_else(|| panic!("no data: {text}"));
        let end = data.find('}').expect("the end of the data");
        let names = [
            ("id", "id"),
            ("type", "type"),
            ("class", "classification"),
            ("key", "partitionkey"),
            ("conversation", "conversation"),
            ("trace", "traceparent"),
        ];
        let said = names.into_iter().filter_map(|(name, at)| Some((name, envelope[at].as_str()?.to_owned())));
        Self { from: level(topic), data: data[..=end].to_owned(), qos: None, said: said.collect() }
    }

    /// A line of `mosquitto_sub`: topic, QoS, payload, correlation data, user properties.
    fn of_mqtt(line: &str) -> Self {
        let mut parts = line.splitn(5, '|');
        let mut next = || parts.next().unwrap_or_default();
        let (topic, qos, data, conversation, properties) = (next(), next(), next(), next(), next());
        let mut said = BTreeMap::new();
        for (name, value) in properties.split(' ').filter_map(|property| property.split_once(':')) {
            if let Some(name) = known(name) {
                // the gateway's own, and the mapping's
                let before = said.insert(name, value.to_owned());
                assert!(before.is_none_or(|before| before == value), "{name} differs: {line}");
            }
        }
        if !conversation.is_empty() {
            said.insert("conversation", conversation.to_owned());
        }
        Self { from: level(topic), data: data.to_owned(), qos: qos.parse().ok(), said }
    }

    fn of_hook(path: &str, headers: &[(String, String)], body: &str) -> Self {
        let from = path.rsplit('/').next().unwrap_or_default().to_owned();
        let said = headers.iter().filter_map(|(name, value)| Some((known(name)?, value.clone()))).collect();
        Self { from, data: body.to_owned(), qos: None, said }
    }
}

/// The second level of a topic: the way in.
fn level(topic: &str) -> String {
    topic.split('/').nth(1).unwrap_or_else(|| panic!("no such topic: {topic}")).to_owned()
}

/// What a property or header of this name says.
fn known(name: &str) -> Option<&'static str> {
    Some(match name {
        "id" | "x-id" | "webhook-id" => "id",
        "type" | "x-type" => "type",
        "classification" | "x-class" => "class",
        "partitionkey" | "x-key" => "key",
        "x-conversation" => "conversation",
        "traceparent" => "trace",
        _ => return None,
    })
}
