//! Runs the mappings that send: a pump each, with a durable subscription that outlives reloads and restarts.
//!
//! A mapping that is added begins with what is stored from then on; one that is removed stops, and its subscription stays
//! where it was, parked. Another `from` or bridge ends the pump and begins another one on the same subscription; anything
//! else is taken up with the next message, by its epoch. Lanes and their order are in `lanes`, one mapping in `pump`.

mod lanes;
mod pump;
mod status;
#[cfg(test)]
mod tests;
mod through;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use backbone::Backbone;
use bridges::Sending;
use envelope::{Filter, Principal, Rejection, Sink};
use mapping::Mappings;
use policy::{BRIDGE, Current, Meters, Trail};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    pump::{Fates, Taker},
    status::{Shown, describe},
    through::PassThrough,
};
use self::{
    pump::{Pump, subscription},
    status::Status,
    through::Queue,
};
use crate::{drain::Stoppable, reload::Reload};

/// What the subscriptions of mappings are called by: this and the mapping's name.
const DURABLE: &str = "mapping:";

/// The mappings that send, as they run. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct EgressPumps(Arc<Shared>);

/// A bridge that sends.
pub(crate) struct Way {
    /// What it sends through.
    pub(crate) sink: Sink,
    /// How it is given that.
    pub(crate) sending: Sending,
    /// Where refusals on the way out go.
    pub(crate) trail: Arc<Trail>,
}

/// What every pump works with.
pub(crate) struct Around {
    /// Where the subscriptions are.
    pub(crate) backbone: Arc<dyn Backbone>,
    /// What decides now.
    pub(crate) current: Current,
    /// The gateway's.
    pub(crate) meters: Arc<Meters>,
    /// Hears what becomes of envelopes.
    pub(crate) fates: Arc<dyn Fates>,
    /// What is not stored.
    pub(crate) through: PassThrough,
}

struct Shared {
    around: Around,
    ways: HashMap<Arc<str>, Way>,
    /// Ends the pumps.
    until: Stoppable,
    running: Mutex<BTreeMap<String, Running>>,
    /// What each mapping that sends is to send that is not stored.
    queues: Mutex<HashMap<String, Arc<Queue>>>,
}

/// A pump that runs.
struct Running {
    filter: Filter,
    bridge: Arc<str>,
    stop: CancellationToken,
    /// Cancelled when it has ended.
    ended: CancellationToken,
    status: Arc<Status>,
}

/// What a bridge that sends is called where policy asks who reads: `$bridge:NAME`. Nobody who logs in has such a name.
pub(crate) fn principal_of(bridge: &str, domain: &Arc<str>) -> Principal {
    Principal::new(format!("{BRIDGE}{bridge}"), domain.clone())
}

// === impl EgressPumps ===

impl EgressPumps {
    /// Nothing runs yet; `until` ends what will.
    pub(crate) fn new(around: Around, ways: HashMap<Arc<str>, Way>, until: Stoppable) -> Self {
        Self(Arc::new(Shared { around, ways, until, running: Mutex::default(), queues: Mutex::default() }))
    }

    /// Makes the subscriptions that are not there yet, so that nothing stored from here on is missed by its mapping.
    pub(crate) async fn prepare(&self, mappings: &Mappings) -> Result<(), Rejection> {
        let taker = |sender: mapping::EgressInfo<'_>| Taker {
            durable: durable(sender.route.name()),
            filter: sender.topic.clone(),
        };
        self.0.around.fates.takers(sending(mappings).map(taker).collect());
        self.queue(mappings);
        for sender in sending(mappings) {
            let name = sender.route.name();
            if !self.running().contains_key(name) {
                let what = subscription(&durable(name), sender.topic, 1);
                drop(self.0.around.backbone.subscribe(what).await?);
            }
        }
        Ok(())
    }

    /// Has a queue for each mapping that sends, and drops those of the others with what is in them: nobody is to send it.
    fn queue(&self, mappings: &Mappings) {
        let mut queues = self.queues();
        let mut before = std::mem::take(&mut *queues);
        queues.extend(sending(mappings).map(|sender| {
            let name = sender.route.name();
            (name.to_owned(), before.remove(name).unwrap_or_default())
        }));
        let filters = sending(mappings)
            .filter_map(|sender| Some((sender.topic.clone(), queues.get(sender.route.name())?.clone())));
        self.0.around.through.follow(filters.collect());
    }

    /// Has the pumps run that these mappings ask for, and no others.
    pub(crate) async fn follow(&self, mappings: &Mappings) {
        let wanted = |name: &str, running: &Running| {
            let sender = sending(mappings).find(|sender| sender.route.name() == name);
            sender.is_some_and(|sender| *sender.topic == running.filter && *sender.bridge == *running.bridge)
        };
        let over: Vec<_> = self.running().extract_if(.., |name, running| !wanted(name, running)).collect();
        for (name, running) in over {
            running.stop.cancel();
            running.ended.cancelled().await;
            tracing::info!(route = %name, "a mapping sends no more: its subscription stays where it is");
        }
        for sender in sending(mappings) {
            if self.running().contains_key(sender.route.name()) {
                continue;
            }
            let Some((bridge, way)) = self.0.ways.get_key_value(sender.bridge) else {
                // load has checked it; a bridge that a reload brings waits for a restart
                tracing::warn!(route = %sender.route.name(), bridge = %sender.bridge, "the bridge does not run yet");
                continue;
            };
            let running = self.start(bridge, way, &sender);
            self.running().insert(sender.route.name().to_owned(), running);
        }
    }

    /// Follows the mappings in force until `stop`.
    pub(crate) async fn run(self, reload: Reload, stop: CancellationToken) {
        let mut changes = self.0.around.current.changes();
        loop {
            let (_, mappings) = reload.status();
            self.follow(&mappings).await;
            match stop.run_until_cancelled(changes.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            }
        }
    }

    /// What is known of a mapping that sends; `None` if it does not run.
    pub(crate) fn shown(&self, name: &str) -> Option<Shown> {
        self.running().get(name).map(|running| running.status.show())
    }

    /// The names of mappings that sent once, by the names of all durable subscriptions.
    pub(crate) fn parked<'n>(&self, durables: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
        let running = self.running();
        durables.filter_map(|name| name.strip_prefix(DURABLE)).filter(|name| !running.contains_key(*name)).collect()
    }

    fn start(&self, bridge: &Arc<str>, way: &Way, sender: &mapping::EgressInfo<'_>) -> Running {
        let Around { backbone, current, meters, fates, .. } = &self.0.around;
        let route = sender.route.clone();
        let queue = self.queues().get(route.name()).cloned().unwrap_or_default();
        let stop = self.0.until.stop.child_token();
        let ended = CancellationToken::new();
        let status = Arc::new(Status::new(route.name(), bridge));
        let domain = current.load().domain.clone();
        let pump = Pump {
            filter: sender.topic.clone(),
            durable: durable(route.name()),
            stack: policy::sending(route.clone(), way.sink.clone(), way.trail.clone(), meters.clone()),
            route,
            sending: way.sending,
            principal: Arc::new(principal_of(bridge, &domain)),
            backbone: backbone.clone(),
            current: current.clone(),
            status: status.clone(),
            fates: fates.clone(),
            queue,
            drain: self.0.until.stop.clone(),
            stop: stop.clone(),
            tasks: self.0.until.tasks.clone(),
        };
        let guard = ended.clone().drop_guard();
        self.0.until.tasks.spawn(async move {
            pump.run().await;
            drop(guard);
        });
        Running { filter: sender.topic.clone(), bridge: bridge.clone(), stop, ended, status }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, Arc<Queue>>> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for EgressPumps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressPumps").finish_non_exhaustive()
    }
}

/// The mappings that send by themselves.
fn sending(mappings: &Mappings) -> impl Iterator<Item = mapping::EgressInfo<'_>> {
    mappings.senders().filter(|sender| !sender.shown)
}

/// The name of a mapping's subscription.
fn durable(mapping: &str) -> Arc<str> {
    format!("{DURABLE}{mapping}").into()
}
