//! One subscription of a WebSocket: a task that sends deliveries and settles what the client acks.

use std::sync::Arc;

use envelope::{Batch, Deliveries, Delivery, Position, Principal, Rejection, Settlement, Subscribe};
use tokio::sync::OwnedSemaphorePermit;

use super::{answers, mailbox::Receiver, wire::Message, writer::Out};
use crate::http::{Problem, offer::Offer};

/// What the client wants of an open subscription. Once the sender is dropped, what is queued is still settled.
#[derive(Debug)]
pub(super) enum Command {
    Settle(Vec<(Position, Settlement)>),
    Grant(u32),
    Unsubscribe,
}

/// A subscription that is to be opened.
pub(super) struct Subscription {
    pub(super) name: String,
    pub(super) what: Subscribe,
    pub(super) principal: Arc<Principal>,
    pub(super) offer: Arc<Offer>,
    pub(super) commands: Receiver<Command>,
    pub(super) out: Out,
    /// Whether deliveries are binary frames.
    pub(super) binary: bool,
    /// One of the connection's `max_subscriptions`.
    pub(super) slot: Option<OwnedSemaphorePermit>,
}

/// Deliveries go to the writer together until they have so many bytes; a larger one goes alone.
const TOGETHER_BYTES: usize = 16_384;

/// Why a subscription is over.
enum Over {
    /// The connection is, or the client wishes so; unsettled deliveries go back.
    Left {
        say: bool,
    },
    Refused(Rejection),
}

// === impl Subscription ===

impl Subscription {
    /// Runs to the end of the subscription. Unsettled deliveries go back with `Deliveries`.
    pub(super) async fn run(mut self) {
        let mut deliveries = match self.offer.cx.outlet.open(self.principal.clone(), self.what.clone()).await {
            Ok(deliveries) => deliveries,
            Err(rejection) => {
                let problem = Problem::from(&rejection);
                // from here on the name is free again: say so only then
                self.commands.close();
                // nobody is left to hear it if this fails
                _ = self.out.send_last(answers::error(Some(&self.name), &problem), self.slot).await;
                return;
            }
        };
        let over = match self.send(answers::subscribed(&self.name, deliveries.has_gap())).await {
            Ok(()) => self.pump(deliveries.as_mut()).await,
            Err(over) => over,
        };
        drop(deliveries);
        self.commands.close();
        // nobody is left to hear it if sending fails
        _ = match over {
            Over::Left { say: false } => return,
            Over::Left { say: true } => self.out.send_last(answers::unsubscribed(&self.name), self.slot).await,
            Over::Refused(rejection) => self.out.send_last(answers::ended(&self.name, &rejection), self.slot).await,
        };
    }

    async fn pump(&mut self, deliveries: &mut dyn Deliveries) -> Over {
        loop {
            let step = tokio::select! {
                biased;
                command = self.commands.recv() => self.obey(command, deliveries).await,
                batch = deliveries.next() => match batch {
                    Ok(batch) => self.deliver(batch).await,
                    Err(rejection) => Err(Over::Refused(rejection)),
                },
            };
            if let Err(over) = step {
                return over;
            }
        }
    }

    async fn deliver(&self, batch: Batch<Delivery>) -> Result<(), Over> {
        let message = |delivery| answers::message(&self.name, delivery, self.binary, &self.offer.shown);
        if let [one] = batch.as_slice() {
            return self.send(message(one)).await;
        }
        // together, so that the writer is woken once
        let mut frames = Vec::new();
        for delivery in batch.as_slice() {
            let message = message(delivery);
            if message.size() > TOGETHER_BYTES {
                self.send_all(&mut frames).await?;
                self.send(message).await?;
                continue;
            }
            message.write(&mut frames, usize::MAX);
            if frames.len() > TOGETHER_BYTES {
                self.send_all(&mut frames).await?;
            }
        }
        self.send_all(&mut frames).await
    }

    async fn send_all(&self, frames: &mut Vec<u8>) -> Result<(), Over> {
        if frames.is_empty() {
            return Ok(());
        }
        self.send(Message::Frames(std::mem::take(frames))).await
    }

    /// Obeys a command and those queued behind it; acks that wait together are settled together.
    async fn obey(&mut self, first: Option<Command>, deliveries: &mut dyn Deliveries) -> Result<(), Over> {
        let mut settled = Vec::new();
        let mut next = first;
        let over = loop {
            match next {
                Some(Command::Settle(more)) => settled.extend(more),
                Some(Command::Grant(more)) => deliveries.grant(more),
                Some(Command::Unsubscribe) => break Some(Over::Left { say: true }),
                None => break Some(Over::Left { say: false }),
            }
            match self.commands.try_recv() {
                Some(command) => next = Some(command),
                None => break None,
            }
        };
        if !settled.is_empty() {
            deliveries.settle(settled).await.map_err(Over::Refused)?;
        }
        over.map_or(Ok(()), Err)
    }

    async fn send(&self, message: Message) -> Result<(), Over> {
        self.out.send(message).await.map_err(|_| Over::Left { say: false })
    }
}
