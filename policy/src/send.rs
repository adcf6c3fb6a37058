//! MAPPING of the egress stack: what policy let through becomes what a bridge sends.
//!
//! Each verdict from here on has the route: so a delivery that policy refused is told from one that could not be mapped or
//! that the peer did not take.

use std::task::{Context, Poll};

use envelope::{Batch, Outbound, Outgoing, Rejection, Route, Sink, Taken, Verdict, Verdicts};
use tower::Service;

use crate::{
    Pass,
    lift::{Answered, Rejoin, Routes, Stopped},
};

/// Maps by one mapping that sends, as the epoch of the batch has it, and hands on to the sink of its bridge.
#[derive(Debug, Clone)]
pub(crate) struct MapOut {
    route: Route,
    sink: Sink,
}

// === impl MapOut ===

impl MapOut {
    /// Of the mapping of this name, whatever its version; through `sink`.
    pub(crate) fn new(route: Route, sink: Sink) -> Self {
        Self { route, sink }
    }
}

impl Service<Pass<Outgoing>> for MapOut {
    type Response = Verdicts<Taken>;
    type Error = Rejection;
    type Future = Rejoin<<Sink as Service<Batch<Outbound>>>::Future, Taken>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.sink.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<Outgoing>) -> Self::Future {
        let Pass { epoch, batch } = pass;
        let (mut outbound, mut routes) = (Vec::with_capacity(batch.len()), Routes::Unknown);
        let (mut answered, mut stopped) = (Vec::new(), Stopped::default());
        for (index, outgoing) in batch.into_vec().into_iter().enumerate() {
            let lane = outgoing.delivery.lane;
            let made = stopped.guard(lane).and_then(|()| epoch.sender.map(&self.route, &outgoing.delivery));
            let answer = match made {
                Ok(Some(message)) => {
                    outbound.push(message);
                    routes.push(self.route.clone());
                    continue;
                }
                Ok(None) => Ok(Taken::NotSent),
                Err(rejection) => Err(rejection),
            };
            stopped.note(lane, &answer);
            answered.push(Answered { index, lane, verdict: Verdict { route: Some(self.route.clone()), answer } });
        }
        Rejoin::send(outbound, routes, answered, |batch| self.sink.call(batch))
    }
}
