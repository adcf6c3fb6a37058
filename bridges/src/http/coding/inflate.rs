//! Opens an encoded body: never to more than the largest payload, never beyond the bytes in flight, never in one go.
//!
//! The body has arrived by then, so a slow peer holds no decoder; how many work at once is the caller's to bound, for a
//! window of zstd can be 8 MiB. A bomb costs what its first `max` bytes cost.

use std::{io, io::Write, sync::Arc};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{Coding, Pace};

/// Why a body can't be opened.
#[derive(Debug, thiserror::Error)]
pub(in crate::http) enum InflateError {
    /// There is more in it than a payload may have.
    #[error("the body is too large once it is decoded")]
    TooLarge,
    /// No bytes are left for what is in it.
    #[error("too many bytes are in flight")]
    Full,
    /// It is damaged, cut off, or something else altogether.
    #[error(transparent)]
    Broken(io::Error),
}

/// The largest window of zstd as an exponent (RFC 9659).
const WINDOW_LOG_MAX: u32 = 23;
/// What gzip's decoder is fed at once: at most about a thousand times as much comes out.
const GZIP_INPUT_BYTES: usize = 1_024;
const ZSTD_INPUT_BYTES: usize = 16_384;
const ZSTD_OUTPUT_BYTES: usize = 32_768;
/// What is first reserved for an opened body.
const FIRST_BYTES: usize = 4_096;

/// What was decoded so far; its capacity is covered by permits before it is allocated.
struct Opened {
    bytes: Vec<u8>,
    max: usize,
    in_flight: Arc<Semaphore>,
    /// As many as `bytes` has capacity.
    held: Option<OwnedSemaphorePermit>,
    /// Why no more was taken.
    over: Option<InflateError>,
}

/// What is in `body`, at most `max` bytes, and its permits of `in_flight`.
pub(in crate::http) async fn inflate(
    coding: Coding,
    body: &[u8],
    max: usize,
    in_flight: Arc<Semaphore>,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), InflateError> {
    let opened = Opened { bytes: Vec::new(), max, in_flight, held: None, over: None };
    match coding {
        Coding::Gzip => gzip(body, opened).await,
        Coding::Zstd => zstd(body, opened).await,
    }
    .map(Opened::finish)
}

async fn gzip(body: &[u8], opened: Opened) -> Result<Opened, InflateError> {
    let mut decoder = MultiGzDecoder::new(opened);
    let mut pace = Pace::default();
    for piece in body.chunks(GZIP_INPUT_BYTES) {
        let before = decoder.get_ref().bytes.len();
        let written = decoder.write_all(piece);
        if let Some(over) = decoder.get_mut().over.take() {
            return Err(over);
        }
        written.map_err(InflateError::Broken)?;
        pace.went(piece.len() + decoder.get_ref().bytes.len() - before).await;
    }
    let ended = decoder.try_finish();
    if let Some(over) = decoder.get_mut().over.take() {
        return Err(over);
    }
    ended.map_err(InflateError::Broken)?;
    decoder.finish().map_err(InflateError::Broken)
}

async fn zstd(body: &[u8], mut opened: Opened) -> Result<Opened, InflateError> {
    let mut decoder = Decoder::new().map_err(InflateError::Broken)?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(InflateError::Broken)?;
    let mut piece = vec![0; ZSTD_OUTPUT_BYTES];
    let (mut read, mut pace) = (0, Pace::default());
    loop {
        let mut input = InBuffer::around(&body[read..body.len().min(read + ZSTD_INPUT_BYTES)]);
        let mut output = OutBuffer::around(&mut piece[..]);
        // 0: a frame has ended, and all of it has come out
        let wanted = decoder.run(&mut input, &mut output).map_err(InflateError::Broken)?;
        let (taken, came) = (input.pos(), output.pos());
        read += taken;
        opened.take(&piece[..came])?;
        if read == body.len() && wanted == 0 {
            return Ok(opened);
        }
        if read == body.len() && came < ZSTD_OUTPUT_BYTES {
            return Err(InflateError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        pace.went(taken + came).await;
    }
}

// === impl Opened ===

impl Opened {
    fn take(&mut self, more: &[u8]) -> Result<(), InflateError> {
        let length = self.bytes.len() + more.len();
        if length > self.max {
            return Err(InflateError::TooLarge);
        }
        if length > self.bytes.capacity() {
            let capacity = length.max(self.bytes.capacity() * 2).max(FIRST_BYTES).min(self.max);
            let wanted = u32::try_from(capacity - self.bytes.capacity()).unwrap_or(u32::MAX);
            let further = self.in_flight.clone().try_acquire_many_owned(wanted).map_err(|_| InflateError::Full)?;
            match &mut self.held {
                Some(held) => held.merge(further),
                None => self.held = Some(further),
            }
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// The bytes, in no larger an allocation than they need, with as many permits.
    fn finish(mut self) -> (Bytes, Option<OwnedSemaphorePermit>) {
        self.bytes.shrink_to_fit();
        let held = self.held.as_mut();
        let spare = held.and_then(|held| held.split(held.num_permits().saturating_sub(self.bytes.len())));
        drop(spare);
        (self.bytes.into(), self.held)
    }
}

impl Write for Opened {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        match self.take(more) {
            Ok(()) => Ok(more.len()),
            Err(over) => {
                self.over = Some(over);
                Err(io::ErrorKind::OutOfMemory.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
