//! The ways in: each sends one message and says its id, where its sender hears it.

use std::{net::TcpStream, process::Command};

use integration::Subscriber;
use serde_json::{Value, json};
use tungstenite::ClientRequestBuilder;

use crate::{Message, PATIENCE, Stage};

type Send = fn(&Stage, &Message) -> Option<String>;

/// By the name in the docs and the one in topics.
pub(crate) const ALL: [(&str, &str, Send); 7] = [
    ("HTTP request", "http", http),
    ("WebSocket `publish`", "publish", publish),
    ("WebSocket frames", "frames", frames),
    ("MQTT 5.0 client", "mqtt-5", mqtt_5),
    ("MQTT 3.1.1 client", "mqtt-3", mqtt_3),
    ("remote MQTT broker", "broker", broker),
    ("remote feed", "feed", feed),
];

pub(crate) fn http(stage: &Stage, message: &Message) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-m", "30", "--data-binary", &message.payload()]);
    curl.arg(stage.site.url(&format!("/matrix/{}", message.to)));
    curl.args(message.headers().iter().flat_map(|(name, value)| ["-H".to_owned(), format!("{name}: {value}")]));
    let said = curl.output().expect("curl to run").stdout;
    let answer: Value = serde_json::from_slice(&said).expect("JSON");
    Some(answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
}

fn publish(stage: &Stage, message: &Message) -> Option<String> {
    let mut peer = Subscriber::connect(stage.site.http).expect("a connection");
    let headers: Value =
        message.headers().into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    let address = format!("POST /publish/{}", message.to);
    peer.send(&json!({"op": "publish", "ref": "1", "address": address, "headers": headers, "text": message.payload()}))
        .expect("an open connection");
    let answer = peer.frame().expect("an answer");
    Some(answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
}

fn frames(stage: &Stage, message: &Message) -> Option<String> {
    let stream = TcpStream::connect(stage.site.http).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let uri = format!("ws://{}/frames/{}", stage.site.http, message.to).parse().expect("a URI");
    let request = message
        .headers()
        .into_iter()
        .fold(ClientRequestBuilder::new(uri), |request, (name, value)| request.with_header(name, value));
    let (mut socket, _) = tungstenite::client(request, stream).expect("a WebSocket");
    socket.send(tungstenite::Message::text(message.payload())).expect("to send");
    let text = socket.read().expect("an answer").into_text().expect("text");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    Some(answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
}

fn mqtt_5(stage: &Stage, message: &Message) -> Option<String> {
    publish_mqtt(stage.mqtt.port(), "mqttv5", &format!("five/{}", message.to), message);
    None
}

fn mqtt_3(stage: &Stage, message: &Message) -> Option<String> {
    publish_mqtt(stage.mqtt.port(), "mqttv311", &format!("three/{}", message.to), message);
    None
}

fn broker(stage: &Stage, message: &Message) -> Option<String> {
    publish_mqtt(stage.broker.address.port(), "mqttv5", &format!("in/{}", message.to), message);
    None
}

fn feed(stage: &Stage, message: &Message) -> Option<String> {
    stage.feed.say(&message.whole_payload());
    None
}

/// With Mosquitto's client, at QoS 2.
fn publish_mqtt(port: u16, version: &str, topic: &str, message: &Message) {
    let mut command = Command::new("timeout");
    command.args(["30", "mosquitto_pub", "-h", "127.0.0.1", "-p", &port.to_string()]);
    command.args(["-V", version, "-q", "2", "-t", topic, "-m"]);
    if version == "mqttv5" {
        let [(trace, parent), (_, conversation), (class, value)] = message.headers();
        command.args([&message.payload(), "-D", "publish", "correlation-data", &conversation]);
        command.args(["-D", "publish", "user-property", trace, &parent, "-D", "publish", "user-property"]);
        command.args([class, &value]);
    } else {
        command.arg(message.whole_payload());
    }
    let output = command.output().expect("mosquitto_pub to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
