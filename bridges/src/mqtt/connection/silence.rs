//! How long a client may be silent.

use std::{pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// When a client that says nothing is given up (MQTT-3.1.2-22).
pub(super) struct Silence {
    after: Duration,
    pub(super) heard: Instant,
    timer: Pin<Box<Sleep>>,
}

// === impl Silence ===

impl Silence {
    /// One and a half times the keep alive.
    pub(super) fn new(keep_alive: Duration) -> Self {
        let (after, heard) = (keep_alive.mul_f32(1.5), Instant::now());
        Self { after, heard, timer: Box::pin(sleep_until(heard + after)) }
    }

    /// Pending while the client was heard of lately, or is not listened to.
    pub(super) async fn over(silence: Option<&mut Self>) {
        let Some(silence) = silence else { return std::future::pending().await };
        loop {
            silence.timer.as_mut().await;
            let end = silence.heard + silence.after;
            if end <= Instant::now() {
                return;
            }
            silence.timer.as_mut().reset(end);
        }
    }
}
