//! Where envelopes live: the durable log, its subscriptions and the conservation ledger.
//!
//! [`Backbone`] is the seam; [`Embedded`] keeps everything in a folder of this gateway. It stores what policy has
//! [`Admitted`] and nothing else, and knows no protocol, no mapping and no policy.

mod ages;
mod ahead;
mod answers;
mod attach;
mod backlog;
pub mod care;
mod codec;
mod config;
mod dead;
mod dedup;
mod early;
mod embedded;
mod engine;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod group;
mod hash;
mod index;
mod keys;
mod last;
mod ledger;
mod orders;
mod owners;
mod position;
mod prepare;
mod pull;
mod query;
mod queue;
mod record;
mod registry;
mod reopen;
mod report;
mod retention;
mod shared;
mod snapshot;
mod space;
mod state;
mod store;
mod subscription;
mod tail;
mod times;
mod verify;
mod writer;

use std::sync::Arc;

use envelope::{
    Admission, Admitted, Batch, Deliveries, Filter, KeyValue, LastValues, Ledger, Position, Rejection, Subscribe,
    Topic, Verdicts,
};
use futures_util::future::BoxFuture;

pub use config::{DeadLetterQuota, DedupWindow, EmbeddedConfig, KeyQuota, MinFree, OpenError, Retention};
pub use dead::{DeadContent, DeadLetter};
pub use embedded::Embedded;
pub use owners::{Subscriber, SubscriptionQuota};
pub use query::{Match, Page, Query};
pub use report::{BridgeCounts, ByKind, LastRefusal, LedgerReport, RouteCounts, StoreCounts, SubscriptionCounts};
pub use verify::Verified;

/// A durable log with subscriptions that are pulled with credit, explicit settlements and opaque positions.
pub trait Backbone: Send + Sync {
    /// Stores the batch's groups in order, and answers once each route's ack point is reached: one verdict a message,
    /// or one rejection for all of them. A message that is stored already gets the original's receipt.
    fn publish(&self, batch: Batch<Admitted>) -> BoxFuture<'static, Result<Verdicts<Admission>, Rejection>>;

    /// Opens a subscription for the gateway itself: as [`Self::subscribe_for`], and no principal's quota bounds it.
    fn subscribe(&self, what: Subscribe) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
        self.subscribe_for(Subscriber::Gateway, what)
    }

    /// Opens a subscription. A durable name that exists resumes where it was settled and ignores `start`; it is refused to who
    /// is not its owner.
    fn subscribe_for(
        &self,
        who: Subscriber,
        what: Subscribe,
    ) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>>;

    /// Last values of the topics that `filter` selects, behind `after`: at most `most` and never over 1,024. A page may have
    /// fewer, or none, and say that there are more.
    fn last(
        &self,
        filter: Filter,
        after: Option<Topic>,
        most: usize,
    ) -> BoxFuture<'static, Result<LastValues, Rejection>>;

    /// How many topics have a last value.
    fn last_values(&self) -> u64;

    /// A page of the stored envelopes that `query` looks for; each page has bounded work.
    fn query(&self, query: Query) -> BoxFuture<'static, Result<Page, Rejection>>;

    /// The keys of the owner of this name.
    fn keys(&self, owner: &str) -> Arc<dyn KeyValue>;

    /// Where bridges and the Account layer count; what they count rides with the next group commit.
    fn ledger(&self) -> Arc<dyn Ledger>;

    /// What a durable subscription knows of the envelope at this position, which was stored on this topic; `None` if there
    /// is no such subscription, or the position is none.
    fn standing(&self, durable: &str, topic: &Topic, position: &Position) -> Option<Standing>;

    /// Dead letters behind the number `after`, in order: at most `most`, and about a MiB of them.
    fn dead_letters(&self, after: u64, most: usize) -> BoxFuture<'static, Result<Vec<DeadLetter>, Rejection>>;

    /// Keeps a dead letter, whatever its `id` says; `false` if a quota is used up. Once it answers, the letter is durable.
    fn bury(&self, letter: DeadLetter) -> BoxFuture<'static, Result<bool, Rejection>>;

    /// Drops dead letters; answers how many of them there were.
    fn drop_dead_letters(&self, ids: Vec<u64>) -> BoxFuture<'static, Result<usize, Rejection>>;

    /// Has its subscription deliver a dead letter's envelope again, through everything that a delivery passes; the letter goes.
    /// `false` if there is none of this number. Refused with [`Conflict`](envelope::RejectKind::Conflict) where that can't be.
    fn replay_dead_letter(&self, id: u64) -> BoxFuture<'static, Result<bool, Rejection>>;

    /// Ends a durable subscription with all that is pending for it; `false` if there is none of this name. Its consumer, if
    /// there is one, hears of it.
    fn drop_subscription(&self, name: &str) -> BoxFuture<'static, Result<bool, Rejection>>;

    /// All counters at this moment.
    fn report(&self) -> LedgerReport;

    /// Whether publishes are taken.
    fn status(&self) -> Status;

    /// Stores everything that is queued and the last counters, then refuses. Idempotent.
    fn close(&self) -> BoxFuture<'static, Result<(), Rejection>>;
}

/// What a durable subscription knows of a stored envelope. It counts what was not delivered, and does not keep which it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is not done with it.
    Pending,
    /// It is done with it, and with nothing in any other way than as delivered.
    Delivered,
    /// It is done with it, whatever became of it.
    Done,
    /// It does not select it, or began to only after it was stored.
    NotSelected,
}

/// Whether a backbone takes publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Ready,
    /// It does not, and why: a sentence for people. Reads go on where they can.
    Refusing(String),
}

#[cfg(test)]
mod tests;
