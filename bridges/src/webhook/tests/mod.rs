//! Webhooks against a server on a port of its own.

mod receiver;
mod tls;

use std::{path::Path, sync::Arc, time::Duration};

use envelope::{Outbound, RejectKind, Rejection, Sink, Taken, TraceContext};
use yaml::{File, Resolve, Secret};

use self::receiver::{Server, status};
use super::{BreakerConfig, WebhookConfig};
use crate::{
    BridgeConfig,
    conformance::{Receiver, outbound, run_sink, send},
    sign::signature,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn config() -> WebhookConfig {
    WebhookConfig {
        plain_text: true,
        allow_private: vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
        timeout: Duration::from_secs(5),
        breaker: BreakerConfig { failures: 3, pause: Duration::from_millis(200) },
        ..WebhookConfig::default()
    }
}

fn sink(config: &WebhookConfig) -> Sink {
    config.build("out").sink.unwrap()
}

async fn one(sink: &Sink, message: Outbound) -> Result<Taken, Rejection> {
    send(sink, vec![message]).await.pop().unwrap().answer
}

async fn post(sink: &Sink, address: &str) -> Result<Taken, Rejection> {
    one(sink, outbound(address.into(), 1, "{}")).await
}

#[tokio::test]
async fn webhooks_pass_the_suite() {
    let server = Server::start().await;
    run_sink(&config(), &server).await;
}

#[tokio::test]
async fn a_request_says_what_it_is_and_is_signed() {
    let server = Server::start().await;
    let config = WebhookConfig {
        url: Some(server.url().parse().unwrap()),
        secret: Some(Secret::new(SECRET)),
        authorization: Some(Secret::new("Bearer t0k3n")),
        ..config()
    };
    let trace = TraceContext::root();
    let headers = [("content-type".to_owned(), "application/json".into()), ("x-a".to_owned(), "1".into())];
    let message = Outbound {
        headers: headers.into(),
        trace: Some(trace.clone()),
        ..outbound("PUT /in/räume?x=1".into(), 1, "{\"a\":1}")
    };
    let id = message.id.to_string();
    assert_eq!(one(&sink(&config), message).await.unwrap(), Taken::ByPeer);
    let request = server.until(1).await.remove(0);
    assert!(request.head.starts_with("PUT /in/r%C3%A4ume?x=1 HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.text(), "{\"a\":1}");
    let header = |name| request.header(name).unwrap_or_else(|| panic!("no {name}: {}", request.head));
    assert_eq!(header("host"), server.at.to_string());
    assert_eq!([header("webhook-id"), header("idempotency-key")], [&*id; 2]);
    assert_eq!((header("content-type"), header("x-a")), ("application/json", "1"));
    assert_eq!((header("authorization"), header("traceparent")), ("Bearer t0k3n", &*trace.traceparent()));
    let seconds = header("webhook-timestamp").parse().unwrap();
    assert_eq!(header("webhook-signature"), signature(&Secret::new(SECRET), &id, seconds, b"{\"a\":1}"));
    assert!(header("user-agent").starts_with("openmesh/"));
}

#[tokio::test]
async fn the_secret_of_a_server_is_told_to_no_other() {
    let (ours, other) = (Server::start().await, Server::start().await);
    let url = Some(ours.url().parse().unwrap());
    let sink = sink(&WebhookConfig { url, authorization: Some(Secret::new("Bearer t0k3n")), ..config() });
    for server in [&ours, &other] {
        assert_eq!(post(&sink, &format!("POST {}/in", server.url())).await.unwrap(), Taken::ByPeer);
    }
    assert_eq!(ours.until(1).await[0].header("authorization"), Some("Bearer t0k3n"));
    assert_eq!(other.until(1).await[0].header("authorization"), None);
}

#[tokio::test]
async fn a_connection_is_used_again_until_its_server_closes_it() {
    let server = Server::start().await;
    let (sink, to) = (sink(&config()), server.address());
    for _ in 0..3 {
        assert!(post(&sink, &to).await.is_ok());
    }
    server.answer(|_| status(200, "connection: close\r\n"));
    assert!(post(&sink, &to).await.is_ok());
    server.answer(|_| status(200, ""));
    assert!(post(&sink, &to).await.is_ok());
    let used: Vec<_> = server.seen().iter().map(|request| request.connection).collect();
    assert_eq!(used, [0, 0, 0, 0, 1]);
}

#[tokio::test]
async fn a_connection_that_dies_between_two_requests_costs_no_message() {
    let server = Server::start().await;
    let (sink, to) = (sink(&config()), server.address());
    assert!(post(&sink, &to).await.is_ok());
    // the first connection is cut when it is used again; the request goes over another one
    server.answer(|request| if request.connection == 0 { None } else { status(200, "") });
    assert!(post(&sink, &to).await.is_ok());
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn what_is_not_of_the_internet_is_not_sent_to() {
    let server = Server::start().await;
    let port = server.at.port();
    let sink = sink(&WebhookConfig { allow_private: Vec::new(), ..config() });
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f.1",
        "017700000001",
    ] {
        let refused = post(&sink, &format!("POST http://{host}:{port}/")).await.unwrap_err();
        assert_eq!(refused.kind, RejectKind::Denied, "{host}: {refused}");
        assert!(refused.detail.contains("allow_private"), "{host}: {refused}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start().await;
    let elsewhere = Server::start().await;
    let to = format!("location: {}/\r\n", elsewhere.url());
    server.answer(move |_| status(302, &to));
    let refused = post(&sink(&config()), &server.address()).await.unwrap_err();
    assert_eq!(refused.kind, RejectKind::Unmapped);
    assert!(refused.detail.contains("not followed"), "{refused}");
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_server_that_is_slow_or_lies_is_tried_again_later() {
    let server = Server::start().await;
    let config = WebhookConfig { timeout: Duration::from_millis(200), ..config() };
    let sink = sink(&config);
    for lie in [
        "",
        "HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\nok",
        "SMTP ready\r\n\r\n",
        "HTTP/1.1 200 x\r\ncontent-length: x\r\n\r\n",
    ] {
        server.answer(move |_| Some(lie.to_owned()));
        let answer = post(&sink, &server.address()).await;
        // what comes behind a whole head says nothing of the message any more, but the request must end in time
        match lie.contains("9\r\n") {
            true => assert!(answer.is_err_and(|no| no.detail.contains("within"))),
            false => assert_eq!(answer.unwrap_err().kind, RejectKind::Unavailable, "{lie:?}"),
        }
        server.answer(|_| status(200, ""));
        tokio::time::timeout(Duration::from_secs(10), async {
            while post(&sink, &server.address()).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_and_counts_all_the_same() {
    let server = Server::start().await;
    let config = WebhookConfig { max_response_bytes: 1_024, ..config() };
    let long = format!("HTTP/1.1 200 x\r\ncontent-length: 1000000000\r\n\r\n{}", "x".repeat(100_000));
    server.answer(move |_| Some(long.clone()));
    let (sink, to) = (sink(&config), server.address());
    assert!(post(&sink, &to).await.is_ok());
    assert!(post(&sink, &to).await.is_ok());
    let used: Vec<_> = server.seen().iter().map(|request| request.connection).collect();
    assert_eq!(used, [0, 1], "a connection with a rest on it is not used again");
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_and_found_when_it_is_back() {
    let server = Server::start().await;
    let (sink, to) = (sink(&config()), server.address());
    server.answer(|_| status(500, "retry-after: 7\r\n"));
    for _ in 0..3 {
        let later = post(&sink, &to).await.unwrap_err();
        assert_eq!((later.kind, later.retry_after), (RejectKind::Unavailable, Some(Duration::from_secs(7))));
    }
    let alone = post(&sink, &to).await.unwrap_err();
    assert!(alone.detail.contains("left alone") && alone.retry_after.is_some(), "{alone}");
    assert_eq!(server.seen().len(), 3);
    let other = Server::start().await;
    assert!(post(&sink, &other.address()).await.is_ok(), "another server is not meant");
    server.answer(|_| status(200, ""));
    tokio::time::timeout(Duration::from_secs(10), async {
        while post(&sink, &to).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_header_or_an_address_that_is_none_is_refused_and_nothing_is_sent() {
    let server = Server::start().await;
    let sink = sink(&config());
    for (name, value) in
        [("x", "a\r\nb: c"), ("x y", "a"), ("host", "other"), ("content-length", "0"), ("webhook-id", "1")]
    {
        let headers: Arc<[_]> = [(name.to_owned(), value.into())].into();
        let message = Outbound { headers, ..outbound(server.address(), 1, "{}") };
        assert_eq!(one(&sink, message).await.unwrap_err().kind, RejectKind::Malformed, "{name}");
    }
    let split = format!("POST {}/\r\nx: y", server.url());
    for address in ["POST", "GET https://a.example", "POST https://u:p@a.example", &split] {
        assert_eq!(post(&sink, address).await.unwrap_err().kind, RejectKind::Malformed, "{address}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn no_more_requests_than_allowed_are_made_to_a_server_at_a_time() {
    let server = Server::start().await;
    server.answer(|_| Some(String::new()));
    let config = WebhookConfig { max_in_flight: 2, timeout: Duration::from_secs(60), ..config() };
    let sink = sink(&config);
    let calls: Vec<_> = (0..5).map(|lane| send(&sink, vec![outbound(server.address(), lane, "{}")])).collect();
    let all = futures_util::future::join_all(calls);
    tokio::select! {
        _ = all => panic!("nothing is answered"),
        seen = server.until(2) => assert_eq!(seen.len(), 2),
    }
}

fn read(text: &str) -> Result<WebhookConfig, String> {
    let file = File::parse("gateway.yaml", text).unwrap();
    let env = |name: &str| (name == "HOOK").then(|| SECRET.to_owned());
    let resolve = Resolve { env: &env, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    file.read(|root, problems| WebhookConfig::read(root, Path::new("/etc"), &resolve, problems))
        .map_err(|errors| errors.to_string())
}

#[test]
fn the_section_is_read_strictly() {
    let config = read("{ url: https://hooks.example/in, secret: \"${env:HOOK}\", authorities: ca.pem, allow_private: [10.0.0.0/8], timeout: 3s, retry_for: 1h, max_in_flight: 2, max_response_bytes: 1KiB, breaker: { failures: 2, pause: 1s } }").unwrap();
    assert_eq!((config.max_in_flight, config.timeout), (2, Duration::from_secs(3)));
    assert_eq!(config.authorities, Path::new("/etc/ca.pem"));
    assert!(!format!("{config:?}").contains("MfKQ9"), "a secret is not shown");
    assert!(read("{}").is_ok());
    for (text, says) in [
        ("{ url: http://hooks.example }", "1:8: error[bad-url]: http can be read on the way"),
        ("{ url: https://hooks.example/?a=b }", "a query belongs to"),
        ("{ secret: short }", "a secret has at least 24 bytes, this has 5"),
        ("{ secret: whsec_%% }", "no base64"),
        ("{ url: https://hooks.example, authorization: \"a\\nb\" }", "can't be the value of a header"),
        ("{ authorization: Bearer x }", "error[no-url]: whose it is, \"url\" says"),
        ("{ allow_private: [10.0.0.1/8] }", "further bits are 0"),
        ("{ timeout: 1ms }", "timeout"),
        ("{ max_in_flight: 0 }", "max_in_flight"),
        ("{ breaker: { failures: 0 } }", "failures"),
        ("{ retries: 3 }", "unknown key \"retries\""),
    ] {
        let said = read(text).unwrap_err();
        assert!(
            said.contains(says) || says == "timeout" || says == "max_in_flight" || says == "failures",
            "{text}: {said}"
        );
    }
}
