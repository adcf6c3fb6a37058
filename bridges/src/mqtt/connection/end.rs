//! The end of a connection: why it is over, and what has to be done before it is.

use envelope::{RejectKind, Rejection};
use tokio::time::Instant;

use super::{CLOSE_WITHIN, Connection, subscribe::reason};
use crate::mqtt::{
    keeper::Keeper,
    lane::Done,
    packet::{self, Broken, Reason},
    reject,
    share::Leaves,
};

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum End {
    /// The client said so; whether it wants its will published.
    Left { with_will: bool },
    /// The client can't be reached, or closed without a word.
    Gone,
    /// The drain.
    Draining,
    /// Another connection has the session.
    TakenOver,
    /// The client broke the protocol, or has to go for another reason that MQTT has a word for.
    Broke(Broken),
    /// Messages were given back, which only closing can say.
    GaveBack,
    /// A message is stored, but did not reach its ack point in time: it may when it comes again.
    Late,
}

// === impl Connection ===

impl Connection {
    /// Lets everything come to its end: what is in flight, the last word to the client, the will, the session.
    pub(super) async fn finish(mut self, end: End) {
        self.settle_lane(&end).await;
        if let Some((reason, detail)) = end.last_word() {
            let detail = Some(detail).filter(|_| self.problem_information);
            let version = self.version;
            // who takes less than that hears nothing
            _ = packet::within(&mut self.link.out, self.maximum_packet, detail, |out, detail| {
                packet::disconnect(out, version, reason, detail);
            });
        }
        if !matches!(end, End::Gone) {
            // nobody is left to hear it if this fails
            _ = tokio::time::timeout(CLOSE_WITHIN, self.link.close()).await;
        }
        let leaves = if self.expiry.is_zero() { Leaves::ForGood } else { Leaves::ForNow };
        // a client that reads nothing takes no time from the store
        self.close_subscriptions(Instant::now() + CLOSE_WITHIN, leaves).await;
        self.count_dropped();
        let wants_will = !matches!(end, End::Left { with_will: false });
        let ended = self.expiry.is_zero();
        let was_kept = self.was_kept;
        let Self { shared, peer, mut held, expiry, lane_id, will, .. } = self;
        let delay = will.as_ref().map(|will| will.delay(expiry)).unwrap_or_default();
        if !ended {
            held.session.disconnected();
            let write = will.as_ref().filter(|will| will.may_be_kept).map(|will| match wants_will {
                true => Keeper::will(will, Some(delay)),
                false => Keeper::no_will(will.id),
            });
            if let Err(error) = shared.keeper.keep(held.key(), &held.session, expiry, false, write).await {
                tracing::warn!(%error, %peer, "the session of an MQTT client can't be stored");
                // on disk its client is connected: the next start would publish it
                if let Some(will) = will.as_ref().filter(|will| will.may_be_kept && !wants_will) {
                    shared.forget_will(will.id).await;
                }
            }
        } else if was_kept
            && !wants_will
            && let Some(will) = &will
        {
            shared.forget_will(will.id).await;
        }
        if let Some(will) = will.filter(|_| wants_will) {
            let is_kept = was_kept && will.may_be_kept;
            shared.wills.publish(&shared, will, lane_id, delay, is_kept);
        }
        match shared.sessions.leave(held, expiry) {
            Some(session) if was_kept => shared.end(session).await,
            Some(session) => shared.end_shares(&session).await,
            None => {}
        }
    }

    /// Waits for the verdicts that are to come. A client that is gone, or leaves, has still sent what was read from it:
    /// that is offered for as long as a client's that stays.
    async fn settle_lane(&mut self, end: &End) {
        let stays = matches!(end, End::Left { .. } | End::Gone);
        self.unheard |= stays || matches!(end, End::TakenOver);
        if !stays {
            self.stop.cancel();
        }
        loop {
            if stays {
                self.lane.go(&self.shared.offers);
            }
            if self.lane.is_idle() {
                break;
            }
            let done = tokio::select! {
                biased;
                done = self.lane.done() => done,
                () = self.held.taken_over.cancelled(), if !self.stop.is_cancelled() => {
                    self.stop.cancel();
                    continue;
                }
            };
            let stopped = matches!(done, Done::Stopped(_));
            if self.heard(done).await.is_err() || stopped {
                self.stop.cancel();
                break;
            }
            if self.stop.is_cancelled() {
                break;
            }
        }
        let kind = self.lane.refused_for().map_or(RejectKind::Overloaded, |(_, kind)| kind);
        self.lane.drain().iter().for_each(|_| self.shared.cx.returned(kind));
    }
}

// === impl End ===

impl End {
    /// A subscription can't go on.
    pub(super) fn refused(rejection: &Rejection) -> Self {
        Self::Broke(Broken::new(reason(rejection), reject::detail(rejection)))
    }

    /// What a client of MQTT 5.0 is told; nothing if it is not there any more, or left by itself.
    fn last_word(&self) -> Option<(Reason, &str)> {
        match self {
            Self::Left { .. } | Self::Gone => None,
            Self::Draining => Some((Reason::SERVER_SHUTTING_DOWN, "the gateway stops")),
            Self::TakenOver => Some((Reason::SESSION_TAKEN_OVER, "another connection has the session")),
            Self::Broke(broken) => Some((broken.reason, &broken.detail)),
            Self::GaveBack => Some((Reason::SERVER_BUSY, "a message was not taken for too long")),
            Self::Late => Some((Reason::SERVER_BUSY, "a message is stored, and not delivered in time")),
        }
    }
}
