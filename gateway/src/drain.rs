//! The end of the gateway, as a written sequence with a deadline.
//!
//! Not ready, sources stop taking, what is in flight settles, what is being sent is settled, the backbone is flushed and
//! closed, the admin API goes last: it says what is still open for as long as there is something to say.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::readiness::Readiness;

/// SIGTERM, ctrl-c and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal tells the gateway to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// To drain and end, by the signal of this name.
    End(&'static str),
    /// To read its configuration again.
    Reload,
}

/// A set of tasks that end when they are told to.
#[derive(Debug, Clone, Default)]
pub struct Stoppable {
    /// Tells them.
    pub stop: CancellationToken,
    /// Knows which of them still run.
    pub tasks: TaskTracker,
}

/// How the drain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// Everything in flight is settled, everything stored is on disk.
    Clean,
    /// The deadline came first; what was left, a line each, is logged.
    Late(Vec<String>),
}

/// How long before the deadline who still waits is told that it is over; a quarter of the whole where that is shorter.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The least time that the backbone gets to flush.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

// === impl Signals ===

impl Signals {
    /// From here on the signals no longer end the process by themselves.
    pub fn listen() -> io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hangup: hangup? })
    }

    /// Waits for any. A SIGHUP that came twice meanwhile came once.
    pub async fn next(&mut self) -> Told {
        tokio::select! {
            signal = until_either(&mut self.terminate, &mut self.interrupt) => Told::End(signal),
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    /// Waits for SIGTERM or SIGINT, and says which it was.
    pub async fn end(&mut self) -> &'static str {
        until_either(&mut self.terminate, &mut self.interrupt).await
    }
}

async fn until_either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

// === impl Stoppable ===

impl Stoppable {
    /// Tells the tasks to end and waits until they did; `false` if some still run at `deadline`.
    pub(crate) async fn end(&self, deadline: Instant) -> bool {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_ok()
    }
}

/// Runs the sequence. Cancelled, `waits` ends what senders wait for beyond the store; `close` flushes and closes the backbone; `in_flight` says, a line each, what has no verdict yet.
pub(crate) async fn drain<E: std::fmt::Display>(
    readiness: &Readiness,
    bridges: &Stoppable,
    sinks: &Stoppable,
    waits: &CancellationToken,
    close: impl Future<Output = Result<(), E>>,
    in_flight: impl Fn() -> Vec<String>,
    within: Duration,
) -> Drained {
    let deadline = Instant::now() + within;
    readiness.draining();
    tracing::info!(deadline_s = within.as_secs_f64(), "draining: no further message is taken");
    let mut left = Vec::new();
    // Sources stop taking, answer what they have taken, and end. Who waits for a delivery has until shortly before the
    // deadline: what sends goes on meanwhile.
    if !bridges.end(deadline - (within / 4).min(LAST_WORDS)).await {
        waits.cancel();
    }
    if !bridges.end(deadline).await {
        left.push(format!("tasks of the bridges: {}", bridges.tasks.len()));
        left.extend(in_flight());
    }
    // Behind them: a sender may wait until its message is delivered. What is not sent by now is sent after the next start.
    if !sinks.end(deadline).await {
        left.push(format!("calls that send: {}", sinks.tasks.len()));
    }
    // However long the rest took: what is stored must get its chance to reach the disk.
    let deadline = deadline.max(Instant::now() + CLOSE_GRACE);
    match tokio::time::timeout_at(deadline, close).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => left.push(format!("the backbone: {error}")),
        Err(_) => left.push("the backbone: not closed in time".to_owned()),
    }
    if left.is_empty() {
        tracing::info!("drained");
        return Drained::Clean;
    }
    for what in &left {
        tracing::error!(%what, "left behind by the drain");
    }
    Drained::Late(left)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const CLOSED: Result<(), Infallible> = Ok(());

    #[tokio::test]
    async fn tasks_are_told_and_awaited_before_the_backbone_closes() {
        let (readiness, bridges) = (Readiness::default(), Stoppable::default());
        let stop = bridges.stop.clone();
        let task = bridges.tasks.spawn(async move { stop.cancelled().await });
        let close = async {
            assert!(task.is_finished());
            CLOSED
        };
        let nothing = Stoppable::default();
        let drained =
            drain(&readiness, &bridges, &nothing, &Default::default(), close, Vec::new, Duration::from_secs(10)).await;
        assert_eq!(drained, Drained::Clean);
        assert!(readiness.check().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn past_the_deadline_it_says_what_was_left_and_still_closes() {
        let (readiness, bridges) = (Readiness::default(), Stoppable::default());
        let _stuck = bridges.tasks.spawn(std::future::pending::<()>());
        let closed = std::cell::Cell::new(false);
        let close = async {
            closed.set(true);
            CLOSED
        };
        let in_flight = || vec!["web: 3 messages".to_owned()];
        let nothing = Stoppable::default();
        let drained =
            drain(&readiness, &bridges, &nothing, &Default::default(), close, in_flight, Duration::from_secs(1)).await;
        assert_eq!(drained, Drained::Late(vec!["tasks of the bridges: 1".to_owned(), "web: 3 messages".to_owned()]));
        assert!(closed.get());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_delivery_is_told_a_little_before_the_deadline_and_not_at_once() {
        let (readiness, bridges, waits) = (Readiness::default(), Stoppable::default(), CancellationToken::new());
        let (told, began) = (waits.clone(), Instant::now());
        bridges.tasks.spawn(async move { told.cancelled().await });
        let nothing = Stoppable::default();
        let close = async { CLOSED };
        let drained = drain(&readiness, &bridges, &nothing, &waits, close, Vec::new, Duration::from_secs(30)).await;
        assert_eq!((drained, began.elapsed().as_secs()), (Drained::Clean, 28));
    }

    #[tokio::test]
    async fn what_sends_is_told_once_the_sources_have_ended() {
        let (readiness, bridges, sinks) = (Readiness::default(), Stoppable::default(), Stoppable::default());
        let (stop, sends) = (bridges.stop.clone(), sinks.stop.clone());
        let source = bridges.tasks.spawn(async move {
            stop.cancelled().await;
            tokio::task::yield_now().await;
            assert!(!sends.is_cancelled(), "a sender still waits for what is sent");
        });
        let (stop, told) = (sinks.stop.clone(), source);
        sinks.tasks.spawn(async move {
            stop.cancelled().await;
            assert!(told.is_finished());
        });
        let close = async {
            assert!(sinks.tasks.is_empty());
            CLOSED
        };
        let drained =
            drain(&readiness, &bridges, &sinks, &Default::default(), close, Vec::new, Duration::from_secs(10)).await;
        assert_eq!(drained, Drained::Clean);
    }

    #[tokio::test]
    async fn a_backbone_that_fails_to_close_is_no_clean_end() {
        let close = async { Err("disk full") };
        let (readiness, bridges) = (Readiness::default(), Stoppable::default());
        let nothing = Stoppable::default();
        let drained =
            drain(&readiness, &bridges, &nothing, &Default::default(), close, Vec::new, Duration::from_secs(10)).await;
        assert_eq!(drained, Drained::Late(vec!["the backbone: disk full".to_owned()]));
    }
}
