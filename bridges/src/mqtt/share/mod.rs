//! Shared subscriptions (MQTT 5.0, section 4.8.2): `$share/GROUP/FILTER`, of which each message goes to one member.
//!
//! All members share one durable position in the store, whatever their sessions are: it is there for as long as any session is
//! subscribed, so that what comes while nobody is connected waits. `dealer` says who gets what, `group` is the task that does
//! it. Which groups there are is kept on disk as well, so that after a crash those are ended whose sessions are gone.

mod dealer;
mod group;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytestring::ByteString;
use envelope::{Deliveries, Filter, Position, Principal, Rejection};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use self::group::Group;
pub(super) use self::{
    dealer::{Leaves, Left},
    group::Seat,
};
use super::{session::Session, source::Shared};

/// The shared subscriptions of a listener.
#[derive(Default)]
pub(super) struct Shares(Mutex<HashMap<ByteString, Listed>>);

struct Listed {
    group: Arc<Group>,
    /// That are subscribed, connected or not.
    sessions: HashSet<Uuid>,
}

/// What a filter begins with that is shared.
const PREFIX: &str = "$share/";
/// The longest name of a position that has the filter in it; the store takes no longer ones.
const MAX_NAME: usize = 256;

/// Whether a filter is a shared one, well formed or not.
pub(super) fn is_shared(native: &str) -> bool {
    native.starts_with(PREFIX)
}

/// The filter within a shared one. `None`: it has no group, one with a wildcard (MQTT-4.8.2-2), or no filter (MQTT-4.8.2-1).
pub(super) fn within(native: &str) -> Option<&str> {
    let (group, filter) = native.strip_prefix(PREFIX)?.split_once('/')?;
    (!group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty()).then_some(filter)
}

/// What the position of a shared filter is called.
fn name(bridge: &str, native: &str) -> Arc<str> {
    let name = format!("mqtt:{bridge}:{native}");
    if name.len() <= MAX_NAME {
        return name.into();
    }
    let digest: String = Sha256::digest(native).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("mqtt:{bridge}:$share:{digest}").into()
}

// === impl Shares ===

impl Shares {
    /// Seats a connected session. `native` is the whole shared filter, `filter` what is in it, as one of the mesh.
    pub(super) async fn join(
        &self,
        shared: &Shared,
        (native, filter): (&ByteString, Filter),
        session: &Session,
        principal: Arc<Principal>,
        credit: u32,
    ) -> Result<(Box<dyn Deliveries>, Seat), Rejection> {
        let group = self.listed(&shared.cx.bridge, native, filter, session.id());
        group.join(shared, session.id(), principal, credit).await
    }

    /// Takes a session up that was kept.
    pub(super) fn restore(&self, bridge: &str, session: &Session, to_mesh: impl Fn(&str) -> Option<Filter>) {
        for known in session.subscriptions() {
            let native = &known.wanted.filter;
            if let Some(filter) = within(native).and_then(&to_mesh) {
                let group = self.listed(bridge, native, filter, session.id());
                group.claim(session.id(), session.left(known.number));
            }
        }
    }

    /// A session is subscribed no more, or has ended: with the last one the position ends too.
    pub(super) async fn left(&self, shared: &Shared, native: &ByteString, session: Uuid) {
        let group = {
            let mut listed = self.lock();
            let Some(listed) = listed.get_mut(native) else { return };
            if !listed.sessions.remove(&session) {
                return;
            }
            listed.group.clone()
        };
        group.ended(shared, session).await;
        let is_unused = || self.lock().get(native).is_some_and(|listed| listed.sessions.is_empty());
        if !is_unused() {
            return;
        }
        group.end(shared, is_unused).await;
        let mut listed = self.lock();
        if listed.get(native).is_some_and(|listed| listed.sessions.is_empty() && Arc::ptr_eq(&listed.group, &group)) {
            listed.remove(native);
        }
    }

    /// Takes up what nobody is to get of the group of this name, if there is one.
    pub(super) fn restore_lost(&self, name: &str, lost: Vec<Position>) -> bool {
        let groups = self.lock();
        let Some(listed) = groups.values().find(|listed| *listed.group.name == *name) else { return false };
        listed.group.claim_lost(lost);
        true
    }

    fn listed(&self, bridge: &str, native: &ByteString, filter: Filter, session: Uuid) -> Arc<Group> {
        let mut groups = self.lock();
        if let Some(listed) = groups.get_mut(native) {
            listed.sessions.insert(session);
            return listed.group.clone();
        }
        // of its own, or the packet that it came in would stay
        let key = ByteString::from(&**native);
        let group = Arc::new(Group::new(name(bridge, native), filter));
        groups.insert(key, Listed { group: group.clone(), sessions: HashSet::from([session]) });
        group
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ByteString, Listed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_4_8_2_1_and_2_a_shared_filter_has_a_group_without_wildcards_and_a_filter() {
        assert_eq!(within("$share/g/a/+"), Some("a/+"));
        assert_eq!(within("$share/g//a"), Some("/a"));
        for wrong in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g#/a"] {
            assert!(is_shared(wrong) && within(wrong).is_none(), "{wrong}");
        }
        assert!(!is_shared("$share") && !is_shared("$shared/a"));
    }

    #[test]
    fn the_name_of_a_position_has_the_filter_in_it_where_there_is_room() {
        assert_eq!(&*name("floor", "$share/g/a/#"), "mqtt:floor:$share/g/a/#");
        let long = format!("$share/g/{}", "x".repeat(400));
        assert_eq!(name("floor", &long).len(), "mqtt:floor:$share:".len() + 64);
    }
}
