//! What a bridge is: the types that every protocol's folder implements and the gateway wires.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use envelope::{
    Admission, Audit, Authenticator, Batch, Disposition, Flow, Inbound, Ingress, KeyValue, Ledger, Outlet, Principal,
    Promises, RejectKind, Rejection, Sink, Verdict, Verdicts,
};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{Standings, room::ByteRoom, tls::TlsError};

/// The seams a source works with, handed out by the gateway. Cheap to clone.
#[derive(Clone)]
pub struct SourceContext {
    /// The bridge's name in the config: a ledger key and metric label.
    pub bridge: Arc<str>,
    /// The ingress stack. Clone it for each batch: a refused call keeps its permit until its clone is dropped.
    pub ingress: Ingress,
    /// What connected peers subscribe through.
    pub outlet: Arc<dyn Outlet>,
    /// What the bridge is called as a sender, where its peers do not say who they are.
    pub principal: Arc<Principal>,
    /// The addresses that mappings of this bridge take by the configuration in force, `+` where any segment may stand.
    pub addresses: watch::Receiver<Arc<[String]>>,
    /// Where it says how the connections stand that it makes.
    pub standings: Standings,
    /// The bridge's own small durable state, written in the steps that store messages.
    pub keys: Arc<dyn KeyValue>,
    /// For how long the store knows a message that comes again.
    pub remembers: Duration,
    /// What receipts promise beyond the store.
    pub promises: Arc<dyn Promises>,
    /// Credentials to principal.
    pub authenticator: Arc<dyn Authenticator>,
    /// Counts what never reaches the store.
    pub ledger: Arc<dyn Ledger>,
    /// Room for bodies that are being read or are in flight, over all bridges. The gateway makes it no smaller than the
    /// largest [`BridgeConfig::max_message_bytes`].
    pub bytes: ByteRoom,
    /// Puts on record what the bridge refuses by itself.
    pub audit: Arc<dyn Audit>,
    /// Cancelled when the source is to take nothing new.
    pub drain: CancellationToken,
    /// Every task of the bridge; the drain waits for it.
    pub tasks: TaskTracker,
}

/// The half of a bridge that brings messages in.
pub trait Source: Send {
    /// Claims what [`BridgeConfig::resources`] names, so that "address in use" is found before anything runs. Answers
    /// with the addresses that it listens on, which are known only now where the config says port 0.
    fn bind(&mut self) -> BoxFuture<'_, Result<Vec<SocketAddr>, BridgeError>>;

    /// Runs until the drain: afterwards nothing new is taken, and what is in flight settles in the tracker's tasks.
    /// Binds first if [`Source::bind`] was not called.
    fn run(self: Box<Self>, cx: SourceContext) -> BoxFuture<'static, Result<(), BridgeError>>;
}

/// What a config builds.
pub struct Bridge {
    /// Protocol to mesh, where the bridge does that.
    pub source: Option<Box<dyn Source>>,
    /// Mesh to protocol, where the bridge does that.
    pub sink: Option<Sink>,
    /// What the sink sends over, where it is not made for each message.
    pub link: Option<Box<dyn Link>>,
}

/// A connection that stands for as long as the gateway sends.
pub trait Link: Send {
    /// Runs until nothing more is to be sent.
    fn run(self: Box<Self>, cx: LinkContext) -> BoxFuture<'static, ()>;
}

/// What a [`Link`] works with.
#[derive(Clone)]
pub struct LinkContext {
    /// The bridge's name in the config.
    pub bridge: Arc<str>,
    /// What the bridge is called.
    pub principal: Arc<Principal>,
    /// The bridge's own small durable state, the same as its source's.
    pub keys: Arc<dyn KeyValue>,
    /// Where it says how the connection stands.
    pub standings: Standings,
    /// Cancelled when nothing new is sent; what is being sent is ended first.
    pub stop: CancellationToken,
}

/// What the user writes of a bridge, checked.
pub trait BridgeConfig: fmt::Debug + Send + Sync {
    /// Makes the bridge. Neither binds nor connects.
    fn build(&self, name: &str) -> Bridge;

    /// What it will claim, so that conflicts are found before start.
    fn resources(&self) -> Vec<Resource> {
        Vec::new()
    }

    /// How a URL of its listener begins.
    fn scheme(&self) -> &'static str {
        "tcp"
    }

    /// Whether peers off this host reach it, and it does not say that ones without credentials are meant to.
    fn exposed_to_anonymous(&self) -> bool {
        false
    }

    /// What it guarantees its peers.
    fn delivery(&self) -> Guarantees;

    /// Whether its peers push, or it pulls.
    fn flow(&self) -> Flow;

    /// How it is given what it sends; `None`: it sends nothing that a mapping makes.
    fn sending(&self) -> Option<Sending> {
        None
    }

    /// Whether it sends what an egress mapping makes.
    fn sends(&self) -> bool {
        self.sending().is_some()
    }

    /// Whether its peer may hand out to it what it has sent, with nothing on it that says where it has been. The mappings
    /// then have to see to it that nothing goes in a circle.
    fn hears_itself(&self) -> bool {
        false
    }

    /// Whether all messages at addresses of this form, `+` where any segment may stand, are its own: they are not taken in.
    fn is_own(&self, _address: &str) -> bool {
        false
    }

    /// Whether those who subscribe to its addresses see there what an egress mapping makes: nothing is sent by itself.
    fn shows(&self) -> bool {
        false
    }

    /// How long what peers subscribe to may wait in the store without a connection.
    fn waits_for(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether a mapping of this bridge may send to what the file writes as this address. The answer says what is wrong
    /// with it. Places that hold an expression are `{}`.
    fn check_address(&self, _address: &str) -> Result<(), String> {
        Ok(())
    }

    /// Whether messages may come by what a file writes as the addresses to take: `{name}` and `+` stand for any segment. The
    /// answer says what is wrong with it.
    fn check_source(&self, _address: &str) -> Result<(), String> {
        Ok(())
    }

    /// Whether it tells its peers what a mapping's `reply` says.
    fn replies(&self) -> bool {
        false
    }

    /// Whether its peers may ask that a message be taken exactly once: then what it brings is not to be lost in a crash.
    fn takes_exactly_once(&self) -> bool {
        false
    }

    /// What no mapping takes of it goes through one to one, below this topic; nothing does by default.
    fn one_to_one(&self) -> Option<&str> {
        None
    }

    /// The largest payload of one message, inclusive: the ingress stack refuses a larger one, whichever way it came.
    fn max_payload_bytes(&self) -> usize;

    /// The most of [`SourceContext::bytes`] that one message or batch takes.
    fn max_message_bytes(&self) -> usize;
}

/// How a bridge is given what it sends. What is kept in order with each other is in one call at a time, so the next one
/// waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// The most messages of a call; at least 1.
    pub max_batch: usize,
    /// The most calls of one mapping at a time; at least 1.
    pub max_calls: usize,
    /// For how long a message is offered again that the peer does not take. `None`: until it does, or the message expires.
    pub retry_for: Option<Duration>,
}

/// Something that only one bridge or listener of a host can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// A TCP port.
    Tcp(SocketAddr),
}

/// What a bridge guarantees its peers: shown by `openmesh check` and tested by the suite in `conformance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarantees {
    /// What the protocol keeps in order: the lane.
    pub ordered_within: &'static str,
    /// How the sender hears of the ack point.
    pub ack: &'static str,
    /// What makes a sender's retry a duplicate instead of a second message.
    pub identity: &'static str,
}

/// Why a bridge can't start or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The listener's address is taken or not of this host.
    #[error("can't listen on {address}")]
    Bind {
        /// The address of the config.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address is reachable from outside of this host, and nobody said that plain text is meant.
    #[error("refuses plain text on {0}, which is not loopback: add tls, or plain_text: true if others see to it")]
    PlainText(SocketAddr),
    /// TLS can't be had by the files that the config names.
    #[error("TLS of {address}")]
    Tls {
        /// The address of the config.
        address: SocketAddr,
        /// Why.
        source: Box<TlsError>,
    },
}

// === impl SourceContext ===

impl SourceContext {
    /// Counts decoded messages; once each.
    pub(crate) fn received(&self, messages: u64) {
        self.ledger.received(&self.bridge, messages);
    }

    /// Counts a message that the peer has to keep.
    pub(crate) fn returned(&self, kind: RejectKind) {
        self.ledger.returned(&self.bridge, kind);
    }

    /// Counts a refusal of a message that no layer of the stack has seen, and puts it on record.
    pub(crate) fn outside(&self, rejection: &Rejection, principal: Option<&Arc<Principal>>, peer: Option<IpAddr>) {
        self.audit.refused(rejection, principal, peer);
        match rejection.disposition() {
            Disposition::Final => self.ledger.refused(&self.bridge, None, rejection),
            Disposition::Retry => self.returned(rejection.kind),
        }
    }

    /// One call of the stack: a verdict a message. A stack that has no verdict to give refuses the whole batch.
    pub(crate) async fn call(&self, batch: Batch<Inbound>) -> Result<Verdicts<Admission>, Rejection> {
        let sent = batch.len();
        let verdicts = self.ingress.clone().oneshot(batch).await?;
        if verdicts.len() == sent {
            return Ok(verdicts);
        }
        tracing::error!(bridge = %self.bridge, sent, verdicts = verdicts.len(), "the stack lost count of a batch");
        Err(Rejection::new(RejectKind::Unavailable, "bridge", "the outcome is not known"))
    }

    /// As [`call`](Self::call), with the same answer to each message where the stack as a whole refuses.
    pub(crate) async fn verdicts(&self, batch: Batch<Inbound>) -> Vec<Verdict<Admission>> {
        let sent = batch.len();
        let first = batch.as_slice().first().map(|inbound| (inbound.principal.clone(), inbound.peer));
        let (principal, peer) = first.unzip();
        match self.call(batch).await {
            Ok(verdicts) => verdicts.into_iter().collect(),
            Err(rejection) => {
                if rejection.disposition() == Disposition::Final {
                    (0..sent).for_each(|_| self.outside(&rejection, principal.as_ref(), peer.flatten()));
                }
                (0..sent).map(|_| Verdict::no(rejection.clone())).collect()
            }
        }
    }
}

impl fmt::Debug for SourceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceContext").field("bridge", &self.bridge).finish_non_exhaustive()
    }
}

// === impl LinkContext ===

impl fmt::Debug for LinkContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkContext").field("bridge", &self.bridge).finish_non_exhaustive()
    }
}

// === impl Bridge ===

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, sink, link } = self;
        f.debug_struct("Bridge")
            .field("source", &source.is_some())
            .field("sink", &sink.is_some())
            .field("link", &link.is_some())
            .finish()
    }
}

// === impl Resource ===

impl Resource {
    /// Whether both can't be had at once. Port 0 is a free port, so it is in nobody's way.
    pub fn conflicts(&self, other: &Self) -> bool {
        let (Self::Tcp(a), Self::Tcp(b)) = (self, other);
        let any = a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && (any || a.ip() == b.ip())
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "TCP {address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> Resource {
        Resource::Tcp(address.parse().unwrap())
    }

    #[test]
    fn the_same_port_conflicts_and_a_free_port_never_does() {
        assert!(tcp("127.0.0.1:80").conflicts(&tcp("127.0.0.1:80")));
        assert!(tcp("0.0.0.0:80").conflicts(&tcp("127.0.0.1:80")));
        assert!(!tcp("127.0.0.2:80").conflicts(&tcp("127.0.0.1:80")));
        assert!(!tcp("127.0.0.1:81").conflicts(&tcp("127.0.0.1:80")));
        assert!(!tcp("127.0.0.1:0").conflicts(&tcp("127.0.0.1:0")));
    }
}
