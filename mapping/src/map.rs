//! One inbound to one envelope, by the mapping that takes its address.

use std::sync::Arc;

use envelope::{
    Data, Envelope, Group, IdentityParts, Inbound, MapResult, Mapped, Mapper, RejectKind, Rejection, Timestamp,
    TraceContext,
};

use crate::{
    Mappings,
    codec::Decoded,
    expr::Scope,
    file::{Action, Mapping},
    plan::{Attribute, Plan},
    uri,
};

// === impl Mapper ===

impl Mapper for Mappings {
    fn map(&self, inbound: Inbound) -> MapResult {
        let Some(mapping) = self.find(&inbound.bridge, &inbound.address) else {
            let (address, bridge) = (shown(&inbound.address), &inbound.bridge);
            let detail = format!("no mapping takes address {address:?} of bridge {bridge:?}");
            return MapResult::Refused(None, Rejection::new(RejectKind::Unmapped, "mapping", detail));
        };
        match mapping.envelope(&inbound, &self.domain) {
            Ok(None) => MapResult::Filtered(mapping.route.clone()),
            Ok(Some(envelope)) => MapResult::Mapped(Mapped {
                route: mapping.route.clone(),
                ack: mapping.ack,
                bridge: inbound.bridge,
                lane: inbound.lane,
                principal: inbound.principal,
                identity: inbound.identity,
                group: Group::One(envelope),
            }),
            Err(rejection) => MapResult::Refused(Some(mapping.route.clone()), rejection),
        }
    }
}

/// An address as a message may show it.
fn shown(address: &str) -> String {
    const SHOWN: usize = 200;
    let mut shown: String = address.chars().take(SHOWN).collect();
    if shown.len() < address.len() {
        shown.push('…');
    }
    shown
}

// === impl Mapping ===

impl Mapping {
    /// `None`: dropped.
    fn envelope(&self, inbound: &Inbound, domain: &str) -> Result<Option<Envelope>, Rejection> {
        if matches!(self.action, Action::Drop) && self.from.schema.is_none() {
            return Ok(None);
        }
        let decoded = self.from.decode.decode(&inbound.payload)?;
        if let (Some(schema), Some(json)) = (&self.from.schema, decoded.tree()) {
            schema.check(json).map_err(|violation| {
                let detail = format!("payload: {}", violation.detail);
                Rejection::new(RejectKind::Malformed, "mapping.from.schema", detail).at(violation.pointer)
            })?;
        }
        match &self.action {
            Action::Drop => Ok(None),
            Action::Envelope(plan) => self.fill(plan, decoded, inbound, domain).map(Some),
        }
    }

    fn fill(&self, plan: &Plan, decoded: Decoded<'_>, inbound: &Inbound, domain: &str) -> Result<Envelope, Rejection> {
        let time = Timestamp::from(inbound.received_at);
        let scope = Scope {
            payload: decoded.scope(),
            address: &inbound.address,
            headers: &inbound.headers,
            principal_id: &inbound.principal.id,
            principal_domain: &inbound.principal.domain,
            now: time,
            own: None,
            item: None,
        };
        let mut scratch = String::with_capacity(128);
        let mut attribute = |of: &Option<Attribute>| of.as_ref().map(|of| of.of(&scope, &mut scratch)).transpose();
        let performative = attribute(&plan.performative)?;
        let partitionkey = attribute(&plan.key)?;
        let classification = attribute(&plan.classification)?;
        let residency: Vec<Arc<str>> =
            plan.residency.iter().map(|of| of.of(&scope, &mut scratch)).collect::<Result<_, _>>()?;
        let subject = plan.topic.of(&scope, &mut scratch)?;
        let made = match &plan.body {
            Some(body) => {
                let mut out = Vec::with_capacity(inbound.payload.len() + 64);
                body.write(&scope, &mut out)?;
                Some(Data::Opaque(out.into()))
            }
            None => None,
        };
        scratch.clear();
        scratch.push_str(&self.source_prefix);
        uri::write_segment(&mut scratch, &inbound.principal.id);
        let parts = IdentityParts {
            domain,
            bridge: &inbound.bridge,
            principal: &inbound.principal.id,
            route: self.route.name(),
        };
        Ok(Envelope {
            id: inbound.identity.envelope_id(parts),
            source: scratch.as_str().into(),
            kind: plan.kind.clone(),
            subject,
            time,
            expirytime: plan.expires.map(|after| time.plus(after)),
            datacontenttype: Some(plan.datacontenttype.clone()),
            dataschema: plan.dataschema.clone(),
            data: made.unwrap_or_else(|| untouched(decoded, inbound)),
            performative,
            partitionkey,
            residency,
            classification,
            hops: Vec::new(),
            trace: Some(inbound.trace.as_ref().map_or_else(TraceContext::root, TraceContext::child)),
            conversation: None,
            origin: None,
        })
    }
}

/// The payload as it came; what was parsed stays parsed.
fn untouched(decoded: Decoded<'_>, inbound: &Inbound) -> Data {
    match decoded {
        Decoded::Json(json) => Data::Json(Arc::new(json)),
        Decoded::Tree(_) | Decoded::Text(_) | Decoded::Bytes => Data::Opaque(inbound.payload.clone()),
    }
}
