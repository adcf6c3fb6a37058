//! `shed: latest`: while the store is behind, the latest message of a sender's topic and key stands for those before it.
//!
//! A batch of which only such messages are to be shed waits for room, for a while. What comes meanwhile of the same mapping,
//! topic, key and sender makes the one that waits old: that is never sent on, and its sender hears yes only once the later one
//! is stored. Where the later one is refused, the old one is refused as well, and is its sender's again.
//!
//! Who waits here holds a permit of the bridge, so those who do are bounded: there is room left for what matters more.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use envelope::{
    Admission, InLane, Mapped, Priority as PriorityClass, RejectKind, Rejection, Route, Topic, Verdict, Verdicts,
};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, sleep_until},
};
use tower::Service;

use super::{RETRY_AFTER, Shared, Waiting, shed_from_percent};
use crate::{
    Epoch, Pass,
    lift::{Answered, Rejoin, Routes, Stopped},
};

/// How long a message waits for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// The messages of a bridge that wait.
#[derive(Debug, Default)]
pub(super) struct Latest {
    /// Batches that are in [`run`](Parked::run), by what matters least in them.
    parked: [AtomicU32; PriorityClass::ALL.len()],
    newest: Mutex<Newest>,
    /// There may be room, or something became of a message.
    woken: Notify,
}

/// The latest of each name, of those that are not sent on yet.
#[derive(Debug, Default)]
struct Newest {
    next: u64,
    names: HashMap<Name, Entered>,
}

/// For what a message stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    route: Route,
    topic: Topic,
    key: Option<Arc<str>>,
    principal: Arc<str>,
    domain: Arc<str>,
}

/// Whether a message was stored, once that is known.
type Fate = watch::Receiver<Option<bool>>;

#[derive(Debug)]
struct Entered {
    number: u64,
    /// Tells the message that it is old, and what stands for it.
    old: oneshot::Sender<Fate>,
}

/// A batch that waits.
pub(super) struct Parked {
    shared: Arc<Shared>,
    least: PriorityClass,
    places: Vec<Place>,
}

/// What a message of the batch waits for.
enum Place {
    /// Nothing of its own: it goes with the others.
    Plain(PriorityClass),
    /// For room.
    Mine(Mine),
    /// For the one at this place of the batch, which is later.
    Old(usize, PriorityClass),
    /// For a later one of another batch.
    MadeOld(Fate, Mine),
}

/// Nothing was told to a message for too long.
struct Late;

struct Mine {
    name: Name,
    number: u64,
    old: oneshot::Receiver<Fate>,
    fate: watch::Sender<Option<bool>>,
    class: PriorityClass,
}

/// Has the batch wait, if what is to be shed of it may; `None`: it is shed at once.
pub(super) fn park(shared: &Arc<Shared>, epoch: &Epoch, messages: &[Mapped], before: u32) -> Option<Parked> {
    let classes: Vec<_> = messages.iter().map(|message| epoch.access.priority.of(message)).collect();
    let names: Vec<_> = messages.iter().zip(&classes).map(|(message, class)| Name::of(message, *class)).collect();
    let taken = |class: PriorityClass| shared.takes(class, before);
    let mut all = names.iter().zip(&classes);
    if !all.all(|(name, class)| name.is_some() || taken(*class)) || names.iter().all(Option::is_none) {
        return None;
    }
    let least = classes.iter().copied().max()?;
    if taken(least) && shared.latest.is_empty() {
        return None;
    }
    let mut last = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        last.extend(name.as_ref().map(|name| (name, index)));
    }
    let mut newest = shared.latest.newest();
    let full = before.saturating_add(shared.latest.len()) >= shared.most_with_parked(least);
    // who comes to a full house takes the place of the one that it makes old
    if full && !last.keys().all(|name| newest.names.contains_key(*name)) {
        return None;
    }
    let places = names.iter().zip(classes).enumerate().map(|(index, (name, class))| match name {
        None => Place::Plain(class),
        Some(name) => match last.get(name) {
            Some(later) if *later != index => Place::Old(*later, class),
            _ => Place::Mine(newest.enter(name.clone(), class, full)),
        },
    });
    let places = places.collect();
    shared.latest.parked[least as usize].fetch_add(1, Ordering::Relaxed);
    drop(newest);
    shared.latest.wake();
    Some(Parked { shared: shared.clone(), least, places })
}

// === impl Latest ===

impl Latest {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> u32 {
        self.parked.iter().map(|parked| parked.load(Ordering::Relaxed)).sum()
    }

    /// Has those who wait look again if there is room for one of them.
    pub(super) fn wake_if(&self, takes: impl Fn(PriorityClass) -> bool) {
        let waits = |class: PriorityClass| self.parked[class as usize].load(Ordering::Relaxed) > 0;
        if PriorityClass::ALL.into_iter().any(|class| waits(class) && takes(class)) {
            self.woken.notify_waiters();
        }
    }

    /// Has those who wait look again.
    fn wake(&self) {
        if !self.is_empty() {
            self.woken.notify_waiters();
        }
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Newest ===

impl Newest {
    /// Enters a message, which makes that of the same name old. `full`: the old one is to go at once.
    fn enter(&mut self, name: Name, class: PriorityClass, full: bool) -> Mine {
        self.next += 1;
        let (number, (fate, known)) = (self.next, watch::channel(None));
        let (tell, old) = oneshot::channel();
        if let Some(before) = self.names.insert(name.clone(), Entered { number, old: tell }) {
            let stands = if full { watch::channel(Some(false)).1 } else { known };
            // one that is gone needs to hear nothing
            drop(before.old.send(stands));
        }
        Mine { name, number, old, fate, class }
    }

    /// From here on nothing makes it old.
    fn remove(&mut self, mine: &Mine) {
        if self.names.get(&mine.name).is_some_and(|entered| entered.number == mine.number) {
            self.names.remove(&mine.name);
        }
    }
}

// === impl Name ===

impl Name {
    /// `None`: it stands for itself. A group is stored whole or not at all, and a command is never shed.
    pub(super) fn of(message: &Mapped, class: PriorityClass) -> Option<Self> {
        let [envelope] = message.group.as_slice() else { return None };
        if !message.terms.shed_latest || class == PriorityClass::Command {
            return None;
        }
        Some(Self {
            route: message.route.clone(),
            topic: envelope.subject.clone(),
            key: envelope.partitionkey.clone(),
            principal: message.principal.id.clone(),
            domain: message.principal.domain.clone(),
        })
    }
}

// === impl Shared ===

impl Shared {
    /// So many batches wait for the store or for room at most, if the least of one that comes is of this class: up to where
    /// the next class is shed, and never all.
    fn most_with_parked(&self, class: PriorityClass) -> u32 {
        let next = PriorityClass::ALL.into_iter().rev().find(|other| *other < class);
        let percent = next.and_then(shed_from_percent).unwrap_or(100);
        let most = u64::from(self.most) * percent / 100;
        u32::try_from(most).unwrap_or(u32::MAX).min(self.most.saturating_sub(1))
    }
}

// === impl Place ===

impl Place {
    /// The class of one that is still to be sent on.
    fn waits(&self) -> Option<PriorityClass> {
        match self {
            Self::Plain(class) | Self::Mine(Mine { class, .. }) => Some(*class),
            Self::Old(..) | Self::MadeOld(..) => None,
        }
    }
}

// === impl Parked ===

impl Parked {
    /// Waits, and sends on what is not old. `inner` is ready.
    pub(super) async fn run<S>(
        mut self,
        mut inner: S,
        epoch: Arc<Epoch>,
        messages: Vec<Mapped>,
    ) -> Result<Verdicts<Admission>, Rejection>
    where
        S: Service<Pass<Mapped>, Response = Verdicts<Admission>, Error = Rejection>,
    {
        let room = self.room().await;
        let (mut sent, mut answered, mut stopped) = (Vec::new(), Vec::new(), Stopped::default());
        for (index, (place, message)) in self.places.iter().zip(messages).enumerate() {
            let lane = message.lane();
            let answer = match stopped.guard(lane) {
                Ok(()) => match self.answer(place, room.is_ok()) {
                    None => {
                        sent.push(message);
                        continue;
                    }
                    Some(answer) => answer,
                },
                Err(behind) => Err(behind),
            };
            stopped.note(lane, &answer);
            answered.push(Answered { index, lane, verdict: Verdict { route: None, answer } });
        }
        let call = |batch| inner.call(Pass { epoch, batch });
        let mut verdicts = Rejoin::send(sent, Routes::Unknown, answered, call).await?;
        drop(room);
        self.tell(&mut verdicts);
        Ok(verdicts)
    }

    /// Waits until there is room for all of it that is not old, and it is known what became of what stands for that.
    async fn room(&mut self) -> Result<Option<Waiting>, Late> {
        let (shared, until) = (self.shared.clone(), Instant::now() + PATIENCE);
        loop {
            let mut woken = pin!(shared.latest.woken.notified());
            woken.as_mut().enable();
            self.look();
            let unknown = |place: &Place| matches!(place, Place::MadeOld(fate, _) if fate.borrow().is_none());
            if !self.places.iter().any(unknown) {
                let Some(least) = self.places.iter().filter_map(Place::waits).max() else { return Ok(None) };
                if let Some(waiting) = shared.take(least) {
                    match self.seal() {
                        true => return Ok(Some(waiting)),
                        false => continue,
                    }
                }
            }
            tokio::select! {
                () = woken => {}
                () = sleep_until(until) => return Err(Late),
            }
        }
    }

    /// Notes what was made old.
    fn look(&mut self) {
        for place in &mut self.places {
            if let Place::Mine(mine) = place
                && let Ok(fate) = mine.old.try_recv()
            {
                let before = std::mem::replace(place, Place::Plain(PriorityClass::Command));
                *place = match before {
                    Place::Mine(mine) => Place::MadeOld(fate, mine),
                    other => other,
                };
            }
        }
    }

    /// From here on nothing makes any of it old; `false` if something just did.
    fn seal(&mut self) -> bool {
        let shared = self.shared.clone();
        let mut newest = shared.latest.newest();
        self.look();
        let made_old = |place: &Place| matches!(place, Place::MadeOld(fate, _) if fate.borrow().is_none());
        if self.places.iter().any(made_old) {
            return false;
        }
        self.mine().for_each(|mine| newest.remove(mine));
        true
    }

    /// `None`: it is to be sent on.
    fn answer(&self, place: &Place, is_room: bool) -> Option<Result<Admission, Rejection>> {
        let class = match place {
            Place::Plain(class)
                if is_room || self.shared.takes(*class, self.shared.waiting.load(Ordering::Relaxed)) =>
            {
                return None;
            }
            Place::Mine(_) if is_room => return None,
            Place::Old(_, class) if is_room => {
                self.shared.count(*class);
                return Some(Ok(Admission::Filtered));
            }
            Place::MadeOld(fate, Mine { class, .. }) => {
                self.shared.count(*class);
                return Some(if is_stored(fate) { Ok(Admission::Filtered) } else { Err(not_stood_for()) });
            }
            Place::Plain(class) | Place::Mine(Mine { class, .. }) | Place::Old(_, class) => class,
        };
        Some(Err(self.shared.refuse(*class)))
    }

    /// Says what became of it to those that it stands for.
    fn tell(&self, verdicts: &mut Verdicts<Admission>) {
        for (index, place) in self.places.iter().enumerate() {
            let is_yes = |at: usize| verdicts.get(at).is_some_and(|verdict| verdict.answer.is_ok());
            match place {
                Place::Mine(mine) => drop(mine.fate.send_replace(Some(is_yes(index)))),
                Place::MadeOld(fate, mine) => drop(mine.fate.send_replace(Some(is_stored(fate)))),
                Place::Old(later, _) if !is_yes(*later) && is_yes(index) => {
                    if let Some(verdict) = verdicts.get_mut(index) {
                        verdict.answer = Err(not_stood_for());
                    }
                }
                Place::Old(..) | Place::Plain(_) => {}
            }
        }
    }

    fn mine(&self) -> impl Iterator<Item = &Mine> {
        self.places.iter().filter_map(|place| match place {
            Place::Mine(mine) | Place::MadeOld(_, mine) => Some(mine),
            Place::Plain(_) | Place::Old(..) => None,
        })
    }
}

impl Drop for Parked {
    /// Also where its sender went away.
    fn drop(&mut self) {
        let mut newest = self.shared.latest.newest();
        self.mine().for_each(|mine| {
            newest.remove(mine);
            mine.fate.send_if_modified(|fate| fate.is_none() && fate.replace(false).is_none());
        });
        drop(newest);
        self.shared.latest.wake();
        self.shared.latest.parked[self.least as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_stored(fate: &Fate) -> bool {
    *fate.borrow() == Some(true)
}

fn not_stood_for() -> Rejection {
    let detail = "too much waits for the store, and a later message of its topic and key was not taken either";
    Rejection::new(RejectKind::Overloaded, "shed", detail).after(RETRY_AFTER)
}
