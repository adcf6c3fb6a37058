//! Reads messages from a WebSocket, with no room of its own while there are none.
//!
//! What has arrived of a message that is not whole counts among the bytes in flight, all of it as soon as its size is known:
//! clients that begin messages and do not end them hold no more memory than the gateway gives to what is in flight.

use std::{future::poll_fn, mem::MaybeUninit, pin::Pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

use super::wire::{Broken, Decoder, Message};
use crate::room::ByteRoom;

/// The reading half of a WebSocket.
#[derive(Debug)]
pub(super) struct Reader<S> {
    stream: S,
    input: BytesMut,
    decoder: Decoder,
    /// The bytes in flight.
    bytes: ByteRoom,
    /// Of them, what the message takes that is not whole.
    held: Option<OwnedSemaphorePermit>,
    /// When the message has to be whole that is not.
    due: Option<Instant>,
    within: Duration,
    /// Something came since it was asked, or since the last message.
    heard: bool,
}

/// A message, and what it takes of the bytes in flight, unless that is little.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) message: Message,
    pub(super) held: Option<OwnedSemaphorePermit>,
}

/// Why nothing more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// The peer is gone.
    Gone,
    Broken(Broken),
    /// A message was not whole in time.
    Late,
    /// There was no room for a message in time.
    Full,
}

/// What is read at once, on the stack, of what is not known to be large.
const READ_BYTES: usize = 16_384;
/// A message that takes no more is not counted: acknowledgements are to come through when all else is full.
const FREE_BYTES: usize = 1_024;

// === impl Reader ===

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Messages of at most `max` bytes, each whole `within` some time. `input` was read before.
    pub(super) fn new(stream: S, input: &[u8], max: usize, bytes: ByteRoom, within: Duration) -> Self {
        let decoder = Decoder::new(max);
        Self { stream, input: input.into(), decoder, bytes, held: None, due: None, within, heard: false }
    }

    /// The next message. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Received, Failed> {
        loop {
            if let Some(message) = self.decoder.next(&mut self.input)? {
                // a control frame may stand between the fragments of a message
                let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
                let held = if is_data { self.held.take() } else { None };
                if is_data || self.decoder.expected() == 0 {
                    self.due = None;
                }
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                self.heard = false;
                return Ok(Received { message, held });
            }
            if !self.decoder.is_within(&self.input) {
                self.due = None;
                self.read().await?;
                continue;
            }
            let due = *self.due.get_or_insert_with(|| Instant::now() + self.within);
            timeout_at(due, self.hold()).await.map_err(|_| Failed::Full)?;
            timeout_at(due, self.read()).await.map_err(|_| Failed::Late)??;
        }
    }

    /// Whether something came of a message that is not whole, since this was asked last.
    pub(super) fn has_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Nothing is read for a while, which is not the client's doing: the message that has begun has its whole time once it goes
    /// on, and takes only what is here of it. May be called where a message ended: none begins within another.
    pub(super) fn let_go(&mut self) {
        self.due = None;
        let here = self.input.len();
        if let Some(held) = self.held.take().filter(|_| here > 0) {
            self.held = kept(held, here);
        }
    }

    /// Reads to the end and keeps nothing.
    pub(super) async fn discard(&mut self) {
        (self.decoder, self.held) = (Decoder::new(0), None);
        while self.read().await.is_ok() {
            self.input.clear();
        }
    }

    /// Waits until what the message takes is held.
    async fn hold(&mut self) {
        let expected = self.decoder.expected();
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if expected <= FREE_BYTES.max(held) {
            return;
        }
        let room = self.bytes.of(expected);
        // what is no longer small takes its room among the large, all of it
        let held = match &self.held {
            Some(permit) if Arc::ptr_eq(permit.semaphore(), &room) => held,
            _ => {
                self.held = None;
                0
            }
        };
        let more = u32::try_from(expected - held).unwrap_or(u32::MAX);
        // the semaphore is never closed
        let Ok(more) = room.acquire_many_owned(more).await else { return };
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
    }

    /// Reads what is there.
    async fn read(&mut self) -> Result<(), Failed> {
        let missing = self.decoder.missing(&self.input);
        if missing > READ_BYTES {
            // it is held, so there is room for it
            self.input.reserve(missing);
        }
        let read = poll_fn(|cx| {
            if missing > READ_BYTES {
                let read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(&mut self.stream, &mut self.input));
                return read.poll(cx).map(|read| read.map_err(|_| Failed::Gone).and_then(some));
            }
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut room);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
            read.map(|read| {
                read.map_err(|_| Failed::Gone)?;
                self.input.extend_from_slice(buffer.filled());
                some(buffer.filled().len())
            })
        })
        .await;
        self.heard |= read.is_ok();
        read
    }
}

/// At most so much of what is held.
fn kept(mut held: OwnedSemaphorePermit, most: usize) -> Option<OwnedSemaphorePermit> {
    if held.num_permits() <= most { Some(held) } else { held.split(most) }
}

/// The end of the stream is where nothing is read.
fn some(count: usize) -> Result<(), Failed> {
    if count == 0 { Err(Failed::Gone) } else { Ok(()) }
}

impl From<Broken> for Failed {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::room::SMALL_BYTES;

    const WITHIN: Duration = Duration::from_secs(30);

    fn reader(room: usize) -> (DuplexStream, Reader<DuplexStream>, Arc<tokio::sync::Semaphore>) {
        let (client, server) = duplex(1 << 20);
        let bytes = Arc::new(tokio::sync::Semaphore::new(room));
        (client, Reader::new(server, &[], 100_000, ByteRoom::of_one(bytes.clone()), WITHIN), bytes)
    }

    /// The head of a masked frame of so many bytes.
    fn head(first: u8, length: u16) -> Vec<u8> {
        [&[first, 0x80 | 126][..], &length.to_be_bytes(), &[0; 4]].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_takes_its_room_once_it_begins_and_gives_it_back_at_its_end() {
        let (mut client, mut reader, bytes) = reader(64_000);
        client.write_all(&head(0x82, 60_000)).await.unwrap();
        assert!(futures_util::poll!(std::pin::pin!(reader.next())).is_pending());
        assert_eq!(bytes.available_permits(), 4_000);
        client.write_all(&[0; 60_000]).await.unwrap();
        let received = reader.next().await.unwrap();
        assert_eq!((received.message.size(), bytes.available_permits()), (60_000, 4_000));
        drop(received);
        assert_eq!((bytes.available_permits(), reader.input.capacity()), (64_000, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_is_not_read_and_fails_in_time() {
        let (mut client, mut reader, bytes) = reader(50_000);
        client.write_all(&[head(0x82, 60_000), vec![0; 60_000]].concat()).await.unwrap();
        assert_eq!(reader.next().await.unwrap_err(), Failed::Full);
        assert!(reader.input.len() <= READ_BYTES, "{} bytes were read", reader.input.len());
        assert_eq!(bytes.available_permits(), 50_000);
    }

    #[tokio::test(start_paused = true)]
    async fn fragments_count_all_together_and_pings_between_them_do_not_help() {
        let (mut client, mut reader, bytes) = reader(50_000);
        let fragments =
            [head(0x02, 30_000), vec![0; 30_000], head(0x00, 15_000), vec![0; 15_000], vec![0x89, 0x80, 0, 0, 0, 0]];
        client.write_all(&fragments.concat()).await.unwrap();
        assert_eq!(reader.next().await.unwrap().message, Message::Ping(bytes::Bytes::new()));
        assert_eq!(bytes.available_permits(), 5_000);
        assert_eq!(reader.next().await.unwrap_err(), Failed::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_when_reading_stops_takes_what_is_here_and_has_its_whole_time_afterwards() {
        let (mut client, mut reader, bytes) = reader(64_000);
        client
            .write_all(&[vec![0x82, 0x81, 0, 0, 0, 0, 7], head(0x82, 60_000), vec![0; 20_000]].concat())
            .await
            .unwrap();
        assert_eq!(reader.next().await.unwrap().message.size(), 1);
        assert!(futures_util::poll!(std::pin::pin!(reader.next())).is_pending());
        assert_eq!(bytes.available_permits(), 4_000);
        reader.let_go();
        assert_eq!(bytes.available_permits(), 44_000);
        tokio::time::advance(WITHIN * 2).await;
        let next = async {
            client.write_all(&[0; 40_000]).await.unwrap();
            reader.next().await
        };
        assert_eq!(next.await.unwrap().message.size(), 60_000);
        assert_eq!(bytes.available_permits(), 64_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_that_comes_in_pieces_is_on_time_however_often() {
        let (mut client, mut reader, _bytes) = reader(0);
        for _ in 0..100 {
            client.write_all(&[0x89, 0x81, 0, 0, 0]).await.unwrap();
            assert!(futures_util::poll!(std::pin::pin!(reader.next())).is_pending());
            tokio::time::advance(WITHIN / 3).await;
            client.write_all(&[0, 7, 0x89]).await.unwrap();
            assert_eq!(reader.next().await.unwrap().message.size(), 1);
            assert!(futures_util::poll!(std::pin::pin!(reader.next())).is_pending());
            client.write_all(&[0x80, 0, 0, 0, 0]).await.unwrap();
            assert_eq!(reader.next().await.unwrap().message.size(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_small_comes_through_when_all_is_taken() {
        let (mut client, mut reader, _bytes) = reader(0);
        client.write_all(&head(0x82, 1_024)).await.unwrap();
        assert!(futures_util::poll!(std::pin::pin!(reader.next())).is_pending());
        client.write_all(&[0; 1_024]).await.unwrap();
        assert_eq!(reader.next().await.unwrap().message.size(), 1_024);
    }

    #[tokio::test]
    async fn what_is_small_does_not_wait_for_what_is_large_and_does_not_come() {
        let room = ByteRoom::new(100_000);
        let all = room.of(100_000).try_acquire_many_owned(100_000).unwrap();
        let (mut client, server) = duplex(1 << 20);
        let mut reader = Reader::new(server, &[], 100_000, room.clone(), WITHIN);
        client.write_all(&head(0x02, 40_000)).await.unwrap();
        client.write_all(&[0; 40_000]).await.unwrap();
        client.write_all(&head(0x80, 40_000)).await.unwrap();
        assert!(futures_util::poll!(std::pin::pin!(reader.next())).is_pending(), "together they are large");
        assert_eq!(room.of(0).available_permits(), SMALL_BYTES, "it holds none of either while it waits");
        drop(all);
        client.write_all(&[0; 40_000]).await.unwrap();
        let received = reader.next().await.unwrap();
        assert_eq!((received.message.size(), room.of(100_000).available_permits()), (80_000, 20_000));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_client_is_never_late() {
        let (_client, mut reader, _bytes) = reader(0);
        let next = tokio::time::timeout(WITHIN * 100, reader.next()).await;
        assert!(next.is_err());
    }
}
