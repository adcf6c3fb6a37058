//! What the layers of the stacks say of one message, layer by layer, with nothing stored and nothing counted.
//!
//! The rules are those of `stack.rs` and `egress.rs`, in their order, so a layer that is added there is added here: a test
//! compares the outcome with the stack's. Rates are told and not held: nobody knows here what was sent lately. Nor is it
//! asked how full the bridge is.

use std::{ops::ControlFlow, sync::Arc};

use envelope::{Admission, Envelope, Inbound, MapResult, Mapped, Outgoing, Principal, Rejection, Route};

use crate::{
    Epoch,
    access::{self, MayRead, MaySend},
    answers,
    authenticate::Authenticated,
    conformance::Conformance,
    lift::{Rule, Step},
    loop_guard::LoopGuard,
    payload_limit::PayloadLimit,
    residency::{self, EgressResidency, Residency},
};

/// What one layer says.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The layer.
    pub layer: &'static str,
    /// What it decides.
    pub decision: LayerDecision,
}

/// What becomes of a message at a layer.
#[derive(Debug, Clone)]
pub enum LayerDecision {
    /// It passes, and what the layer found.
    Passes(String),
    /// It is acked and not stored.
    Filtered,
    /// It is refused; no layer below is asked.
    Refused(Rejection),
}

/// The way of a message through the layers, as far as it goes.
#[derive(Debug, Default)]
pub struct Explanation {
    /// The layers that were asked.
    pub layers: Vec<Explained>,
    /// The mapping that takes it, if one does.
    pub route: Option<Route>,
    /// What would be stored.
    pub envelopes: Vec<Envelope>,
}

/// Of a message that comes to the ingress of its bridge, whose payloads have at most `max_payload_bytes`.
pub fn explain(epoch: &Epoch, max_payload_bytes: usize, inbound: Inbound) -> Explanation {
    let mut told = Explanation::default();
    let size = format!("{} of at most {max_payload_bytes} bytes", inbound.payload.len());
    let limits = &epoch.access.limits;
    let who = format!("principal {:?} of domain {:?}", inbound.principal.id, inbound.principal.domain);
    let passed = told.rule("payload_limit", PayloadLimit::new(max_payload_bytes).check(epoch, &inbound), || size)
        && told.note("peer_limit", limits.of_address())
        && told.rule("authenticated", let_in(epoch, &inbound), || who)
        && told.note("principal_limit", limits.of(&inbound.principal.id));
    if !passed {
        return told;
    }
    let mut mapped = match epoch.mapper.map(inbound) {
        MapResult::Mapped(mapped) => mapped,
        MapResult::Filtered(route) => {
            told.route = Some(route);
            return told.with("mapping", LayerDecision::Filtered);
        }
        MapResult::Refused(route, rejection) => {
            told.route = route;
            return told.with("mapping", LayerDecision::Refused(rejection));
        }
    };
    told.route = Some(mapped.route.clone());
    let topics: Vec<_> = mapped.group.as_slice().iter().map(|envelope| envelope.subject.to_string()).collect();
    let becomes = format!("{:?} makes {}", mapped.route.name(), shown(&topics));
    if told.note("mapping", becomes)
        && told.rule("residency", residency::label(epoch, &mut mapped), || label(mapped_envelopes(&mapped)))
    {
        told.judge(epoch, &mapped);
    }
    // whether anybody waits, and for which type, only the gateway that was asked knows
    if told.refused().is_none() && answers::is_mapped_answer(&mapped) {
        return told.with("reply", LayerDecision::Filtered);
    }
    told.envelopes = mapped.group.as_slice().to_vec();
    told
}

/// Whether a message would pass Access and Residency if it were sent now, whatever its data are: what no mapping takes does
/// not.
pub fn may_be_sent(epoch: &Epoch, message: Inbound) -> bool {
    let MapResult::Mapped(mut mapped) = epoch.mapper.map(message) else { return false };
    residency::label(epoch, &mut mapped).is_ok()
        && MaySend.check(epoch, &mapped).is_ok()
        && Residency.check(epoch, &mapped).is_ok()
}

/// Of an envelope that is about to go through `bridge` to somebody.
pub fn explain_egress(epoch: &Epoch, bridge: &str, outgoing: &Outgoing) -> Explanation {
    let mut told = Explanation::default();
    let here = EgressResidency { bridge: bridge.into() };
    let envelope = std::slice::from_ref(&outgoing.delivery.envelope);
    let kind = || format!("type {:?}", envelope[0].kind);
    let policy = || permitted(&epoch.policies.may_read(&outgoing.to, &envelope[0], bridge)).unwrap_or_default();
    let passed = told.rule("residency", here.check(epoch, outgoing), || label(envelope))
        && told.rule("access", MayRead::new(bridge.into()).check(epoch, outgoing), || {
            format!("permitted by {}", policy())
        })
        && told.rule("conformance", Rule::<Outgoing>::check(&Conformance, epoch, outgoing), kind);
    if passed {
        told.note("receive_limit", epoch.access.limits.of_receiver());
    }
    told
}

/// What the layers behind MAPPING say of a message that was mapped before: whether an epoch would take it.
pub fn judge(epoch: &Epoch, mut mapped: Mapped) -> Explanation {
    let mut told = Explanation::default();
    if told.rule("residency", residency::label(epoch, &mut mapped), || label(mapped_envelopes(&mapped))) {
        told.judge(epoch, &mapped);
    }
    told
}

// === impl Explanation ===

impl Explanation {
    /// What became of it in the end; `None` if it passed.
    pub fn refused(&self) -> Option<&Rejection> {
        match &self.layers.last()?.decision {
            LayerDecision::Refused(rejection) => Some(rejection),
            LayerDecision::Passes(_) | LayerDecision::Filtered => None,
        }
    }

    /// In a word: `passes`, `filtered`, or the kind of the refusal.
    pub fn outcome(&self) -> &'static str {
        match self.layers.last().map(|last| &last.decision) {
            Some(LayerDecision::Refused(rejection)) => rejection.kind.as_str(),
            Some(LayerDecision::Filtered) => "filtered",
            Some(LayerDecision::Passes(_)) | None => "passes",
        }
    }

    /// The layers behind MAPPING.
    fn judge(&mut self, epoch: &Epoch, mapped: &Mapped) {
        let envelopes = mapped_envelopes(mapped);
        let looped: ControlFlow<Result<Admission, Rejection>> = LoopGuard.decide(epoch, mapped);
        if looped.is_break() {
            self.layers.push(Explained { layer: "loop_guard", decision: LayerDecision::Filtered });
            return;
        }
        let kinds: Vec<_> = envelopes.iter().map(|envelope| envelope.kind.to_string()).collect();
        let class = format!("class {}", epoch.access.priority.of(mapped).word());
        let _ = self.note("loop_guard", "was not here before")
            && self.note("shed", class)
            && self.note("topic_limit", epoch.access.limits.of_topics(envelopes))
            && self.access(epoch, mapped)
            && self.rule("residency", Residency.check(epoch, mapped), || label(envelopes))
            && self.rule("conformance", Rule::<Mapped>::check(&Conformance, epoch, mapped), || {
                format!("type {}", shown(&kinds))
            });
    }

    /// Names the policy that permits each envelope.
    fn access(&mut self, epoch: &Epoch, mapped: &Mapped) -> bool {
        let permitted = |envelope| permitted(&epoch.policies.may_send(&mapped.principal, envelope, &mapped.bridge));
        let by: Vec<_> = mapped_envelopes(mapped).iter().filter_map(permitted).collect();
        self.rule("access", MaySend.check(epoch, mapped), || format!("permitted by {}", shown(&by)))
    }

    fn rule(&mut self, layer: &'static str, said: Result<(), Rejection>, found: impl FnOnce() -> String) -> bool {
        let passes = said.is_ok();
        let decision = said.map_or_else(LayerDecision::Refused, |()| LayerDecision::Passes(found()));
        self.layers.push(Explained { layer, decision });
        passes
    }

    fn note(&mut self, layer: &'static str, found: impl Into<String>) -> bool {
        self.layers.push(Explained { layer, decision: LayerDecision::Passes(found.into()) });
        true
    }

    fn with(mut self, layer: &'static str, decision: LayerDecision) -> Self {
        self.layers.push(Explained { layer, decision });
        self
    }
}

/// Whoever the message says to be is taken for it, for no credentials are there to verify; but not whoever is nobody.
fn let_in(epoch: &Epoch, inbound: &Inbound) -> Result<(), Rejection> {
    if &*inbound.principal.id == Principal::ANONYMOUS { Authenticated.check(epoch, inbound) } else { Ok(()) }
}

fn mapped_envelopes(mapped: &Mapped) -> &[Envelope] {
    mapped.group.as_slice()
}

/// The policy that permits, if one does.
fn permitted(decision: &access::Decision) -> Option<String> {
    match decision {
        access::Decision::Permitted(policy) => Some(policy.to_string()),
        access::Decision::Forbidden(_) | access::Decision::NotPermitted | access::Decision::Undecided(..) => None,
    }
}

fn label(envelopes: &[Envelope]) -> String {
    let labels: Vec<_> = envelopes.iter().flat_map(|envelope| &envelope.residency).map(|l| l.to_string()).collect();
    if labels.is_empty() { "may be anywhere".to_owned() } else { format!("may be in {}", shown(&labels)) }
}

/// The first few of a list, each once.
fn shown(all: &[String]) -> String {
    const FEW: usize = 5;
    let mut once: Vec<&str> = Vec::new();
    for one in all {
        if !once.contains(&one.as_str()) {
            once.push(one);
        }
    }
    let more = if once.len() > FEW { ", ..." } else { "" };
    once.truncate(FEW);
    once.join(", ") + more
}

/// The principal that an envelope's source names: what is known of a sender once its message is stored.
pub fn sender(envelope: &Envelope) -> Option<(Arc<str>, Principal)> {
    let mut parts = envelope.source.strip_prefix("mesh://")?.splitn(3, '/');
    let (domain, bridge, id) = (parts.next()?, parts.next()?, parts.next()?);
    Some((bridge.into(), Principal::new(id, domain)))
}

#[cfg(test)]
mod tests {
    use envelope::Batch;

    use super::*;
    use crate::tests::world::{MAX_PAYLOAD, Told, World, epoch, epoch_of, inbound, word};

    #[test]
    fn it_says_what_the_stack_does() {
        for address in
            ["pass", "typed", "each 5", "drop", "loop", "refuse", "wrong", "half", "unmapped", "too-large", "retry"]
        {
            let world = World::new();
            let said = word(world.offer(Batch::one(inbound(1, address))).pop().unwrap());
            let told = explain(&epoch(1, Told), MAX_PAYLOAD, inbound(1, address));
            assert_eq!(told.outcome().replace("passes", "stored"), said, "{address}: {told:?}");
        }
    }

    #[test]
    fn it_says_which_layer_decided_and_what_the_others_found() {
        let policy =
            "anonymous: true\nresidency: { default: [no] }\nlimits: { principal: { messages_per_second: 7 } }\n";
        let told = explain(&epoch_of(1, Told, policy), MAX_PAYLOAD, inbound(1, "pass"));
        let layers: Vec<_> = told.layers.iter().map(|explained| explained.layer).collect();
        let expected = [
            "payload_limit",
            "peer_limit",
            "authenticated",
            "principal_limit",
            "mapping",
            "residency",
            "loop_guard",
            "shed",
            "topic_limit",
            "access",
            "residency",
        ];
        assert_eq!(layers, expected);
        assert_eq!(told.refused().unwrap().decided_by.to_string(), "residency");
        let found = |at: usize| match &told.layers[at].decision {
            LayerDecision::Passes(found) => found.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(found(3), "7 messages a second");
        assert_eq!((found(4), found(5)), ("\"pass\" makes telemetry/7".to_owned(), "may be in no".to_owned()));
    }
}
