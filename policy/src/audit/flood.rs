//! How much of a flood of refusals is written: a bounded number of lines a second and kind, and the exact rest.

use std::time::{Duration, Instant};

use envelope::RejectKind;

/// The most lines a kind gets in one window.
pub(super) const LINES: u64 = 20;
/// How long a window is.
pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// Counts refusals by kind; the caller tells the time.
#[derive(Debug, Default)]
pub(super) struct Flood(Vec<Window>);

/// How many refusals of a kind were not written in a window that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) kind: RejectKind,
    pub(super) messages: u64,
}

#[derive(Debug)]
struct Window {
    kind: RejectKind,
    began: Instant,
    refused: u64,
}

// === impl Flood ===

impl Flood {
    /// Counts one refusal; whether it is written.
    pub(super) fn admit(&mut self, kind: RejectKind, now: Instant) -> bool {
        let window = match self.0.iter_mut().position(|window| window.kind == kind) {
            Some(at) => &mut self.0[at],
            None => self.0.push_mut(Window { kind, began: now, refused: 0 }),
        };
        window.refused += 1;
        window.refused <= LINES
    }

    /// Ends the windows that are over, and tells what they left out.
    pub(super) fn elapsed(&mut self, now: Instant) -> impl Iterator<Item = LeftOut> {
        self.0
            .extract_if(.., move |window| now.saturating_duration_since(window.began) >= WINDOW)
            .filter_map(Window::end)
    }

    /// Ends all windows.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = LeftOut> {
        self.0.drain(..).filter_map(Window::end)
    }

    /// Whether something was left out that no window has told yet.
    pub(super) fn is_pending(&self) -> bool {
        self.0.iter().any(|window| window.refused > LINES)
    }
}

// === impl Window ===

impl Window {
    fn end(self) -> Option<LeftOut> {
        let messages = self.refused.saturating_sub(LINES);
        (messages > 0).then_some(LeftOut { kind: self.kind, messages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RejectKind = RejectKind::Malformed;
    const B: RejectKind = RejectKind::Denied;

    #[test]
    fn each_kind_has_its_own_lines() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        let written = |flood: &mut Flood, kind| (0..LINES + 7).filter(|_| flood.admit(kind, now)).count() as u64;
        assert_eq!(written(&mut flood, A), LINES);
        assert_eq!(written(&mut flood, B), LINES);
    }

    #[test]
    fn at_the_limit_nothing_is_left_out() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        (0..LINES).for_each(|_| assert!(flood.admit(A, now)));
        assert!(!flood.is_pending());
        assert_eq!(flood.elapsed(now + WINDOW).count(), 0);
    }

    #[test]
    fn a_window_that_is_over_tells_the_exact_rest_and_a_new_one_begins() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        (0..LINES + 7).for_each(|_| _ = flood.admit(A, now));
        flood.admit(B, now);
        assert!(flood.is_pending());
        assert_eq!(flood.elapsed(now + WINDOW - Duration::from_nanos(1)).count(), 0);
        let told: Vec<_> = flood.elapsed(now + WINDOW).collect();
        assert_eq!(told, [LeftOut { kind: A, messages: 7 }]);
        assert!(!flood.is_pending());
        assert!(flood.admit(A, now + WINDOW));
    }

    #[test]
    fn the_end_tells_what_no_window_did() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        (0..LINES + 1).for_each(|_| _ = flood.admit(A, now));
        assert_eq!(flood.drain().collect::<Vec<_>>(), [LeftOut { kind: A, messages: 1 }]);
    }
}
