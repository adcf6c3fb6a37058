//! Hot reload, in process and of the binary.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gateway::{Reloaded, Running};
use serde_json::{Value, json};

use crate::{
    cli::Gateway,
    support::{PATIENCE, Site, Socket, get, post, web},
};

const PATH: &str = "/doors/7";

/// A mapping of `POST /doors/{door}` to this topic.
fn doors(topic: &str) -> String {
    format!(
        "mapping: doors\nfrom: {{ bridge: web, address: \"POST /doors/{{door}}\", decode: json }}\n\
         envelope:\n  topic: {topic}\n  performative: inform\n"
    )
}

async fn epoch(admin: SocketAddr) -> Value {
    get(admin, "/routes").await.json()["epoch"].clone()
}

/// Waits until the epoch as `/routes` tells it is as wanted.
async fn until(admin: SocketAddr, wanted: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let epoch = epoch(admin).await;
            if wanted(&epoch) {
                return epoch;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap()
}

/// What `reload` makes of files that hold: the watch may have been faster.
async fn taken(running: &Running) -> u64 {
    match running.reload().await {
        Reloaded::Changed(number) | Reloaded::Unchanged(number) => number,
        refused => panic!("{refused:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_reloads_under_load_lose_no_message_and_each_is_in_force() {
    let site = Site::shipped();
    site.write("mappings/doors.yaml", &doors("doors/0"));
    let running = site.start().await;
    let (address, done) = (web(&running), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let done = done.clone();
            tokio::spawn(async move {
                let mut sent = 0;
                while !done.load(Ordering::Relaxed) {
                    let answer = post(address, PATH, "{}").await;
                    assert_eq!(answer.status, 202, "{answer:?}");
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let mut last = 1;
    for n in 1..=20 {
        let mut socket = Socket::subscribe(address, &format!("doors/{n}"), "new", None).await;
        socket.frame("subscribed").await;
        site.write("mappings/doors.yaml", &doors(&format!("doors/{n}")));
        let number = taken(&running).await;
        assert!(number > last, "{number} after {last}");
        last = number;
        assert_eq!(socket.envelope().await["subject"], format!("doors/{n}"));
    }
    done.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for client in clients {
        sent += client.await.unwrap();
    }
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
    assert_eq!(ledger["bridges"]["web"]["routes"]["doors"]["accepted"], sent, "{ledger:#}");
}

#[tokio::test]
async fn a_set_that_does_not_hold_is_refused_with_its_lines_until_it_is_mended() {
    let site = Site::shipped();
    site.write("mappings/doors.yaml", &doors("doors/old"));
    let running = site.start().await;
    let admin = running.addresses().admin;
    site.write("mappings/doors.yaml", &doors("doors/new").replace("topic", "topik"));
    site.write("policy.yaml", "anonymous: perhaps\n");
    let Reloaded::Refused(errors) = running.reload().await else { panic!("not refused") };
    assert!(errors >= 3, "the key, the missing key and the policy, not {errors}");

    assert_eq!(get(admin, "/readyz").await.status, 200);
    assert_eq!(post(web(&running), PATH, "{}").await.status, 202);
    let refused = epoch(admin).await;
    assert_eq!((&refused["number"], &refused["refused"]["errors"]), (&json!(1), &json!(errors)), "{refused:#}");
    let first = refused["refused"]["first"].to_string();
    assert!(first.contains("doors.yaml:4:3: error[unknown-key]"), "{first}");
    assert!(first.contains("policy.yaml:1:12"), "{first}");

    site.write("mappings/doors.yaml", &doors("doors/new"));
    site.write("policy.yaml", "anonymous: true\n");
    assert_eq!(taken(&running).await, 2);
    let mended = epoch(admin).await;
    assert_eq!(mended["refused"], Value::Null, "{mended:#}");
    let changed = mended["changes"]["mappings"]["changed"].to_string();
    assert!(changed.starts_with(r#"["doors@"#), "{mended:#}");
    assert_eq!(mended["changes"]["policy"], false, "{mended:#}");
}

#[tokio::test]
async fn what_was_refused_is_forgotten_when_the_files_are_as_before() {
    let site = Site::shipped();
    let running = site.start().await;
    site.write("policy.yaml", "anonymous: perhaps\n");
    assert_eq!(running.reload().await, Reloaded::Refused(1));
    site.write("policy.yaml", "# as before\nanonymous: true\n");
    assert_eq!(running.reload().await, Reloaded::Unchanged(1));
    assert_eq!(epoch(running.addresses().admin).await["refused"], Value::Null);
}

#[tokio::test]
async fn files_that_say_the_same_keep_the_epoch() {
    let site = Site::shipped();
    let running = site.start().await;
    let before = epoch(running.addresses().admin).await;
    assert_eq!(running.reload().await, Reloaded::Unchanged(1));
    assert_eq!(epoch(running.addresses().admin).await, before);
}

#[tokio::test]
async fn a_policy_that_lets_nobody_in_holds_from_the_next_request_on() {
    let site = Site::shipped();
    let running = site.start().await;
    assert_eq!(post(web(&running), "/nowhere", "{}").await.status, 404);
    site.write("policy.yaml", "anonymous: false\n");
    assert_eq!(taken(&running).await, 2);
    assert_eq!(post(web(&running), "/nowhere", "{}").await.status, 401);
    assert_eq!(epoch(running.addresses().admin).await["changes"]["policy"], true);
}

#[tokio::test]
async fn a_policy_file_that_is_deleted_while_the_gateway_runs_changes_nothing_and_is_told_and_lets_no_gateway_start() {
    let site = Site::shipped();
    site.write("policy.yaml", "anonymous: false\n");
    let running = site.start().await;
    let admin = running.addresses().admin;
    fs::remove_file(site.config().with_file_name("policy.yaml")).unwrap();
    assert!(matches!(running.reload().await, Reloaded::Refused(1)));
    assert_eq!(post(web(&running), "/nowhere", "{}").await.status, 401, "what was in force stays");
    let ready = get(admin, "/readyz").await;
    assert_eq!(
        (ready.status, ready.json()["configuration"].as_str()),
        (200, Some("refused with 1 error, the one before is in force"))
    );
    let refused = epoch(admin).await["refused"].to_string();
    assert!(refused.contains("policy.yaml") && refused.contains("can't be read"), "{refused}");
    assert!(site.load().unwrap_err().contains("policy.yaml: error[unreadable]"));
    site.write("policy.yaml", "anonymous: true\n");
    assert!(matches!(running.reload().await, Reloaded::Changed(2)));
    assert_eq!(post(web(&running), "/nowhere", "{}").await.status, 404);
    assert_eq!(get(admin, "/readyz").await.json(), json!({ "ready": true }));
}

#[tokio::test]
async fn a_connection_that_the_policy_lets_in_no_more_is_closed_and_nothing_is_lost() {
    let site = Site::shipped();
    site.write("mappings/doors.yaml", &doors("doors/7"));
    let running = site.start().await;
    let address = web(&running);
    for _ in 0..2 {
        assert_eq!(post(address, PATH, "{}").await.status, 202);
    }
    let subscribe = json!({ "op": "subscribe", "ref": "t", "filters": ["doors/#"], "start": "earliest", "credit": 1,
        "durable": "d" });
    let publish = json!({ "op": "publish", "ref": "p", "address": format!("POST {PATH}"), "payload": {} });
    let mut idle = Socket::open(address).await;
    let mut reader = Socket::subscribe(address, "others/#", "new", None).await;
    reader.send(&subscribe).await;
    reader.frame("message").await;

    site.write("policy.yaml", "anonymous: false\n");
    assert_eq!(taken(&running).await, 2);
    for socket in [&mut idle, &mut reader] {
        assert_eq!(socket.closed().await, (1008, "credentials are required".to_owned()));
    }

    site.write("policy.yaml", "anonymous: true\n");
    assert_eq!(taken(&running).await, 3);
    let mut socket = Socket::open(address).await;
    socket.send(&publish).await;
    socket.frame("receipt").await;
    // Nothing was lost meanwhile for the durable subscription.
    let mut reader = Socket::subscribe(address, "doors/#", "earliest", Some("d")).await;
    for _ in 0..3 {
        assert_eq!(reader.envelope().await["subject"], "doors/7");
    }
}

#[tokio::test]
async fn files_that_never_rest_are_taken_as_they_are() {
    let site = Arc::new(Site::shipped());
    site.write("mappings/doors.yaml", &doors("doors/0"));
    let running = site.start().await;
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (site, done) = (site.clone(), done.clone());
        move || {
            for n in (1..).take_while(|_| !done.load(Ordering::Relaxed)) {
                site.write("new", &doors(&format!("doors/{n}")));
                std::fs::rename(
                    site.config().with_file_name("new"),
                    site.config().with_file_name("mappings/doors.yaml"),
                )
                .unwrap();
            }
        }
    });
    let number = tokio::time::timeout(PATIENCE, taken(&running)).await.unwrap();
    done.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(number, 2);
}

#[tokio::test]
async fn a_file_that_changes_is_in_force_without_being_asked_for() {
    let site = Site::shipped();
    let running = site.start().await;
    let admin = running.addresses().admin;
    site.write("mappings/doors.yaml", &doors("doors/7"));
    let epoch = until(admin, |epoch| epoch["number"] == 2).await;
    assert!(epoch["changes"]["mappings"]["added"][0].as_str().unwrap().starts_with("doors@"), "{epoch:#}");
    assert_eq!(post(web(&running), PATH, "{}").await.status, 202);
    // Refused files are watched like others.
    site.write("schemas/broken.json", "{ \"type\": 7 }");
    let refused = until(admin, |epoch| !epoch["refused"].is_null()).await;
    assert!(refused["refused"]["first"][0].as_str().unwrap().contains("broken.json: error[bad-schema]"), "{refused:#}");
    site.write("schemas/broken.json", "{ \"type\": \"number\" }");
    let epoch = until(admin, |epoch| epoch["number"] == 3).await;
    assert_eq!((&epoch["changes"]["schemas"]["added"], &epoch["refused"]), (&json!(["broken"]), &Value::Null));
}

#[tokio::test]
async fn a_mapping_that_is_removed_keeps_its_counters() {
    let site = Site::shipped();
    site.write("mappings/doors.yaml", &doors("doors/7"));
    let running = site.start().await;
    assert_eq!(post(web(&running), PATH, "{}").await.status, 202);
    std::fs::remove_file(site.config().with_file_name("mappings/doors.yaml")).unwrap();
    assert_eq!(taken(&running).await, 2);
    assert_eq!(post(web(&running), PATH, "{}").await.status, 404);
    let admin = running.addresses().admin;
    let removed = epoch(admin).await;
    assert!(removed["changes"]["mappings"]["removed"][0].as_str().unwrap().starts_with("doors@"), "{removed:#}");
    let ledger = get(admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
    assert_eq!(ledger["bridges"]["web"]["routes"]["doors"]["accepted"], 1, "{ledger:#}");
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_not_in_force() {
    let site = Site::shipped();
    let running = site.start().await;
    let admin = running.addresses().admin;
    let bridge = "  floor: { http: { listen: 127.0.0.1:0 } }\nlimits: { drain_timeout: 7s }\n";
    let text = site.config_text(bridge).replace("domain: plant-a", "domain: plant-b");
    site.write("gateway.yaml", &text);
    assert_eq!(running.reload().await, Reloaded::Unchanged(1));
    let waiting = epoch(admin).await;
    assert_eq!(waiting["needs_restart"], json!(["bridges.floor", "domain", "limits"]), "{waiting:#}");

    // The files beside it are in force, in the domain that runs.
    site.write("mappings/doors.yaml", &doors("doors/7"));
    assert_eq!(taken(&running).await, 2);
    let mut socket = Socket::subscribe(web(&running), "doors/#", "earliest", None).await;
    assert_eq!(post(web(&running), PATH, "{}").await.status, 202);
    let source = socket.envelope().await["source"].as_str().unwrap().to_owned();
    assert!(source.starts_with("mesh://plant-a/web/"), "{source}");

    site.write("gateway.yaml", &site.config_text(""));
    assert_eq!(running.reload().await, Reloaded::Unchanged(2));
    assert_eq!(epoch(admin).await["needs_restart"], json!([]));
}

#[tokio::test]
async fn the_watch_follows_to_another_folder_even_if_what_is_there_does_not_hold() {
    let site = Site::shipped();
    let running = site.start().await;
    let admin = running.addresses().admin;
    let before = get(admin, "/routes").await.json()["routes"].as_array().map(Vec::len);
    site.write("others/doors.yaml", "mapping: doors\n");
    site.write("gateway.yaml", &site.config_text("mappings: others/\n"));
    assert!(matches!(running.reload().await, Reloaded::Refused(_)));
    site.write("others/doors.yaml", &doors("doors/7"));
    let epoch = until(admin, |epoch| epoch["number"] == 2).await;
    assert_eq!(epoch["needs_restart"], json!([]));
    assert_eq!(epoch["changes"]["mappings"]["removed"].as_array().map(Vec::len), before, "{epoch:#}");
}

#[tokio::test]
async fn sighup_reloads_the_binary_and_does_not_end_it() {
    let site = Site::shipped();
    let mut gateway = Gateway::run(&site);
    let admin = gateway.admin();
    gateway.signal("HUP");
    let unchanged = async {
        while !get(admin, "/metrics").await.text.contains(r#"openmesh_reloads_total{kind="unchanged"} 1"#) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, unchanged).await.unwrap();
    site.write("mappings/doors.yaml", &doors("doors/7"));
    gateway.signal("HUP");
    until(admin, |epoch| epoch["number"] == 2).await;
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_is_in_force_at_once_and_one_that_is_wrong_is_refused() {
    let site = Site::shipped();
    site.write("tables/names.csv", "id,name\n7,north\n");
    site.write("mappings/doors.yaml", &doors("doors/${table(\"names\", address.door)}"));
    let running = site.start().await;
    let (address, admin) = (web(&running), running.addresses().admin);
    let mut socket = Socket::subscribe(address, "doors/#", "new", None).await;
    socket.frame("subscribed").await;
    assert_eq!(post(address, PATH, "{}").await.status, 202);
    assert_eq!(socket.envelope().await["subject"], "doors/north");
    site.write("tables/names.csv", "id,name\n7,south\n");
    assert_eq!(taken(&running).await, 2);
    let now = epoch(admin).await;
    assert_eq!(now["changes"]["tables"]["changed"], json!(["names"]));
    assert_eq!(post(address, PATH, "{}").await.status, 202);
    assert_eq!(socket.envelope().await["subject"], "doors/south");
    site.write("tables/names.csv", "id,name\n7,south\n7,west\n");
    assert_eq!(running.reload().await, Reloaded::Refused(1));
    let refused = epoch(admin).await["refused"]["first"][0].as_str().unwrap_or_default().to_owned();
    assert!(refused.contains("names.csv:3:1: error[same-key]"), "{refused}");
    assert_eq!(post(address, PATH, "{}").await.status, 202);
    assert_eq!(socket.envelope().await["subject"], "doors/south");
}
