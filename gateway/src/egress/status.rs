//! What is known of a mapping that sends: for `/routes`, the metrics and the log.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use envelope::Rejection;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use serde::Serialize;
use utoipa::ToSchema;

/// What became of a delivery.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The peer took it.
    Delivered,
    /// The mapping says that it is not to be sent.
    NotSent,
    /// Policy refused it.
    Refused(Rejection),
    /// It could not be mapped, or the peer refused it, or did not take it for too long.
    DeadLettered(Rejection),
    /// So it is with what is not stored: it is gone.
    GivenUp(Rejection),
}

/// Of one mapping; kept up to date by its pump.
pub(super) struct Status {
    route: String,
    bridge: String,
    unsettled: AtomicUsize,
    state: Mutex<State>,
    delivered: Counter,
    not_sent: Counter,
    retried: Counter,
    waiting: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Opening,
    Sending,
    /// Some of it is not taken, and why the first of that is not.
    Failing(String),
}

/// As `/routes` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Shown {
    /// `opening`, `sending` or `failing`.
    pub(crate) state: &'static str,
    /// Why it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// Handed out by the store and not settled yet.
    pub(crate) unsettled: usize,
}

const MESSAGES: &str = "openmesh_egress_messages_total";
const UNSETTLED: &str = "openmesh_egress_unsettled_messages";

/// Says what the metrics mean; once a process is enough.
pub(crate) fn describe() {
    describe_counter!(MESSAGES, "envelopes of a mapping that sends by what became of them; retried ones come again");
    describe_gauge!(UNSETTLED, "envelopes that a mapping that sends has in hand");
}

// === impl Status ===

impl Status {
    pub(super) fn new(route: &str, bridge: &str) -> Self {
        let count = |stage: &'static str| counter!(MESSAGES, "bridge" => bridge.to_owned(), "route" => route.to_owned(), "stage" => stage);
        Self {
            route: route.to_owned(),
            bridge: bridge.to_owned(),
            unsettled: AtomicUsize::new(0),
            state: Mutex::new(State::Opening),
            delivered: count("delivered"),
            not_sent: count("not-sent"),
            retried: count("retried"),
            waiting: gauge!(UNSETTLED, "bridge" => bridge.to_owned(), "route" => route.to_owned()),
        }
    }

    pub(super) fn show(&self) -> Shown {
        let (state, why) = match &*self.state() {
            State::Opening => ("opening", None),
            State::Sending => ("sending", None),
            State::Failing(why) => ("failing", Some(why.clone())),
        };
        Shown { state, why, unsettled: self.unsettled.load(Relaxed) }
    }

    pub(super) fn opened(&self) {
        *self.state() = State::Sending;
    }

    /// The subscription could not be had, or ended.
    pub(super) fn closed(&self, rejection: &Rejection) {
        tracing::warn!(route = %self.route, %rejection, "the subscription of a mapping is opened anew");
        *self.state() = State::Opening;
    }

    /// So many wait for their turn, in so many lanes that rest, and so many calls are under way.
    pub(super) fn unsettled(&self, waiting: usize, resting: usize, calls: usize) {
        self.unsettled.store(waiting + calls, Relaxed);
        self.waiting.set((waiting + calls) as f64);
        let mut state = self.state();
        if resting == 0 && calls == 0 && matches!(*state, State::Failing(_)) {
            *state = State::Sending;
            drop(state);
            tracing::info!(route = %self.route, bridge = %self.bridge, "all of it is taken again");
        }
    }

    /// So many are not taken now, and are tried again.
    pub(super) fn again(&self, count: usize, why: &Rejection) {
        self.retried.increment(count as u64);
        let before = std::mem::replace(&mut *self.state(), State::Failing(why.detail.clone()));
        if !matches!(before, State::Failing(_)) {
            tracing::warn!(route = %self.route, bridge = %self.bridge, kind = %why.kind, detail = %why.detail,
                "not taken, and tried again");
        }
    }

    pub(super) fn settled(&self, outcome: &Outcome) {
        let (stage, rejection) = match outcome {
            Outcome::Delivered => return self.delivered.increment(1),
            Outcome::NotSent => return self.not_sent.increment(1),
            Outcome::Refused(rejection) => ("refused", rejection),
            Outcome::DeadLettered(rejection) => ("dead-lettered", rejection),
            Outcome::GivenUp(rejection) => ("given-up", rejection),
        };
        let (bridge, route, kind) = (self.bridge.clone(), self.route.clone(), rejection.kind.as_str());
        counter!(MESSAGES, "bridge" => bridge, "route" => route, "stage" => stage, "kind" => kind).increment(1);
        if stage == "dead-lettered" {
            tracing::error!(route = %self.route, bridge = %self.bridge, %kind, detail = %rejection.detail,
                "an envelope could not be sent and is a dead letter");
        } else if stage == "given-up" {
            tracing::error!(route = %self.route, bridge = %self.bridge, %kind, detail = %rejection.detail,
                "an envelope that is not stored could not be sent and is gone");
        }
    }

    /// The time of one that is not stored had passed.
    pub(super) fn expired(&self) {
        let (bridge, route) = (self.bridge.clone(), self.route.clone());
        counter!(MESSAGES, "bridge" => bridge, "route" => route, "stage" => "expired").increment(1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
