//! The one task that writes to a WebSocket, and the pings.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinHandle,
    time::{Instant, interval_at, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

/// Frames that may wait for the writer.
const QUEUE: usize = 32;
/// How long a client may take to answer a close frame.
const LINGER: Duration = Duration::from_millis(300);

/// Starts the writer of a connection. It ends after a close frame, when every sender is dropped, or when writing fails;
/// then it cancels `gone`.
pub(super) fn spawn(
    tasks: &TaskTracker,
    sink: SplitSink<WebSocket, Message>,
    ping_interval: Duration,
    gone: CancellationToken,
) -> (JoinHandle<()>, Sender<Message>) {
    let (out, queue) = mpsc::channel(QUEUE);
    let writer = tasks.spawn(async move {
        if let Err(error) = write(sink, queue, ping_interval).await {
            tracing::debug!(%error, "websocket can't be written");
        }
        gone.cancel();
    });
    (writer, out)
}

async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: Receiver<Message>,
    ping_interval: Duration,
) -> Result<(), axum::Error> {
    let mut ping = interval_at(Instant::now() + ping_interval, ping_interval);
    loop {
        let mut next = tokio::select! {
            biased;
            next = queue.recv() => match next {
                Some(message) => Some(message),
                None => return Ok(()),
            },
            _ = ping.tick() => Some(Message::Ping(Bytes::new())),
        };
        // everything that waits goes out with one flush
        while let Some(message) = next {
            let last = matches!(message, Message::Close(_));
            sink.feed(message).await?;
            if last {
                return sink.flush().await;
            }
            next = queue.try_recv().ok();
        }
        sink.flush().await?;
    }
}

/// Sends what is queued and the close frame, if there is one to send. Dropped before its end, it stops the writer.
pub(super) async fn close(writer: JoinHandle<()>, out: Sender<Message>, close: Option<CloseFrame>) {
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
