//! Feeds that are away, say no, are silent, lie or flood; and a gateway that takes nothing.

use std::time::Duration;

use envelope::{RejectKind, Rejection};
use futures_util::SinkExt;
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use super::{Server, config, payloads, standing};
use crate::{
    State,
    conformance::{HARD_TIMEOUT, Rig},
};

async fn until(rig: &Rig, so: impl Fn(&State) -> bool) {
    let stands = async {
        while !so(&standing(rig).state) {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(HARD_TIMEOUT, stands).await.is_ok(), "it stays {:?}", standing(rig));
}

#[tokio::test]
async fn a_feed_that_says_no_is_shown_as_refused_and_one_that_is_away_is_asked_again() {
    let server = Server::start().await;
    let rig = Rig::start(&config(&server, ", max_backoff: 200ms")).await;
    let mut socket = server.socket().await;
    socket.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    until(&rig, |state| matches!(state, State::Refused(why) if why.contains("401"))).await;
    drop(server.socket().await);
    until(&rig, |state| matches!(state, State::Away(_))).await;
    let mut peer = server.peer().await;
    until(&rig, |state| *state == State::Connected(None)).await;
    peer.say("1").await;
    rig.until(|counts| counts.offered == 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_opening_that_is_not_answered_is_refused() {
    let server = Server::start().await;
    let more = ", connect_timeout: 200ms, max_backoff: 100ms, login: { send: l, expect: { /ok: true } }";
    let rig = Rig::start(&config(&server, more)).await;
    let mut peer = server.peer().await;
    peer.hears().await.unwrap();
    peer.say(r#"{"ok":false}"#).await;
    until(&rig, |state| matches!(state, State::Refused(why) if why.contains("message 1 of the opening"))).await;
    let mut peer = server.peer().await;
    for number in 0..1_100 {
        if peer.stream.feed(Message::text(number.to_string())).await.is_err() {
            break;
        }
    }
    _ = peer.stream.flush().await;
    until(&rig, |state| matches!(state, State::Away(why) if why.contains("1024 messages with "))).await;
    // few, but large
    let mut peer = server.peer().await;
    for _ in 0..5 {
        if peer.stream.feed(Message::text("x".repeat(1_000_000))).await.is_err() {
            break;
        }
    }
    _ = peer.stream.flush().await;
    until(&rig, |state| matches!(state, State::Away(why) if why.contains("4 messages with 4000000 bytes"))).await;
    rig.stop().await;
    assert_eq!(rig.counts().received, 0, "nothing is taken of a feed that is not open");
}

#[tokio::test]
async fn a_feed_without_a_sign_of_life_is_left() {
    let server = Server::start().await;
    let rig = Rig::start(&config(&server, ", ping_interval: 100ms, max_backoff: 100ms")).await;
    // it reads nothing, so that it answers no ping
    let silent = server.peer().await;
    until(&rig, |state| matches!(state, State::Away(why) if why.contains("silent for 200ms"))).await;
    let mut peer = server.peer().await;
    peer.say("1").await;
    rig.until(|counts| counts.offered == 1).await;
    drop(silent);
    rig.stop().await;
}

#[tokio::test]
async fn a_feed_is_not_silent_while_the_gateway_does_not_listen() {
    let server = Server::start().await;
    let rig = Rig::start(&config(&server, ", ping_interval: 300ms")).await;
    let mut is_full = true;
    rig.answer(move |inbound| match std::mem::take(&mut is_full) {
        true => {
            let no = Rejection::new(RejectKind::Unavailable, "store", "away");
            // for longer than a feed may be silent
            Err(Rejection { retry_after: Some(Duration::from_millis(700)), ..no })
        }
        false => Ok(crate::conformance::stored(inbound)),
    });
    let mut peer = server.peer().await;
    peer.say("1").await;
    rig.until(|counts| counts.offered == 2).await;
    peer.say("2").await;
    rig.until(|counts| counts.offered == 3).await;
    assert_eq!(standing(&rig).state, State::Connected(None));
    rig.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection_and_the_next_one_goes_on() {
    let server = Server::start().await;
    let rig = Rig::start(&config(&server, ", max_payload_bytes: 1KiB, max_backoff: 100ms")).await;
    let mut peer = server.peer().await;
    peer.say("before").await;
    _ = peer.stream.send(Message::text("x".repeat(1_025))).await;
    until(&rig, |state| matches!(state, State::Away(why) if why.contains("too long"))).await;
    let mut peer = server.peer().await;
    // a frame that lies about its length
    peer.stream.get_mut().write_all(&[0x81, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
    let mut peer = server.peer().await;
    peer.say("behind").await;
    rig.until(|counts| counts.offered == 2).await;
    assert_eq!(payloads(&rig).into_iter().map(|(_, text)| text).collect::<Vec<_>>(), ["before", "behind"]);
    rig.stop().await;
}

#[tokio::test]
async fn what_the_gateway_does_not_take_now_is_offered_again_in_order_and_nothing_more_is_read() {
    let server = Server::start().await;
    let rig = Rig::start(&config(&server, "")).await;
    let mut refusals = 8;
    rig.answer(move |inbound| {
        refusals -= i32::from(refusals > 0);
        if refusals > 0 {
            return Err(Rejection::new(RejectKind::Unavailable, "store", "away"));
        }
        Ok(crate::conformance::stored(inbound))
    });
    let mut peer = server.peer().await;
    peer.say("1").await;
    until(&rig, |state| matches!(state, State::Connected(Some(why)) if why.contains("takes nothing"))).await;
    peer.say("2").await;
    until(&rig, |state| *state == State::Connected(None)).await;
    rig.until(|counts| counts.received == 2 && counts.offered == 9).await;
    assert_eq!(payloads(&rig).last().unwrap().1, "2");
    rig.stop().await;
    assert_eq!(rig.counts().returned, []);
}

#[tokio::test]
async fn at_the_drain_what_was_not_taken_is_given_back_and_counted() {
    let server = Server::start().await;
    let rig = Rig::start(&config(&server, "")).await;
    rig.answer(|_| Err(Rejection::new(RejectKind::Unavailable, "store", "away")));
    let mut peer = server.peer().await;
    peer.say("1").await;
    rig.until(|counts| counts.offered > 1).await;
    rig.stop().await;
    assert_eq!((rig.counts().received, rig.counts().returned), (1, vec![RejectKind::Unavailable]));
}

#[tokio::test]
async fn without_a_mapping_nobody_is_asked() {
    let server = Server::start().await;
    let rig = Rig::start(&config(&server, ", max_backoff: 100ms")).await;
    let peer = server.peer().await;
    rig.addresses_taken.send_replace([].into());
    drop(peer);
    until(&rig, |state| matches!(state, State::Away(_))).await;
    // for several times as long as it waits before it asks again
    let asked = timeout(Duration::from_millis(600), server.socket()).await;
    assert!(asked.is_err(), "it asks for what no mapping takes");
    rig.addresses_taken.send_replace(["message".to_owned()].into());
    server.socket().await;
    let drained = timeout(Duration::from_secs(5), rig.stop()).await;
    assert!(drained.is_ok(), "a handshake does not hold up the drain");
}
