//! A gateway without a pipeline: the stack answers what the test says, the ledger can be read and waited for.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use envelope::{
    Admission, Audit, Authenticator, Batch, Credentials, EnvelopeId, Inbound, Ingress, Ledger, Position, Principal,
    Promises, Reached, Receipt, RejectKind, Rejection, Route, Settled, Ticket, Verdict, Verdicts,
};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::service_fn;

use super::{FakeKeys, FakeOutlet, HARD_TIMEOUT};
use crate::{BridgeConfig, SourceContext, Standings, room::ByteRoom};

/// What the bridge has counted, and what the stack has seen of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages, counted at decode.
    pub received: u64,
    /// Given back to the peer.
    pub returned: Vec<RejectKind>,
    /// Refused by the bridge itself.
    pub refused: Vec<RejectKind>,
    /// Put on record by the bridge itself.
    pub on_record: Vec<RejectKind>,
    /// Messages that were offered to the stack, each offer counted.
    pub offered: u64,
}

type Script = Box<dyn FnMut(&Inbound) -> Result<Admission, Rejection> + Send>;

/// A running bridge and the fakes around it.
#[derive(Debug)]
pub struct Rig {
    addresses: Vec<SocketAddr>,
    fakes: Arc<Fakes>,
    /// What subscribers get.
    pub outlet: Arc<FakeOutlet>,
    /// What the bridge keeps.
    pub keys: Arc<FakeKeys>,
    bytes: ByteRoom,
    /// The addresses that mappings take.
    pub addresses_taken: watch::Sender<Arc<[String]>>,
    /// How the bridge's own connections stand.
    pub standings: Standings,
    drain: CancellationToken,
    tasks: TaskTracker,
}

struct Fakes {
    counts: watch::Sender<Counts>,
    /// Batches as they were offered.
    seen: Mutex<Vec<Vec<Inbound>>>,
    script: Mutex<Script>,
    released: watch::Sender<bool>,
    /// Principals that are let in no more.
    revoked: watch::Sender<Vec<String>>,
    stored: Mutex<u64>,
}

const BYTES: u32 = 4 << 20;

// === impl Rig ===

impl Rig {
    /// Starts a bridge. The stack stores everything until [`Rig::answer`] says otherwise.
    ///
    /// # Panics
    /// If the bridge has no source or can't bind.
    pub async fn start(config: &dyn BridgeConfig) -> Self {
        Self::start_with(config, Arc::default()).await
    }

    /// Another bridge with the keys of this one, as after a crash: nothing else of this one is known to it.
    ///
    /// # Panics
    /// If the bridge has no source or can't bind.
    pub async fn restart(&self, config: &dyn BridgeConfig) -> Self {
        Self::start_with(config, self.keys.clone()).await
    }

    async fn start_with(config: &dyn BridgeConfig, keys: Arc<FakeKeys>) -> Self {
        let (rig, cx) = Self::seams(keys);
        let Some(mut source) = config.build("web").source else { panic!("the bridge has no source") };
        let addresses = match source.bind().await {
            Ok(addresses) => addresses,
            Err(error) => panic!("the bridge does not start: {error}"),
        };
        rig.tasks.spawn(source.run(cx));
        Self { addresses, ..rig }
    }

    /// The fakes alone, for whoever runs a part of a bridge by itself.
    pub fn unbound() -> (Self, SourceContext) {
        Self::seams(Arc::default())
    }

    fn seams(keys: Arc<FakeKeys>) -> (Self, SourceContext) {
        let fakes = Arc::new(Fakes::new());
        let outlet = Arc::new(FakeOutlet::default());
        let (bytes, drain, tasks) = (ByteRoom::new(BYTES as usize), CancellationToken::new(), TaskTracker::new());
        let (addresses_taken, standings) =
            (watch::Sender::new(Arc::from(["telemetry/+".to_owned()])), Standings::default());
        let cx = SourceContext {
            bridge: "web".into(),
            ingress: fakes.clone().ingress(),
            outlet: outlet.clone(),
            keys: keys.clone(),
            remembers: Duration::from_secs(24 * 3_600),
            principal: Arc::new(Principal::new("$bridge:web", "test")),
            addresses: addresses_taken.subscribe(),
            standings: standings.clone(),
            promises: fakes.clone(),
            authenticator: fakes.clone(),
            ledger: fakes.clone(),
            audit: fakes.clone(),
            bytes: bytes.clone(),
            drain: drain.clone(),
            tasks: tasks.clone(),
        };
        let addresses = Vec::new();
        (Self { addresses, fakes, outlet, keys, bytes, addresses_taken, standings, drain, tasks }, cx)
    }

    /// Every task of the bridge.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Where the bridge listens; nowhere, if it asks a peer for messages.
    pub fn address(&self) -> SocketAddr {
        self.addresses.first().copied().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// All of where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The stack answers so from now on.
    pub fn answer(&self, script: impl FnMut(&Inbound) -> Result<Admission, Rejection> + Send + 'static) {
        *lock(&self.fakes.script) = Box::new(script);
    }

    /// The principal of this name is let in no more; open connections hear of it.
    pub fn revoke(&self, principal: &str) {
        self.fakes.revoked.send_modify(|revoked| revoked.push(principal.to_owned()));
    }

    /// The stack answers nothing until [`Rig::release`].
    pub fn hold(&self) {
        self.fakes.released.send_replace(false);
    }

    /// The stack answers again.
    pub fn release(&self) {
        self.fakes.released.send_replace(true);
    }

    /// Takes all bytes in flight; they come back with the permit.
    pub fn fill(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let all = |bytes: u32, of: usize| self.bytes.of(of).try_acquire_many_owned(bytes).ok();
        Some([all(BYTES, BYTES as usize)?, all(BYTES / 4, 0)?])
    }

    /// Whether no byte is in flight.
    pub fn is_empty(&self) -> bool {
        self.bytes.of(BYTES as usize).available_permits() == BYTES as usize
            && self.bytes.of(0).available_permits() == BYTES as usize / 4
    }

    /// Waits until a body is being read.
    ///
    /// # Panics
    /// If none ever is.
    pub async fn until_in_flight(&self) {
        let begun = async {
            while self.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(HARD_TIMEOUT, begun).await.is_ok(), "no body is read");
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.fakes.counts.borrow().clone()
    }

    /// The batches that were offered so far.
    pub fn seen(&self) -> Vec<Vec<Inbound>> {
        lock(&self.fakes.seen).clone()
    }

    /// Waits until the counts are so.
    ///
    /// # Panics
    /// If they never are.
    pub async fn until(&self, so: impl FnMut(&Counts) -> bool) {
        let mut counts = self.fakes.counts.subscribe();
        let waited = timeout(HARD_TIMEOUT, counts.wait_for(so)).await;
        assert!(waited.is_ok(), "the counts stay {:?}", self.counts());
    }

    /// Begins the drain.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Drains and waits until every task has ended.
    ///
    /// # Panics
    /// If one never does.
    pub async fn stop(&self) {
        self.drain();
        self.tasks.close();
        let ended = timeout(HARD_TIMEOUT, self.tasks.wait()).await;
        assert!(ended.is_ok(), "{} tasks do not end", self.tasks.len());
        assert!(self.is_empty(), "bytes stay in flight");
    }
}

// === impl Fakes ===

impl Fakes {
    fn new() -> Self {
        Self {
            counts: watch::Sender::default(),
            seen: Mutex::default(),
            script: Mutex::new(Box::new(|inbound| Ok(stored(inbound)))),
            released: watch::Sender::new(true),
            revoked: watch::Sender::default(),
            stored: Mutex::default(),
        }
    }

    fn ingress(self: Arc<Self>) -> Ingress {
        Ingress::new(service_fn(move |batch| Self::take(self.clone(), batch)))
    }

    async fn take(self: Arc<Self>, batch: Batch<Inbound>) -> Result<Verdicts<Admission>, Rejection> {
        lock(&self.seen).push(batch.as_slice().to_vec());
        self.counts.send_modify(|counts| counts.offered += batch.len() as u64);
        // the sender is here
        _ = self.released.subscribe().wait_for(|released| *released).await;
        let mut script = lock(&self.script);
        let answer = |inbound| Verdict { route: None, answer: self.number(script(&inbound)) };
        Ok(batch.into_vec().into_iter().map(answer).collect())
    }

    /// Positions count up from 1.
    fn number(&self, answer: Result<Admission, Rejection>) -> Result<Admission, Rejection> {
        let Ok(Admission::Stored(mut receipt)) = answer else { return answer };
        let mut stored = lock(&self.stored);
        *stored += 1;
        receipt.position = Some(Position(Bytes::copy_from_slice(&stored.to_be_bytes())));
        Ok(Admission::Stored(receipt))
    }
}

impl std::fmt::Debug for Fakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fakes").field("counts", &*self.counts.borrow()).finish_non_exhaustive()
    }
}

impl Ledger for Fakes {
    fn received(&self, _: &str, messages: u64) {
        self.counts.send_modify(|counts| counts.received += messages);
    }

    fn refused(&self, _: &str, _: Option<&Route>, rejection: &Rejection) {
        self.counts.send_modify(|counts| counts.refused.push(rejection.kind));
    }

    fn passed(&self, _: &str, _: &Route) {}

    fn filtered(&self, _: &str, _: &Route) {}

    fn returned(&self, _: &str, kind: RejectKind) {
        self.counts.send_modify(|counts| counts.returned.push(kind));
    }
}

impl Promises for Fakes {
    /// Ticket 0 is kept, 1 is broken, all others are late.
    fn reached(&self, ticket: Ticket) -> BoxFuture<'static, Reached> {
        let reached = match ticket.0 {
            0 => Reached::Yes,
            1 => Reached::Never,
            _ => Reached::Late,
        };
        Box::pin(std::future::ready(reached))
    }
}

impl Audit for Fakes {
    fn refused(&self, rejection: &Rejection, _: Option<&Arc<Principal>>, _: Option<std::net::IpAddr>) {
        self.counts.send_modify(|counts| counts.on_record.push(rejection.kind));
    }
}

impl Authenticator for Fakes {
    /// Everybody is anonymous, but for `certificate`, who has one, for who brings a name and a password, and for `Bearer <name>`,
    /// who is that name. Who says `wrong` for a secret is nobody.
    fn verify(
        &self,
        credentials: Credentials,
        _: Option<IpAddr>,
    ) -> BoxFuture<'static, Result<Arc<Principal>, Rejection>> {
        let mut principal = Principal::anonymous("test");
        let known = match &credentials {
            Credentials::None => true,
            Credentials::Certificate(_) => {
                principal.id = "certificate".into();
                true
            }
            Credentials::Password { name, password } => {
                principal.id = name.clone();
                **password != *b"wrong"
            }
            Credentials::Authorization(value) => match value.strip_prefix(b"Bearer ") {
                None | Some(b"wrong") => false,
                Some(name) => {
                    principal.id = String::from_utf8_lossy(name).into();
                    true
                }
            },
        };
        let unknown = || Rejection::new(RejectKind::Unauthenticated, "authenticated", "the credentials are not valid");
        Box::pin(std::future::ready(if known { Ok(Arc::new(principal)) } else { Err(unknown()) }))
    }

    /// When the test revokes it.
    fn ended(&self, principal: Arc<Principal>) -> BoxFuture<'static, Rejection> {
        let mut revoked = self.revoked.subscribe();
        Box::pin(async move {
            // the sender lives as long as the rig: its end is the end of the test
            _ = revoked.wait_for(|revoked| revoked.iter().any(|id| **id == *principal.id)).await;
            Rejection::new(RejectKind::Unauthenticated, "authenticated", "the credentials were revoked or changed")
        })
    }
}

/// The yes to a message.
pub fn stored(inbound: &Inbound) -> Admission {
    let parts = envelope::IdentityParts { domain: "test", bridge: "web", principal: "anonymous", route: "test" };
    let id: EnvelopeId = inbound.identity.envelope_id(parts);
    Admission::Stored(Receipt { id, position: None, duplicate: false, settled: Settled::Now, reply: None })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
