//! However a path is spelled, a decision is that of the topic it stands for, and the same over HTTP and WebSocket. A topic name
//! of MQTT stands for itself: nothing in it is undone.

use std::collections::BTreeMap;

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use crate::{
    access::{authorization, said, site, user_of},
    mqtt::{Client, Wire},
    support::{Socket, bridge, post_as, web},
};

/// How a path says the same in another way, or nearly the same.
#[derive(Debug, Clone)]
enum Trick {
    /// A byte as %XX, in capitals or not.
    Encode(usize, bool),
    /// And that again.
    EncodeTwice(usize),
    Insert(usize, &'static str),
    /// A letter by one that looks like it, or in the other case.
    LookAlike(usize),
}

const TOPICS: [&str; 5] = ["plant/press/7", "plant/secret", "plant/secret/7", "market/a", "orders/1"];

fn tricks() -> impl Strategy<Value = (&'static str, Vec<Trick>)> {
    let inserted = prop::sample::select(vec![
        "/",
        "//",
        "/./",
        "/../",
        "../",
        "./",
        "%2F",
        "%2f",
        "%5C",
        "\\",
        "%00",
        "%",
        "%zz",
        "%C0%AF",
        "%E2%80%8B",
        ";",
        "?",
        "#",
        "+",
        "*",
        "%23",
        "%2B",
        "%20",
        "%EF%BC%8F",
        "%C3%A9",
        "e%CC%81",
    ]);
    let trick = prop_oneof![
        4 => (0..16_usize, any::<bool>()).prop_map(|(at, upper)| Trick::Encode(at, upper)),
        1 => (0..16_usize).prop_map(Trick::EncodeTwice),
        2 => (0..16_usize, inserted).prop_map(|(at, text)| Trick::Insert(at, text)),
        1 => (0..16_usize).prop_map(Trick::LookAlike),
    ];
    (prop::sample::select(TOPICS.to_vec()), prop::collection::vec(trick, 0..4))
}

fn spelled(topic: &str, tricks: &[Trick]) -> String {
    let mut parts: Vec<String> = topic.chars().map(String::from).collect();
    for trick in tricks {
        match trick {
            Trick::Encode(at, upper) => {
                let at = at % parts.len();
                if let [byte] = parts[at].as_bytes() {
                    parts[at] = if *upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
                }
            }
            Trick::EncodeTwice(at) => {
                let at = at % parts.len();
                if let [byte] = parts[at].as_bytes() {
                    parts[at] = format!("%25{byte:02X}");
                }
            }
            Trick::Insert(at, text) => parts.insert(at % (parts.len() + 1), (*text).to_owned()),
            Trick::LookAlike(at) => {
                let at = at % parts.len();
                let other = match parts[at].as_str() {
                    "a" => "%D0%B0",
                    "e" => "%D0%B5",
                    "p" => "%D1%80",
                    "s" => "S",
                    same => same,
                };
                parts[at] = other.to_owned();
            }
        }
    }
    parts.concat()
}

/// Undone once; `None` where it has no one reading.
fn read(path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap_or_default();
    let (mut out, mut bytes) = (Vec::new(), path.bytes());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        let byte = (high * 16 + low) as u8;
        if byte == b'/' {
            return None;
        }
        out.push(byte);
    }
    let text = String::from_utf8(out).ok()?;
    let sound = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.chars().any(char::is_control);
    text.split('/').all(sound).then_some(text)
}

#[tokio::test]
async fn no_spelling_of_a_path_changes_a_decision_or_differs_between_protocols() {
    let running = site().start().await;
    let address = web(&running);
    let ada = authorization("ada");
    let mut plain = BTreeMap::new();
    for topic in TOPICS {
        plain.insert(topic, said(&post_as(address, ada, &format!("/say/inform/{topic}"), "{}").await.json()));
    }
    assert_eq!(plain.values().filter(|(answer, _)| answer == "ok").count(), 1, "{plain:?}");
    let mut runner = TestRunner::deterministic();
    let mut same = 0;
    for _ in 0..400 {
        let (topic, tricks) = tricks().new_tree(&mut runner).unwrap().current();
        let path = spelled(topic, &tricks);
        // what ends the path of a request target, or can't stand in a request line, is no part of the path
        if path.contains([' ', '#', '\\', '"']) {
            continue;
        }
        let target = format!("/say/inform/{path}");
        let http = post_as(address, ada, &target, "{}").await;
        let over_http = said(&http.json());
        if !path.contains('?') {
            // one each: who sends many frames that are none is cut
            let mut socket = Socket::open_as(address, ada).await.unwrap();
            let over_socket = said(&socket.publish(&target, "{}").await);
            assert_eq!(over_http, over_socket, "{target}");
        }
        match read(&path) {
            Some(read) => match plain.get(read.as_str()) {
                Some(decided) => {
                    assert_eq!(&over_http, decided, "{target} is {read}");
                    same += 1;
                }
                // another topic: below plant it may be permitted, below its secret never, elsewhere neither
                None if over_http.0 == "ok" => {
                    assert!(read.starts_with("plant/") && !read.starts_with("plant/secret/"), "{target} is {read}");
                }
                None => {}
            },
            None => assert_eq!((http.status, over_http.1.as_str()), (400, "http"), "{target} has no one reading"),
        }
    }
    assert!(same > 100, "{same} spellings said the same");
}

#[tokio::test]
async fn no_spelling_of_a_topic_name_changes_a_decision_over_mqtt() {
    let running = site().start().await;
    let address = bridge(&running, "floor");
    let mut runner = TestRunner::deterministic();
    let (mut taken, mut refused) = (0, 0);
    for n in 0..400 {
        let (topic, tricks) = tricks().new_tree(&mut runner).unwrap().current();
        let path = spelled(topic, &tricks);
        // a topic name with a wildcard is a malformed packet
        if path.contains(['#', '+']) {
            continue;
        }
        let (id, wire) = (format!("spells-{n}"), Wire::tcp(address).await);
        let mut client = Client::named(&id, wire, 5, user_of("ada")).await.unwrap();
        let said = client.publish(&format!("say/inform/{path}"), "{}").await;
        let is_permitted = path.starts_with("plant/") && path != "plant/secret" && !path.starts_with("plant/secret/");
        match said.code {
            0 | 0x10 => {
                assert!(is_permitted, "{path} was taken: {said:?}");
                taken += 1;
            }
            _ => {
                assert!(tricks.is_empty().then_some(is_permitted) != Some(true), "{path} was refused: {said:?}");
                refused += 1;
            }
        }
    }
    assert!(taken > 20 && refused > 100, "{taken} were taken, {refused} refused");
}
