//! What one load of the configuration decides with.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use envelope::{Batch, Mapper, Principal};
use schema::Schemas;

use crate::{Labels, PolicyConfig};

/// Mappings, schemas and policy of one load, validated together; never changed, only replaced as a whole.
pub struct Epoch {
    /// Raised with every load.
    pub number: u64,
    /// This gateway's domain.
    pub domain: Arc<str>,
    /// The mapping files.
    pub mapper: Arc<dyn Mapper>,
    /// The schemas that envelopes are held to.
    pub schemas: Arc<Schemas>,
    /// What `policy.yaml` says.
    pub access: PolicyConfig,
    /// Where this gateway is.
    jurisdictions: Labels,
    /// Made once, not once a request.
    anonymous: Arc<Principal>,
}

/// The epoch that decides now. A reload stores another; batches in flight keep the one they began with.
pub type Current = Arc<ArcSwap<Epoch>>;

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
    /// The epoch of one load.
    pub fn new(
        number: u64,
        domain: Arc<str>,
        mapper: Arc<dyn Mapper>,
        schemas: Arc<Schemas>,
        access: PolicyConfig,
    ) -> Self {
        let anonymous = Arc::new(Principal::anonymous(&domain));
        Self { number, domain, mapper, schemas, access, jurisdictions: Labels::default(), anonymous }
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

    /// This epoch as the one that decides now.
    pub fn into_current(self) -> Current {
        Arc::new(ArcSwap::from_pointee(self))
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
