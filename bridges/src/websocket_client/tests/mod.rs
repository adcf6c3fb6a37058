//! The client against a feed over real sockets.

mod faults;
mod server;

use std::{path::Path, time::Duration};

use envelope::{RejectKind, Rejection};
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;
use yaml::{File, Resolve};

use self::server::Server;
use super::WebSocketClientConfig;
use crate::{BridgeConfig, Standing, State, conformance::Rig};

fn read(text: &str) -> Result<WebSocketClientConfig, String> {
    let resolve = Resolve { env: &|_| Some("MfKQ9".to_owned()), file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    let file = File::parse("gateway.yaml", text).map_err(|errors| errors.to_string())?;
    file.read(|root, problems| WebSocketClientConfig::read(root, Path::new("/etc"), &resolve, problems))
        .map_err(|errors| errors.to_string())
}

/// A config with what the test adds, for one feed.
fn config(server: &Server, more: &str) -> WebSocketClientConfig {
    read(&format!("{{ url: \"{}\"{more} }}", server.url())).unwrap()
}

fn payloads(rig: &Rig) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    rig.seen().concat().iter().map(|inbound| (inbound.address.to_string(), text(&inbound.payload))).collect()
}

fn standing(rig: &Rig) -> Standing {
    rig.standings.all().remove(0).2
}

#[tokio::test]
async fn after_login_and_subscription_each_message_has_its_channel_as_address() {
    let server = Server::start().await;
    let config = config(
        &server,
        r#", authorization: "Bearer ${env:T}", subprotocol: v2.json, channel: /ch,
          login: { send: '{"login":"${env:T}"}', expect: { /event: login, /ok: true } },
          subscribe: ['{"sub":"a"}', { send: '{"sub":"b"}', expect: { /subscribed: 2.0 } }]"#,
    );
    let rig = Rig::start(&config).await;
    let mut peer = server.peer().await;
    assert_eq!(
        (&peer.headers["authorization"], &peer.headers["sec-websocket-protocol"]),
        (&"Bearer MfKQ9".parse().unwrap(), &"v2.json".parse().unwrap())
    );
    assert_eq!(peer.hears().await.unwrap(), r#"{"login":"MfKQ9"}"#);
    peer.say(r#"{"event":"login","ok":true}"#).await;
    assert_eq!(peer.hears().await.unwrap(), r#"{"sub":"a"}"#);
    assert_eq!(peer.hears().await.unwrap(), r#"{"sub":"b"}"#);
    peer.say(r#"{"ch":"early","n":0}"#).await;
    peer.say(r#"{"subscribed":2}"#).await;
    for text in [r#"{"ch":"a/b","n":1}"#, r#"{"ch":7,"n":12.10}"#, "no json", r#"{"ch":{}}"#] {
        peer.say(text).await;
    }
    rig.until(|counts| counts.offered == 5).await;
    let want = [
        ("message/early", r#"{"ch":"early","n":0}"#),
        ("message/a%2Fb", r#"{"ch":"a/b","n":1}"#),
        ("message/7", r#"{"ch":7,"n":12.10}"#),
        ("message", "no json"),
        ("message", r#"{"ch":{}}"#),
    ];
    assert_eq!(payloads(&rig), want.map(|(address, text)| (address.to_owned(), text.to_owned())));
    let shown = standing(&rig);
    assert_eq!((shown.state, shown.peer), (State::Connected(None), format!("ws://{}", server.address())));
    rig.stop().await;
    assert!(peer.hears().await.is_none(), "it says goodbye");
    assert_eq!(rig.counts().received, 5);
}

const NUMBERED: &str = r#", subscribe: ['from now'],
    sequence: { at: /n, resume: { send: 'from {sequence}', expect: { /resumed: true } } }"#;

#[tokio::test]
async fn what_is_missing_is_asked_for_once_and_then_counted() {
    let server = Server::start().await;
    let rig = Rig::start(&config(&server, NUMBERED)).await;
    let mut peer = server.peer().await;
    assert_eq!(peer.hears().await.unwrap(), "from now");
    for n in [5, 6, 9] {
        peer.say(&format!("{{\"n\":{n}}}")).await;
    }
    let mut peer = server.peer().await;
    assert_eq!(peer.hears().await.unwrap(), "from 6");
    peer.say(r#"{"resumed":true}"#).await;
    // the feed has 8 again, and 7 no more
    for n in [8, 9] {
        peer.say(&format!("{{\"n\":{n}}}")).await;
    }
    rig.until(|counts| counts.offered == 4).await;
    let numbers: Vec<_> = payloads(&rig).into_iter().map(|(_, text)| text).collect();
    assert_eq!(numbers, [5, 6, 8, 9].map(|n| format!("{{\"n\":{n}}}")));
    let State::Connected(Some(why)) = standing(&rig).state else { panic!("{:?}", standing(&rig)) };
    assert_eq!(why, "1 messages of it were missing since the start");
    rig.stop().await;
    assert_eq!(rig.counts().received, 4);
}

#[tokio::test]
async fn after_a_restart_it_goes_on_behind_the_last_number_and_a_repeat_is_the_same_message() {
    let server = Server::start().await;
    let config = config(&server, NUMBERED);
    let rig = Rig::start(&config).await;
    let mut peer = server.peer().await;
    peer.hears().await.unwrap();
    peer.say(r#"{"n":41}"#).await;
    rig.until(|counts| counts.offered == 1).await;
    rig.stop().await;
    let again = rig.restart(&config).await;
    let mut peer = server.peer().await;
    assert_eq!(peer.hears().await.unwrap(), "from 41");
    peer.say(r#"{"resumed":true}"#).await;
    peer.say(r#"{"n":41}"#).await;
    again.until(|counts| counts.offered == 1).await;
    assert_eq!(again.seen()[0][0].identity, rig.seen()[0][0].identity);
    again.stop().await;
}

#[tokio::test]
async fn after_a_drain_it_goes_on_at_what_was_not_taken() {
    let server = Server::start().await;
    let config = config(&server, NUMBERED);
    let rig = Rig::start(&config).await;
    let mut peer = server.peer().await;
    peer.hears().await.unwrap();
    // a full gateway: of what comes at once, only the first two are taken
    let mut places = 2;
    rig.answer(move |inbound| {
        if places == 0 {
            return Err(Rejection::new(RejectKind::Unavailable, "store", "full"));
        }
        places -= 1;
        Ok(crate::conformance::stored(inbound))
    });
    for n in 41..=44 {
        peer.stream.feed(Message::text(format!("{{\"n\":{n}}}"))).await.unwrap();
    }
    peer.stream.flush().await.unwrap();
    rig.until(|counts| counts.received == 4 && counts.offered > 4 || counts.returned.len() > 1).await;
    rig.stop().await;
    assert_eq!(rig.counts().returned.len(), 2);
    let again = rig.restart(&config).await;
    let mut peer = server.peer().await;
    assert_eq!(peer.hears().await.unwrap(), "from 42");
    again.stop().await;
    let kept = rig.keys.value("sequence").unwrap();
    assert!(!String::from_utf8_lossy(&kept).contains("t0k3n"), "what the URL holds of secrets is not kept");
}

#[tokio::test]
async fn a_drain_before_anything_was_taken_loses_nothing_of_a_feed_that_goes_on_behind_a_number() {
    let server = Server::start().await;
    let config = config(&server, NUMBERED);
    let rig = Rig::start(&config).await;
    rig.answer(|_| Err(Rejection::new(RejectKind::Unavailable, "store", "full")));
    let mut peer = server.peer().await;
    peer.hears().await.unwrap();
    peer.say(r#"{"n":41}"#).await;
    rig.until(|counts| counts.offered > 1).await;
    rig.stop().await;
    let again = rig.restart(&config).await;
    assert_eq!(server.peer().await.hears().await.unwrap(), "from 40");
    again.stop().await;
}

#[tokio::test]
async fn a_feed_that_begins_anew_sends_other_messages_under_the_same_numbers() {
    let server = Server::start().await;
    let config = config(&server, NUMBERED);
    let rig = Rig::start(&config).await;
    let mut peer = server.peer().await;
    peer.hears().await.unwrap();
    // over one connection, though it sends the very same again
    for n in [1, 2, 1, 2] {
        peer.say(&format!("{{\"n\":{n}}}")).await;
    }
    rig.until(|counts| counts.offered == 4).await;
    rig.stop().await;
    // while it was away, with other messages; and with one that it repeats
    let again = rig.restart(&config).await;
    let mut peer = server.peer().await;
    assert_eq!(peer.hears().await.unwrap(), "from 2");
    peer.say(r#"{"resumed":true}"#).await;
    for text in [r#"{"n":2}"#, r#"{"n":1,"new":true}"#, r#"{"n":2,"new":true}"#] {
        peer.say(text).await;
    }
    again.until(|counts| counts.offered == 3).await;
    again.stop().await;
    let identities: Vec<_> = [rig.seen().concat(), again.seen().concat()].concat();
    let identities: Vec<_> = identities.into_iter().map(|inbound| inbound.identity).collect();
    let repeated = identities.iter().enumerate().filter(|(at, one)| identities[..*at].contains(one));
    assert_eq!(repeated.map(|(at, _)| at).collect::<Vec<_>>(), [4]);
}

#[tokio::test]
async fn numbers_by_channel_begin_anew_with_each_connection() {
    let server = Server::start().await;
    let config = config(&server, ", channel: /c, sequence: { at: /n, by: channel }");
    let rig = Rig::start(&config).await;
    let mut peer = server.peer().await;
    for text in [r#"{"c":"a","n":1}"#, r#"{"c":"b","n":9}"#, r#"{"c":"a","n":4}"#] {
        peer.say(text).await;
    }
    rig.until(|counts| counts.offered == 3).await;
    peer.stream.close(None).await.unwrap();
    let mut peer = server.peer().await;
    peer.say(r#"{"c":"a","n":1}"#).await;
    rig.until(|counts| counts.offered == 4).await;
    let State::Connected(Some(why)) = standing(&rig).state else { panic!("{:?}", standing(&rig)) };
    assert_eq!(why, "2 messages of it were missing since the start");
    rig.stop().await;
}

#[test]
fn the_section_is_read_strictly() {
    let config = read(
        "{ url: \"wss://feed.example/v2?key=${env:T}\", login: \"${env:T}\", ping_interval: 5s, max_payload_bytes: 1KiB }",
    );
    let config = config.unwrap();
    assert_eq!((config.ping_interval, config.max_payload_bytes()), (Duration::from_secs(5), 1_024));
    for (text, says) in [
        ("{}", "url"),
        ("{ url: https://a }", "error[bad-url]: a feed is wss://HOST/PATH"),
        ("{ url: ws://feed.example }", "error[plain-text]: ws can be read on the way"),
        ("{ url: wss://u:p@feed.example }", "have no place in the URL"),
        ("{ url: wss://feed.example:0 }", "the port is none"),
        ("{ url: wss://a, channel: ch }", "error[bad-pointer]: \"ch\" is no JSON Pointer"),
        ("{ url: wss://a, login: { send: a, expect: {} } }", "1 to 16 members"),
        ("{ url: wss://a, login: { send: a, expect: { ok: true } } }", "no JSON Pointer"),
        ("{ url: wss://a, login: { send: a, expect: { /ok: [] } } }", "expected a text, a number"),
        ("{ url: wss://a, sequence: { at: /n, by: channel } }", "\"channel\" of the bridge says"),
        ("{ url: wss://a, sequence: { at: /n, resume: again } }", "stands nowhere: {sequence}"),
        (
            "{ url: wss://a, channel: /c, sequence: { at: /n, by: channel, resume: \"{sequence}\" } }",
            "of the whole connection",
        ),
        ("{ url: wss://a, subprotocol: \"a b\" }", "a token of HTTP"),
        ("{ url: wss://a, retries: 3 }", "unknown key \"retries\""),
    ] {
        let said = read(text).unwrap_err();
        assert!(said.contains(says), "{text}: {said}");
    }
}

#[test]
fn a_mapping_takes_addresses_that_messages_have() {
    let (plain, by_channel) = (read("{ url: wss://a }").unwrap(), read("{ url: wss://a, channel: /c }").unwrap());
    assert_eq!((plain.check_source("message"), by_channel.check_source("message/{c}")), (Ok(()), Ok(())));
    assert!(plain.check_source("message/a").unwrap_err().contains("has no \"channel\""));
    assert!(by_channel.check_source("messages/a").unwrap_err().contains("message/CHANNEL"));
}

#[test]
fn secrets_are_not_shown() {
    let text = "{ url: wss://a, authorization: \"Bearer ${env:T}\", login: \"${env:T}\", subscribe: [\"${env:T}\"] }";
    let shown = format!("{:?}", read(text).unwrap());
    assert!(!shown.contains("MfKQ9"), "{shown}");
}
