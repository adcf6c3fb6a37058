//! Publishing over a WebSocket: a lane with one call in flight.
//!
//! While a message can't be taken, the lane keeps it and everything behind it, reads nothing, and offers again with
//! jittered backoff. It gives back only at the drain, when the client is gone, or after `retry_for`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use envelope::{Admission, Batch, Disposition, Identity, Inbound, Parts, Receipt, RejectKind, Settled};
use futures_util::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{End, answers, mailbox::Ended, wire::Message, writer::Out};
use crate::{
    backoff::backoff,
    http::{
        Problem,
        offer::{Heard, Offer},
    },
};

/// A message that the client waits to hear of.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The client's word for it; a connection whose frames are messages has none.
    pub(super) reference: Option<String>,
    pub(super) inbound: Inbound,
}

/// What a lane works with.
#[derive(Debug)]
pub(super) struct LaneContext<'c> {
    pub(super) offer: &'c Arc<Offer>,
    pub(super) out: &'c Out,
    /// Cancelled when nothing can be sent to the client any more.
    pub(super) gone: &'c CancellationToken,
}

const FIRST_WAIT: Duration = Duration::from_millis(25);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

// === impl LaneContext ===

impl LaneContext<'_> {
    /// Publishes in order and answers each; ends the connection if it gives something back. `held` is what the messages
    /// take already of the bytes in flight.
    pub(super) async fn publish(&self, waiting: Vec<Waiting>, held: Option<OwnedSemaphorePermit>) -> Result<(), End> {
        self.offer.cx.received(waiting.len() as u64);
        let bytes: usize = waiting.iter().map(|message| message.inbound.payload.len()).sum();
        let in_flight = match held.filter(|held| held.num_permits() >= bytes) {
            Some(held) => held,
            // what was held is given back before: who holds some and waits for more would wait for others that do
            None => {
                let room = self.offer.cx.bytes.of(bytes);
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                // what others hold may be of messages whose clients send no more: none of them waits for ever
                let end = tokio::select! {
                    reserved = room.acquire_many_owned(bytes) => reserved.map_err(|_| End::GoingAway),
                    () = self.stopped() => Err(End::GoingAway),
                    () = tokio::time::sleep(self.offer.config.body_timeout) => {
                        Err(End::RetriedTooLong(RejectKind::Overloaded))
                    }
                };
                match end {
                    Ok(reserved) => reserved,
                    Err(end) => return self.give_back(waiting.iter().map(|_| RejectKind::Overloaded), end),
                }
            }
        };
        let published = self.offer_all(waiting).await;
        drop(in_flight);
        published
    }

    async fn offer_all(&self, mut waiting: Vec<Waiting>) -> Result<(), End> {
        let began = Instant::now();
        let mut attempt = 0;
        while let Some(batch) = Batch::new(waiting.iter().map(|message| message.inbound.clone()).collect()) {
            let verdicts = self.offer.cx.verdicts(batch).await;
            let mut refused = Vec::new();
            let mut again = Vec::new();
            for (message, verdict) in waiting.into_iter().zip(verdicts) {
                match verdict.answer {
                    Ok(admission) if is_later(&admission) => {
                        let keyed = matches!(message.inbound.identity, Identity::Keyed { .. });
                        self.answer_later(message.reference, admission, keyed);
                    }
                    Ok(admission) => self.send(answers::admitted(message.reference.as_deref(), &admission)).await,
                    Err(rejection) => match rejection.disposition() {
                        Disposition::Final => {
                            let problem = Problem::from(&rejection);
                            self.send(match &message.reference {
                                Some(reference) => answers::error(Some(reference), &problem),
                                None => answers::refused(&problem),
                            })
                            .await;
                        }
                        Disposition::Retry => {
                            again.push(message);
                            refused.push(rejection);
                        }
                    },
                }
            }
            waiting = again;
            let Some(first) = refused.first() else { return Ok(()) };
            let wait = first.retry_after.unwrap_or_default().max(backoff(FIRST_WAIT, LONGEST_WAIT, attempt));
            let kinds = || refused.iter().map(|rejection| rejection.kind);
            if began.elapsed() + wait > self.offer.config.websocket.retry_for {
                return self.give_back(kinds(), End::RetriedTooLong(first.kind));
            }
            tokio::select! {
                biased;
                () = self.stopped() => return self.give_back(kinds(), End::GoingAway),
                () = tokio::time::sleep(wait) => attempt += 1,
            }
            self.offer.retries.increment(waiting.len() as u64);
        }
        Ok(())
    }

    /// In a task of its own: the lane goes on. There are no more of them than the gateway has tickets.
    fn answer_later(&self, reference: Option<String>, admission: Admission, keyed: bool) {
        let (offer, out) = (self.offer.clone(), self.out.clone());
        self.offer.cx.tasks.spawn(async move {
            let heard = offer.reached(admission, keyed).await;
            // nobody is left to hear it if this fails
            _ = tell(&out, reference.as_deref(), heard).await;
        });
    }

    fn give_back(&self, kinds: impl Iterator<Item = RejectKind>, end: End) -> Result<(), End> {
        kinds.for_each(|kind| self.offer.cx.returned(kind));
        Err(end)
    }

    async fn stopped(&self) {
        tokio::select! {
            () = self.offer.cx.drain.cancelled() => {}
            () = self.gone.cancelled() => {}
        }
    }

    /// Nobody is left to hear it if this fails; the ledger has the outcome all the same.
    async fn send(&self, message: Message) {
        _ = self.out.send(message).await;
    }
}

/// What is told of a message whose ack point was beyond the store, and the answer part by part.
async fn tell(out: &Out, reference: Option<&str>, heard: Heard) -> Result<(), Ended> {
    let Heard { admission, is_answer, parts } = heard;
    out.send(answers::admitted(reference, &admission)).await?;
    if let (true, Some(reference), Admission::Stored(Receipt { reply: Some(reply), .. })) =
        (is_answer, reference, &admission)
    {
        out.send(answers::answer(reference, reply, parts.is_some())).await?;
    }
    let Some(Parts(mut parts)) = parts else { return Ok(()) };
    let is_json = answers::is_json(&admission);
    while let Some(part) = parts.next().await {
        out.send(match part {
            Ok(part) => answers::part(reference, part, is_json),
            Err(rejection) => {
                let problem = Problem::from(&rejection);
                match reference {
                    Some(reference) => answers::error(Some(reference), &problem),
                    None => answers::refused(&problem),
                }
            }
        })
        .await?;
    }
    Ok(())
}

/// Whether its ack point is beyond the store.
fn is_later(admission: &Admission) -> bool {
    matches!(admission, Admission::Stored(receipt) if matches!(receipt.settled, Settled::Later(_)))
}
