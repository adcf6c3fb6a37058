//! What one load of the configuration decides with.

use std::{fmt, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use envelope::{Batch, Delivery, EgressMapper, Mapper, Outbound, Principal, RejectKind, Rejection, Route};
use schema::Schemas;
use tokio::sync::watch;

use crate::{Issuers, Labels, Policies, PolicyConfig, Users};

/// Mappings, schemas and policy of one load, validated together; never changed, only replaced as a whole.
pub struct Epoch {
    /// Raised with every load.
    pub number: u64,
    /// This gateway's domain.
    pub domain: Arc<str>,
    /// The mapping files.
    pub mapper: Arc<dyn Mapper>,
    /// The mapping files that send.
    pub sender: Arc<dyn EgressMapper>,
    /// The schemas that envelopes are held to.
    pub schemas: Arc<Schemas>,
    /// What `policy.yaml` says.
    pub access: PolicyConfig,
    /// Where this gateway is.
    jurisdictions: Labels,
    /// Who is known here.
    pub users: Users,
    /// Whose tokens are accepted.
    pub issuers: Issuers,
    /// Who may do what.
    pub policies: Arc<Policies>,
    /// Made once, not once a request.
    anonymous: Arc<Principal>,
}

/// The epoch that decides now. A reload stores another; batches in flight keep the one they began with. Cheap to clone;
/// all clones are one.
#[derive(Clone)]
pub struct Current(Arc<Held>);

struct Held {
    epoch: ArcSwap<Epoch>,
    /// Of the epoch's number: wakes whoever waits for another one.
    changes: watch::Sender<u64>,
}

/// No mapping sends.
struct NothingSends;

/// A batch and the one epoch that decides on it: the request of every layer below Account, so that no layer can take
/// another epoch by accident.
#[derive(Debug)]
pub struct Pass<M> {
    /// Decides on the whole batch.
    pub epoch: Arc<Epoch>,
    /// What is decided on.
    pub batch: Batch<M>,
}

// === impl Epoch ===

impl Epoch {
    /// The epoch of one load, in which nobody is known and nothing permitted.
    pub fn new(
        number: u64,
        domain: Arc<str>,
        mapper: Arc<dyn Mapper>,
        schemas: Arc<Schemas>,
        access: PolicyConfig,
    ) -> Self {
        let anonymous = Arc::new(Principal::anonymous(&domain));
        Self {
            number,
            domain,
            mapper,
            sender: Arc::new(NothingSends),
            schemas,
            access,
            users: Users::default(),
            issuers: Issuers::default(),
            policies: Arc::default(),
            jurisdictions: Labels::default(),
            anonymous,
        }
    }

    /// With these mappings that send; without them nothing is sent.
    #[must_use]
    pub fn sending(self, sender: Arc<dyn EgressMapper>) -> Self {
        Self { sender, ..self }
    }

    /// With this gateway in these jurisdictions; without them it takes no data that is labelled.
    #[must_use]
    pub fn within(self, jurisdictions: Labels) -> Self {
        Self { jurisdictions, ..self }
    }

    /// Where this gateway is.
    pub(crate) fn jurisdictions(&self) -> &[Arc<str>] {
        &self.jurisdictions
    }

    /// The same with those who are known here.
    #[must_use]
    pub fn with_users(self, users: Users) -> Self {
        Self { users, ..self }
    }

    /// The same with those whose tokens are accepted.
    #[must_use]
    pub fn with_issuers(self, issuers: Issuers) -> Self {
        Self { issuers, ..self }
    }

    /// The same with what is permitted.
    #[must_use]
    pub fn with_policies(self, policies: Arc<Policies>) -> Self {
        Self { policies, ..self }
    }

    /// This epoch as the one that decides now.
    pub fn into_current(self) -> Current {
        let changes = watch::Sender::new(self.number);
        Current(Arc::new(Held { epoch: ArcSwap::from_pointee(self), changes }))
    }

    /// The principal of peers without credentials, where policy lets them in.
    pub(crate) fn anonymous(&self) -> Option<Arc<Principal>> {
        self.access.anonymous.then(|| self.anonymous.clone())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schemas: Vec<_> = self.schemas.names().collect();
        f.debug_struct("Epoch")
            .field("number", &self.number)
            .field("domain", &self.domain)
            .field("schemas", &schemas)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

// === impl NothingSends ===

impl EgressMapper for NothingSends {
    fn map(&self, route: &Route, _: &Delivery) -> Result<Option<Outbound>, Rejection> {
        let detail = format!("no mapping {:?} sends envelopes", route.name());
        Err(Rejection::new(RejectKind::Unmapped, "mapping", detail))
    }
}

// === impl Current ===

impl Current {
    /// For a moment. Don't hold it over an await.
    pub fn load(&self) -> Guard<Arc<Epoch>> {
        self.0.epoch.load()
    }

    /// For a batch.
    pub fn load_full(&self) -> Arc<Epoch> {
        self.0.epoch.load_full()
    }

    /// Puts another one in force; the one before.
    pub fn swap(&self, epoch: Arc<Epoch>) -> Arc<Epoch> {
        let number = epoch.number;
        let before = self.0.epoch.swap(epoch);
        self.0.changes.send_replace(number);
        before
    }

    /// Puts another one in force.
    pub fn store(&self, epoch: Arc<Epoch>) {
        self.swap(epoch);
    }

    /// Tells of every epoch that comes in force from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.load().number).finish()
    }
}
