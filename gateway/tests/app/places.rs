//! What may be in one place only never leaves for another: looked for in the bytes that each bridge sends.

use std::collections::BTreeSet;

use gateway::drain::Drained;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    mqtt::{Client, Wire},
    receiver::Hook,
    support::{PATIENCE, Site, Socket, bridge, get, post, second, web},
    ways::broker,
};

/// The marks in it.
fn marks(text: &str) -> BTreeSet<&'static str> {
    ["mark-here", "mark-anywhere", "mark-end"].into_iter().filter(|mark| text.contains(mark)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_here_only_leaves_by_no_bridge_whose_peers_are_elsewhere() {
    let (site, hook) = (Site::shipped(), Hook::start().await);
    let (broker, sent) = broker(&[]).await;
    let bridges = format!(
        "  floor: {{ mqtt: {{ listen: 127.0.0.1:0, websocket: {{ listen: 127.0.0.1:0 }} }} }}\n  \
         remote: {{ mqtt_client: {{ servers: [\"mqtt://{broker}\"], version: v3.1.1 }} }}\n  \
         hook: {{ webhook: {{ url: \"{}\", plain_text: true, allow_private: [127.0.0.1] }} }}\n",
        hook.url()
    );
    site.write("gateway.yaml", &site.config_text(&bridges));
    site.write(
        "policy.yaml",
        "anonymous: true\nresidency: { bridges: { floor: [us], remote: [us], hook: [us], web: [eu] } }\n",
    );
    for (place, label) in [("here", "[eu]"), ("anywhere", "[eu, us]")] {
        let mapping = format!(
            "mapping: {place}\nfrom: {{ bridge: web, address: POST /placed/{place} }}\n\
             envelope: {{ topic: plant/{place}, residency: {label} }}\nkeep: last\n"
        );
        site.write(&format!("mappings/{place}.yaml"), &mapping);
    }
    for (name, address) in [("remote", "out"), ("hook", "POST /hook")] {
        let mapping = format!(
            "mapping: to-{name}\nfrom: {{ topic: \"plant/#\" }}\nto: {{ bridge: {name}, address: {address} }}\n"
        );
        site.write(&format!("mappings/{name}.yaml"), &mapping);
    }
    site.write(
        "policies/out.cedar",
        "permit(principal, action == Action::\"subscribe\", resource in Topic::\"plant\");",
    );
    let running = site.start().await;
    let at = web(&running);
    let send_all = async || {
        for (place, mark) in [("here", "mark-here"), ("anywhere", "mark-anywhere"), ("anywhere", "mark-end")] {
            let answer = post(at, &format!("/placed/{place}"), &format!("{{\"mark\": \"{mark}\"}}")).await;
            assert_eq!(answer.status, 202, "{answer:?}");
        }
    };
    send_all().await;
    let abroad: BTreeSet<_> = ["mark-anywhere", "mark-end"].into();
    for version in [4, 5] {
        for (way, filter) in [("TCP", "plant/#"), ("WebSocket", "plant/#"), ("TCP", "$share/g/plant/#")] {
            let wire = match way {
                "TCP" => Wire::tcp(bridge(&running, "floor")).await,
                _ => Wire::web_socket(second(&running, "floor")).await,
            };
            let id = format!("{version}-{way}-{}", filter.len());
            let mut client = Client::named(&id, wire, version, None).await.unwrap();
            assert!(client.subscribe(filter).await.code < 0x80);
            send_all().await;
            let mut heard = String::new();
            while !heard.contains("mark-anywhere") || !heard.ends_with("mark-end\"}") {
                heard += &String::from_utf8_lossy(&client.hear().await);
            }
            assert_eq!(marks(&heard), abroad, "MQTT {version} over {way}, {filter}: {heard}");
        }
    }
    let sent = timeout(PATIENCE, sent).await.unwrap().unwrap();
    assert_eq!(marks(&sent), abroad, "{sent}");
    let posted: String = hook.until(2).await.iter().map(|post| format!("{}\n{}", post.head, post.body)).collect();
    assert_eq!(marks(&posted), abroad, "{posted}");
    // and at home all of it
    let mut socket = Socket::subscribe(at, "plant/#", "earliest", None).await;
    let mut heard = String::new();
    while !heard.contains("mark-end") {
        heard += &socket.envelope().await.to_string();
    }
    assert_eq!(marks(&heard).len(), 3, "{heard}");
    drop(socket);
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    for name in ["to-remote", "to-hook"] {
        let refused = &ledger["subscriptions"][format!("mapping:{name}")]["refused"]["denied"];
        assert!(refused.as_u64().is_some_and(|refused| refused >= 1), "{name}: {ledger}");
    }
    assert_eq!(ledger["balanced"], json!(true), "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
}
