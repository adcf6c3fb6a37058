//! The seams between the crates, handed out by the gateway.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tower::util::BoxCloneSyncService;

use crate::{
    Admission, Admitted, Batch, Delivery, Envelope, Filter, Inbound, Lane, Mapped, Outbound, Position, Principal, Qos,
    Reached, RejectKind, Rejection, Route, Taken, Terms, Ticket, Timestamp, Topic, Verdicts,
};

/// Protocol to mesh: the whole ingress stack. One verdict a message, in the batch's order.
pub type Ingress = BoxCloneSyncService<Batch<Inbound>, Verdicts<Admission>, Rejection>;
/// Mesh to protocol: what a bridge sends.
pub type Sink = BoxCloneSyncService<Batch<Outbound>, Verdicts<Taken>, Rejection>;
/// What ends the ingress stack: the backbone behind its boundary.
pub type Store = BoxCloneSyncService<Batch<Admitted>, Verdicts<Admission>, Rejection>;

/// What happens to what a bridge brings when too much is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The peer pushes and hears at once that it is too much: [`RejectKind::Overloaded`].
    Push,
    /// The bridge pulls, and waits until the stack is ready.
    Pull,
}

/// Where a subscription begins. A durable one that exists already resumes instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With what is stored from now on.
    New,
    /// With the oldest envelope still stored.
    Earliest,
    /// With the one after this position.
    After(Position),
    /// As [`Start::After`]; of a durable one that exists too, wherever that was: its consumer has everything up to here, and what
    /// was settled behind it is delivered again.
    Again(Position),
    /// With the first one that was admitted at this time or later, in the order of the log.
    Time(Timestamp),
    /// With the last value of each topic, in the topics' order, then with what is stored from the moment on that these are
    /// of: no gap, no repeat, and no step back on any topic. Not for a durable name: what a consumer would be handed
    /// after a restart is older than the values.
    Last,
}

/// Some of the last values, in the order of their topics.
#[derive(Debug, Clone, Default)]
pub struct LastValues {
    /// They need not be settled.
    pub values: Vec<Delivery>,
    /// There may be more behind this topic.
    pub next: Option<Topic>,
}

/// What a subscriber asks for.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// At least one; an envelope that several match is delivered once.
    pub filters: Vec<Filter>,
    /// Where to begin.
    pub start: Start,
    /// The name under which the position is kept over disconnects and restarts. One consumer at a time: the
    /// newest takes over, the one before it gets [`RejectKind::Conflict`].
    pub durable: Option<Arc<str>>,
    /// The most deliveries that may be unsettled at a time.
    pub credit: u32,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The peer took it, in its own terms.
    Delivered,
    /// Nothing of it is to be sent: the mapping that sends says so.
    LeftOut,
    /// To be delivered again, not before `after` has passed.
    Again {
        /// Zero for at once.
        after: Duration,
    },
    /// Egress policy refused it for good.
    Refused(RejectKind),
    /// It can't be delivered.
    DeadLettered(RejectKind),
}

/// The mesh as a connected peer may read it: every delivery has passed egress policy for the principal.
pub trait Outlet: Send + Sync {
    /// Opens a subscription. Refused if policy does not let the principal read a filter.
    fn open(
        &self,
        principal: Arc<Principal>,
        what: Subscribe,
    ) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>>;

    /// Refused if policy does not let the principal read the filter.
    fn may_open(&self, principal: &Arc<Principal>, filter: &Filter) -> Result<(), Rejection>;

    /// Opens a subscription that several subscribers share; it counts with `begun_by`, one of them. Nothing that it delivers has passed policy: each delivery has to
    /// [`pass`](Self::pass) for the one of them who is to get it.
    fn open_shared(
        &self,
        begun_by: &Arc<Principal>,
        what: Subscribe,
    ) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>>;

    /// Egress policy for one of those who share a subscription: a verdict a delivery, in order. Refused as a whole if policy
    /// does not let the principal read the filter any more.
    fn pass(
        &self,
        principal: Arc<Principal>,
        filter: Filter,
        deliveries: Batch<Delivery>,
    ) -> BoxFuture<'static, Result<Verdicts<Delivery>, Rejection>>;

    /// Last values of the topics that `filter` selects, behind `after`: at most `most` of them and never over 1,024. A page
    /// may have fewer than were asked for, or none, and say that there are more: what has expired and what the principal may
    /// not read is not in it. Refused if policy does not let the principal read the filter.
    fn last(
        &self,
        principal: Arc<Principal>,
        filter: Filter,
        after: Option<Topic>,
        most: usize,
    ) -> BoxFuture<'static, Result<LastValues, Rejection>>;

    /// How many topics have a last value.
    fn last_values(&self) -> u64;

    /// What mappings show to those who subscribe to addresses of this bridge, by the epoch that decides now.
    fn shown(&self) -> Arc<[Shown]>;

    /// What one of them makes of a delivery that has passed policy, by the epoch that decides now. `None`: nothing is to be
    /// seen of it.
    fn show(&self, route: &Route, delivery: &Delivery) -> Result<Option<Outbound>, Rejection>;

    /// Pending until another epoch decides than when this was asked.
    fn changed(&self) -> BoxFuture<'static, ()>;

    /// Whether a message that its client leaves to be sent later, as a will is, may be on disk until then: `false` for one
    /// that its sender may not send, whose data may not be here, or that no mapping takes. It is decided on anew when it is sent.
    fn may_keep(&self, message: Inbound) -> bool;

    /// Ends what a durable name stands for, with all that is pending for it: whose it was comes back for it no more. `false`
    /// if there is none of this name. Once it answers, it is gone from disk.
    fn end(&self, durable: &str) -> BoxFuture<'static, Result<bool, Rejection>>;
}

/// The promises of receipts, for who has made them to a peer.
pub trait Promises: Send + Sync {
    /// Waits until the promise is kept or broken, at most as long as its mapping says. To be awaited once, outside of the
    /// stack: nothing of it is held meanwhile.
    fn reached(&self, ticket: Ticket) -> BoxFuture<'static, Reached>;
}

/// An open subscription. At most `credit` deliveries are unsettled at any time; settling gives credit back.
/// Dropping it leaves a durable one where it was settled, and what was handed out unsettled is delivered again.
pub trait Deliveries: Send {
    /// Waits for deliveries, in order of storage but for redeliveries; pending while there is no credit.
    /// Cancel safe: dropping the future loses nothing. An error ends the subscription.
    fn next(&mut self) -> BoxFuture<'_, Result<Batch<Delivery>, Rejection>>;

    /// Settles deliveries; once it answers, what was settled is durable. Unknown or settled positions are ignored.
    fn settle(&mut self, settled: Vec<(Position, Settlement)>) -> BoxFuture<'_, Result<(), Rejection>>;

    /// Whether something is gone of what was stored behind the position that it began with. At first nothing is.
    fn has_gap(&self) -> bool {
        false
    }

    /// Raises the credit.
    fn grant(&mut self, more: u32);

    /// Whether envelopes may be handed out before they are on disk, from now on: for a subscriber that was promised nothing
    /// and is shown no position. After a failure of the disk it may have seen what is not stored. Without effect on a durable
    /// subscription; at first no one is early.
    fn early(&mut self, early: bool);
}

/// What a peer proves itself with. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// The value of an HTTP `Authorization` header.
    Authorization(Bytes),
    /// The client certificate of a TLS connection, in DER, whose chain the listener has verified. Where a request brings
    /// an `Authorization` header as well, the header is what counts.
    Certificate(Bytes),
    /// A name and what proves it, as MQTT's CONNECT has them: a password, or in its place an API key, or a token without a
    /// name.
    Password {
        /// Empty where there is none.
        name: Arc<str>,
        /// Any bytes.
        password: Bytes,
    },
}

/// Credentials to principal; used by every listener.
pub trait Authenticator: Send + Sync {
    /// Refuses with [`RejectKind::Unauthenticated`]; with a Retry where it can't tell now, or where too much was tried
    /// from `peer`.
    fn verify(
        &self,
        credentials: Credentials,
        peer: Option<IpAddr>,
    ) -> BoxFuture<'static, Result<Arc<Principal>, Rejection>>;

    /// Pending for as long as the principal of an open connection is let in; then why it is not any more: its
    /// credentials have ended, or were revoked or changed. The connection is then to be closed.
    fn ended(&self, principal: Arc<Principal>) -> BoxFuture<'static, Rejection>;
}

/// Inbound to envelopes, by the mapping files of one epoch. Pure.
pub trait Mapper: Send + Sync {
    /// An inbound is taken by exactly one file.
    fn map(&self, inbound: Inbound) -> MapResult;

    /// What the mapping of a verdict's route promises, for a bridge that answers in the mapping's words. `None`: there is no
    /// such mapping in this epoch.
    fn terms(&self, _route: &Route) -> Option<&Arc<Terms>> {
        None
    }

    /// Whether any of its mappings has a [`reply`](Terms::reply).
    fn replies(&self) -> bool {
        false
    }

    /// Whether any mapping keeps what does not conform as a dead letter.
    fn buries(&self) -> bool {
        false
    }

    /// What is known, without its payload, of every envelope that the mapping of this route would make of a message; the
    /// data is empty. `None`: nothing that could be decided on.
    fn head(&self, _route: &Route, _inbound: &Inbound) -> Option<Envelope> {
        None
    }
}

/// A message as its protocol brought it, for whoever keeps what could not be taken. `Debug` shows no payload.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadMessage {
    /// When it was decoded.
    pub at: Timestamp,
    /// The bridge that brought it.
    pub bridge: Arc<str>,
    /// The protocol's own address.
    pub address: Arc<str>,
    /// Who sent it.
    pub principal: Arc<str>,
    /// The protocol's name for it, if it has one.
    pub identity: Option<Bytes>,
    /// What was sent.
    pub payload: Bytes,
    /// The payload may be kept here, and with it what was said of it; else no more than its size and its hash.
    pub may_be_kept: bool,
}

/// Keeps messages that a mapping could make nothing of.
pub trait DeadLetters: Send + Sync {
    /// Keeps one that was refused on this route; `false` if a quota is used up. Once it answers, the letter is durable.
    fn bury(
        &self,
        message: DeadMessage,
        route: &Route,
        rejection: &Rejection,
    ) -> BoxFuture<'static, Result<bool, Rejection>>;
}

/// What MAPPING says of one inbound.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "mapped is the common case: a box would be an allocation a message")]
pub enum MapResult {
    /// It became envelopes.
    Mapped(Mapped),
    /// To be acked without being stored.
    Filtered(Route),
    /// Refused, by the file that takes it if one does.
    Refused(Option<Route>, Rejection),
}

/// A mapping by which those who subscribe to a bridge's addresses see envelopes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The mapping.
    pub route: Route,
    /// The topics that it takes envelopes from.
    pub topic: Filter,
    /// The segments of its address; `None` where each envelope says what stands there.
    pub address: Vec<Option<String>>,
    /// How surely subscribers get it at most; as they ask for if left out.
    pub qos: Option<Qos>,
}

/// Delivery to what a bridge sends, by the egress mapping files of one epoch. Pure.
pub trait EgressMapper: Send + Sync {
    /// What it shows to those who subscribe to addresses of a bridge.
    fn shown(&self, _bridge: &str) -> Arc<[Shown]> {
        Arc::default()
    }

    /// `None`: nothing is to be sent.
    fn map(&self, route: &Route, delivery: &Delivery) -> Result<Option<Outbound>, Rejection>;

    /// What the delivery is kept in order with on its way out: what has the mapping's own key, else what it is in order
    /// with in the mesh.
    fn lane(&self, _route: &Route, delivery: &Delivery) -> Lane {
        delivery.lane
    }
}

// === impl Shown ===

impl Shown {
    /// Whether an address of this form can be one that a filter of addresses selects.
    pub fn may_be_at(&self, addresses: &Filter) -> bool {
        let mut segments = self.address.iter();
        for pattern in addresses.segments() {
            match (pattern, segments.next()) {
                ("#", _) => return true,
                ("+", Some(_)) | (_, Some(None)) => {}
                (pattern, Some(Some(segment))) if pattern == segment => {}
                (_, _) => return false,
            }
        }
        segments.next().is_none()
    }
}

// === impl DeadMessage ===

impl fmt::Debug for DeadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadMessage")
            .field("bridge", &self.bridge)
            .field("address", &self.address)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

// === impl Credentials ===

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Authorization(_) => f.write_str("Authorization(***)"),
            Self::Certificate(_) => f.write_str("Certificate(***)"),
            Self::Password { .. } => f.write_str("Password(***)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_of_addresses_may_select_what_is_shown_where_nothing_of_it_differs() {
        let address = ["plant", "", "temp"].map(|part| (!part.is_empty()).then(|| part.to_owned())).into();
        let topic = Filter::new("telemetry/#").expect("a filter");
        let shown = Shown { route: Route::new("m", "1"), topic, address, qos: None };
        for (filter, may) in [
            ("plant/7/temp", true),
            ("plant/+/temp", true),
            ("plant/#", true),
            ("#", true),
            ("plant/7/temp/#", true),
            ("plant/7", false),
            ("plant/7/speed", false),
            ("plant/7/temp/x", false),
            ("other/#", false),
        ] {
            assert_eq!(shown.may_be_at(&Filter::new(filter).expect("a filter")), may, "{filter}");
        }
    }
}
