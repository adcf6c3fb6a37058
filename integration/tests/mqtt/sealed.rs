//! A topic that a policy has sealed for everybody, publishers and subscribers, in both versions and at every QoS.

use integration::{Gateway, client, eventually};
use serde_json::Value;

use crate::{
    Floor, PATIENCE,
    pressure::{Raw, packet, text},
};

const SEALED: &str = "floor/7/state";
const OPEN: &str = "floor/8/state";
const POLICY: &str = "@id(\"sealed\")\nforbid (principal, action, resource in Topic::\"floor/7\");\n";
const REFUSED: u8 = 0x87;

/// PUBLISH with these flags; at QoS 1 and 2 as the packet 9.
fn publish(version: u8, flags: u8, topic: &str, payload: &str) -> Vec<u8> {
    let id: &[u8] = if flags & 0x06 == 0 { &[] } else { &[0, 9] };
    packet(0x30 | flags, &[&text(topic), id, no_properties(version), payload.as_bytes()])
}

fn no_properties(version: u8) -> &'static [u8] {
    if version == 5 { &[0] } else { &[] }
}

/// What SUBACK says of a filter.
fn subscribe(client: &mut Raw, version: u8, filter: &str, qos: u8) -> u8 {
    client.send(&packet(0x82, &[&[0, 1], no_properties(version), &text(filter), &[qos]]));
    let ack = client.read();
    assert_eq!(ack.first, 0x90, "SUBACK");
    *ack.body.last().expect("an answer for the filter")
}

/// The reason code of PUBACK or PUBREC, which MQTT 3.1.1 does not have.
fn reason(client: &mut Raw, first: u8) -> u8 {
    let ack = client.read();
    assert_eq!((ack.first, &ack.body[..2]), (first, &[0, 9][..]));
    ack.body.get(2).copied().unwrap_or_default()
}

/// Once so many messages were refused and none is in flight.
fn refused(floor: &Floor, count: u64) -> Value {
    eventually("all of them are refused", PATIENCE, || {
        let ledger = client::get(&floor.site.admin_url("/ledger")).body;
        let bridge = &ledger["bridges"]["floor"];
        (bridge["rejected"]["denied"] == count && bridge["in_flight"] == 0).then(|| bridge.clone())
    })
}

fn stored(floor: &Floor, topic: &str) -> Vec<Value> {
    let page = client::get(&floor.site.admin_url(&format!("/messages?topic={topic}"))).body;
    let all = page["messages"].as_array().expect("messages");
    all.iter().map(|message| message["envelope"]["data"].clone()).collect()
}

/// A client whose will is for the sealed topic breaks its connection.
fn die_with_a_will(floor: &Floor, version: u8, qos: u8) {
    // a retained will
    let flags = 0x02 | 0x04 | qos << 3 | 0x20;
    let no = no_properties(version);
    let name = format!("dies-{version}-{qos}");
    let mut raw = Raw::open(floor);
    let head = [&text("MQTT")[..], &[version, flags, 0, 0], no].concat();
    raw.send(&packet(0x10, &[&head, &text(&name), no, &text(SEALED), &text(r#"{"will":1}"#)]));
    let connack = raw.read();
    assert_eq!((connack.first, connack.body[1]), (0x20, 0), "a will is judged when it is published");
}

#[test]
fn what_is_sealed_for_everybody_takes_nothing_and_gives_nothing_in_both_versions_and_at_every_qos() {
    let floor = Floor::new();
    let gateway = Gateway::start(&floor.site);
    let mut before = Raw::connect(&floor, 5, 2, "before");
    before.send(&publish(5, 0x03, SEALED, r#"{"before":1}"#));
    assert_eq!(reason(&mut before, 0x40), 0, "not sealed yet");
    let mut readers = [4, 5].map(|version| (version, Raw::connect(&floor, version, 2, &format!("reader-{version}"))));
    for (version, reader) in &mut readers {
        assert_eq!(subscribe(reader, *version, SEALED, 1), 1);
        assert_eq!(reader.read().first & 0xF1, 0x31, "the last value");
    }

    floor.site.write("policies/sealed.cedar", POLICY);
    for (version, reader) in &mut readers {
        // 3.1.1 has no word for it
        match reader.try_read() {
            Ok(end) => assert_eq!((*version, end.first, end.body[0]), (5, 0xE0, REFUSED), "DISCONNECT"),
            Err(_) => assert_eq!(*version, 4),
        }
    }

    let mut wide = Raw::connect(&floor, 5, 2, "wide");
    assert_eq!(subscribe(&mut wide, 5, "floor/#", 2), 2, "what it selects beside the sealed is open");
    let mut count = 0;
    for version in [4, 5] {
        let mut client = Raw::connect(&floor, version, 2, &format!("client-{version}"));
        let no = if version == 5 { REFUSED } else { 0 };
        for (filter, qos) in [(SEALED, 0), (SEALED, 1), ("floor/7/#", 2), ("$share/g/floor/7/+", 1)] {
            let expected = if version == 5 { REFUSED } else { 0x80 };
            assert_eq!(subscribe(&mut client, version, filter, qos), expected, "{version} {filter}");
        }
        for retain in [0, 1] {
            client.send(&publish(version, retain, SEALED, r#"{"qos":0}"#));
            client.send(&publish(version, 0x02 | retain, SEALED, r#"{"qos":1}"#));
            assert_eq!(reason(&mut client, 0x40), no, "PUBACK of {version}");
            client.send(&publish(version, 0x04 | retain, SEALED, r#"{"qos":2}"#));
            assert_eq!(reason(&mut client, 0x50), no, "PUBREC of {version}");
            if version == 4 {
                // a PUBREC that says no ends it in 5.0; in 3.1.1 there is none
                client.send(&packet(0x62, &[&[0, 9]]));
                assert_eq!(reason(&mut client, 0x70), 0, "PUBCOMP");
            }
            count += 3;
        }
        // what nothing at all is for in the mapping's format would delete the last value
        client.send(&publish(version, 0x03, SEALED, ""));
        assert_eq!(reason(&mut client, 0x40), no, "PUBACK of {version}");
        (0..3).for_each(|qos| die_with_a_will(&floor, version, qos));
        count += 4;
        let bridge = refused(&floor, count);
        assert_eq!(bridge["accepted"], 1, "{bridge}");
    }
    before.send(&publish(5, 0x02, OPEN, r#"{"open":1}"#));
    assert_eq!(reason(&mut before, 0x40), 0);
    let first = wide.read();
    let heard = String::from_utf8_lossy(&first.body);
    assert!(heard.contains(OPEN) && heard.ends_with(r#"{"open":1}"#), "nothing sealed came before it: {heard}");

    gateway.kill();
    let _gateway = Gateway::start(&floor.site);
    let mut late = Raw::connect(&floor, 5, 2, "late");
    late.send(&publish(5, 0x03, OPEN, r#"{"last":1}"#));
    assert_eq!(reason(&mut late, 0x40), 0);
    assert_eq!(subscribe(&mut late, 5, "floor/#", 0), 0);
    let values = late.read();
    assert!(String::from_utf8_lossy(&values.body).contains(OPEN), "the sealed last value is withheld");
    late.send(&[0xC0, 0]);
    assert_eq!(late.read().first, 0xD0, "and nothing more");
    floor.assert_balanced();
    // what is on disk is as it was: the seal takes no message, and deletes none
    std::fs::remove_file(floor.site.config().join("policies/sealed.cedar")).expect("to open it again");
    let mut client = Raw::connect(&floor, 5, 2, "again");
    eventually("it is open again", PATIENCE, || (subscribe(&mut client, 5, SEALED, 1) == 1).then_some(()));
    let value = client.read();
    assert!(String::from_utf8_lossy(&value.body).ends_with(r#"{"before":1}"#), "the last value from before");
    assert_eq!(stored(&floor, SEALED), [serde_json::json!({ "before": 1 })]);
}
