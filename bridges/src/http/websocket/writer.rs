//! The one task that writes to a WebSocket, the pings, and the bounded way to it.

use std::{io, iter, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::OwnedSemaphorePermit,
    task::JoinHandle,
    time::{Instant, interval_at, sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use super::{
    CLOSE_WITHIN,
    mailbox::{Ended, Receiver, Sender, mailbox},
    reader::Reader,
    wire::{Close, Message},
};

/// The way to the writer. Cheap to clone; the writer ends when every clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Out(Sender<Queued>);

/// A frame that waits for the writer.
#[derive(Debug)]
struct Queued {
    message: Message,
    slot: Option<OwnedSemaphorePermit>,
}

/// Bytes that may wait for the writer. A frame that is larger waits alone.
const QUEUE_BYTES: u32 = 262_144;
/// What a frame takes of it at least.
const FRAME_BYTES: u32 = 1_024;
/// What goes out at once; a larger payload is not copied.
const WRITE_BYTES: usize = 65_536;
const COPIED_BYTES: usize = 16_384;
/// How long a client may take to answer a close frame.
const LINGER: Duration = Duration::from_millis(300);

/// Starts the writer of a connection. It ends after a close frame, when every [`Out`] is dropped, or when writing fails;
/// then it cancels `gone`.
pub(super) fn spawn(
    tasks: &TaskTracker,
    stream: impl AsyncWrite + Unpin + Send + 'static,
    ping_interval: Duration,
    gone: CancellationToken,
    drain: CancellationToken,
) -> (JoinHandle<()>, Out) {
    let (out, queue) = Out::new();
    let writer = tasks.spawn(async move {
        if let Err(error) = write(stream, queue, ping_interval, &drain).await {
            tracing::debug!(%error, "websocket can't be written");
        }
        gone.cancel();
    });
    (writer, out)
}

async fn write(
    mut stream: impl AsyncWrite + Unpin,
    mut queue: Receiver<Queued>,
    ping_interval: Duration,
    drain: &CancellationToken,
) -> io::Result<()> {
    let mut ping = interval_at(Instant::now() + ping_interval, ping_interval);
    loop {
        // the ping first: a client that is kept busy is not to be taken for a silent one
        let first = tokio::select! {
            biased;
            _ = ping.tick() => Queued { message: Message::Ping(Bytes::new()), slot: None },
            next = queue.recv() => match next {
                Some(queued) => queued,
                None => return Ok(()),
            },
        };
        let (mut out, mut is_last) = (Vec::new(), false);
        // what waits goes out together
        for Queued { message, slot } in iter::once(first).chain(iter::from_fn(|| queue.try_recv())) {
            // before the client can know of it
            drop(slot);
            is_last = matches!(message, Message::Close(_));
            let large = message.write(&mut out, COPIED_BYTES);
            if let Some(payload) = &large {
                taken(stream.write_all(&out), drain).await?;
                taken(stream.write_all(payload), drain).await?;
                out.clear();
            }
            if is_last || large.is_some() || out.len() >= WRITE_BYTES {
                break;
            }
        }
        taken(stream.write_all(&out), drain).await?;
        taken(stream.flush(), drain).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Waits for the client to take what is written; from the drain on for [`CLOSE_WITHIN`] at most, whatever the socket's
/// write timeout is: then it holds up everybody.
async fn taken(write: impl Future<Output = io::Result<()>>, drain: &CancellationToken) -> io::Result<()> {
    let late = async {
        drain.cancelled().await;
        sleep(CLOSE_WITHIN).await;
    };
    tokio::select! {
        biased;
        written = write => written,
        () = late => Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")),
    }
}

/// Sends what is queued and the close frame, if there is one to send. Dropped before its end, it stops the writer.
pub(super) async fn close(writer: JoinHandle<()>, out: Out, close: Option<Close>) {
    let mut writer = AbortOnDropHandle::new(writer);
    if close.is_some() {
        // the writer is gone if this fails
        _ = out.send(Message::Close(close)).await;
    }
    drop(out);
    if (&mut writer).await.is_err_and(|error| error.is_panic()) {
        tracing::error!("the writer of a WebSocket failed");
    }
}

/// Reads on for a moment, so that the client gets to see the close frame before the connection is reset.
pub(super) async fn linger(reader: &mut Reader<impl AsyncRead + Unpin>) {
    // a client that goes on sending is not waited for
    _ = timeout(LINGER, reader.discard()).await;
}

// === impl Out ===

impl Out {
    fn new() -> (Self, Receiver<Queued>) {
        let (sender, queue) = mailbox(QUEUE_BYTES);
        (Self(sender), queue)
    }

    /// Waits until there is room for it.
    pub(super) async fn send(&self, message: Message) -> Result<(), Ended> {
        self.send_last(message, None).await
    }

    /// The last frame of a subscription. Its slot is free once the writer takes the frame, so that no more of them wait
    /// than there are slots.
    pub(super) async fn send_last(&self, message: Message, slot: Option<OwnedSemaphorePermit>) -> Result<(), Ended> {
        let bytes = u32::try_from(message.size()).unwrap_or(u32::MAX);
        self.0.send(Queued { message, slot }, bytes.clamp(FRAME_BYTES, QUEUE_BYTES)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use tokio::sync::Semaphore;

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
