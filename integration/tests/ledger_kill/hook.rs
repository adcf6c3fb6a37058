//! A server that webhooks are sent to. It takes most, and refuses some for good.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use integration::eventually;
use serde_json::Value;

use crate::{PATIENCE, Stage, letters};

pub(crate) const MAPPINGS: &[(&str, &str)] = &[(
    "kill-hook",
    "from: { topic: orders/# }\nto: { bridge: hooks, address: POST /orders, body: { n: \"${payload.n}\" } }\n",
)];

/// The server and what it was sent.
pub(crate) struct Hook {
    pub(crate) at: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Envelope id to the number of the order and how often it came.
    orders: HashMap<String, (u64, usize)>,
    /// Of what is not stored.
    passes: HashSet<String>,
    /// Of the mapping that comes and goes.
    parks: HashSet<String>,
}

/// Whether the server refuses this order.
pub(crate) fn is_refused(n: u64) -> bool {
    n % 7 == 3
}

// === impl Hook ===

impl Hook {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (at, seen) = (listener.local_addr().expect("its address"), Arc::<Mutex<Seen>>::default());
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, seen) = (stream.expect("a connection"), Arc::clone(&all));
                // a gateway that is killed breaks its connections
                thread::spawn(move || serve(stream, &seen));
            }
        });
        Self { at, seen }
    }

    /// Whether this came, of what is not stored.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.seen.lock().expect("what was sent").passes.contains(id)
    }

    /// What came of the mapping that comes and goes.
    pub(crate) fn parks(&self) -> HashSet<String> {
        self.seen.lock().expect("what was sent").parks.clone()
    }
}

/// Answers the requests of a connection until it breaks.
fn serve(mut stream: TcpStream, seen: &Mutex<Seen>) -> Option<()> {
    let mut requests = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut length, mut id, mut line, mut path) = (0, String::new(), String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if requests.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if path.is_empty() {
                line.split(' ').nth(1).unwrap_or_default().clone_into(&mut path);
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().expect("a length"),
                "webhook-id" => value.trim().clone_into(&mut id),
                _ => continue,
            }
        }
        let mut body = vec![0; length];
        requests.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let n = body["n"].as_u64().expect("the number of an order");
        let mut seen = seen.lock().expect("what was sent");
        match path.as_str() {
            "/passes" => drop(seen.passes.insert(id)),
            "/parks" => drop(seen.parks.insert(id)),
            _ => seen.orders.entry(id).or_insert((n, 0)).1 += 1,
        }
        drop(seen);
        let status = if is_refused(n) && path != "/parks" { "410 Gone" } else { "204 No Content" };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

/// Every order was sent; what the server took is delivered, what it refused is a dead letter, and nothing is both.
pub(crate) fn assert_told(stage: &Stage) {
    let counts = eventually("every webhook is settled", PATIENCE, || {
        let counts = stage.ledger()["subscriptions"]["mapping:kill-hook"].take();
        (counts["pending"] == 0).then_some(counts)
    });
    let seen = &stage.hook.seen.lock().expect("what was sent").orders;
    let receipts = stage.orders.receipts.lock().expect("receipts");
    for (id, (key, _)) in receipts.iter() {
        let (n, _) = seen.get(id).unwrap_or_else(|| panic!("order {key} was never sent"));
        assert!(key.ends_with(&format!("-{n}")), "{key} was sent as {n}");
    }
    let refused = seen.values().filter(|(n, _)| is_refused(*n)).count();
    let letters = letters::of_subscription(stage, "mapping:kill-hook");
    let n_of = |topic: &str| topic.rsplit('-').next().and_then(|n| n.parse().ok()).expect("the topic of an order");
    assert!(letters.iter().all(|topic| is_refused(n_of(topic))), "{letters:?}");
    let by_kind = counts["dead_lettered"].as_object();
    let counted: u64 = by_kind.into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
    assert_eq!((letters.len(), counted), (refused, refused as u64), "{counts}");
    assert_eq!(counts["delivered"], seen.len() as u64 - refused as u64, "{counts}");
    let again = seen.values().filter(|(_, times)| *times > 1).count();
    println!("{} webhooks, {again} of them more than once, {refused} refused", seen.len());
}
