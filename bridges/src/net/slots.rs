//! The places of a listener's connections: so many in all, and so many of one address.
//!
//! At the bound of all, peers wait in the kernel's queue, whoever they are. One address that has its share is not waited
//! for, since its next would hold up everybody else's: it is closed at once.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use metrics::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of one listener.
#[derive(Debug)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    bridge: Arc<str>,
    refused: Counter,
    /// When the log last named one that was refused, and how many were not named since.
    told: Mutex<Option<(Instant, u64)>>,
}

/// The place of a connection: free again once it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _of_all: OwnedSemaphorePermit,
    _of_address: Share,
}

/// How many connections each address has.
#[derive(Debug)]
struct Addresses {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One of the connections of an address.
#[derive(Debug)]
struct Share {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

/// The least that an address may have where the config says nothing, if there are so many.
const LEAST: usize = 64;
/// Without a word in the config an address may have one of so many.
const PART: usize = 4;
/// The log names one that was refused so often at most.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The bound of an address where the config has none: a quarter of all, but not less than 64.
pub(crate) fn share_of(max_connections: usize) -> usize {
    (max_connections / PART).max(LEAST).min(max_connections)
}

// === impl Slots ===

impl Slots {
    pub(crate) fn new(bridge: &str, max_connections: usize, max_per_address: usize) -> Self {
        metrics::describe_counter!(
            "openmesh_bridge_connections_refused_total",
            "connections closed as soon as they were accepted, because their address has its share (address)"
        );
        let refused = metrics::counter!("openmesh_bridge_connections_refused_total", "bridge" => bridge.to_owned(), "reason" => "address");
        Self {
            all: Arc::new(Semaphore::new(max_connections)),
            addresses: Arc::new(Addresses { most: max_per_address, open: Mutex::default() }),
            bridge: bridge.into(),
            refused,
            told: Mutex::default(),
        }
    }

    /// Waits until there is a place for one more. `None`: there never will be.
    pub(super) async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        self.all.clone().acquire_owned().await.ok()
    }

    /// The place of a connection from `peer`, or `of_all` back: its address has its share.
    pub(super) fn take(&self, of_all: OwnedSemaphorePermit, peer: SocketAddr) -> Result<Slot, OwnedSemaphorePermit> {
        match Addresses::take(&self.addresses, network(peer.ip())) {
            Some(share) => Ok(Slot { _of_all: of_all, _of_address: share }),
            None => {
                self.refuse(peer);
                Err(of_all)
            }
        }
    }

    fn refuse(&self, peer: SocketAddr) {
        self.refused.increment(1);
        let mut told = locked(&self.told);
        if let Some((last, unnamed)) = told.as_mut()
            && last.elapsed() < TELL_EVERY
        {
            *unnamed += 1;
            return;
        }
        let unnamed = told.replace((Instant::now(), 0)).map_or(0, |(_, unnamed)| unnamed);
        drop(told);
        let limit = self.addresses.most;
        tracing::info!(bridge = %self.bridge, %peer, limit, unnamed, "connection refused: its address has as many as one may have");
    }
}

// === impl Addresses ===

impl Addresses {
    fn take(of: &Arc<Self>, address: IpAddr) -> Option<Share> {
        let mut open = locked(&of.open);
        let count = open.entry(address).or_insert(0);
        // one that has none is below any bound
        if *count >= of.most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Share { addresses: of.clone(), address })
    }
}

// === impl Share ===

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = locked(&self.addresses.open);
        if let Entry::Occupied(mut count) = open.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What counts as one address: of IPv6 its /64, which is what one peer has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(slots: &Slots, peer: &str) -> Option<Slot> {
        let of_all = slots.all.clone().try_acquire_owned().unwrap();
        slots.take(of_all, SocketAddr::new(peer.parse().unwrap(), 1)).ok()
    }

    #[test]
    fn an_address_has_its_share_and_nobody_elses() {
        let slots = Slots::new("web", 5, 2);
        let (first, second) = (take(&slots, "192.0.2.1"), take(&slots, "192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(take(&slots, "192.0.2.1").is_none() && take(&slots, "::ffff:192.0.2.1").is_none());
        assert_eq!(slots.all.available_permits(), 3, "one that was refused takes no place of all");
        let other = take(&slots, "192.0.2.2");
        assert!(other.is_some());
        drop(first);
        assert!(take(&slots, "192.0.2.1").is_some());
        drop((second, other));
        assert!(locked(&slots.addresses.open).is_empty(), "an address that has none takes no memory");
        assert_eq!(slots.all.available_permits(), 5);
    }

    #[test]
    fn an_ipv6_address_stands_for_its_64() {
        let slots = Slots::new("web", 5, 1);
        let _first = take(&slots, "2001:db8:0:1::1").unwrap();
        assert!(take(&slots, "2001:db8:0:1:ffff:ffff:ffff:ffff").is_none());
        assert!(take(&slots, "2001:db8:0:2::1").is_some());
    }

    #[test]
    fn without_a_word_an_address_has_a_quarter_but_not_too_few() {
        let all = [1, 63, 64, 65, 255, 256, 260, 1_024, 10_000];
        assert_eq!(all.map(share_of), [1, 63, 64, 64, 64, 64, 65, 256, 2_500]);
    }
}
