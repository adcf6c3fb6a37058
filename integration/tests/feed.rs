//! The bridge to remote feeds: a server that numbers its messages, and a gateway that is killed again and again in between.

#![allow(clippy::unwrap_used, reason = "a test fails by panic")]

use std::{
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use integration::{Gateway, Site, client, eventually};
use tungstenite::{Message, WebSocket, accept};

const PATIENCE: Duration = Duration::from_secs(60);
/// How many messages the feed has.
const LAST: u64 = 6_000;
const KILLS: u64 = 20;

/// A feed that has the messages 1 to [`LAST`], and says them behind whatever number a client names.
struct Feed {
    url: String,
    said: Arc<AtomicU64>,
}

// === impl Feed ===

impl Feed {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/feed", listener.local_addr().unwrap());
        let said = Arc::new(AtomicU64::new(0));
        let most = said.clone();
        // ends with the test's process: nobody else connects
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let most = most.clone();
                thread::spawn(move || serve(socket, &most));
            }
        });
        Self { url, said }
    }
}

/// Whoever hears it leaves when it likes.
fn serve(socket: TcpStream, most: &AtomicU64) {
    let Ok(mut client) = accept(socket) else { return };
    let Some(first) = asked(&mut client) else { return };
    if client.send(Message::text(r#"{"event":"subscribed"}"#)).is_err() {
        return;
    }
    for number in first..=LAST {
        let text = format!("{{\"channel\":\"power\",\"seq\":{number},\"price\":{number}.50}}");
        if client.send(Message::text(text)).is_err() {
            return;
        }
        most.fetch_max(number, Ordering::Relaxed);
    }
    while client.read().is_ok() {}
}

fn asked(client: &mut WebSocket<TcpStream>) -> Option<u64> {
    match client.read().ok()? {
        Message::Text(text) => text.strip_prefix("behind ")?.parse::<u64>().ok().map(|behind| behind + 1),
        _ => None,
    }
}

#[test]
fn a_gateway_that_is_killed_has_every_message_of_the_feed_once() {
    let feed = Feed::start();
    let site = Site::shipped();
    let text = format!(
        "domain: plant-a\njurisdictions: [eu]\nbackbone: {{ embedded: {{ path: {} }} }}\nadmin: {{ listen: {} }}\nbridges:\n  \
         web: {{ http: {{ listen: '{}' }} }}\n  prices:\n    websocket_client:\n      url: {}\n      subscribe: [behind 0]\n      \
         channel: /channel\n      sequence: {{ at: /seq, resume: {{ send: 'behind {{sequence}}', expect: {{ /event: subscribed }} }} }}\n\
         mappings: mappings/\npolicy: policy.yaml\n",
        site.data().display(),
        site.admin,
        site.http,
        feed.url,
    );
    site.write("gateway.yaml", &text);
    site.write(
        "mappings/prices.yaml",
        "mapping: prices\nfrom: { bridge: prices, address: message/power, decode: json }\n\
         envelope: { topic: prices/power, data: { price: \"${payload.price}\" } }\nack: durable\n",
    );
    site.write("mappings/other.yaml", "mapping: other\nfrom: { bridge: prices, address: message }\ndrop: true\n");
    site.write(
        "policies/prices.cedar",
        "@id(\"prices\")\npermit (principal == Principal::\"$bridge:prices\", action in Action::\"send\", resource);\n",
    );
    let stored = || {
        let ledger = client::get(&site.admin_url("/ledger")).body;
        ledger["bridges"]["prices"]["routes"]["prices"]["stored"].as_u64().unwrap_or_default()
    };
    for part in 1..=KILLS {
        let gateway = Gateway::start(&site);
        eventually("some of it is stored", PATIENCE, || (stored() >= LAST * part / (KILLS + 1)).then_some(()));
        gateway.kill();
    }
    let gateway = Gateway::start(&site);
    eventually("all of it is stored", PATIENCE, || (stored() >= LAST).then_some(()));
    assert_eq!((stored(), feed.said.load(Ordering::Relaxed)), (LAST, LAST), "each once");
    let ledger = client::get(&site.admin_url("/ledger")).body;
    assert_eq!(ledger["balanced"], true, "{ledger}");
    let routes = client::get(&site.admin_url("/routes")).body;
    assert_eq!(routes["connections"][0]["state"], "connected", "{routes}");
    assert_eq!(gateway.terminate().code(), Some(0));
}
