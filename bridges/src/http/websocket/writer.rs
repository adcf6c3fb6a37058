//! The one task that writes to a WebSocket, the pings, and the bounded way to it.

use std::{io, iter, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{self, Receiver, Sender},
    },
    task::JoinHandle,
    time::{Instant, interval_at, sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use super::CLOSE_WITHIN;

/// The way to the writer. Cheap to clone; the writer ends when every clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Out {
    queue: Sender<Queued>,
    /// A permit a byte that waits for the writer.
    room: Arc<Semaphore>,
}

/// Nothing can be sent any more: the writer has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended;

/// A frame that waits for the writer.
#[derive(Debug)]
struct Queued {
    /// `None`: what the protocol answers by itself is to be flushed.
    message: Option<Message>,
    room: Option<OwnedSemaphorePermit>,
    slot: Option<OwnedSemaphorePermit>,
}

/// Frames that may wait for the writer.
const QUEUE: usize = 32;
/// Bytes that may wait for the writer. A frame that is larger waits alone.
const QUEUE_BYTES: u32 = 262_144;
/// How long a client may take to answer a close frame.
const LINGER: Duration = Duration::from_millis(300);

/// Starts the writer of a connection. It ends after a close frame, when every [`Out`] is dropped, or when writing fails;
/// then it cancels `gone`.
pub(super) fn spawn(
    tasks: &TaskTracker,
    sink: SplitSink<WebSocket, Message>,
    ping_interval: Duration,
    gone: CancellationToken,
    drain: CancellationToken,
) -> (JoinHandle<()>, Out) {
    let (out, queue) = Out::new();
    let writer = tasks.spawn(async move {
        if let Err(error) = write(sink, queue, ping_interval, &drain).await {
            tracing::debug!(%error, "websocket can't be written");
        }
        gone.cancel();
    });
    (writer, out)
}

async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: Receiver<Queued>,
    ping_interval: Duration,
    drain: &CancellationToken,
) -> Result<(), axum::Error> {
    let mut ping = interval_at(Instant::now() + ping_interval, ping_interval);
    loop {
        // the ping first: a client that is kept busy is not to be taken for a silent one
        let first = tokio::select! {
            biased;
            _ = ping.tick() => {
                taken(sink.feed(Message::Ping(Bytes::new())), drain).await?;
                None
            }
            next = queue.recv() => match next {
                Some(queued) => Some(queued),
                None => return Ok(()),
            },
        };
        // what waits goes out with one flush
        for Queued { message, room, slot } in
            first.into_iter().chain(iter::from_fn(|| queue.try_recv().ok())).take(QUEUE)
        {
            // before the client can know of it
            drop(slot);
            let Some(message) = message else { continue };
            let last = matches!(message, Message::Close(_));
            taken(sink.feed(message), drain).await?;
            drop(room);
            if last {
                return taken(sink.flush(), drain).await;
            }
        }
        taken(sink.flush(), drain).await?;
    }
}

/// Waits for the client to take what is written; from the drain on for [`CLOSE_WITHIN`] at most, whatever the socket's
/// write timeout is: then it holds up everybody.
async fn taken(
    write: impl Future<Output = Result<(), axum::Error>>,
    drain: &CancellationToken,
) -> Result<(), axum::Error> {
    let late = async {
        drain.cancelled().await;
        sleep(CLOSE_WITHIN).await;
    };
    tokio::select! {
        biased;
        written = write => written,
        () = late => Err(axum::Error::new(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing"))),
    }
}

/// Sends what is queued and the close frame, if there is one to send. Dropped before its end, it stops the writer.
pub(super) async fn close(writer: JoinHandle<()>, out: Out, close: Option<CloseFrame>) {
    let mut writer = AbortOnDropHandle::new(writer);
    if close.is_some() {
        // the writer is gone if this fails
        let _ = out.send(Message::Close(close)).await;
    }
    drop(out);
    let _ = (&mut writer).await;
}

/// Reads on for a moment, so that the client gets to see the close frame before the connection is reset.
pub(super) async fn linger(stream: &mut SplitStream<WebSocket>) {
    let closed = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = timeout(LINGER, closed).await;
}

// === impl Out ===

impl Out {
    fn new() -> (Self, Receiver<Queued>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self { queue: sender, room: Arc::new(Semaphore::new(QUEUE_BYTES as usize)) }, queue)
    }

    /// Waits until there is room for it.
    pub(super) async fn send(&self, message: Message) -> Result<(), Ended> {
        self.send_last(message, None).await
    }

    /// Waits for room for a flush. The protocol answers pings by itself, without a bound: whoever reads some waits here
    /// before it reads more, or a client that sends them and does not read fills the memory.
    pub(super) async fn flush(&self) -> Result<(), Ended> {
        self.queue.send(Queued { message: None, room: None, slot: None }).await.map_err(|_| Ended)
    }

    /// The last frame of a subscription. Its slot is free once the writer takes the frame, so that no more of them wait
    /// than there are slots.
    pub(super) async fn send_last(&self, message: Message, slot: Option<OwnedSemaphorePermit>) -> Result<(), Ended> {
        let bytes = match &message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
            Message::Close(_) => 0,
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(QUEUE_BYTES);
        let room = self.room.clone().acquire_many_owned(bytes).await.ok();
        self.queue.send(Queued { message: Some(message), room, slot }).await.map_err(|_| Ended)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn text(bytes: u32) -> Message {
        Message::text("x".repeat(bytes as usize))
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_and_a_larger_frame_waits_alone() {
        let (out, mut queue) = Out::new();
        out.send(text(QUEUE_BYTES)).await.unwrap();
        assert!(out.send(text(1)).now_or_never().is_none(), "at the limit");
        drop(queue.recv().await);
        out.send(text(1)).await.unwrap();
        assert!(out.send(text(QUEUE_BYTES + 1)).now_or_never().is_none(), "not alone");
        drop(queue.recv().await);
        out.send(text(QUEUE_BYTES + 1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_last_frame_that_the_writer_has_not_taken_keeps_its_slot() {
        let slots = Arc::new(Semaphore::new(1));
        let (out, mut queue) = Out::new();
        out.send(text(QUEUE_BYTES)).await.unwrap();
        let mut last = std::pin::pin!(out.send_last(text(1), slots.clone().try_acquire_owned().ok()));
        assert!(futures_util::poll!(last.as_mut()).is_pending());
        assert_eq!(slots.available_permits(), 0, "it waits for room");
        drop(queue.recv().await);
        last.await.unwrap();
        assert_eq!(slots.available_permits(), 0, "it is queued");
        drop(queue.recv().await);
        assert_eq!(slots.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_sender_that_waits_for_room_hears_when_the_writer_ends() {
        let (out, queue) = Out::new();
        out.send(text(QUEUE_BYTES)).await.unwrap();
        let mut waiting = std::pin::pin!(out.send(text(1)));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(queue);
        assert!(waiting.await.is_err());
    }
}
