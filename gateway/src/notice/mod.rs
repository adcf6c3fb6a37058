//! Tells somebody that messages do not conform: a signed webhook for what a schema or a format refused.
//!
//! A refusal never waits for it. What is to be told goes into a queue of bounded length; what does not fit is counted. One
//! task posts what it finds there, a batch at a time (`post`), signed so that the receiver knows who it is from (`sign`).
//! What a message said is not in a notice, but for what the refusal quotes of it.

mod config;
mod post;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use envelope::{Admission, Batch, Inbound, Ingress, Rejection, Timestamp, Verdict, Verdicts};
use futures_util::{FutureExt, future::BoxFuture};
use metrics::{counter, describe_counter};
use serde::Serialize;
use tokio::sync::mpsc::{self, error::TrySendError};
use tower::{Service, util::BoxCloneSyncService};

pub use config::NoticeConfig;
pub(crate) use post::run;

/// Which deciders it is told of: those that look at what a message says.
const VALIDATION: [&str; 3] = ["mapping.from.schema", "mapping.from.decode", "conformance"];
const NOTICES: &str = "openmesh_notices_total";

/// Where notices are put. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Notices(mpsc::Sender<Notice>);

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Notice {
    /// RFC 3339.
    time: String,
    bridge: String,
    /// The mapping's name and version, if one took the message.
    mapping: Option<String>,
    version: Option<String>,
    kind: &'static str,
    decided_by: &'static str,
    detail: String,
    /// JSON Pointer to the place in the message.
    pointer: Option<String>,
}

/// What became of a notice; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Sent,
    /// The queue was full.
    Full,
    /// The receiver will never take it.
    Refused,
    /// It was tried for as long as the configuration says.
    Late,
    /// The gateway ended first.
    Stopped,
}

/// An ingress stack whose refusals are told.
#[derive(Debug, Clone)]
struct Watched {
    inner: Ingress,
    bridge: Arc<str>,
    notices: Notices,
}

/// Says what the metric means; once a process is enough.
fn describe() {
    describe_counter!(NOTICES, "notices of messages that do not conform, by what became of them");
}

// === impl Notices ===

impl Notices {
    /// With room for `length` notices; the other end is for [`run`].
    pub(crate) fn with_room(length: usize) -> (Self, mpsc::Receiver<Notice>) {
        describe();
        let (sender, receiver) = mpsc::channel(length);
        (Self(sender), receiver)
    }

    /// `ingress` with its refusals told.
    pub(crate) fn watch(&self, ingress: Ingress, bridge: Arc<str>) -> Ingress {
        BoxCloneSyncService::new(Watched { inner: ingress, bridge, notices: self.clone() })
    }

    /// Never waits.
    fn tell(&self, bridge: &Arc<str>, verdict: &Verdict<Admission>) {
        let Err(rejection) = &verdict.answer else { return };
        if !VALIDATION.contains(&rejection.decided_by) {
            return;
        }
        // made only if there is room: a flood of refusals costs a counter each
        match self.0.try_reserve() {
            Ok(room) => room.send(Notice::of(bridge, verdict, rejection)),
            Err(TrySendError::Full(())) => Outcome::Full.count(1),
            Err(TrySendError::Closed(())) => Outcome::Stopped.count(1),
        }
    }
}

// === impl Notice ===

impl Notice {
    fn of(bridge: &Arc<str>, verdict: &Verdict<Admission>, rejection: &Rejection) -> Self {
        let route = verdict.route.as_ref();
        Self {
            time: Timestamp::now().to_string(),
            bridge: bridge.to_string(),
            mapping: route.map(|route| route.name().to_owned()),
            version: route.map(|route| route.version().to_owned()),
            kind: rejection.kind.as_str(),
            decided_by: rejection.decided_by,
            detail: rejection.detail.clone(),
            pointer: rejection.pointer.as_deref().map(str::to_owned),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn count(self, notices: usize) {
        let outcome = match self {
            Self::Sent => "sent",
            Self::Full => "dropped-full",
            Self::Refused => "dropped-refused",
            Self::Late => "dropped-late",
            Self::Stopped => "dropped-stopped",
        };
        counter!(NOTICES, "outcome" => outcome).increment(notices as u64);
    }
}

// === impl Watched ===

impl Service<Batch<Inbound>> for Watched {
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = BoxFuture<'static, Result<Verdicts<Admission>, Rejection>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, batch: Batch<Inbound>) -> Self::Future {
        let (notices, bridge) = (self.notices.clone(), self.bridge.clone());
        let answered = self.inner.call(batch);
        let told = answered.map(move |answer| {
            if let Ok(verdicts) = &answer {
                verdicts.iter().for_each(|verdict| notices.tell(&bridge, verdict));
            }
            answer
        });
        told.boxed()
    }
}
