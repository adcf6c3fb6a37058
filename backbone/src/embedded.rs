//! The backbone in a folder of this gateway.

use std::sync::Arc;

use envelope::{Admission, Admitted, Batch, Deliveries, Ledger, RejectKind, Rejection, Route, Subscribe, Verdicts};
use futures_util::future::BoxFuture;

use crate::{Backbone, EmbeddedConfig, LedgerReport, OpenError, Status};

/// A backbone in a folder of this gateway. Cheap to clone; all clones are one store.
#[derive(Debug, Clone)]
pub struct Embedded;

struct Nothing;

impl Ledger for Nothing {
    fn received(&self, _: &str, _: u64) {}
    fn refused(&self, _: &str, _: Option<&Route>, _: RejectKind) {}
    fn filtered(&self, _: &str, _: &Route) {}
    fn returned(&self, _: &str, _: RejectKind) {}
}

fn absent() -> Rejection {
    Rejection::new(RejectKind::Unavailable, "backbone", "the store is not open")
}

// === impl Embedded ===

impl Embedded {
    /// Opens the store, or makes it. Blocks while it reads what it needs: call it from a blocking thread.
    pub fn open(_: EmbeddedConfig) -> Result<Self, OpenError> {
        Ok(Self)
    }
}

impl Backbone for Embedded {
    fn publish(&self, _: Batch<Admitted>) -> BoxFuture<'static, Result<Verdicts<Admission>, Rejection>> {
        Box::pin(async { Err(absent()) })
    }

    fn subscribe(&self, _: Subscribe) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
        Box::pin(async { Err(absent()) })
    }

    fn ledger(&self) -> Arc<dyn Ledger> {
        Arc::new(Nothing)
    }

    fn report(&self) -> LedgerReport {
        LedgerReport::default()
    }

    fn status(&self) -> Status {
        Status::Ready
    }

    fn close(&self) -> BoxFuture<'static, Result<(), Rejection>> {
        Box::pin(async { Ok(()) })
    }
}
