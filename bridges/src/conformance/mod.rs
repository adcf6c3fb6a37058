//! What every bridge has to pass, whatever its protocol: the suite, and the fake gateway that it runs against.
//!
//! A bridge brings a [`Peer`] that speaks its protocol. Not here: what only a real broker can show (restarts,
//! partitions); that is in the end-to-end tests.

mod keys;
mod outlet;
mod rig;
mod sink;

use std::{net::SocketAddr, time::Duration};

use envelope::{RejectKind, Rejection};
use futures_util::future::BoxFuture;

pub use keys::FakeKeys;
pub use outlet::{FakeOutlet, Show, State, delivery};
pub use rig::{Counts, Rig, stored};
pub use sink::{Does, Receiver, outbound, run_sink, send};

use crate::BridgeConfig;

/// What a peer heard of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Yes, in its protocol's own terms.
    Taken,
    /// No, for good.
    Refused,
    /// Not now: the peer keeps it.
    GivenBack,
}

/// A client of the bridge under test.
pub trait Peer: Send + Sync {
    /// Connects, publishes one message that the bridge accepts as such, and waits for what it hears.
    fn publish(&self, bridge: SocketAddr, text: &'static str) -> BoxFuture<'static, Heard>;

    /// What it hears of a message that is refused for good: not every protocol has a word for that.
    fn hears_of_a_refusal(&self) -> Heard {
        Heard::Refused
    }
}

/// Nothing of the suite waits longer.
pub const HARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the suite. `config` is to give a message back after a second under Retry at most.
///
/// # Panics
/// With the rule that the bridge breaks.
pub async fn run(config: &dyn BridgeConfig, peer: &dyn Peer) {
    taken_is_counted_once_and_never_before_the_stack_says_so(config, peer).await;
    refused_is_final_and_nothing_is_given_back(config, peer).await;
    retry_ends_in_yes_or_in_given_back(config, peer).await;
    a_drain_loses_nothing(config, peer).await;
    full_means_that_nothing_is_read(config, peer).await;
}

async fn taken_is_counted_once_and_never_before_the_stack_says_so(config: &dyn BridgeConfig, peer: &dyn Peer) {
    let rig = Rig::start(config).await;
    rig.hold();
    let mut heard = peer.publish(rig.address(), "one");
    tokio::select! {
        biased;
        heard = &mut heard => panic!("the peer heard {heard:?} before the stack answered"),
        () = rig.until(|counts| counts.offered == 1) => {}
    }
    assert_eq!(rig.counts().received, 1, "received is counted at decode");
    rig.release();
    assert_eq!(heard.await, Heard::Taken);
    rig.stop().await;
    assert_eq!(rig.counts(), Counts { received: 1, offered: 1, ..Counts::default() });
}

async fn refused_is_final_and_nothing_is_given_back(config: &dyn BridgeConfig, peer: &dyn Peer) {
    let rig = Rig::start(config).await;
    rig.answer(|_| Err(Rejection::new(RejectKind::Malformed, "test", "not what it should be")));
    assert_eq!(peer.publish(rig.address(), "one").await, peer.hears_of_a_refusal());
    rig.stop().await;
    let counts = rig.counts();
    assert_eq!((counts.received, counts.returned.len()), (1, 0));
    assert_eq!(counts.refused, [], "Account counts what the stack refuses");
}

async fn retry_ends_in_yes_or_in_given_back(config: &dyn BridgeConfig, peer: &dyn Peer) {
    let rig = Rig::start(config).await;
    rig.answer(|_| Err(Rejection::new(RejectKind::Unavailable, "test", "the store is away")));
    assert_eq!(peer.publish(rig.address(), "one").await, Heard::GivenBack);
    rig.stop().await;
    let counts = rig.counts();
    assert_eq!(counts.received, 1, "an offer repeated is no second message");
    assert_eq!(counts.returned, [RejectKind::Unavailable]);
}

async fn a_drain_loses_nothing(config: &dyn BridgeConfig, peer: &dyn Peer) {
    let rig = Rig::start(config).await;
    rig.hold();
    let heard = peer.publish(rig.address(), "one");
    let drained = async {
        rig.until(|counts| counts.offered == 1).await;
        rig.drain();
        rig.release();
        rig.stop().await;
    };
    let (heard, ()) = tokio::join!(heard, drained);
    assert_eq!(heard, Heard::Taken, "what was in flight is answered");
    assert_eq!(rig.counts(), Counts { received: 1, offered: 1, ..Counts::default() });
}

async fn full_means_that_nothing_is_read(config: &dyn BridgeConfig, peer: &dyn Peer) {
    let rig = Rig::start(config).await;
    let all = rig.fill();
    let mut heard = peer.publish(rig.address(), "one");
    let refused = tokio::select! {
        heard = &mut heard => Some(heard),
        () = rig.until(|counts| counts.received == 1) => None,
    };
    assert_eq!(rig.counts().offered, 0, "full means wait or refuse");
    drop(all);
    match refused {
        Some(heard) => assert_eq!(heard, Heard::GivenBack),
        None => assert_eq!(heard.await, Heard::Taken),
    }
    rig.stop().await;
}
