//! Wills: messages that clients left for when they would be gone without a word.
//!
//! One of a session that outlives its connection is on disk from CONNACK on, so that it is published after a crash of the
//! gateway too: its client's connection broke with it. Its identity is on disk with it, so it is published once.

mod stored;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use envelope::{Batch, Disposition, Headers, Identity, Inbound, Lane, Principal, RejectKind};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{address::to_mesh, headers::headers, keeper::KeptWill, packet::Will, source::Shared};

/// A will and all that it takes to publish it without its client.
#[derive(Debug, Clone)]
pub(super) struct Testament {
    pub(super) id: Uuid,
    pub(super) session: Uuid,
    /// As its client wants it; no longer than its session stays.
    delay: Duration,
    address: Arc<str>,
    headers: Headers,
    payload: Bytes,
    retain: bool,
    principal: Arc<Principal>,
    peer: Option<IpAddr>,
    /// It may be on disk until it is published.
    pub(super) may_be_kept: bool,
}

/// Those that wait, by session.
#[derive(Debug, Default)]
pub(super) struct Wills(Mutex<HashMap<Uuid, Vec<Pending>>>);

#[derive(Debug)]
struct Pending {
    id: Uuid,
    /// The client is back.
    back: CancellationToken,
    /// Its session has ended.
    ended: CancellationToken,
}

/// How long it waits to be offered again where it can't be taken.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

// === impl Testament ===

impl Testament {
    /// Policy says whether it may be on disk: data that may not be here must not be there either, until it is refused.
    pub(super) fn new(shared: &Shared, will: Will, session: Uuid, principal: Arc<Principal>, peer: IpAddr) -> Self {
        let delay = will.properties.as_ref().and_then(|properties| properties.will_delay).unwrap_or_default();
        let testament = Self {
            id: Uuid::now_v7(),
            session,
            delay: Duration::from_secs(delay.into()),
            address: to_mesh(&will.topic).into(),
            // of its own, or the whole CONNECT would stay
            headers: will.properties.as_deref().map_or_else(Headers::default, |all| own(&headers(all))),
            payload: Bytes::copy_from_slice(&will.payload),
            retain: will.retain,
            principal,
            peer: Some(peer),
            may_be_kept: false,
        };
        let may_be_kept = shared.cx.outlet.may_keep(testament.inbound(&shared.cx.bridge, Lane(0)));
        Self { may_be_kept, ..testament }
    }

    /// How long it waits once its connection is over.
    pub(super) fn delay(&self, expiry: Duration) -> Duration {
        self.delay.min(expiry)
    }

    fn inbound(&self, bridge: &Arc<str>, lane: Lane) -> Inbound {
        let identity = [&b"mqttw"[..], self.session.as_bytes(), self.id.as_bytes()].concat();
        Inbound {
            bridge: bridge.clone(),
            address: self.address.clone(),
            headers: self.headers.clone(),
            payload: self.payload.clone(),
            lane,
            identity: Identity::Native(identity.into()),
            principal: self.principal.clone(),
            peer: self.peer,
            trace: None,
            retain: self.retain,
            unacknowledged: false,
            hops: Vec::new(),
            received_at: SystemTime::now(),
        }
    }
}

// === impl Wills ===

impl Wills {
    /// Publishes one as its client would have: at once, or after its delay unless the client is back (MQTT-3.1.3-9), but not later
    /// than its session ends. `kept`: it is on disk until it is published.
    pub(super) fn publish(&self, shared: &Arc<Shared>, testament: Testament, lane: Lane, delay: Duration, kept: bool) {
        let (back, ended) = (CancellationToken::new(), CancellationToken::new());
        if !delay.is_zero() {
            let pending = Pending { id: testament.id, back: back.clone(), ended: ended.clone() };
            self.lock().entry(testament.session).or_default().push(pending);
        }
        let (tasks, shared) = (shared.cx.tasks.clone(), shared.clone());
        tasks.spawn(async move {
            if !delay.is_zero() {
                let drain = &shared.cx.drain;
                let due = tokio::select! {
                    biased;
                    () = back.cancelled() => false,
                    () = ended.cancelled() => true,
                    // what is on disk waits there; nobody else would know of it
                    () = drain.cancelled() => !kept,
                    () = tokio::time::sleep(delay) => true,
                };
                shared.wills.forget(&testament);
                if !due {
                    return;
                }
            }
            shared.cx.received(1);
            let settled = offer(&shared, testament.inbound(&shared.cx.bridge, lane)).await;
            if kept
                && settled
                && let Err(error) = shared.keeper.forget_will(testament.id).await
            {
                tracing::warn!(%error, "a will that is published can't be forgotten now");
            }
        });
    }

    /// Takes up those that were kept. Of a client that was connected the connection has broken now.
    /// `sessions` stay for so long.
    pub(super) fn restore(&self, shared: &Arc<Shared>, kept: Vec<KeptWill>, sessions: &HashMap<Uuid, Duration>) {
        for KeptWill { testament, left } in kept {
            let delay = match sessions.get(&testament.session) {
                Some(stays) => left.unwrap_or(testament.delay).min(*stays),
                None => Duration::ZERO,
            };
            self.publish(shared, testament, shared.lane(), delay, true);
        }
    }

    /// Those of a session that wait.
    pub(super) fn waiting(&self, session: Uuid) -> Vec<Uuid> {
        self.lock().get(&session).map(|pending| pending.iter().map(|one| one.id).collect()).unwrap_or_default()
    }

    /// The client is back in its session: none is published.
    pub(super) fn back(&self, session: Uuid) {
        self.lock().remove(&session).unwrap_or_default().iter().for_each(|one| one.back.cancel());
    }

    /// The session has ended: nothing waits any longer.
    pub(super) fn ended(&self, session: Uuid) {
        self.lock().remove(&session).unwrap_or_default().iter().for_each(|one| one.ended.cancel());
    }

    fn forget(&self, testament: &Testament) {
        let mut all = self.lock();
        if let Some(pending) = all.get_mut(&testament.session) {
            pending.retain(|one| one.id != testament.id);
            if pending.is_empty() {
                all.remove(&testament.session);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Vec<Pending>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn own(headers: &Headers) -> Headers {
    headers.iter().map(|(name, value)| (name.clone(), Bytes::copy_from_slice(value))).collect()
}

/// Offers it until it is taken or refused; whether it was.
async fn offer(shared: &Shared, inbound: Inbound) -> bool {
    let until = tokio::time::Instant::now() + shared.config.retry_for;
    loop {
        let refused = match shared.cx.call(Batch::one(inbound.clone())).await {
            Ok(mut verdicts) => verdicts.pop().and_then(|verdict| verdict.answer.err()),
            Err(rejection) => {
                if rejection.disposition() == Disposition::Final {
                    shared.cx.outside(&rejection, Some(&inbound.principal), inbound.peer);
                }
                Some(rejection)
            }
        };
        let Some(refused) = refused else { return true };
        if refused.disposition() == Disposition::Final {
            tracing::debug!(%refused, "a will is refused");
            return true;
        }
        let wait = refused.retry_after.unwrap_or(AGAIN_AFTER);
        let stopped = shared.cx.drain.run_until_cancelled(tokio::time::sleep(wait)).await.is_none();
        if stopped || tokio::time::Instant::now() > until {
            tracing::warn!(%refused, "a will was not taken");
            shared.cx.returned(RejectKind::Unavailable);
            return !stopped;
        }
    }
}
