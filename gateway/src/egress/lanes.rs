//! What waits to be sent, in order: a line for each lane, of which one call at a time is under way. No I/O.
//!
//! A lane whose first message could not be sent rests, and everything behind it waits; other lanes go on.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

use envelope::{Delivery, Lane};
use tokio::time::Instant;

/// Deliveries that are not settled yet, by lane.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lines: HashMap<Lane, Line>,
    /// Lanes that may be asked, in turn.
    ready: VecDeque<Lane>,
    /// Lanes that rest, the first to wake first.
    resting: BinaryHeap<Reverse<(Instant, u64)>>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Delivery>,
    /// In `ready`, in `resting`, or in a call.
    engaged: bool,
    /// Since when nothing of it could be sent, and how often that was tried.
    failing: Option<(Instant, u32)>,
}

/// The first pause, doubled with each try up to the longest; each is shortened by up to a half at random.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A peer that asks for more is asked earlier.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);

// === impl Lanes ===

impl Lanes {
    /// How many wait; not those in a call.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many lanes rest.
    pub(super) fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Behind all of its lane.
    pub(super) fn push(&mut self, delivery: Delivery) {
        let lane = delivery.lane;
        let line = self.lines.entry(lane).or_default();
        line.waiting.push_back(delivery);
        self.waiting += 1;
        if !line.engaged {
            line.engaged = true;
            self.ready.push_back(lane);
        }
    }

    /// At most `most` deliveries of lanes that are not in a call, which these are then until [`Self::done`].
    pub(super) fn take(&mut self, most: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(lane) = self.ready.pop_front() else { break };
            let Some(line) = self.lines.get_mut(&lane) else { continue };
            // what failed is tried by itself: what is behind it would only come back
            let room = if line.failing.is_some() { 1 } else { most - taken.len() };
            let count = room.min(line.waiting.len());
            taken.extend(line.waiting.drain(..count));
        }
        self.waiting -= taken.len();
        taken
    }

    /// A call of this lane ended, and everything of it is settled.
    pub(super) fn done(&mut self, lane: Lane) {
        let Some(line) = self.lines.get_mut(&lane) else { return };
        line.failing = None;
        if line.waiting.is_empty() {
            self.lines.remove(&lane);
        } else {
            self.ready.push_back(lane);
        }
    }

    /// A call of this lane ended, and `back` of it, in order, is to be sent again, not before `asked` has passed.
    pub(super) fn again(&mut self, lane: Lane, back: Vec<Delivery>, asked: Option<Duration>, now: Instant) {
        let line = self.lines.entry(lane).or_default();
        self.waiting += back.len();
        back.into_iter().rev().for_each(|delivery| line.waiting.push_front(delivery));
        line.engaged = true;
        let (since, tries) = line.failing.unwrap_or((now, 0));
        line.failing = Some((since, tries.saturating_add(1)));
        let pause = FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE);
        let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0).max(asked.unwrap_or_default().min(LONGEST_ASKED));
        self.resting.push(Reverse((now + pause, lane.0)));
    }

    /// Since when the first of this lane could not be sent.
    pub(super) fn failing_since(&self, lane: Lane) -> Option<Instant> {
        self.lines.get(&lane)?.failing.map(|(since, _)| since)
    }

    /// Lanes that have rested are ready.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(Reverse((_, lane))) = self.resting.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.resting.pop();
            self.ready.push_back(Lane(lane));
        }
    }

    /// When the next lane has rested.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.resting.peek().map(|Reverse((at, _))| *at)
    }
}
