//! The table by itself: what resolves an entry, and what ends it.

use std::time::Duration;

use envelope::{EnvelopeId, Reached, Ticket};
use tokio::time::Instant;
use uuid::Uuid;

use super::*;

fn tickets() -> (Tickets, CancellationToken) {
    let drain = CancellationToken::new();
    (Tickets::new("plant-a".into(), drain.clone()).unwrap(), drain)
}

/// Waits for the envelopes of a message, each for so many takers.
fn entry(tickets: &Tickets, open: &[(EnvelopeId, usize)], within: Duration) -> Ticket {
    let mut table = tickets.table();
    let (message, until) = (open[0].0.uuid(), Instant::now() + within);
    let fate = watch::Sender::new(None);
    let held = Held { fate: fate.subscribe(), until };
    table.entries.insert(message, Entry { fate, open: open.iter().copied().collect(), terms: None, until });
    table.ends.insert((until + GRACE, message));
    table.next += 1;
    let ticket = Ticket(table.next);
    table.tickets.insert(ticket, held);
    ticket
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
    assert!(tickets.table().entries[&first.uuid()].fate.borrow().is_none());
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
    assert_eq!(tickets.table().entries.len(), 2, "an answer may be a moment late");
    tickets.table().end(Instant::now() + Duration::from_secs(3));
    assert_eq!(tickets.table().entries.len(), 1);
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
