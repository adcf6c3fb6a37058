//! Hot reload: another configuration takes the place of the one in force, as a whole or not at all.
//!
//! A set of files that does not hold is refused, and the epoch in force stays. Batches in flight finish under the epoch
//! that admitted them. What of `gateway.yaml` only a start takes up is named, and is not in force. When to reload is for
//! `watch`, what is told of it for `status`.

mod status;
mod watch;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use mapping::Mappings;
use policy::{Current, Epoch, Fetched, Labels};
use tokio::{runtime::Handle, sync::Notify};

pub(crate) use status::{Because, Status, describe};

use self::status::{InForce, Refused};
use crate::{
    audit::AuditLog,
    config::{Attempt, Contents, Loaded, Places, Scan, attempt},
    egress::EgressPumps,
};

/// The configuration in force, and how another one takes its place. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Reload(Arc<Shared>);

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reloaded {
    /// Another configuration is in force, as the epoch of this number.
    Changed(u64),
    /// The files say what is in force already, but for what needs a restart; the epoch keeps its number.
    Unchanged(u64),
    /// The files do not hold, with so many errors; what was in force still is.
    Refused(usize),
}

struct Shared {
    current: Current,
    /// Keys of issuers, which outlive the epochs that use them.
    fetched: Fetched,
    domain: Arc<str>,
    /// Where the gateway is: as the process was started with, whatever the file says.
    jurisdictions: Labels,
    /// What the process was started with: what only a start takes up is compared with this.
    started: Contents,
    /// Held through a reload: there is one at a time.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// One reload that is asked for and has not begun: more of them would find the same files.
    asked: Notify,
    /// Where changes are put on record.
    audit: AuditLog,
    /// The mappings that send, once there is a store.
    egress: OnceLock<EgressPumps>,
}

struct State {
    places: Places,
    /// What the files looked like when they were read last, whether they held or not.
    seen: Scan,
    in_force: Arc<InForce>,
    contents: Contents,
    needs_restart: Vec<String>,
    refused: Option<Arc<Refused>>,
    /// Replaced; kept until nobody works with them any more, so that no message waits for their end.
    retired: Vec<Arc<Epoch>>,
}

/// The number of the first epoch.
const FIRST: u64 = 1;
/// How long the files must be left alone before they are read because they changed.
const QUIET: Duration = Duration::from_millis(200);
/// How often files that change while they are read are read again, before they are taken as they are.
const READS: usize = 5;

// === impl Reload ===

impl Reload {
    /// With what was loaded in force.
    pub(crate) fn new(loaded: &Loaded, audit: AuditLog) -> Self {
        let jurisdictions: Labels = loaded.config.jurisdictions.as_slice().into();
        let fetched = Fetched::default();
        let epoch = epoch(FIRST, &loaded.config.domain, loaded, &fetched).within(jurisdictions.clone());
        let state = State {
            places: loaded.places.clone(),
            seen: loaded.seen,
            in_force: Arc::new(InForce::first(FIRST, loaded.mappings.clone())),
            contents: loaded.contents.clone(),
            needs_restart: Vec::new(),
            refused: None,
            retired: Vec::new(),
        };
        Self(Arc::new(Shared {
            current: epoch.into_current(),
            fetched,
            domain: loaded.config.domain.clone(),
            jurisdictions,
            started: loaded.contents.clone(),
            turn: tokio::sync::Mutex::default(),
            state: Mutex::new(state),
            asked: Notify::new(),
            audit,
            egress: OnceLock::new(),
        }))
    }

    /// What decides.
    pub(crate) fn current(&self) -> Current {
        self.0.current.clone()
    }

    /// How many errors the files have that are there now, if they do not hold.
    pub(crate) fn refused(&self) -> Option<usize> {
        self.state().refused.as_ref().map(|refused| refused.count)
    }

    /// What sends, which is told before an epoch comes in force. Once.
    pub(crate) fn sends(&self, egress: EgressPumps) {
        _ = self.0.egress.set(egress);
    }

    /// What sends, once there is a store.
    pub(crate) fn egress(&self) -> Option<&EgressPumps> {
        self.0.egress.get()
    }

    /// The keys of issuers, for who fetches them.
    pub(crate) fn fetched(&self) -> Fetched {
        self.0.fetched.clone()
    }

    /// What is in force, what is not and why; and the mappings in force.
    pub(crate) fn status(&self) -> (Status, Arc<Mappings>) {
        let state = self.state();
        let status = Status::of(&state.in_force, &state.needs_restart, state.refused.as_deref());
        (status, state.in_force.mappings.clone())
    }

    /// Reloads as soon as the reload that runs, if one does, is done.
    pub(crate) fn soon(&self) {
        self.0.asked.notify_one();
    }

    /// Reads all files and puts them in force if they hold.
    pub(crate) async fn now(&self, because: Because) -> Reloaded {
        let _turn = self.0.turn.lock().await;
        let mut reads = 0;
        loop {
            reads += 1;
            let (this, take_as_it_is) = (self.clone(), reads == READS);
            // A thread of its own: it reads files, and compiles what may be thousands of them.
            let done = tokio::task::spawn_blocking(move || this.attempt(because, take_as_it_is)).await;
            match done {
                Ok(Some(reloaded)) => return reloaded,
                Ok(None) => tokio::time::sleep(QUIET).await,
                Err(panicked) => return self.refuse(because, Refused::by_panic(&panicked)),
            }
        }
    }

    /// `None` if the files changed beneath it.
    fn attempt(&self, because: Because, take_as_it_is: bool) -> Option<Reloaded> {
        let places = self.state().places.clone();
        let Attempt { places, seen, loaded } = attempt(&places, Some(&self.0.domain));
        if !take_as_it_is && places.scan() != seen {
            return None;
        }
        {
            let mut state = self.state();
            state.places = places;
            state.seen = seen;
        }
        Some(match loaded {
            Ok(loaded) => {
                self.prepare(&loaded);
                self.take(because, loaded)
            }
            Err(errors) => self.refuse(because, Refused::by(&errors)),
        })
    }

    /// Mappings that send get their subscriptions before anything is decided by the epoch that they are of.
    fn prepare(&self, loaded: &Loaded) {
        let Some(egress) = self.0.egress.get() else { return };
        if let Err(rejection) = Handle::current().block_on(egress.prepare(&loaded.mappings)) {
            tracing::warn!(%rejection, "a mapping that sends has no subscription yet: it is tried again");
        }
    }

    fn take(&self, because: Because, loaded: Loaded) -> Reloaded {
        let mut state = self.state();
        state.refused = None;
        state.needs_restart = loaded.contents.needs_restart(&self.0.started);
        let changes = loaded.contents.changes_since(&state.contents);
        let reloaded = if changes.is_empty() {
            Reloaded::Unchanged(state.in_force.number)
        } else {
            let number = state.in_force.number + 1;
            let after = epoch(number, &self.0.domain, &loaded, &self.0.fetched);
            let after = after.within(self.0.jurisdictions.clone());
            let before = self.0.current.swap(Arc::new(after));
            state.retired.push(before);
            state.in_force = Arc::new(InForce::new(number, loaded.mappings, changes));
            state.contents = loaded.contents;
            Reloaded::Changed(number)
        };
        let status = Status::of(&state.in_force, &state.needs_restart, None);
        drop(state);
        status.log(because, reloaded);
        if let Reloaded::Changed(number) = reloaded {
            self.0.audit.admin(because.who(), "reload", &format!("epoch {number} is in force"));
        }
        reloaded
    }

    fn refuse(&self, because: Because, refused: Refused) -> Reloaded {
        let mut state = self.state();
        let (count, refused) = (refused.count, Arc::new(refused));
        state.refused = Some(refused.clone());
        let epoch = state.in_force.number;
        drop(state);
        refused.log(because, epoch);
        self.0.audit.admin(because.who(), "reload", &format!("refused with {count} errors, epoch {epoch} stays"));
        Reloaded::Refused(count)
    }

    /// What the files look like, if not as they did when they were read last. Ends the epochs that nobody works with any
    /// more, on this thread.
    fn look(&self) -> Option<Scan> {
        let (places, seen, ended) = {
            let mut state = self.state();
            let retired = std::mem::take(&mut state.retired);
            let (used, ended): (Vec<_>, Vec<_>) = retired.into_iter().partition(|epoch| Arc::strong_count(epoch) > 1);
            state.retired = used;
            (state.places.clone(), state.seen, ended)
        };
        drop(ended);
        let found = places.scan();
        (found != seen).then_some(found)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("status", &self.status().0).finish_non_exhaustive()
    }
}

/// The epoch that a gateway with this configuration begins with, before any key was fetched.
pub(crate) fn epoch_of(loaded: &Loaded) -> Epoch {
    let jurisdictions: Labels = loaded.config.jurisdictions.as_slice().into();
    epoch(FIRST, &loaded.config.domain, loaded, &Fetched::default()).within(jurisdictions)
}

fn epoch(number: u64, domain: &Arc<str>, loaded: &Loaded, fetched: &Fetched) -> Epoch {
    let Loaded { mappings, schemas, policy, guards, .. } = loaded;
    Epoch::new(number, domain.clone(), mappings.clone(), schemas.clone(), policy.clone())
        .sending(mappings.clone())
        .with_users(guards.users.principals(domain))
        .with_issuers(guards.issuers(fetched))
        .with_policies(guards.policies.clone())
}
