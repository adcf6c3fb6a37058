//! MAPPING: the one place where the request changes from `Pass<Inbound>` to `Pass<Mapped>`, and routes become known.
//!
//! What the mapping files say is decided behind [`envelope::Mapper`]; this layer stamps each verdict with its route, and
//! each envelope with the residency label that it keeps. What is an answer goes to who waits for it, and no further down.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use envelope::{Admission, Inbound, MapResult, Mapped, Rejection, Verdict, Verdicts};
use tower::{Layer, Service};

use crate::{
    Pass, ReplyDesk, answers,
    lift::{Answered, Rejoin, Routes, Stopped},
    residency,
};

/// Maps by the epoch of the batch.
#[derive(Clone)]
pub(crate) struct MapLayer {
    /// Where answers are handed in, if anybody waits for one.
    pub(crate) desk: Option<Arc<dyn ReplyDesk>>,
}

/// What [`MapLayer`] makes.
#[derive(Clone)]
pub(crate) struct Map<S> {
    inner: S,
    desk: Option<Arc<dyn ReplyDesk>>,
}

// === impl MapLayer ===

impl<S> Layer<S> for MapLayer {
    type Service = Map<S>;

    fn layer(&self, inner: S) -> Map<S> {
        Map { inner, desk: self.desk.clone() }
    }
}

// === impl Map ===

impl<S> Service<Pass<Inbound>> for Map<S>
where
    S: Service<Pass<Mapped>, Response = Verdicts<Admission>, Error = Rejection>,
{
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = Rejoin<S::Future, Admission>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<Inbound>) -> Self::Future {
        let Pass { epoch, batch } = pass;
        let mut mapped = Vec::with_capacity(batch.len());
        let mut routes = Routes::Unknown;
        let mut answered = Vec::new();
        let mut stopped = Stopped::default();
        for (index, inbound) in batch.into_vec().into_iter().enumerate() {
            let lane = inbound.lane;
            if answers::is_answer(&inbound) {
                let (route, answer) = match stopped.guard(lane) {
                    Ok(()) => answers::take(self.desk.as_ref(), &epoch, inbound),
                    Err(behind) => (answers::route(), Err(behind)),
                };
                stopped.note(lane, &answer);
                answered.push(Answered { index, lane, verdict: Verdict { route: Some(route), answer } });
                continue;
            }
            let result = match stopped.guard(lane) {
                Ok(()) => epoch.mapper.map(inbound),
                Err(behind) => MapResult::Refused(None, behind),
            };
            let (route, answer) = match result {
                MapResult::Mapped(message) if answers::is_mapped_answer(&message) => {
                    let route = message.route.clone();
                    let taken = answers::take_mapped(self.desk.as_ref(), &epoch, message);
                    (Some(route), taken.map(|()| Admission::Filtered))
                }
                MapResult::Mapped(mut message) => match residency::label(&epoch, &mut message) {
                    Ok(()) => {
                        answers::stamp(self.desk.as_ref(), &mut message);
                        routes.push(message.route.clone());
                        mapped.push(message);
                        continue;
                    }
                    Err(rejection) => (Some(message.route), Err(rejection)),
                },
                MapResult::Filtered(route) => (Some(route), Ok(Admission::Filtered)),
                MapResult::Refused(route, rejection) => (route, Err(rejection)),
            };
            stopped.note(lane, &answer);
            answered.push(Answered { index, lane, verdict: Verdict { route, answer } });
        }
        Rejoin::send(mapped, routes, answered, |batch| self.inner.call(Pass { epoch, batch }))
    }
}
