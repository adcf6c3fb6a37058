//! Names that change their mind: a webhook's server is looked up for each connection, and one that was allowed a moment ago
//! may be this host, or its network, now. Nothing is ever sent there, nor is a feed or a broker looked for there.
//!
//! The gateway runs in a mount namespace with a hosts file of the test's own, which the system's resolver reads at each look-up.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use integration::{Gateway, Site, client, eventually};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
/// Where `allow_private` lets the bridge send.
const ALLOWED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Where it does not: this host by its other names.
const FORBIDDEN: [&str; 3] = ["127.0.0.1", "127.0.0.3", "[::1]"];
const NAMES: [&str; 3] = ["flips", "both", "inside"];
/// Bridges that connect by themselves, and the names of their servers.
const PEERS: [(&str, &str); 4] =
    [("feed-both", "both"), ("feed-inside", "inside"), ("broker-both", "both"), ("broker-inside", "inside")];

/// A site whose webhooks go to names, the server that they may reach, and traps where they may not.
struct Stage {
    site: Site,
    hosts: PathBuf,
    /// Webhooks that came to where they may.
    taken: Arc<AtomicUsize>,
    /// Connections to there, of whatever kind.
    allowed: Arc<AtomicUsize>,
    /// Connections to where there is to be none.
    trapped: Arc<AtomicUsize>,
    _gateway: Gateway,
}

// === impl Stage ===

impl Stage {
    fn new() -> Self {
        let (taken, reached, trapped) = (Arc::default(), Arc::default(), Arc::default());
        // the same port on all of them
        let (allowed, traps) = eventually("a port that is free on every address", PATIENCE, || {
            let allowed = TcpListener::bind((ALLOWED, 0)).expect("a port");
            let port = allowed.local_addr().expect("its address").port();
            let bind = |host: &&str| TcpListener::bind(format!("{host}:{port}").parse::<SocketAddr>().ok()?).ok();
            let traps: Option<Vec<_>> = FORBIDDEN.iter().map(bind).collect();
            Some((allowed, traps?))
        });
        let port = allowed.local_addr().expect("its address").port();
        serve(allowed, &reached, &taken);
        traps.into_iter().for_each(|trap| serve(trap, &trapped, &Arc::default()));
        let site = Site::shipped();
        site.configure("", "");
        let text = fs::read_to_string(site.config().join("gateway.yaml")).expect("the config");
        let terms = format!("plain_text: true, allow_private: [{ALLOWED}/32]");
        let mut bridges = format!("bridges:\n  hooks: {{ webhook: {{ {terms}, retry_for: 0s }} }}\n");
        let mut policies =
            "permit (principal == Principal::\"$bridge:hooks\", action == Action::\"subscribe\", resource);\n"
                .to_owned();
        for (bridge, name) in PEERS {
            let at = format!("{name}.test:{port}");
            bridges += &match bridge.starts_with("feed") {
                true => {
                    format!("  {bridge}: {{ websocket_client: {{ url: 'ws://{at}/', {terms}, max_backoff: 1s }} }}\n")
                }
                false => {
                    format!("  {bridge}: {{ mqtt_client: {{ servers: ['mqtt://{at}'], {terms}, max_backoff: 1s }} }}\n")
                }
            };
            policies += &format!(
                "permit (principal == Principal::\"$bridge:{bridge}\", action in Action::\"send\", resource in Topic::\"in\");\n"
            );
            let takes = format!(
                "mapping: from-{bridge}\nfrom: {{ bridge: {bridge}, address: message }}\nenvelope: {{ topic: in/all }}\n"
            );
            site.write(&format!("mappings/from-{bridge}.yaml"), &takes);
        }
        site.write("gateway.yaml", &text.replace("bridges:\n", &bridges));
        site.write("policies/peers.cedar", &policies);
        for name in NAMES {
            let sends = format!(
                "mapping: to-{name}\nfrom: {{ topic: {name}/# }}\nto: {{ bridge: hooks, address: POST http://{name}.test:{port}/ }}\n"
            );
            site.write(&format!("mappings/to-{name}.yaml"), &sends);
        }
        site.write(
            "mappings/post.yaml",
            "mapping: post\nfrom: { bridge: web, address: \"POST /to/{name}/{n}\" }\n\
             envelope: { topic: \"${address.name}/${address.n}\" }\n",
        );
        let hosts = site.scratch("hosts");
        fs::write(&hosts, format!("{ALLOWED} flips.test\n::1 both.test\n{ALLOWED} both.test\n::1 inside.test\n"))
            .expect("the hosts file");
        let mount = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", hosts.display());
        let words = ["unshare", "--map-root-user", "--mount", "--fork", "--kill-child", "sh", "-c", &mount, "sh"];
        let gateway = Gateway::start_under(&words.map(OsStr::new), &site);
        Self { site, hosts, taken, allowed: reached, trapped, _gateway: gateway }
    }

    fn post(&self, name: &str, n: usize) {
        let answer = client::post(&self.site.url(&format!("/to/{name}/{n}")), &format!("{{\"n\":{n}}}"));
        assert_eq!(answer.status, 202, "{}", answer.text);
    }

    /// What became of the mapping's envelopes once so many are settled: delivered, and dead letters of the kind `denied`.
    fn settled(&self, name: &str, count: u64) -> (u64, u64) {
        eventually("everything is settled", PATIENCE, || {
            let ledger = client::get(&self.site.admin_url("/ledger")).body;
            let of = &ledger["subscriptions"][format!("mapping:to-{name}")];
            let number = |value: &Value| value.as_u64().unwrap_or_default();
            let (delivered, denied) = (number(&of["delivered"]), number(&of["dead_lettered"]["denied"]));
            let settled = of["pending"] == 0 && number(&of["matched"]) == count;
            assert!(!settled || delivered + denied == count, "{of}");
            settled.then_some((delivered, denied))
        })
    }

    fn assert_nothing_trapped(&self) {
        assert_eq!(self.trapped.load(Ordering::SeqCst), 0, "connections to where nothing is to be sent");
    }
}

/// Has `flips.test` be at this address of 127.0.0.0/29 from now on: one byte of the file, so that who reads it sees either.
fn flip(hosts: &PathBuf, last: u8) {
    let mut file = File::options().write(true).open(hosts).expect("the hosts file");
    file.write_all(format!("127.0.0.{last}").as_bytes()).expect("to write it");
}

/// Takes every request and closes its connection, so that the next one looks the name up again.
fn serve(listener: TcpListener, connections: &Arc<AtomicUsize>, webhooks: &Arc<AtomicUsize>) {
    let (connections, webhooks) = (connections.clone(), webhooks.clone());
    // ends with the test's process
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            connections.fetch_add(1, Ordering::SeqCst);
            let webhooks = webhooks.clone();
            thread::spawn(move || take(stream, &webhooks));
        }
    });
}

/// Whoever asks may leave when it likes.
fn take(mut stream: TcpStream, webhooks: &AtomicUsize) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        webhooks.fetch_add(usize::from(line.starts_with("POST ")), Ordering::SeqCst);
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    input.read_exact(&mut vec![0; length]).ok()?;
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").ok()
}

#[test]
fn a_name_that_leads_here_now_and_elsewhere_then_is_never_connected_to_here() {
    let stage = Stage::new();
    // one after the other: what the name says when it is asked decides
    for round in 0..10_u64 {
        let inside = round % 2 == 1;
        flip(&stage.hosts, if inside { 1 + 2 * u8::from(round % 4 == 3) } else { 2 });
        stage.post("flips", 0);
        assert_eq!(stage.settled("flips", round + 1), ((round + 2) / 2, round.div_ceil(2)), "round {round}");
    }
    stage.assert_nothing_trapped();
    // and while it changes all the time
    let over = Arc::new(AtomicBool::new(false));
    let (ended, hosts) = (over.clone(), stage.hosts.clone());
    let flipping = thread::spawn(move || {
        while !ended.load(Ordering::SeqCst) {
            [1, 2, 3, 2].into_iter().for_each(|last| flip(&hosts, last));
        }
    });
    for n in 0..200 {
        stage.post("flips", n);
    }
    let (delivered, denied) = stage.settled("flips", 210);
    over.store(true, Ordering::SeqCst);
    flipping.join().expect("its end");
    assert_eq!(delivered, stage.taken.load(Ordering::SeqCst) as u64);
    assert!(delivered > 5 && denied > 5, "{delivered} delivered, {denied} denied: the name did change");
    stage.assert_nothing_trapped();
}

#[test]
fn of_a_name_with_several_addresses_only_one_that_is_allowed_is_connected_to() {
    let stage = Stage::new();
    for n in 0..20 {
        stage.post("both", n);
        stage.post("inside", n);
    }
    assert_eq!(stage.settled("both", 20), (20, 0));
    assert_eq!(stage.settled("inside", 20), (0, 20));
    assert_eq!(stage.taken.load(Ordering::SeqCst), 20);
    stage.assert_nothing_trapped();
}

#[test]
fn a_feed_or_a_broker_is_looked_for_only_where_it_may_be() {
    let stage = Stage::new();
    // a server that is neither answers them as badly as it can, but it is who they find
    let why = |bridge: &str| {
        let routes = client::get(&stage.site.admin_url("/routes")).body;
        let connections = routes["connections"].as_array().cloned().unwrap_or_default();
        let found = connections.into_iter().find(|one| one["bridge"] == bridge);
        found.and_then(|one| one["why"].as_str().map(str::to_owned)).unwrap_or_default()
    };
    for (bridge, name) in PEERS {
        eventually(&format!("{bridge} has tried"), PATIENCE, || {
            let refused = why(bridge).contains("allow_private");
            assert!(!refused || name == "inside", "{bridge}: {}", why(bridge));
            (refused == (name == "inside") && !why(bridge).is_empty()).then_some(())
        });
    }
    assert!(stage.allowed.load(Ordering::SeqCst) >= 2, "both of those that may connect do");
    stage.assert_nothing_trapped();
}
