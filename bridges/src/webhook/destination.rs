//! What is kept of one server: idle connections, places for requests, the breaker.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use envelope::{RejectKind, Rejection};
use http::Uri;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    breaker::{Breaker, BreakerConfig},
    exchange::Connection,
};

/// The servers of one bridge.
#[derive(Debug, Default)]
pub(super) struct Destinations(Mutex<HashMap<String, Arc<Destination>>>);

/// One server: scheme, host and port.
#[derive(Debug)]
pub(super) struct Destination {
    /// One a request.
    pub(super) places: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    breaker: Breaker,
}

/// Leave to make one request, which says how that ended; dropped, it was abandoned.
#[derive(Debug)]
pub(super) struct Leave<'d> {
    destination: &'d Destination,
    said: bool,
}

/// The most servers of a bridge.
const MAX_DESTINATIONS: usize = 1_024;
/// A connection that is idle for longer is not used again: its peer is about to close it.
const IDLE: Duration = Duration::from_secs(20);

// === impl Destinations ===

impl Destinations {
    /// The server of a URL. Servers that nothing is known of and nothing waits for make room for others.
    pub(super) fn of(&self, url: &Uri, places: usize) -> Result<Arc<Destination>, Rejection> {
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let name = format!("{}://{}", url.scheme_str().unwrap_or_default(), authority.to_ascii_lowercase());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&name) {
            return Ok(known.clone());
        }
        if all.len() >= MAX_DESTINATIONS {
            all.retain(|_, destination| Arc::strong_count(destination) > 1 || !destination.is_forgettable());
        }
        if all.len() >= MAX_DESTINATIONS {
            let detail = format!("{MAX_DESTINATIONS} servers are sent to, which is the limit");
            return Err(Rejection::new(RejectKind::Overloaded, "webhook", detail));
        }
        let made = Arc::new(Destination { places: Semaphore::new(places), state: Mutex::default() });
        all.insert(name, made.clone());
        Ok(made)
    }
}

// === impl Destination ===

impl Destination {
    /// Leave to make a request, if the breaker gives it; else how long it stays open.
    pub(super) fn leave(&self) -> Result<Leave<'_>, Duration> {
        self.state().breaker.may(Instant::now())?;
        Ok(Leave { destination: self, said: false })
    }

    /// A connection that is open and idle.
    pub(super) fn idle(&self) -> Option<Connection> {
        let mut state = self.state();
        while let Some(mut connection) = state.idle.pop() {
            if connection.idle_since.elapsed() < IDLE && connection.is_open() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request; no more are kept than there are places.
    pub(super) fn keep(&self, connection: Connection) {
        self.state().idle.push(connection);
    }

    fn is_forgettable(&self) -> bool {
        self.state().breaker.is_clear()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Leave ===

impl Leave<'_> {
    /// The server answered.
    pub(super) fn answered(mut self) {
        self.said = true;
        self.destination.state().breaker.answered();
    }

    /// It did not, or can't; whether it is left alone from now on.
    pub(super) fn failed(mut self, config: BreakerConfig) -> bool {
        self.said = true;
        self.destination.state().breaker.failed(config, Instant::now())
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if !self.said {
            self.destination.state().breaker.abandoned();
        }
    }
}
