//! The store's disk is full to the last byte: the gateway goes on, refuses what it can't keep, and takes messages again
//! once there is room. The disk is a small tmpfs in a mount namespace of the gateway's own.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{collections::HashSet, fs, time::Duration};

use integration::{Site, Subscriber, client::Client, disk, eventually};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);
/// Room for the journal's 64 MiB and some tables.
const DISK: &str = "160m";

fn site() -> Site {
    let site = Site::shipped();
    site.write(
        "mappings/blob.yaml",
        "mapping: blob\nfrom: { bridge: web, address: \"POST /blobs/{key}\", decode: bytes }\n\
         envelope: { topic: \"blobs/${address.key}\" }\nack: durable\n",
    );
    // Nothing is held back: the engine itself has to meet the end of the disk.
    let text = fs::read_to_string(site.config().join("gateway.yaml")).unwrap();
    let data = format!("path: {}", site.data().display());
    assert!(text.contains(&data), "{text}");
    let text = text.replace(&data, &format!("{data}, min_free: {{ percent: 0, at_least: 0 }}"));
    site.write("gateway.yaml", &text);
    site
}

#[test]
fn on_a_full_disk_nothing_acked_is_lost_and_it_recovers_by_itself() {
    let site = site();
    let (gateway, disk) = disk::start(&site, DISK);
    let client = Client::new();
    let mut acked = HashSet::new();
    let mut publish = |n: u32, bytes: usize| {
        let (key, body) = (format!("k-{n}"), vec![b'x'; bytes]);
        let answer = client.post(&site.url(&format!("/blobs/{n}")), &[("idempotency-key", &key)], &body);
        if answer.status == 202 {
            acked.insert(answer.body["id"].as_str().unwrap().to_owned());
        }
        answer.status
    };
    for n in 0..100 {
        assert_eq!(publish(n, 1_000), 202);
    }
    let filler = disk::fill(&disk);
    let mut refused = None;
    for n in 100..2_000 {
        match publish(n, 64 << 10) {
            202 => {}
            503 => {
                refused = Some(n);
                break;
            }
            other => panic!("answered {other}"),
        }
    }
    let refused = refused.expect("a full disk refuses");
    // Clear state, and what is stored is still read.
    eventually("it says that it takes nothing", PATIENCE, || {
        publish(refused, 64 << 10);
        let ready = client.get(&site.admin_url("/readyz"));
        (ready.status == 503 && ready.text.contains("the store takes nothing")).then_some(())
    });
    let mut reader = Subscriber::open(site.http, &["blobs/#"], &json!("earliest"), None, 1).unwrap();
    assert_eq!(reader.message().expect("what is stored")["envelope"]["subject"], "blobs/0");
    drop(reader);
    fs::remove_file(filler).unwrap();
    eventually("it takes messages again", PATIENCE, || (publish(refused, 64 << 10) == 202).then_some(()));
    eventually("it is ready again", PATIENCE, || (client.get(&site.admin_url("/readyz")).status == 200).then_some(()));
    for n in 2_000..2_100 {
        assert_eq!(publish(n, 1_000), 202);
    }
    println!("{} acked, the first refusal at {refused}", acked.len());
    let mut reader = Subscriber::open(site.http, &["blobs/#"], &json!("earliest"), None, 1_024).unwrap();
    while !acked.is_empty() {
        let message = reader.message().expect("every envelope that was acked");
        acked.remove(message["envelope"]["id"].as_str().unwrap());
        reader.ack(&message).unwrap();
    }
    let ledger = client.get(&site.admin_url("/ledger")).body;
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
    drop(gateway);
}
