//! What hostile, broken and merely unlucky clients send to the built gateway: each gets a clear answer, nobody else
//! notices, and the gateway goes on.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use integration::{Gateway, Site, Subscriber, client, eventually};
use serde_json::{Value, json};

/// A mapping whose topic comes from the payload, and one that lets the payload through.
fn site() -> Site {
    let site = Site::shipped();
    site.write(
        "mappings/by-payload.yaml",
        "mapping: by-payload\nfrom: { bridge: web, address: \"POST /by-payload\" }\n\
         envelope: { topic: \"free/${payload.topic}\" }\n",
    );
    site.write(
        "mappings/through.yaml",
        "mapping: through\nfrom: { bridge: web, address: \"POST /through\" }\n\
         envelope: { topic: through/all, data: { copy: \"${payload}\", n: \"${payload.n}\" } }\n",
    );
    site
}

fn assert_refused(answer: &client::Answer, status: u16, kind: &str, said: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.body["kind"], kind, "{}", answer.text);
    assert!(answer.text.contains(said), "{said:?} is not in {}", answer.text);
    assert!(answer.body["decided_by"].as_str().is_some_and(|rule| !rule.is_empty()), "{}", answer.text);
}

#[test]
fn bodies_that_are_not_what_they_should_be_are_refused_with_the_place() {
    let site = site();
    let gateway = Gateway::start(&site);
    let post = |body: &[u8]| client::Client::new().post(&site.url("/through"), &[], body);
    assert_refused(&post(b"{\"n\":1"), 422, "malformed", "line 1, column 7");
    assert_refused(&post(b""), 422, "malformed", "JSON");
    assert_refused(&post(b"{\"n\":\"\xff\xfe\"}"), 422, "malformed", "UTF-8");
    assert_refused(&post(b"{\"n\":1,\"n\":1000000}"), 422, "malformed", "duplicate key");
    assert_refused(&post(b"{\"n\":1} x"), 422, "malformed", "after the end");
    assert_refused(&post(b"{\"n\":1e999}"), 422, "malformed", "out of range");
    assert_refused(&post("[".repeat(10_000).as_bytes()), 422, "malformed", "128 levels");
    assert_refused(&post("{\"a\":".repeat(10_000).as_bytes()), 422, "malformed", "128 levels");
    assert_refused(&post(&vec![b' '; (1 << 20) + 1]), 413, "too-large", "1048576");
    assert_refused(&post(b"{\"m\":1}"), 422, "malformed", "payload.n");
    assert_refused(&client::post(&site.url("/nowhere"), "{}"), 404, "unmapped", "/nowhere");
    assert_refused(&client::post(&site.url("/mesh/v1/nothing"), "{}"), 404, "not-found", "/mesh/v1");
    assert_eq!(post(b"{\"n\":1}").status, 202);
    let ledger = client::get(&site.admin_url("/ledger")).body;
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
    assert!(gateway.terminate().success());
}

#[test]
fn a_wrong_reading_names_the_failing_path() {
    let site = site();
    let _gateway = Gateway::start(&site);
    let answer = client::post(&site.url("/telemetry/7/temperature"), r#"{"f":"hot","unit":"F"}"#);
    assert_refused(&answer, 422, "malformed", "/f");
    assert_eq!(answer.body["pointer"], "/f");
}

#[test]
fn numbers_past_two_to_the_53_and_their_spelling_survive() {
    let site = site();
    let _gateway = Gateway::start(&site);
    let body = r#"{"n":1152921504606846977,"price":12.10,"e":1E2}"#;
    assert_eq!(client::post(&site.url("/through"), body).status, 202);
    let stream = TcpStream::connect(site.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{}/mesh/v1/ws", site.http), stream).unwrap();
    let subscribe = json!({"op":"subscribe","ref":"s","filters":["through/#"],"start":"earliest","credit":1});
    socket.send(tungstenite::Message::text(subscribe.to_string())).unwrap();
    let text = eventually("the message", Duration::from_secs(10), || {
        let text = socket.read().unwrap().into_text().unwrap();
        text.contains("\"message\"").then_some(text)
    });
    assert!(text.contains(&format!(r#""data":{{"copy":{body},"n":1152921504606846977}}"#)), "{text}");
}

#[test]
fn topics_with_the_syntax_of_brokers_are_refused_or_plain_text() {
    let site = site();
    let _gateway = Gateway::start(&site);
    let post = |topic: &str| client::post(&site.url("/by-payload"), &json!({ "topic": topic }).to_string());
    for bad in ["#", "+", "a/#", "a/b", "", "/", "..//", "a\u{0}b", "a\nb", "$mesh/audit"] {
        assert_refused(&post(bad), 422, "malformed", "topic");
    }
    assert_refused(&post(&vec!["a"; 1_000].join("/")), 422, "malformed", "topic");
    assert_refused(&post(&"x".repeat(2_000)), 422, "malformed", "1024 bytes");
    for plain in ["*", ">", "a.b.>", "..", "%2F", "räume"] {
        assert_eq!(post(plain).status, 202, "{plain}");
        let topic = format!("free/{plain}");
        let mut reader = Subscriber::open(site.http, &[&topic], &json!("earliest"), None, 4).unwrap();
        assert_eq!(reader.message().unwrap()["envelope"]["subject"], topic);
    }
}

#[test]
fn one_more_idle_connection_than_the_limit_does_not_stop_a_busy_one() {
    let site = site();
    site.configure("", "limits: { max_in_flight: 4 }\n");
    let _gateway = Gateway::start(&site);
    let half = b"POST /through HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"n\":";
    let idle: Vec<_> = (0..10)
        .map(|n| {
            let mut stream = TcpStream::connect(site.http).unwrap();
            let part = if n % 2 == 0 { &half[..] } else { &half[..10] };
            stream
                .write_all(&String::from_utf8_lossy(part).replace("localhost", &site.http.to_string()).into_bytes())
                .unwrap();
            stream
        })
        .collect();
    let sockets: Vec<_> =
        (0..5).map(|_| Subscriber::open(site.http, &["#"], &json!("new"), None, 1).unwrap()).collect();
    let client = client::Client::new();
    for n in 0..100 {
        let answer = client.post(&site.url("/through"), &[], json!({ "n": n }).to_string().as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
    drop((idle, sockets));
}

#[test]
fn a_subscriber_that_never_reads_is_cut_and_nobody_else_notices() {
    let site = site();
    site.configure("write_timeout: 500ms", "");
    let gateway = Gateway::start(&site);
    let before = gateway.resident_kb();
    let mut deaf = Subscriber::open(site.http, &["through/#"], &json!("new"), Some("deaf"), 1_000).unwrap();
    let mut quick = Subscriber::open(site.http, &["through/#"], &json!("new"), None, 64).unwrap();
    let client = client::Client::new();
    let body = json!({ "n": 1, "filling": "x".repeat(100_000) }).to_string();
    for _ in 0..400 {
        assert_eq!(client.post(&site.url("/through"), &[], body.as_bytes()).status, 202);
        let message = quick.message().expect("the quick one goes on");
        quick.ack(&message).unwrap();
    }
    let grown = gateway.resident_kb().saturating_sub(before);
    println!("{grown} kB more");
    assert!(grown < 80_000, "40 MB of messages twice over made the gateway {grown} kB larger");
    let open = || client.get(&site.admin_url("/metrics")).text;
    eventually("only the quick one is left", Duration::from_secs(20), || {
        open().contains("openmesh_bridge_websockets{bridge=\"web\"} 1\n").then_some(())
    });
    assert_eq!(client.post(&site.url("/through"), &[], b"{\"n\":2}").status, 202);
    assert_eq!(quick.message().expect("it goes on")["envelope"]["data"]["n"], 2);
    // what was in flight to it comes again, marked
    let first = deaf.message().expect("it can still read what was sent")["position"].clone();
    drop(deaf);
    let mut again = Subscriber::open(site.http, &["through/#"], &json!("new"), Some("deaf"), 1).unwrap();
    let message = again.message().expect("its messages are kept");
    assert_eq!((&message["position"], &message["redelivered"]), (&first, &json!(true)));
}

/// Sends one byte after the other for as long as the gateway says nothing: how many, and how its answer begins.
fn drip(stream: &mut TcpStream, bytes: &[u8]) -> (usize, [u8; 12]) {
    // what is waited for between two bytes is the answer
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut answer = [0; 12];
    let goes_on = |byte: &&u8| {
        let silent = |error: std::io::Error| error.kind() != std::io::ErrorKind::UnexpectedEof;
        stream.write_all(&[**byte]).is_ok() && stream.read_exact(&mut answer).is_err_and(silent)
    };
    (bytes.iter().take_while(goes_on).count(), answer)
}

#[test]
fn a_slow_loris_is_closed_however_steadily_it_drips() {
    let site = site();
    site.configure("header_timeout: 1s, body_timeout: 1s", "");
    let _gateway = Gateway::start(&site);
    let start = format!("POST /through HTTP/1.1\r\nHost: {}\r\n", site.http);
    let mut stream = TcpStream::connect(site.http).unwrap();
    stream.write_all(start.as_bytes()).unwrap();
    let (sent, _) = drip(&mut stream, &[b'x'; 500]);
    assert!(sent < 100, "{sent} bytes of a head");
    let mut stream = TcpStream::connect(site.http).unwrap();
    stream.write_all(format!("{start}Content-Length: 500\r\n\r\n").as_bytes()).unwrap();
    let (sent, answer) = drip(&mut stream, &[b' '; 499]);
    assert!(sent < 100, "{sent} bytes of a body");
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_eq!(client::post(&site.url("/through"), "{\"n\":1}").status, 202);
    assert_eq!(client::get(&site.admin_url("/ledger")).body["balanced"], true);
}

#[test]
fn an_event_from_the_future_is_nothing_to_go_on_behind() {
    let site = site();
    let _gateway = Gateway::start(&site);
    let stored = client::post(&site.url("/through"), "{\"n\":1}").body["position"].as_str().unwrap().to_owned();
    let future = format!("{}ff", &stored[..stored.len() - 2]);
    let url = site.url("/mesh/v1/events?filter=through/%23");
    let answer = client::Client::new().get_with(&url, &[("last-event-id", &future)]);
    assert_eq!(answer.status, 409, "{}", answer.text);
    let nonsense = client::Client::new().get_with(&url, &[("last-event-id", "tomorrow")]);
    assert_eq!(nonsense.status, 400, "{}", nonsense.text);
}

/// Sends raw bytes and reads to the end or for 5 s.
fn raw(site: &Site, request: &str) -> String {
    let mut stream = TcpStream::connect(site.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // the gateway may have answered and closed before it heard all of it
    let heard = stream.write_all(request.as_bytes());
    assert!(heard.is_ok() || request.len() > 100, "{heard:?}");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_web_page_of_another_origin_reaches_nothing() {
    let site = site();
    let _gateway = Gateway::start(&site);
    let good = site.http.to_string();
    for (at, path) in
        [(site.http, "/through"), (site.admin, "/ledger"), (site.admin, "/metrics"), (site.http, "/mesh/v1/ws")]
    {
        for (host, origin) in [("evil.example", None), (&*at.to_string(), Some("https://evil.example"))] {
            let client = client::Client::new();
            let mut headers = vec![("host", host)];
            headers.extend(origin.map(|origin| ("origin", origin)));
            let request =
                headers.iter().fold(format!("GET {path} HTTP/1.1\r\n"), |r, (n, v)| format!("{r}{n}: {v}\r\n"));
            let mut stream = TcpStream::connect(at).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(format!("{request}connection: close\r\n\r\n").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(["403", "421"].contains(&status), "{path} for {host} from {origin:?}: {answer}");
            drop(client);
        }
    }
    let same =
        client::Client::new().post(&site.url("/through"), &[("origin", &format!("http://{good}"))], b"{\"n\":1}");
    assert_eq!(same.status, 202, "{}", same.text);
}

#[test]
fn requests_of_a_smuggler_are_refused() {
    let site = site();
    let _gateway = Gateway::start(&site);
    let host = site.http;
    for shape in [
        "content-length: 5\r\ncontent-length: 6\r\n\r\n{\"n\":1}",
        "content-length: 7\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nPOST /through",
        "transfer-encoding: gzip, identity\r\n\r\n{\"n\":1}",
        "content-length: -1\r\n\r\n",
        "content-length: 99999999999999999999\r\n\r\n",
    ] {
        let answer = raw(&site, &format!("POST /through HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{shape}"));
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        assert!(["400", "413", "422", "501"].contains(&&*status), "{shape:?}: {answer}");
        assert!(!answer.contains("202 "), "{shape:?}: {answer}");
    }
    let huge = raw(
        &site,
        &format!("POST /through HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
    );
    assert!(huge.contains(" 431 "), "{huge}");
    let escaped = ["/a/../through", "//through", "/a%2Fb", "/%zz", "/%00"];
    for path in escaped {
        let answer = raw(
            &site,
            &format!("POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"),
        );
        assert!(answer.contains(" 400 "), "{path}: {answer}");
    }
    assert_eq!(client::post(&site.url("/through"), "{\"n\":1}").status, 202);
}

#[test]
fn frames_that_make_no_sense_get_an_error_and_the_connection_goes_on() {
    let site = site();
    let _gateway = Gateway::start(&site);
    let mut peer = Subscriber::open(site.http, &["through/#"], &json!("new"), None, 8).unwrap();
    let frames: [Value; 6] = [
        json!({"op": "dance"}),
        json!([1, 2]),
        json!({"op": "publish", "ref": "a"}),
        json!({"op": "publish", "ref": "b", "address": "POST /nowhere", "payload": {}}),
        json!({"op": "subscribe", "ref": "c", "filters": ["a/#/b"], "start": "new", "credit": 1}),
        json!({"op": "ack", "sub": "s", "positions": ["nonsense"]}),
    ];
    for frame in frames {
        peer.send(&frame).unwrap();
        let answer = peer.frame().expect("an answer");
        assert_eq!(answer["op"], "error", "{frame} got {answer}");
    }
    peer.send(&json!({"op": "publish", "ref": "d", "address": "POST /through", "payload": {"n": 1}})).unwrap();
    let (one, other) = (peer.frame().unwrap(), peer.frame().unwrap());
    let ops = [one["op"].as_str().unwrap(), other["op"].as_str().unwrap()];
    assert!(ops.contains(&"receipt") && ops.contains(&"message"), "{one} {other}");
}
