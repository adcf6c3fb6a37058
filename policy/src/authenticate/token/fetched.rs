//! Keys that are fetched: where they wait for tokens, and tokens never wait for them.
//!
//! Who fetches is the gateway. A token by a key that is not there asks for the keys to be fetched before their time, at
//! most once in [`RETRY`], and is refused meanwhile: an endpoint that is down or slow costs no request anything. Keys stay
//! for [`MAX_AGE`] after they were fetched last, then none of the issuer's tokens is accepted.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::jwks::KeySet;

/// How soon keys are fetched again at the earliest.
pub(super) const RETRY: Duration = Duration::from_secs(10);
/// How long keys are believed that can't be fetched again.
const MAX_AGE: Duration = Duration::from_secs(86_400);

/// The fetched keys of every issuer, over all loads of the policy file.
#[derive(Debug, Clone, Default)]
pub struct Fetched(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    keys: Mutex<HashMap<http::Uri, Arc<FetchedKeys>>>,
    wanted: Arc<Notify>,
}

/// The keys at one URL.
#[derive(Debug)]
pub struct FetchedKeys {
    url: http::Uri,
    keys: ArcSwapOption<Timed>,
    /// Of all URLs: who fetches waits for it.
    wanted: Arc<Notify>,
    /// When they were asked for last.
    asked: Mutex<Option<Instant>>,
    /// They are asked for before their time.
    early: AtomicBool,
    /// The last fetch failed.
    failed: AtomicBool,
}

#[derive(Debug)]
struct Timed {
    keys: Arc<KeySet>,
    at: Instant,
}

// === impl Fetched ===

impl Fetched {
    /// The keys at a URL; none yet if nobody has fetched them.
    pub fn at(&self, url: &http::Uri) -> Arc<FetchedKeys> {
        let mut all = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(FetchedKeys::new(url.clone(), self.0.wanted.clone()));
        all.entry(url.clone()).or_insert_with(new).clone()
    }

    /// Forgets the URLs that nobody holds any more.
    pub fn tidy(&self) {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, keys| Arc::strong_count(keys) > 1);
    }

    /// Waits until keys are wanted before their time; which they are says [`FetchedKeys::is_wanted`].
    pub async fn wanted(&self) {
        self.0.wanted.notified().await;
    }
}

// === impl FetchedKeys ===

impl FetchedKeys {
    fn new(url: http::Uri, wanted: Arc<Notify>) -> Self {
        Self {
            url,
            keys: ArcSwapOption::empty(),
            wanted,
            asked: Mutex::new(None),
            early: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    /// Where they are.
    pub fn url(&self) -> &http::Uri {
        &self.url
    }

    /// Takes what was fetched in place of what was there.
    pub fn put(&self, keys: KeySet) {
        self.failed.store(false, Ordering::Relaxed);
        self.keys.store(Some(Arc::new(Timed { keys: Arc::new(keys), at: Instant::now() })));
    }

    /// They could not be fetched: those that are there stay.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// What is wrong with them, if something is.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        match (self.now().is_some(), self.failed.load(Ordering::Relaxed)) {
            (true, false) => None,
            (true, true) => Some("its keys can't be fetched, those before stay"),
            (false, true) => Some("its keys can't be fetched, and none of its tokens is accepted"),
            (false, false) => Some("its keys are not there yet"),
        }
    }

    /// Whether they are wanted before their time; said once.
    pub fn is_wanted(&self) -> bool {
        self.early.swap(false, Ordering::Relaxed)
    }

    pub(super) fn now(&self) -> Option<Arc<KeySet>> {
        let timed = self.keys.load();
        timed.as_ref().filter(|timed| timed.at.elapsed() < MAX_AGE).map(|timed| timed.keys.clone())
    }

    pub(super) fn want(&self) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_none_or(|at| at.elapsed() >= RETRY) {
            *asked = Some(Instant::now());
            self.early.store(true, Ordering::Relaxed);
            self.wanted.notify_one();
        }
    }
}
