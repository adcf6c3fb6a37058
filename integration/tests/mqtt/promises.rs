//! What a broker promises beside delivery: who is let in over TLS, last values, expiry, and a bound for who does not read.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use integration::{Gateway, client, eventually};

use crate::{
    Floor, PATIENCE,
    clients::{run, subscriber, subscribing, tool},
    pressure::{packet, text},
};

/// Runs openssl in a folder.
pub(crate) fn openssl(folder: &Path, line: &str) {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().expect("openssl to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn over_tls_a_client_is_who_its_certificate_says_and_without_one_it_is_not_let_in() {
    let floor = Floor::with("tls: { certificate: own.pem, key: own.key, clients: { authorities: ca.pem } }");
    let folder = floor.site.config();
    floor.site.write("v3", "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
    openssl(&folder, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority");
    for name in ["own", "press-7", "stranger"] {
        openssl(&folder, &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let sign = format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem");
        openssl(&folder, &format!("{sign} -days 2 -extfile v3"));
    }
    floor.site.write(
        "policy.yaml",
        "certificates:\n  - { match: { common_name: press-* }, principal: machine-*, roles: [device] }\n",
    );
    floor.site.write(
        "policies/devices.cedar",
        "@id(\"devices\") permit (principal in Role::\"device\", action in [Action::\"send\", Action::\"subscribe\"], resource);\n",
    );
    let _gateway = Gateway::start(&floor.site);
    let path = |name: &str| folder.join(name).display().to_string();
    let over_tls = |tool: &mut Command, own: Option<&str>| {
        tool.args(["--cafile", &path("ca.pem")]);
        if let Some(own) = own {
            tool.args(["--cert", &path(&format!("{own}.pem")), "--key", &path(&format!("{own}.key"))]);
        }
    };
    for version in ["mqttv311", "mqttv5"] {
        let mut command = subscribing(&floor, version);
        over_tls(&mut command, Some("press-7"));
        let format = ["-F", if version == "mqttv5" { "> %P %p" } else { "> %p" }];
        let (mut child, lines) = subscriber(command.args(["-q", "1", "-t", "floor/#", "-C", "1"]).args(format));
        let publish = |own: Option<&str>| {
            let mut publish = tool("mosquitto_pub", &floor, version);
            over_tls(&mut publish, own);
            run(publish.args(["-q", "1", "-t", "floor/7/text", "-m", "{\"n\":1}"]))
        };
        let (sent, said) = publish(Some("press-7"));
        assert!(sent, "{version}: {said}");
        let heard = lines.map_while(Result::ok).find(|line| line.starts_with("> ")).expect("a message");
        assert!(version == "mqttv311" || heard.contains("source:mesh://plant-a/floor/machine-7"), "{heard}");
        child.wait().expect("its end");
        for (own, why) in [(None, "no certificate"), (Some("stranger"), "one that no rule matches")] {
            assert!(!publish(own).0, "{version}: {why}");
        }
    }
    // nor is one that speaks no TLS, and one whose certificate is of another authority
    let mut plain = TcpStream::connect(floor.mqtt).expect("the listener");
    plain.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    plain.write_all(&packet(0x10, &[&text("MQTT"), &[4, 2, 0, 0], &text("plain")])).expect("to write");
    let mut answer = Vec::new();
    let ended = plain.read_to_end(&mut answer);
    assert!(ended.is_err() || answer.first() == Some(&0x15), "an alert of TLS at most: {answer:?}");
    openssl(&folder, "req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=press-8");
    let mut other = tool("mosquitto_pub", &floor, "mqttv5");
    over_tls(&mut other, Some("other"));
    assert!(!run(other.args(["-q", "1", "-t", "floor/7/text", "-m", "{\"n\":1}"])).0, "another authority's");
    // two had no certificate; the stranger's is sound, and who it is was asked by CONNECT
    assert_eq!(["tls", "timeout", "malformed"].map(|reason| floor.unconnected(reason)), [4, 0, 0]);
    floor.assert_balanced();
    let ledger = client::get(&floor.site.admin_url("/ledger")).body;
    assert_eq!(ledger["bridges"]["floor"]["accepted"], 2, "{ledger}");
}

#[test]
fn mqtt_3_3_1_5_to_8_what_is_retained_is_the_last_value_of_its_topic_for_http_too() {
    let floor = Floor::with("prefix: devices");
    let _gateway = Gateway::start(&floor.site);
    let publish = |arguments: &[&str]| {
        let (sent, said) =
            run(tool("mosquitto_pub", &floor, "mqttv311").args(["-q", "1", "-t", "press/1", "-r"]).args(arguments));
        assert!(sent, "{said}");
    };
    let last = || client::get(&floor.site.url("/mesh/v1/last/devices/press/1"));
    assert_eq!(last().status, 404);
    for value in ["one", "two"] {
        publish(&["-m", value]);
        let answer = last();
        assert_eq!(answer.status, 200, "{}", answer.text);
        let data = &answer.body["data_base64"];
        let expected = if value == "one" { "b25l" } else { "dHdv" };
        assert_eq!(data, expected, "{}", answer.text);
    }
    let (sent, said) =
        run(tool("mosquitto_pub", &floor, "mqttv311").args(["-q", "1", "-t", "press/1", "-m", "not kept"]));
    assert!(sent && last().body["data_base64"] == "dHdv", "{said}");
    publish(&["-n"]);
    assert_eq!(last().status, 404, "an empty one deletes it");
    floor.assert_balanced();
}

#[test]
fn mqtt_3_3_2_5_and_6_a_message_that_has_expired_is_handed_to_nobody_and_one_that_has_not_says_what_is_left() {
    let floor = Floor::with("prefix: devices");
    let _gateway = Gateway::start(&floor.site);
    let session = ["-i", "away", "-c", "-x", "600", "-q", "1", "-t", "press/#"];
    let (mut child, _lines) = subscriber(subscribing(&floor, "mqttv5").args(session));
    child.kill().expect("to kill it");
    child.wait().expect("its end");
    let publish = |seconds: &str, text: &str| {
        let expiry = ["-D", "publish", "message-expiry-interval", seconds];
        let mut publish = tool("mosquitto_pub", &floor, "mqttv5");
        let (sent, said) = run(publish.args(["-q", "1", "-t", "press/1", "-m", text]).args(expiry));
        assert!(sent, "{said}");
    };
    publish("1", "short");
    publish("500", "long");
    let began = std::time::Instant::now();
    eventually("the first has expired", PATIENCE, || (began.elapsed() > Duration::from_secs(2)).then_some(()));
    let mut later = tool("mosquitto_sub", &floor, "mqttv5");
    let (heard, said) = run(later.args(session).args(["-C", "1", "-W", "10", "-F", "%E %p"]));
    let (left, text) = said.trim().split_once(' ').expect("what is left, and the text");
    let left: u32 = left.parse().expect("seconds");
    assert!(heard && text == "long" && (400..=498).contains(&left), "{said}");
    floor.assert_balanced();
}

#[test]
fn of_who_does_not_read_the_newest_wait_at_qos_0_and_what_is_dropped_is_counted_at_once() {
    let floor = Floor::with("prefix: devices, session: { max_queued: 100 }, write_timeout: 10m");
    let _gateway = Gateway::start(&floor.site);
    let mut slow = TcpStream::connect(floor.mqtt).expect("the listener");
    slow.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let connect = packet(0x10, &[&[0, 4], b"MQTT", &[4, 2, 0, 0], &[0, 4], b"slow"]);
    slow.write_all(&[connect, packet(0x82, &[&[0, 1, 0, 3], b"a/#", &[0]])].concat()).expect("to write");
    let mut answers = [0; 9];
    slow.read_exact(&mut answers).expect("CONNACK and SUBACK");
    assert_eq!(answers, [0x20, 2, 0, 0, 0x90, 3, 0, 1, 0]);
    let messages = 700;
    // 48 kB each: more than any buffer of a socket takes
    let lines: String = (0..messages).map(|n| format!("{n:05}{}\n", "x".repeat(48_000))).collect();
    floor.site.write("lines", &lines);
    let input = std::fs::File::open(floor.site.config().join("lines")).expect("the file");
    let (sent, said) = run(tool("mosquitto_pub", &floor, "mqttv311").args(["-q", "1", "-t", "a/1", "-l"]).stdin(input));
    assert!(sent, "{said}");
    let dropped = || {
        let metrics = client::get(&floor.site.admin_url("/metrics")).text;
        let line = metrics.lines().find(|line| line.starts_with("openmesh_bridge_dropped_total{bridge=\"floor\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).unwrap_or_default()
    };
    let lost = eventually("some of it is dropped", PATIENCE, || Some(dropped()).filter(|lost| *lost > messages / 7));
    let (mut numbers, mut head, mut body) = (Vec::new(), [0; 4], vec![0; 48_010]);
    while numbers.last() != Some(&(messages - 1)) {
        slow.read_exact(&mut head).expect("the head of a PUBLISH");
        // three bytes of length, for 48,010
        assert_eq!(head, [0x30, 0x8A, 0xF7, 0x02]);
        slow.read_exact(&mut body).expect("the rest of it");
        let number = std::str::from_utf8(&body[5..10]).expect("digits").parse::<usize>().expect("a number");
        numbers.push(number);
    }
    assert!(numbers.is_sorted(), "in order");
    // 100 and what the sockets hold: nothing else keeps them
    assert!(numbers.len() < 400, "{}", numbers.len());
    assert_eq!(numbers.len() + dropped(), messages, "{lost} were dropped before");
    assert!(numbers.iter().rev().take(90).rev().eq((messages - 90..messages).collect::<Vec<_>>().iter()), "the newest");
    floor.assert_balanced();
}
