//! Puts the W3C trace id of a message on every log line that is written while it passes the ingress stack.

use std::task::{Context, Poll};

use envelope::{Admission, Batch, Inbound, Ingress, Rejection, Verdicts};
use tower::{Service, util::BoxCloneSyncService};
use tracing::{Instrument as _, Span, field, info_span, instrument::Instrumented};

/// An ingress stack below a span.
#[derive(Debug, Clone)]
struct Traced(Ingress);

/// `ingress` below a span with the fields `bridge` and `trace_id`, for messages whose sender traces them.
pub(crate) fn traced(ingress: Ingress) -> Ingress {
    BoxCloneSyncService::new(Traced(ingress))
}

/// None for a batch that nobody traces: a span costs more than the stack. A batch of several has the first one's.
fn span_of(batch: &Batch<Inbound>) -> Span {
    let Some(traced) = batch.as_slice().iter().find(|inbound| inbound.trace.is_some()) else { return Span::none() };
    let trace_id = traced.trace.as_ref().map(|trace| field::display(trace.trace_id()));
    info_span!("ingress", bridge = &*traced.bridge, trace_id)
}

// === impl Traced ===

impl Service<Batch<Inbound>> for Traced {
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = Instrumented<<Ingress as Service<Batch<Inbound>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, batch: Batch<Inbound>) -> Self::Future {
        let span = span_of(&batch);
        let entered = span.clone();
        entered.in_scope(|| self.0.call(batch)).instrument(span)
    }
}
