//! Puts the W3C trace id of a message on every log line that is written while it passes the ingress stack.

use std::task::{Context, Poll};

use envelope::{Batch, Inbound};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, field, info_span, instrument::Instrumented};

/// Puts what is below it in a span with the fields `bridge` and `trace_id`, for messages whose sender traces them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TraceLayer;

/// What [`TraceLayer`] makes.
#[derive(Debug, Clone)]
pub(crate) struct Traced<S>(S);

/// None for a batch that nobody traces: a span costs more than the stack. A batch of several has the first one's.
fn span_of(batch: &Batch<Inbound>) -> Span {
    let Some(traced) = batch.as_slice().iter().find(|inbound| inbound.trace.is_some()) else { return Span::none() };
    let trace_id = traced.trace.as_ref().map(|trace| field::display(trace.trace_id()));
    info_span!("ingress", bridge = &*traced.bridge, trace_id)
}

// === impl TraceLayer ===

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced(inner)
    }
}

// === impl Traced ===

impl<S: Service<Batch<Inbound>>> Service<Batch<Inbound>> for Traced<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, batch: Batch<Inbound>) -> Self::Future {
        let span = span_of(&batch);
        let entered = span.clone();
        entered.in_scope(|| self.0.call(batch)).instrument(span)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
        time::SystemTime,
    };

    use bytes::Bytes;
    use envelope::{Admission, Identity, Lane, Principal, Rejection, TraceContext, Verdicts};
    use tower::{ServiceExt, service_fn};

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn inbound(trace: Option<TraceContext>) -> Inbound {
        Inbound {
            bridge: "web".into(),
            address: "POST /x".into(),
            headers: Arc::new([]),
            payload: Bytes::new(),
            lane: Lane(0),
            identity: Identity::fresh(),
            principal: Arc::new(Principal::anonymous("a")),
            peer: None,
            trace,
            retain: false,
            unacknowledged: false,
            hops: Vec::new(),
            received_at: SystemTime::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_line_logged_below_has_the_senders_trace_id() {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _here = tracing::subscriber::set_default(lines);
        let ingress = TraceLayer.layer(service_fn(|_| async {
            tracing::info!("passing");
            Ok::<Verdicts<Admission>, Rejection>(Vec::new())
        }));
        for trace in [TraceContext::parse(TRACE, None), None] {
            ingress.clone().oneshot(Batch::one(inbound(trace))).await.unwrap();
        }
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let [with, without] = text.lines().collect::<Vec<_>>()[..] else { panic!("not two lines: {text}") };
        assert!(with.contains("bridge=\"web\" trace_id=4bf92f3577b34da6a3ce929d0e0e4736"), "{with}");
        assert!(!without.contains("trace_id"), "{without}");
    }
}
