//! The table by itself: what resolves an entry, and what ends it.

mod original;

use std::time::Duration;

use envelope::{EnvelopeId, Reached, Terms, Ticket};
use policy::ReplyDesk;
use tokio::time::Instant;
use uuid::Uuid;

use super::*;

fn tickets() -> (Tickets, CancellationToken) {
    let over = CancellationToken::new();
    (Tickets::new("plant-a".into(), CancellationToken::new(), over.clone()).unwrap(), over)
}

/// Waits for the envelopes of a message, each for so many takers.
fn entry(tickets: &Tickets, open: &[(EnvelopeId, usize)], within: Duration) -> Ticket {
    let mut table = tickets.table();
    let (message, until) = (open[0].0.uuid(), Instant::now() + within);
    assert!(table.enter(message, Entry::new(open.iter().copied().collect(), None, until)));
    table.ticket(message, within)
}

fn id(number: u128) -> EnvelopeId {
    EnvelopeId::new(Uuid::from_u128(number))
}

const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn one_taker_is_enough_and_none_is_a_no() {
    let (tickets, _drain) = tickets();
    let (one, none) = (entry(&tickets, &[(id(1), 2)], LONG), entry(&tickets, &[(id(2), 2)], LONG));
    tickets.settled(id(1), false);
    tickets.settled(id(1), true);
    tickets.settled(id(2), false);
    tickets.settled(id(2), false);
    assert_eq!(tickets.reached(one).await, Reached::Yes);
    assert_eq!(tickets.reached(none).await, Reached::Never);
    assert_eq!(tickets.reached(one).await, Reached::Late, "a ticket is asked for once");
}

#[tokio::test(start_paused = true)]
async fn all_envelopes_of_a_message_have_to_be_taken() {
    let (tickets, _drain) = tickets();
    let (first, second) = (id(7).item(0), id(7).item(1));
    let ticket = entry(&tickets, &[(first, 1), (second, 1)], LONG);
    tickets.settled(first, true);
    assert!(tickets.table().get(first.uuid()).unwrap().fate.borrow().is_none());
    tickets.settled(second, true);
    assert_eq!(tickets.reached(ticket).await, Reached::Yes);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_mapping_says_or_the_gateway_runs() {
    let (tickets, drain) = tickets();
    let (short, long) = (entry(&tickets, &[(id(1), 1)], Duration::from_secs(1)), entry(&tickets, &[(id(2), 1)], LONG));
    let began = Instant::now();
    assert_eq!(tickets.reached(short).await, Reached::Late);
    assert_eq!(began.elapsed().as_secs(), 1);
    drain.cancel();
    assert_eq!(tickets.reached(long).await, Reached::Late);
    assert_eq!(began.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_over_leaves_the_table() {
    let (tickets, _drain) = tickets();
    entry(&tickets, &[(id(1), 1)], Duration::from_secs(1));
    entry(&tickets, &[(id(2), 1)], LONG);
    tickets.table().end(Instant::now() + Duration::from_secs(1));
    assert_eq!(tickets.table().len(), 2, "an answer may be a moment late");
    tickets.table().end(Instant::now() + Duration::from_secs(3));
    assert_eq!(tickets.table().len(), 1);
    assert!(tickets.table().is_whole());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_forgotten_leaves_nothing_that_ends_the_next_one() {
    let (tickets, _over) = tickets();
    entry(&tickets, &[(id(1), 1)], Duration::from_secs(1));
    tickets.table().remove(id(1).uuid());
    assert!(tickets.table().is_whole());
    let retry = entry(&tickets, &[(id(1), 1)], LONG);
    tickets.table().end(Instant::now() + Duration::from_secs(60));
    tickets.settled(id(1), true);
    assert_eq!(tickets.reached(retry).await, Reached::Yes);
}

#[tokio::test(start_paused = true)]
async fn a_full_table_forgets_what_is_decided_before_it_refuses() {
    let (tickets, _over) = tickets();
    let most = MAX_WAITING as u128;
    let kept: Vec<_> = (0..most).map(|number| entry(&tickets, &[(id(number), 1)], LONG)).collect();
    let late = || Entry::new([(id(most), 1)].into(), None, Instant::now() + LONG);
    assert!(!tickets.table().enter(id(most).uuid(), late()));
    tickets.settled(id(7), true);
    tickets.settled(id(8), false);
    assert!(tickets.table().enter(id(most).uuid(), late()));
    assert!(tickets.table().get(id(7).uuid()).is_none() && tickets.table().get(id(8).uuid()).is_some());
    assert!(tickets.table().is_whole());
    assert_eq!(tickets.reached(kept[7]).await, Reached::Yes, "who waited for it hears it all the same");
}

#[tokio::test(start_paused = true)]
async fn a_promise_that_is_over_before_it_is_given_is_late_and_no_yes() {
    let (tickets, _drain) = tickets();
    let until = Instant::now() + Duration::from_millis(100);
    assert!(tickets.table().enter(id(1).uuid(), Entry::new([(id(1), 1)].into(), None, until)));
    // the store takes longer than the sender waits, and somebody else looks at the table meanwhile
    tickets.table().end(until + table::GRACE);
    let ticket = tickets.table().ticket(id(1).uuid(), Duration::from_millis(100));
    assert_eq!(tickets.reached(ticket).await, Reached::Late);
}

#[tokio::test(start_paused = true)]
async fn tickets_that_nobody_asks_for_do_not_pile_up() {
    let (tickets, _drain) = tickets();
    let oldest = entry(&tickets, &[(id(1), 1)], LONG);
    let later: Vec<_> = (0..MAX_WAITING).map(|_| tickets.table().ticket(id(1).uuid(), LONG)).collect();
    tickets.settled(id(1), true);
    assert_eq!(tickets.reached(oldest).await, Reached::Late);
    assert_eq!(tickets.reached(later[MAX_WAITING - 1]).await, Reached::Yes);
}

#[tokio::test(start_paused = true)]
async fn at_the_drain_who_waits_for_an_answer_is_told_at_once_and_who_waits_for_a_delivery_goes_on() {
    let (drain, over) = (CancellationToken::new(), CancellationToken::new());
    let tickets = Tickets::new("plant-a".into(), drain.clone(), over.clone()).unwrap();
    let delivery = entry(&tickets, &[(id(1), 1)], LONG);
    let asks = {
        let mut table = tickets.table();
        let terms = Some(Arc::new(Terms::default()));
        assert!(table.enter(id(2).uuid(), Entry::new([(id(2), 0)].into(), terms, Instant::now() + LONG)));
        table.ticket(id(2).uuid(), LONG)
    };
    drain.cancel();
    assert_eq!(tickets.reached(asks).await, Reached::Late);
    let waits = tickets.reached(delivery);
    tickets.settled(id(1), true);
    assert_eq!(waits.await, Reached::Yes);
}

#[test]
fn a_reply_topic_is_of_one_envelope_and_of_one_start() {
    let (one, other) = (tickets().0, tickets().0);
    let topic = |tickets: &Tickets, number| tickets.topic(id(number)).unwrap();
    assert_eq!(topic(&one, 1), topic(&one, 1));
    assert_ne!(topic(&one, 1), topic(&one, 2));
    assert_ne!(topic(&one, 1), topic(&other, 1));
    let text = topic(&one, 1).as_str().to_owned();
    assert_eq!(text.strip_prefix("$mesh/reply/plant-a/").map(str::len), Some(32));
}
