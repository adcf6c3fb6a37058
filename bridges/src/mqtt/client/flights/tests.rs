//! What is on its way, over connections that break.

use super::*;
use crate::{conformance::outbound, mqtt::packet::Reason};

const RETRY_FOR: Duration = Duration::from_secs(60);

fn message(lane: u64, text: &'static str, qos: Qos) -> Outbound {
    Outbound { qos: Some(qos), ..outbound("a/b".into(), lane, text) }
}

fn ask(flights: &mut Flights, messages: Vec<Outbound>) -> oneshot::Receiver<Verdicts<Taken>> {
    let (reply, answer) = oneshot::channel();
    flights.accept(Ask { messages, reply }, Qos::AtLeastOnce);
    answer
}

fn said(id: u16, reason: u8) -> Answered {
    Answered { id, reason: Reason(reason), detail: None }
}

/// Everything that may be sent: text and identifier, or the identifier that is released.
fn sent(flights: &mut Flights, window: usize) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(next) = flights.next(window) {
        all.push(match next {
            Next::Publish(serial) => {
                let flight = flights.get(serial).unwrap();
                let dup = if flight.dup { "!" } else { "" };
                format!("{}{dup}{}", String::from_utf8_lossy(&flight.message.payload), flight.id)
            }
            Next::Release(id) => format!("release {id}"),
        });
    }
    all
}

fn kinds(answer: &mut oneshot::Receiver<Verdicts<Taken>>) -> Vec<Option<RejectKind>> {
    let verdicts = answer.try_recv().unwrap();
    verdicts.into_iter().map(|verdict| verdict.answer.err().map(|no| no.kind)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_once_all_of_it_has_an_outcome() {
    let mut flights = Flights::new(RETRY_FOR);
    let mut answer = ask(&mut flights, vec![message(1, "a", Qos::AtLeastOnce), message(1, "b", Qos::ExactlyOnce)]);
    assert_eq!(sent(&mut flights, 10), ["a1", "b2"]);
    flights.acked(&said(1, 0));
    assert!(flights.received(&said(2, 0)));
    assert!(answer.try_recv().is_err(), "PUBREC is not the end");
    flights.completed(2);
    assert_eq!(kinds(&mut answer), [None, None]);
    assert!(flights.is_idle() && flights.len() == 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_sent_than_the_window_and_the_next_one_once_there_is_an_answer() {
    let mut flights = Flights::new(RETRY_FOR);
    let all = ["a", "b", "c"].map(|text| message(1, text, Qos::AtLeastOnce));
    let _answer = ask(&mut flights, all.into());
    assert_eq!(sent(&mut flights, 2), ["a1", "b2"]);
    flights.acked(&said(9, 0));
    assert!(sent(&mut flights, 2).is_empty(), "of nothing that was sent");
    flights.acked(&said(2, 0));
    assert_eq!(sent(&mut flights, 2), ["c3"]);
}

#[tokio::test(start_paused = true)]
async fn over_a_resumed_session_all_is_sent_again_in_order_by_the_same_identifiers() {
    let mut flights = Flights::new(RETRY_FOR);
    let all = vec![
        message(1, "a", Qos::ExactlyOnce),
        message(1, "b", Qos::ExactlyOnce),
        message(1, "c", Qos::AtLeastOnce),
        message(1, "d", Qos::AtLeastOnce),
    ];
    let mut answer = ask(&mut flights, all);
    assert_eq!(sent(&mut flights, 3), ["a1", "b2", "c3"]);
    flights.received(&said(1, 0));
    flights.lost(true);
    flights.connected(true);
    assert_eq!(sent(&mut flights, 4), ["release 1", "b!2", "c!3", "d4"]);
    flights.completed(1);
    flights.received(&said(2, 0));
    flights.completed(2);
    flights.acked(&said(3, 0));
    flights.acked(&said(4, 0x10));
    assert_eq!(kinds(&mut answer), [None; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_has_forgotten_the_session_gets_all_of_it_as_new() {
    let mut flights = Flights::new(RETRY_FOR);
    let _answer = ask(&mut flights, vec![message(1, "a", Qos::ExactlyOnce), message(1, "b", Qos::AtLeastOnce)]);
    sent(&mut flights, 10);
    flights.received(&said(1, 0));
    flights.lost(true);
    flights.connected(false);
    assert_eq!(sent(&mut flights, 10), ["a3", "b4"]);
    flights.acked(&said(2, 0));
    assert_eq!(flights.len(), 2, "an answer to what was sent before is none");
}

#[tokio::test(start_paused = true)]
async fn who_is_told_that_the_broker_is_away_finds_the_message_where_it_is() {
    let mut flights = Flights::new(RETRY_FOR);
    let (first, second, third) =
        (message(1, "a", Qos::ExactlyOnce), message(2, "b", Qos::ExactlyOnce), message(3, "c", Qos::AtLeastOnce));
    let mut answer = ask(&mut flights, vec![first.clone(), second.clone(), third.clone()]);
    assert_eq!(sent(&mut flights, 2), ["a1", "b2"]);
    flights.lost(true);
    flights.give_up(&Rejection::new(RejectKind::Unavailable, DECIDED_BY, "away"));
    assert_eq!(kinds(&mut answer), [Some(RejectKind::Unavailable); 3]);
    assert_eq!((flights.len(), flights.is_idle()), (2, true), "what was never sent is not kept");
    flights.connected(true);
    assert_eq!(sent(&mut flights, 10), ["a!1", "b!2"]);
    flights.received(&said(1, 0));
    flights.completed(1);
    // one has ended meanwhile, one is on its way, one is new
    let mut again = ask(&mut flights, vec![first, second, third]);
    assert_eq!(sent(&mut flights, 10), ["c3"]);
    flights.received(&said(2, 0));
    flights.completed(2);
    flights.acked(&said(3, 0));
    assert_eq!(kinds(&mut again), [None; 3]);
}

#[tokio::test(start_paused = true)]
async fn behind_a_not_now_its_lane_waits_and_after_a_while_it_is_a_no() {
    let mut flights = Flights::new(RETRY_FOR);
    let (first, behind, other) =
        (message(1, "a", Qos::AtLeastOnce), message(1, "b", Qos::AtLeastOnce), message(2, "c", Qos::AtLeastOnce));
    let mut answer = ask(&mut flights, vec![first.clone(), behind, other]);
    assert_eq!(sent(&mut flights, 1), ["a1"]);
    flights.acked(&said(1, 0x97));
    assert_eq!(sent(&mut flights, 1), ["c2"]);
    flights.acked(&said(2, 0x87));
    assert_eq!(kinds(&mut answer), [Some(RejectKind::RateLimited), Some(RejectKind::Behind), Some(RejectKind::Denied)]);
    tokio::time::advance(RETRY_FOR).await;
    let mut answer = ask(&mut flights, vec![first]);
    sent(&mut flights, 1);
    flights.acked(&said(3, 0x97));
    assert_eq!(kinds(&mut answer), [Some(RejectKind::Conflict)]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_a_broker_hangs_up_on_is_given_up_and_others_go_on() {
    let mut flights = Flights::new(RETRY_FOR);
    let mut poison = ask(&mut flights, vec![message(1, "poison", Qos::AtLeastOnce)]);
    let mut other = ask(&mut flights, vec![message(2, "b", Qos::AtLeastOnce)]);
    for _ in 0..MAX_FRUITLESS {
        flights.connected(true);
        assert_eq!(sent(&mut flights, 10).len(), 2);
        flights.lost(true);
    }
    assert_eq!(kinds(&mut poison), [Some(RejectKind::Conflict)]);
    flights.connected(true);
    sent(&mut flights, 10);
    flights.acked(&said(2, 0));
    assert_eq!(kinds(&mut other), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_only_falls_silent_costs_no_message() {
    let mut flights = Flights::new(RETRY_FOR);
    let mut answer = ask(&mut flights, vec![message(1, "a", Qos::AtLeastOnce)]);
    for _ in 0..MAX_FRUITLESS * 3 {
        flights.connected(true);
        assert_eq!(sent(&mut flights, 10).len(), 1);
        flights.lost(false);
    }
    assert!(answer.try_recv().is_err(), "it is sent again for as long as it takes");
}

#[test]
fn outcomes_that_nobody_asks_for_are_bounded() {
    let mut ended = Ended::default();
    for n in 0..2 * MAX_KEPT {
        let address: Arc<str> = n.to_string().into();
        ended.add(key(&outbound(address, 1, "a")), Ok(Taken::ByPeer));
    }
    assert_eq!((ended.order.len(), ended.outcomes.len()), (MAX_KEPT, MAX_KEPT));
    let newest = key(&outbound((2 * MAX_KEPT - 1).to_string().into(), 1, "a")).1;
    assert!(ended.outcomes.keys().any(|(_, address)| *address == newest));
}
