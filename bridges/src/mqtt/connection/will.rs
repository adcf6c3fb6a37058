//! The will: a message that the client left for when it would be gone without a word.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use envelope::{Batch, Disposition, Headers, Identity, Inbound, Lane, Principal, RejectKind};
use tokio_util::sync::CancellationToken;

use crate::mqtt::{address::to_mesh, packet::Will, source::Shared};

/// How long it is offered again where it can't be taken.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Publishes it as the client would have: at once, or after its delay unless the client is back (MQTT-3.1.3-9), but not
/// later than its session ends.
pub(super) fn publish(
    shared: &Arc<Shared>,
    principal: Arc<Principal>,
    peer: IpAddr,
    lane: Lane,
    back: CancellationToken,
    will: Will,
    expiry: Duration,
) {
    let delay = will.properties.as_ref().and_then(|properties| properties.will_delay).unwrap_or_default();
    let delay = Duration::from_secs(delay.into()).min(expiry);
    let tasks = shared.cx.tasks.clone();
    let shared = shared.clone();
    tasks.spawn(async move {
        if !delay.is_zero() {
            tokio::select! {
                biased;
                () = back.cancelled() => return,
                // who is away when the gateway stops may be back before it runs again, but nobody would know
                () = shared.cx.drain.cancelled() => {}
                () = tokio::time::sleep(delay) => {}
            }
        }
        let inbound = Inbound {
            bridge: shared.cx.bridge.clone(),
            address: to_mesh(&will.topic).into(),
            headers: will.properties.as_deref().map_or_else(Headers::default, crate::mqtt::headers::headers),
            payload: will.payload,
            lane,
            identity: Identity::fresh(),
            principal,
            peer: Some(peer),
            trace: None,
            retain: will.retain,
            hops: Vec::new(),
            received_at: SystemTime::now(),
        };
        shared.cx.received(1);
        offer(&shared, inbound).await;
    });
}

async fn offer(shared: &Shared, inbound: Inbound) {
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
        let Some(refused) = refused else { return };
        if refused.disposition() == Disposition::Final {
            return tracing::debug!(%refused, "a will is refused");
        }
        let wait = refused.retry_after.unwrap_or(AGAIN_AFTER);
        let stopped = shared.cx.drain.run_until_cancelled(tokio::time::sleep(wait)).await.is_none();
        if stopped || tokio::time::Instant::now() > until {
            tracing::warn!(%refused, "a will was not taken");
            return shared.cx.returned(RejectKind::Unavailable);
        }
    }
}
