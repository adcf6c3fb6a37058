//! The half of the bridge that brings in what a feed sends: one connection after the other, one batch at a time.
//!
//! While a batch is not taken nothing more is read, so a full gateway is a slow reader, which the feed may cut. Whatever is
//! missing then is asked for again where the feed can do that.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use envelope::{Expect, Headers, Identity, Inbound, Json, KeyWrite, Lane};
use futures_util::{FutureExt, SinkExt, StreamExt, future::BoxFuture};
use metrics::{Counter, counter, describe_counter};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    WebSocketClientConfig,
    dial::{Feed, Lost, dial, payload},
    offers::{BATCH_BYTES, Draining, MAX_BATCH, Shown, offer},
    sequence::{Mark, Says, Sequence},
};
use crate::{BridgeError, Source, SourceContext, backoff::backoff};

/// What the bridge builds.
#[derive(Debug)]
pub(super) struct WebSocketClient {
    config: WebSocketClientConfig,
}

/// The same, as it runs.
pub(super) struct Running {
    config: WebSocketClientConfig,
    cx: SourceContext,
    shown: Shown,
    sequence: Sequence,
    /// Behind which number the feed was asked to go on because something was missing there.
    asked_behind: Option<u64>,
    /// What is on disk of the last number.
    kept: Option<Mark>,
    /// The feed as it is known on disk, by its URL, which may hold secrets.
    feed: String,
    keep_at: Instant,
    last_address: (String, Arc<str>),
    counters: Counters,
}

struct Counters {
    gaps: Counter,
    missed: Counter,
}

/// Why a connection is over.
pub(super) enum End {
    Lost(Lost),
    Draining,
}

/// A message as it came.
struct Came {
    payload: Bytes,
    channel: Option<String>,
    number: Option<u64>,
}

/// The address of what a feed sends; a channel is its second segment.
const ADDRESS: &str = "message";
/// The longest channel that is told apart.
const MAX_CHANNEL: usize = 256;
/// Where the last number is kept.
pub(super) const KEY: &str = "sequence";
const LANE: Lane = Lane(0);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// After it a connection has lasted.
const LASTED: Duration = Duration::from_secs(5);
/// How often the last number is written.
const KEEP_EVERY: Duration = Duration::from_secs(1);
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

// === impl WebSocketClient ===

impl WebSocketClient {
    pub(super) fn new(config: WebSocketClientConfig) -> Self {
        Self { config }
    }
}

impl Source for WebSocketClient {
    /// It listens nowhere.
    fn bind(&mut self) -> BoxFuture<'_, Result<Vec<SocketAddr>, BridgeError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn run(self: Box<Self>, cx: SourceContext) -> BoxFuture<'static, Result<(), BridgeError>> {
        Box::pin(async move {
            Running::new(self.config, cx).run().await;
            Ok(())
        })
    }
}

// === impl Running ===

impl Running {
    pub(super) fn new(config: WebSocketClientConfig, cx: SourceContext) -> Self {
        const GAPS: &str = "openmesh_websocket_client_gaps_total";
        const MISSED: &str = "openmesh_websocket_client_missed_total";
        describe_counter!(GAPS, "how often messages of a remote feed were missing for good");
        describe_counter!(MISSED, "messages of a remote feed that were missing for good, by its own numbers");
        let name = cx.bridge.to_string();
        Self {
            shown: Shown { stand: cx.standings.stand(cx.bridge.clone(), "in"), peer: peer(&config), missed: 0 },
            feed: digest(config.url.to_string().as_bytes()),
            counters: Counters {
                gaps: counter!(GAPS, "bridge" => name.clone()),
                missed: counter!(MISSED, "bridge" => name),
            },
            config,
            cx,
            sequence: Sequence::default(),
            asked_behind: None,
            kept: None,
            keep_at: Instant::now(),
            last_address: (String::new(), ADDRESS.into()),
        }
    }

    /// Until the drain.
    async fn run(mut self) {
        let drain = self.cx.drain.clone();
        if drain.run_until_cancelled(self.take_up()).await.is_none() {
            return;
        }
        let (mut wait, mut failed) = (Duration::ZERO, 0_u32);
        loop {
            // nobody is to be asked for what no mapping takes
            let mut addresses = self.cx.addresses.clone();
            let something = async {
                _ = addresses.wait_for(|addresses| !addresses.is_empty()).await;
            };
            if drain.run_until_cancelled(async { tokio::join!(something, sleep(wait)) }).await.is_none() {
                return;
            }
            let dialled = drain.run_until_cancelled(Box::pin(dial(&self.config, self.last()))).await;
            let (lost, lasted) = match dialled {
                None => return,
                Some(Err(lost)) => (lost, false),
                Some(Ok(feed)) => {
                    let began = Instant::now();
                    let end = self.serve(feed).await;
                    self.keep().await;
                    match end {
                        End::Draining => return,
                        End::Lost(lost) => (lost, began.elapsed() >= LASTED),
                    }
                }
            };
            self.shown.lost(&lost);
            failed = if lasted { 0 } else { failed.saturating_add(1) };
            wait = pause(&lost, self.config.max_backoff, failed);
        }
    }

    /// The number that the feed is to go on behind.
    pub(super) fn last(&self) -> Option<u64> {
        self.config.resume().and_then(|_| self.sequence.last(""))
    }

    /// One connection to its end.
    pub(super) async fn serve(&mut self, mut feed: Feed) -> End {
        if self.config.resume().is_none() {
            // it counts as it likes on every connection
            self.sequence = Sequence::default();
        }
        self.sequence.connected();
        self.shown.connected();
        let end = match self.read(&mut feed).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if !matches!(end, End::Lost(Lost::Closed(_) | Lost::Broken(_))) {
            let close = CloseFrame { code: CloseCode::Away, reason: "".into() };
            // who is not there any more hears nothing of it
            _ = timeout(CLOSE_WITHIN, feed.stream.close(Some(close))).await;
        }
        end
    }

    async fn read(&mut self, feed: &mut Feed) -> Result<std::convert::Infallible, End> {
        let drain = self.cx.drain.clone();
        let every = self.config.ping_interval;
        let mut heard = Instant::now();
        let mut ping_at = heard + every;
        loop {
            let mut batch = Vec::new();
            if feed.early.is_empty() {
                tokio::select! {
                    biased;
                    () = drain.cancelled() => return Err(End::Draining),
                    () = sleep_until(ping_at) => {
                        ping_at = Instant::now() + every;
                        let ping = timeout(every, feed.stream.send(Message::Ping(Bytes::new()))).await;
                        ping.map_err(|_| End::Lost(Lost::Silent(every)))?.map_err(|error| End::Lost(error.into()))?;
                    }
                    next = feed.stream.next() => {
                        heard = Instant::now();
                        batch.extend(payload(next).map_err(End::Lost)?);
                    }
                    // what has come is looked at first
                    () = sleep_until(heard + every * 2) => return Err(End::Lost(Lost::Silent(every * 2))),
                }
            }
            let lost = gather(feed, &mut batch);
            if !batch.is_empty() {
                self.take(batch).await?;
                // meanwhile it was we who did not listen
                heard = Instant::now();
            }
            if let Some(lost) = lost {
                return Err(End::Lost(lost));
            }
        }
    }

    /// Brings in a batch, up to what is missing where the feed can be asked for that.
    async fn take(&mut self, batch: Vec<Bytes>) -> Result<(), End> {
        let (mut taken, mut marks, mut missing) = (Vec::with_capacity(batch.len()), Vec::new(), None);
        for came in batch.into_iter().map(|payload| self.came(payload)).collect::<Vec<_>>() {
            let by_channel = self.config.sequence.as_ref().is_some_and(|sequence| sequence.by_channel);
            let channel = came.channel.as_deref().filter(|_| by_channel).unwrap_or_default();
            if let Some(number) = came.number {
                if let Says::Missing(count) = self.sequence.says(channel, number) {
                    let last = self.sequence.last(channel);
                    if self.config.resume().is_some() && self.asked_behind != last {
                        self.asked_behind = last;
                        missing = Some(count);
                        break;
                    }
                    self.counters.gaps.increment(1);
                    self.counters.missed.increment(count);
                    self.shown.missed = self.shown.missed.saturating_add(count);
                    self.shown.connected();
                    tracing::warn!(bridge = %self.cx.bridge, channel, number, count, "messages of the feed are missing");
                }
                if !self.sequence.passed(channel, number) {
                    tracing::debug!(bridge = %self.cx.bridge, channel, "one channel too many to follow its numbers");
                }
            }
            marks.push(self.sequence.mark().filter(|_| came.number.is_some()));
            taken.push(self.inbound(came));
        }
        if !taken.is_empty() {
            if let Err(Draining { first }) = offer(&self.cx, &self.shown, taken).await {
                // the feed is to go on there the next time
                if let Some(mark) = marks.into_iter().skip(first).flatten().next() {
                    self.sequence = Sequence::before(mark);
                }
                return Err(End::Draining);
            }
            if self.keep_at <= Instant::now() {
                self.keep().await;
            }
        }
        missing.map_or(Ok(()), |count| Err(End::Lost(Lost::Missing(count))))
    }

    fn came(&self, payload: Bytes) -> Came {
        let looked_into = self.config.channel.is_some() || self.config.sequence.is_some();
        let json = looked_into.then(|| Json::parse(payload.clone()).ok()).flatten();
        let text = |pointer: &super::opening::Pointer| {
            let node = pointer.of(json.as_ref()?)?;
            node.as_str().or_else(|| node.as_number()).map(str::to_owned)
        };
        let channel = self.config.channel.as_ref().and_then(text);
        let number = self.config.sequence.as_ref().and_then(|sequence| text(&sequence.at)?.parse().ok());
        Came { payload, channel: channel.filter(|channel| channel.len() <= MAX_CHANNEL), number }
    }

    fn inbound(&mut self, Came { payload, channel, number }: Came) -> Inbound {
        let identity = match self.sequence.mark().filter(|_| number.is_some() && self.config.resume().is_some()) {
            // a feed that counted anew while it was away has another message of the same number
            Some(mark) => Identity::Native(format!("{}#{mark}#{}", self.feed, digest(&payload)).into()),
            None => Identity::fresh(),
        };
        Inbound {
            bridge: self.cx.bridge.clone(),
            address: self.address(channel),
            headers: Headers::default(),
            payload,
            lane: LANE,
            identity,
            principal: self.cx.principal.clone(),
            peer: None,
            trace: None,
            retain: false,
            unacknowledged: false,
            hops: Vec::new(),
            received_at: SystemTime::now(),
        }
    }

    /// `message`, or `message/CHANNEL` with what a segment can't have percent-encoded.
    fn address(&mut self, channel: Option<String>) -> Arc<str> {
        let channel = channel.unwrap_or_default();
        if self.last_address.0 != channel {
            let address =
                if channel.is_empty() { ADDRESS.to_owned() } else { format!("{ADDRESS}/{}", segment(&channel)) };
            self.last_address = (channel, address.into());
        }
        self.last_address.1.clone()
    }

    /// Reads the last number that was taken.
    pub(super) async fn take_up(&mut self) {
        if self.config.resume().is_none() {
            return;
        }
        let mut attempt = 0;
        let kept = loop {
            match self.cx.keys.get(KEY).await {
                Ok(entry) => break entry,
                Err(error) => {
                    tracing::warn!(bridge = %self.cx.bridge, %error, "the last number of the feed can't be read now")
                }
            }
            sleep(backoff(FIRST_PAUSE, self.config.max_backoff, attempt)).await;
            attempt += 1;
        };
        let text = kept.as_ref().and_then(|entry| std::str::from_utf8(&entry.value).ok());
        // of another feed, a number says nothing
        let of_this = text.and_then(|text| text.strip_prefix(&*self.feed)?.strip_prefix('#'));
        self.kept = of_this.and_then(Mark::parse);
        self.sequence = Sequence::behind(self.kept);
    }

    /// Writes the last number that was taken. What is not written is asked for again, and known as a duplicate.
    pub(super) async fn keep(&mut self) {
        self.keep_at = Instant::now() + KEEP_EVERY;
        let Some(last) = self.sequence.mark().filter(|last| Some(*last) != self.kept) else { return };
        if self.config.resume().is_none() {
            return;
        }
        let value = Some(format!("{}#{last}", self.feed).into());
        let write = KeyWrite { key: KEY.into(), expect: Expect::Anything, value, ttl: None };
        match self.cx.keys.write(vec![write]).await {
            Ok(_) => self.kept = Some(last),
            Err(error) => {
                tracing::warn!(bridge = %self.cx.bridge, %error, "the last number of the feed can't be kept now")
            }
        }
    }
}

/// How long to wait before the next connection: `failed` of them have not lasted.
fn pause(lost: &Lost, longest: Duration, failed: u32) -> Duration {
    let first = if lost.is_refused() { longest } else { FIRST_PAUSE };
    backoff(first, longest, failed)
}

/// 128 bits that stand for these bytes.
fn digest(bytes: &[u8]) -> String {
    let mut first = [0; 16];
    first.copy_from_slice(&Sha256::digest(bytes)[..16]);
    format!("{:032x}", u128::from_be_bytes(first))
}

/// The server, without what the URL may hold of secrets.
fn peer(config: &WebSocketClientConfig) -> String {
    let url = &config.url;
    let authority = url.authority().map(|authority| authority.as_str()).unwrap_or_default();
    format!("{}://{authority}", url.scheme_str().unwrap_or("wss"))
}

/// What is there already, within the bounds of a batch; and why there is nothing more to come.
fn gather(feed: &mut Feed, batch: &mut Vec<Bytes>) -> Option<Lost> {
    let mut bytes: usize = batch.iter().map(Bytes::len).sum();
    while batch.len() < MAX_BATCH && bytes < BATCH_BYTES {
        let next = match feed.early.pop_front() {
            Some(early) => Some(early),
            None => match feed.stream.next().now_or_never() {
                None => return None,
                Some(next) => match payload(next) {
                    Ok(next) => next,
                    Err(lost) => return Some(lost),
                },
            },
        };
        bytes += next.as_ref().map_or(0, Bytes::len);
        batch.extend(next);
    }
    None
}

fn segment(channel: &str) -> String {
    let mut out = String::with_capacity(channel.len());
    for c in channel.chars() {
        if c.is_control() || matches!(c, '/' | '+' | '#' | '%') {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_pause_after_whatever_loss() {
        let longest = Duration::from_secs(30);
        for lost in [Lost::Missing(1), Lost::Closed(String::new()), Lost::Silent(longest)] {
            assert!((FIRST_PAUSE / 2..=FIRST_PAUSE).contains(&pause(&lost, longest, 0)), "{lost}");
            assert!(pause(&lost, longest, 20) >= longest / 2, "{lost}");
        }
        assert!(pause(&Lost::Unanswered(1, longest), longest, 0) >= longest / 2);
    }
}
