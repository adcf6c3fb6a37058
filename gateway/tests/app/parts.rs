//! Answers in parts, from agents to clients of HTTP and WebSocket, through a whole gateway.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
};

use gateway::drain::Drained;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{Receiver, channel},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use crate::support::{Answer, MAY_REPLY, PATIENCE, Site, Socket, get, request, web};

const ASKS: &str = "mapping: asks
from: { bridge: web, address: POST /ask }
envelope: { topic: market/ask, performative: request }
ack: consumer
reply:
  - within: 20s
    status: '${envelope.performative == \"refuse\" ? 409 : 200}'
    headers: { x-agent: \"${envelope.source}\" }
    body: { n: \"${payload.n}\" }
";

fn asking() -> Site {
    let site = Site::shipped();
    site.write("mappings/asks.yaml", ASKS);
    site.write("policies/replies.cedar", MAY_REPLY);
    site
}

async fn agent(at: SocketAddr) -> Socket {
    let mut agent = Socket::subscribe(at, "market/#", "new", None).await;
    agent.frame("subscribed").await;
    agent
}

fn part(asked: &Value, payload: &Value, more: bool) -> Value {
    json!({ "op": "reply", "ref": "r", "to": asked["replyto"], "inreplyto": asked["id"], "payload": payload, "more": more })
}

/// Sends a part that is taken.
async fn gives(agent: &mut Socket, asked: &Value, n: u32, more: bool) {
    agent.send(&part(asked, &json!({ "n": n }), more)).await;
    let said = agent.next().await;
    assert_eq!(said["op"], "filtered", "{said}");
}

/// What an agent hears of this.
async fn told(agent: &mut Socket, frame: &Value) -> (Value, Value) {
    agent.send(frame).await;
    let said = agent.next().await;
    (said["kind"].clone(), said["detail"].clone())
}

/// `curl` that asks, and what it prints.
struct Curl {
    lines: Receiver<String>,
    code: JoinHandle<i32>,
}

impl Curl {
    fn ask(at: SocketAddr, more: &[&str]) -> Self {
        let mut child = Command::new("curl")
            .args(["-sN", "-d", "{}", "-w", "\n%{http_code} %{content_type}\n"])
            .args(more)
            .arg(format!("http://{at}/ask"))
            .args(["-m", "60"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, lines) = channel(64);
        let code = spawn_blocking(move || {
            let printed = BufReader::new(child.stdout.take().unwrap()).lines();
            printed.map_while(Result::ok).for_each(|line| _ = said.blocking_send(line));
            child.wait().unwrap().code().unwrap()
        });
        Self { lines, code }
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.recv()).await.unwrap().unwrap_or_default()
    }

    /// Its exit code: 0 if all it was told is whole.
    async fn code(self) -> i32 {
        timeout(PATIENCE, self.code).await.unwrap().unwrap()
    }
}

/// A request over a connection that is left open, and what came of its answer until it says so.
async fn begun(at: SocketAddr, key: &str, until: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let head = format!("POST /ask HTTP/1.1\r\nhost: {at}\r\nidempotency-key: {key}\r\ncontent-length: 2\r\n\r\n{{}}");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    let found = async {
        while !text.contains(until) {
            let mut piece = [0; 4_096];
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "{text}");
            text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
    };
    timeout(PATIENCE, found).await.unwrap();
    (stream, text)
}

async fn keyed(at: SocketAddr, key: &str) -> Answer {
    let head = format!("POST /ask HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\nidempotency-key: {key}");
    request(at, &format!("{head}\r\ncontent-length: 2\r\n\r\n{{}}")).await
}

async fn balances(running: gateway::Running) {
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!((&ledger["balanced"], &ledger["violations"]), (&json!(true), &json!([])), "{ledger}");
    assert_eq!(running.drain().await, Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_is_heard_as_soon_as_it_is_there_and_the_last_ends_the_answer() {
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let running = asking().start().await;
        let mut agent = agent(web(&running)).await;
        let mut curl = Curl::ask(web(&running), &[version]);
        let asked = agent.envelope().await;
        for n in 1..=3 {
            gives(&mut agent, &asked, n, true).await;
            assert_eq!(curl.line().await, format!("{{\"n\":{n}}}"), "{version}");
        }
        gives(&mut agent, &asked, 4, false).await;
        assert_eq!(curl.line().await, "{\"n\":4}");
        assert_eq!((curl.line().await, curl.line().await), (String::new(), "200 application/x-ndjson".to_owned()));
        assert_eq!(curl.code().await, 0);
        let (kind, detail) = told(&mut agent, &part(&asked, &json!({ "n": 5 }), false)).await;
        assert_eq!((kind, detail), (json!("conflict"), json!("it was answered before: the first answer counts")));
        drop(agent);
        balances(running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_is_an_error_to_the_client_and_no_end() {
    // curl: 18 is a transfer that was cut off, 92 a stream of HTTP/2 that was
    for (version, code) in [("--http1.1", 18), ("--http2-prior-knowledge", 92)] {
        let site = asking();
        site.write("mappings/asks.yaml", &ASKS.replace("within: 20s", "within: 1500ms"));
        let running = site.start().await;
        let mut agent = agent(web(&running)).await;

        let mut late = Curl::ask(web(&running), &[version]);
        let asked = agent.envelope().await;
        gives(&mut agent, &asked, 1, true).await;
        assert_eq!(late.line().await, "{\"n\":1}");
        assert_eq!(late.code().await, code, "{version}: past its time");
        let (kind, _) = told(&mut agent, &part(&asked, &json!({ "n": 2 }), false)).await;
        assert_eq!(kind, "conflict", "late parts are refused");

        let mut given_up = Curl::ask(web(&running), &[version]);
        let asked = agent.envelope().await;
        gives(&mut agent, &asked, 1, true).await;
        assert_eq!(given_up.line().await, "{\"n\":1}");
        let mut failure = part(&asked, &json!({ "n": 0 }), false);
        failure["performative"] = "failure".into();
        agent.send(&failure).await;
        assert_eq!(agent.next().await["op"], "filtered");
        assert_eq!(given_up.code().await, code, "{version}: given up");
        drop(agent);
        balances(running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_goes_on_at_the_drain_is_cut_and_does_not_hold_it_up() {
    let running = asking().start().await;
    let mut agent = agent(web(&running)).await;
    let mut curl = Curl::ask(web(&running), &["--http1.1"]);
    let asked = agent.envelope().await;
    gives(&mut agent, &asked, 1, true).await;
    assert_eq!(curl.line().await, "{\"n\":1}");
    drop(agent);
    assert_eq!(running.drain().await, Drained::Clean);
    assert_eq!(curl.code().await, 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_is_that_agents_who_began_and_what_is_wrong_is_refused_and_the_answer_goes_on() {
    let site = asking();
    let reader = "  far: { http: { listen: 127.0.0.1:0 } }\n";
    site.write("gateway.yaml", &site.config_text(reader));
    let running = site.start().await;
    let at = web(&running);
    let mut first = agent(at).await;
    let mut other = agent(crate::support::bridge(&running, "far")).await;
    let mut curl = Curl::ask(at, &[]);
    let (asked, same) = (first.envelope().await, other.envelope().await);
    assert_eq!(asked["id"], same["id"]);
    let mut refusal = part(&asked, &json!({ "n": 1 }), true);
    refusal["performative"] = "refuse".into();
    let (kind, detail) = told(&mut first, &refusal).await;
    assert_eq!(kind, "malformed");
    assert!(detail.as_str().unwrap().contains("nothing follows \"refuse\""), "{detail}");
    gives(&mut first, &asked, 1, true).await;
    let stranger = told(&mut other, &part(&asked, &json!({ "n": 9 }), false)).await;
    assert_eq!(stranger, (json!("conflict"), json!("another agent answers it already, in parts")));
    let (kind, _) = told(&mut first, &part(&asked, &json!("no number"), true)).await;
    assert_eq!(kind, "malformed", "a part that its mapping can't word");
    // sent again because its sender did not hear of it
    let mut repeated = part(&asked, &json!({ "n": 2 }), true);
    repeated["key"] = "two".into();
    for _ in 0..2 {
        first.send(&repeated).await;
        assert_eq!(first.next().await["op"], "filtered");
    }
    let mut last = part(&asked, &json!({ "n": 3 }), false);
    last["key"] = "three".into();
    for _ in 0..2 {
        first.send(&last).await;
        assert_eq!(first.next().await["op"], "filtered", "the last one as well");
    }
    let mut lines = Vec::new();
    for _ in 0..3 {
        lines.push(curl.line().await);
    }
    assert_eq!(lines, ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]);
    assert_eq!(curl.code().await, 0);
    drop((first, other));
    balances(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_ends_the_answer_and_its_agent_hears_so() {
    let running = asking().start().await;
    let at = web(&running);
    let mut agent = agent(at).await;
    let asks = tokio::spawn(async move { begun(at, "k1", "{\"n\":1}").await });
    let asked = agent.envelope().await;
    gives(&mut agent, &asked, 1, true).await;
    let (stream, head) = asks.await.unwrap();
    assert!(
        head.contains("transfer-encoding: chunked") && head.contains("x-agent: mesh://plant-a/web/anonymous"),
        "{head}"
    );

    // a retry with the same key is no second reader
    let retry = keyed(at, "k1").await;
    assert_eq!((retry.status, &retry.json()["kind"]), (409, &json!("answered-elsewhere")), "{retry:?}");
    drop(stream);
    let gone = async {
        loop {
            agent.send(&part(&asked, &json!({ "n": 2 }), true)).await;
            let said = agent.next().await;
            if said["op"] != "filtered" {
                return said;
            }
        }
    };
    let said = timeout(PATIENCE, gone).await.unwrap();
    assert_eq!((&said["kind"], &said["decided_by"]), (&json!("conflict"), &json!("reply")), "{said}");
    let retry = keyed(at, "k1").await;
    assert_eq!(retry.status, 409, "nothing of it is kept: {retry:?}");
    drop(agent);
    balances(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_slow_slows_its_agent_down_and_gets_all_of_it() {
    const PARTS: usize = 400;
    let site = asking();
    let asks = ASKS.replace("body: { n: \"${payload.n}\" }", "body: ${payload}").replace("within: 20s", "within: 5m");
    site.write("mappings/asks.yaml", &asks);
    let running = site.start().await;
    let at = web(&running);
    let mut agent = agent(at).await;
    let asks = tokio::spawn(async move { begun(at, "k1", "\r\n\r\n").await });
    let asked = agent.envelope().await;
    let filler = "x".repeat(65_536);
    let (sent, count) = tokio::sync::watch::channel(0);
    let sends = tokio::spawn(async move {
        for n in 0..PARTS {
            agent.send(&part(&asked, &json!({ "n": n, "x": filler }), n + 1 < PARTS)).await;
            let said = agent.next().await;
            assert_eq!(said["op"], "filtered", "{said}");
            sent.send_replace(n + 1);
        }
    });
    let (mut stream, mut text) = asks.await.unwrap();
    // what can wait is in the sockets and behind them, and the rest is with the agent
    let stalled = async {
        let mut last = 0;
        loop {
            let now = *count.borrow();
            if now > 0 && now == last {
                return now;
            }
            last = now;
            _ = timeout(std::time::Duration::from_secs(1), count.clone().wait_for(|sent| *sent > now)).await;
        }
    };
    let taken = timeout(PATIENCE, stalled).await.unwrap();
    assert!(taken < PARTS, "{taken} parts of 64 KiB are somewhere");
    let rest = async {
        let mut piece = vec![0; 262_144];
        while !text.ends_with("\r\n0\r\n\r\n") {
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "it was cut");
            text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
    };
    timeout(PATIENCE * 3, rest).await.unwrap();
    let numbers: Vec<usize> =
        text.split("{\"n\":").skip(1).map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..PARTS).collect::<Vec<_>>());
    sends.await.unwrap();
    drop(stream);
    balances(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_asks_hears_the_answer_and_its_parts() {
    let running = asking().start().await;
    let at = web(&running);
    let (mut agent, mut asker) = (agent(at).await, Socket::open(at).await);
    let publish = json!({ "op": "publish", "ref": "a", "address": "POST /ask", "payload": {} });
    asker.send(&publish).await;
    let asked = agent.envelope().await;
    gives(&mut agent, &asked, 1, true).await;
    assert_eq!(asker.next().await["op"], "receipt");
    let first = asker.next().await;
    assert_eq!(
        first,
        json!({ "op": "answer", "ref": "a", "status": 200, "more": true, "payload": { "n": 1 },
            "headers": { "content-type": "application/json", "x-agent": "mesh://plant-a/web/anonymous" } })
    );
    gives(&mut agent, &asked, 2, true).await;
    assert_eq!(asker.next().await, json!({ "op": "answer", "ref": "a", "more": true, "payload": { "n": 2 } }));
    gives(&mut agent, &asked, 3, false).await;
    assert_eq!(asker.next().await, json!({ "op": "answer", "ref": "a", "more": false, "payload": { "n": 3 } }));

    // one that is whole at once, and one that is not to be
    asker.send(&publish).await;
    let asked = agent.envelope().await;
    gives(&mut agent, &asked, 7, false).await;
    assert_eq!(asker.next().await["op"], "receipt");
    let whole = asker.next().await;
    assert_eq!((&whole["more"], &whole["payload"]), (&json!(false), &json!({ "n": 7 })));
    asker.send(&publish).await;
    let asked = agent.envelope().await;
    gives(&mut agent, &asked, 1, true).await;
    asker.frame("answer").await;
    let mut failure = part(&asked, &json!({ "n": 0 }), false);
    failure["performative"] = "failure".into();
    agent.send(&failure).await;
    let cut = asker.next().await;
    assert_eq!((&cut["op"], &cut["ref"], &cut["decided_by"]), (&json!("error"), &json!("a"), &json!("reply")), "{cut}");
    drop((agent, asker));
    balances(running).await;
}
