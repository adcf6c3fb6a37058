//! The end of the stack, and the only place that makes an [`Admitted`].

use std::task::{Context, Poll};

use envelope::{Admission, Admitted, Batch, Mapped, Rejection, Verdicts};
use tower::{Layer, Service};

use crate::Pass;

/// Seals what every layer above has passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdmitLayer;

/// What [`AdmitLayer`] makes.
#[derive(Debug, Clone)]
pub(crate) struct Admit<S>(S);

// === impl AdmitLayer ===

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit(inner)
    }
}

// === impl Admit ===

impl<S> Service<Pass<Mapped>> for Admit<S>
where
    S: Service<Batch<Admitted>, Response = Verdicts<Admission>, Error = Rejection>,
{
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<Mapped>) -> Self::Future {
        let epoch = pass.epoch.number;
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the end of the stack: every layer has passed the message"
        )]
        let admitted = pass.batch.map(|mapped| Admitted::seal(mapped, epoch));
        self.0.call(admitted)
    }
}
