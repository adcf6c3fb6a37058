//! The reading side of a WebSocket: frames in order, publishes in batches, one call in flight.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use bytes::Bytes;
use envelope::{Identity, Lane, Principal, RejectKind, Rejection, Subscribe};
use futures_util::FutureExt;
use http::StatusCode;
use tokio::{
    io::AsyncRead,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    BATCH_BYTES, End, answers,
    frames::{self, ClientFrame, Frame, Wish},
    lane::{LaneContext, Waiting},
    mailbox::{Sender, mailbox},
    reader::{Failed, Reader, Received},
    subscription::{Command, Subscription},
    wire::{Broken, Message, code},
    writer::Out,
};
use crate::http::{Peer, Problem, draft::Draft, offer::Offer};

/// One client.
pub(super) struct Connection {
    offer: Arc<Offer>,
    principal: Arc<Principal>,
    from: Peer,
    lane: Lane,
    out: Out,
    gone: CancellationToken,
    subscriptions: HashMap<String, Open>,
    /// One a subscription, until the client is told of its end.
    slots: Arc<Semaphore>,
    bad_frames: u32,
    tongue: Tongue,
}

/// What a connection's frames are.
#[derive(Debug, Clone)]
pub(super) enum Tongue {
    /// Frames with an `op`.
    Ops {
        /// Binary frames have a payload behind their line of JSON, deliveries among them.
        binary: bool,
    },
    /// Each is the payload of a message that is like this one otherwise.
    Payloads(Draft),
}

/// A subscription as the reader sees it.
struct Open {
    commands: Sender<Command>,
    credit: u32,
    task: JoinHandle<()>,
}

/// What one read brought in.
#[derive(Default)]
struct Gathered {
    frames: Vec<Frame>,
    /// What they take of the bytes in flight, as far as that is held.
    held: Option<OwnedSemaphorePermit>,
    pings: Vec<Bytes>,
    end: Option<End>,
}

/// The most messages of a batch, and of one read.
const MAX_BATCH: usize = 64;
/// Commands that may wait for a subscription.
const COMMANDS: u32 = 64;
/// A client that sends more frames that are none is cut.
const MAX_BAD_FRAMES: u32 = 16;

// === impl Connection ===

impl Connection {
    pub(super) fn new(
        offer: Arc<Offer>,
        principal: Arc<Principal>,
        peer: Peer,
        out: Out,
        gone: CancellationToken,
        tongue: Tongue,
    ) -> Self {
        let lane = offer.lane();
        let slots = Arc::new(Semaphore::new(offer.config.websocket.max_subscriptions));
        let subscriptions = HashMap::new();
        Self { offer, principal, from: peer, lane, out, gone, subscriptions, slots, bad_frames: 0, tongue }
    }

    /// Serves until the client leaves, breaks the protocol, or the gateway drains.
    pub(super) async fn serve(&mut self, reader: &mut Reader<impl AsyncRead + Unpin + Send>) -> End {
        // twice, so that the answer to one ping may be late
        let silence = self.offer.config.websocket.ping_interval.saturating_mul(2);
        let mut not_let_in = self.from.clone().ended(self.offer.cx.authenticator.ended(self.principal.clone()));
        loop {
            let first = tokio::select! {
                biased;
                () = self.offer.cx.drain.cancelled() => return End::GoingAway,
                () = self.gone.cancelled() => return End::Gone,
                why = &mut not_let_in => return End::NotLetIn(why.detail),
                next = timeout(silence, reader.next()) => match next {
                    Ok(next) => next,
                    // it takes its time over a message, which has a time of its own
                    Err(_) if reader.has_heard() => continue,
                    Err(_) => return broke(code::POLICY, "the client is silent"),
                },
            };
            let gathered = gather(first, reader, !matches!(self.tongue, Tongue::Ops { binary: false }));
            // on the heap: a connection that says nothing has no room for it
            if let Err(end) = Box::pin(self.take(gathered)).await {
                return end;
            }
        }
    }

    async fn take(&mut self, Gathered { frames, held, pings, end }: Gathered) -> Result<(), End> {
        // whoever reads a ping waits for room before it reads more: a client that sends them and does not read stops here
        for ping in pings {
            self.out.send(Message::Pong(ping)).await.map_err(|_| End::Gone)?;
        }
        self.obey(frames, held).await?;
        end.map_or(Ok(()), |end| match end {
            End::Broke { code: code::AGAIN, .. } => {
                self.offer.full.increment(1);
                Err(end)
            }
            _ => Err(end),
        })
    }

    /// Ends the subscriptions, which settle what is acked already. One that is not done by `deadline`, because its
    /// client does not read or the outlet does not answer, is dropped with what it has unsettled.
    pub(super) async fn finish(mut self, deadline: Instant) {
        let open: Vec<_> = self.subscriptions.drain().map(|(_, open)| open.task).collect();
        for mut task in open {
            match timeout_at(deadline, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the task of a subscription failed"),
                Err(_) => task.abort(),
            }
        }
    }

    /// Obeys the frames of one read in order; publishes that follow each other are one batch.
    async fn obey(&mut self, frames: Vec<Frame>, mut held: Option<OwnedSemaphorePermit>) -> Result<(), End> {
        if let Tongue::Payloads(like) = &self.tongue {
            let message = |frame: Frame| Draft { payload: frame.bytes, identity: Identity::fresh(), ..like.clone() };
            let mut waiting = frames.into_iter().map(|frame| self.waiting(None, message(frame))).collect();
            return self.publish(&mut waiting, &mut held).await;
        }
        let mut waiting = Vec::new();
        for frame in frames {
            match frames::parse(&frame) {
                Ok(ClientFrame::Publish { reference, draft }) => waiting.push(self.waiting(Some(reference), draft)),
                Ok(other) => {
                    self.publish(&mut waiting, &mut held).await?;
                    self.control(other).await;
                }
                Err(bad) => {
                    self.publish(&mut waiting, &mut held).await?;
                    self.send(answers::error(bad.reference.as_deref(), &bad.problem)).await;
                    self.bad_frames += 1;
                    if self.bad_frames > MAX_BAD_FRAMES {
                        return Err(broke(code::POLICY, "too many bad frames"));
                    }
                }
            }
        }
        self.publish(&mut waiting, &mut held).await
    }

    fn waiting(&self, reference: Option<String>, draft: Draft) -> Waiting {
        let (bridge, principal) = (self.offer.cx.bridge.clone(), self.principal.clone());
        Waiting { reference, inbound: draft.into_inbound(bridge, self.lane, principal, Some(self.from.address.ip())) }
    }

    async fn publish(&self, waiting: &mut Vec<Waiting>, held: &mut Option<OwnedSemaphorePermit>) -> Result<(), End> {
        if waiting.is_empty() {
            return Ok(());
        }
        let lane = LaneContext { offer: &self.offer, out: &self.out, gone: &self.gone };
        lane.publish(std::mem::take(waiting), held.take()).await
    }

    async fn control(&mut self, frame: ClientFrame) {
        let (sub, command) = match frame {
            // `obey` keeps it
            ClientFrame::Publish { .. } => return,
            ClientFrame::Subscribe(wish) => return self.subscribe(wish).await,
            ClientFrame::Settle { sub, settled } => (sub, Command::Settle(settled)),
            ClientFrame::Credit { sub, more } => {
                let limit = self.offer.config.websocket.max_credit;
                if let Some(open) = self.subscriptions.get_mut(&sub) {
                    let raised = open.credit.saturating_add(more);
                    if raised > limit {
                        let detail = format!("credit would be {raised}, limit is {limit}");
                        return self.refuse(&sub, RejectKind::TooLarge, "max_credit", detail).await;
                    }
                    open.credit = raised;
                }
                (sub, Command::Grant(more))
            }
            ClientFrame::Unsubscribe { sub } => (sub, Command::Unsubscribe),
        };
        let sent = match self.subscriptions.get(&sub) {
            Some(open) => open.commands.send(command, 1).await.is_ok(),
            None => false,
        };
        if !sent {
            let problem =
                Problem::new(StatusCode::NOT_FOUND, "no-subscription", "websocket", "no such subscription is open");
            self.send(answers::error(Some(&sub), &problem)).await;
        }
    }

    async fn subscribe(&mut self, wish: Wish) {
        self.subscriptions.retain(|_, open| !open.commands.is_closed());
        let limits = &self.offer.config.websocket;
        let name = wish.reference.as_str();
        if self.subscriptions.contains_key(name) {
            return self.refuse(name, RejectKind::Conflict, "websocket", "a subscription of this ref is open").await;
        }
        if wish.credit > limits.max_credit {
            let detail = format!("credit is {}, limit is {}", wish.credit, limits.max_credit);
            return self.refuse(name, RejectKind::TooLarge, "max_credit", detail).await;
        }
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let detail = format!("{} subscriptions are open, which is the limit", limits.max_subscriptions);
            return self.refuse(name, RejectKind::TooLarge, "max_subscriptions", detail).await;
        };
        let durable = wish.durable_of(&self.principal.id);
        let (commands, queue) = mailbox(COMMANDS);
        let subscription = Subscription {
            name: wish.reference.clone(),
            what: Subscribe { filters: wish.filters, start: wish.start, durable, credit: wish.credit },
            principal: self.principal.clone(),
            offer: self.offer.clone(),
            commands: queue,
            out: self.out.clone(),
            binary: matches!(self.tongue, Tongue::Ops { binary: true }),
            slot: Some(slot),
        };
        let task = self.offer.cx.tasks.spawn(subscription.run());
        self.subscriptions.insert(wish.reference, Open { commands, credit: wish.credit, task });
    }

    async fn refuse(&self, name: &str, kind: RejectKind, rule: &'static str, detail: impl Into<String>) {
        let rejection = Rejection::new(kind, rule, detail);
        self.send(answers::error(Some(name), &Problem::from(&rejection))).await;
    }

    /// Nobody is left to hear it if this fails; the reader sees it at its next turn.
    async fn send(&self, message: Message) {
        _ = self.out.send(message).await;
    }
}

/// The frames that are there already, within the bounds of a batch.
fn gather(first: Result<Received, Failed>, reader: &mut Reader<impl AsyncRead + Unpin>, binary: bool) -> Gathered {
    let mut gathered = Gathered::default();
    let (mut read, mut bytes) = (0, 0);
    let mut next = Some(first);
    while let Some(received) = next {
        read += 1;
        let Received { message, held } = match received {
            Ok(received) => received,
            Err(failed) => {
                gathered.end = Some(failed.into());
                break;
            }
        };
        bytes += message.size();
        match message {
            Message::Text(bytes) => gathered.frames.push(Frame { bytes, binary: false }),
            Message::Binary(bytes) if binary => gathered.frames.push(Frame { bytes, binary: true }),
            Message::Binary(_) => {
                let reason = "frames are JSON text, unless the subprotocol says otherwise";
                gathered.end = Some(broke(code::UNSUPPORTED, reason));
                break;
            }
            Message::Ping(ping) => gathered.pings.push(ping),
            // a client sends no frames that are written already
            Message::Pong(_) | Message::Frames(_) => {}
            Message::Close(close) => {
                gathered.end = Some(End::Left(close.map(|close| close.code)));
                break;
            }
        }
        match (&mut gathered.held, held) {
            (Some(all), Some(held)) => all.merge(held),
            (all, Some(held)) => *all = Some(held),
            (_, None) => {}
        }
        if read >= MAX_BATCH || bytes >= BATCH_BYTES {
            break;
        }
        next = reader.next().now_or_never();
    }
    if !gathered.frames.is_empty() {
        // they may wait for the store
        reader.let_go();
    }
    gathered
}

fn broke(code: u16, reason: impl Into<Cow<'static, str>>) -> End {
    End::Broke { code, reason: reason.into() }
}

impl From<Failed> for End {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Gone => Self::Gone,
            Failed::Late => broke(code::POLICY, "a message did not arrive within body_timeout"),
            Failed::Full => broke(code::AGAIN, "too many bytes are in flight"),
            Failed::Broken(Broken::TooLarge) => broke(code::SIZE, "the frame is over max_frame_bytes"),
            Failed::Broken(Broken::NotUtf8) => broke(code::INVALID, "the frame is not UTF-8"),
            Failed::Broken(Broken::Protocol(how)) => {
                broke(code::PROTOCOL, format!("not the WebSocket protocol: {how}"))
            }
        }
    }
}
