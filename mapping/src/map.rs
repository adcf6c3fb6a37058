//! One inbound to its envelopes: by the mapping that matches its address and whose condition holds.

use std::{cell::Cell, sync::Arc};

use bytes::Bytes;
use envelope::{
    AckPoint, Data, Envelope, Group, Identity, IdentityParts, Inbound, MAX_GROUP, MapResult, Mapped, Mapper,
    RejectKind, Rejection, Route, Terms, Timestamp, TraceContext,
};

use crate::{
    Mappings,
    codec::{Codec, Decoded},
    expr::{About, Expr, Item, Let, MAX_OUTPUT, Scope, ScopePayload},
    file::{Action, Mapping},
    keys::Each,
    one_to_one,
    plan::{Plan, refusal},
    uri,
};

/// A codec and what it made of the payload.
type Parsed<'m, 'p> = Option<(&'m Codec, Decoded<'p>)>;

/// Who takes a message, and the payload if it was decoded to find that out.
type Taker<'m, 'p> = (&'m Mapping, Option<Decoded<'p>>);
/// Why nobody does, or who it is that says so.
type Refused = Box<(Option<Route>, Rejection)>;

/// What a mapping makes of a message.
struct Made {
    /// `None`: there was nothing to go through for `each`.
    group: Option<Group>,
    /// The message's name, if the file says what that is.
    identity: Option<Identity>,
}

// === impl Mapper ===

impl Mapper for Mappings {
    fn terms(&self, route: &Route) -> Option<&Arc<Terms>> {
        let mapping = self.all.get(*self.by_name.get(route.name())?)?;
        Some(&mapping.terms)
    }

    fn replies(&self) -> bool {
        self.replies
    }

    fn buries(&self) -> bool {
        self.buries
    }

    fn head(&self, route: &Route, inbound: &Inbound) -> Option<Envelope> {
        let mapping = self.all.get(*self.by_name.get(route.name())?)?;
        let Action::Envelope(plan) = &mapping.action else { return None };
        let steps = Cell::new(0);
        let parts = IdentityParts {
            domain: &self.domain,
            bridge: &inbound.bridge,
            principal: &inbound.principal.id,
            route: route.name(),
        };
        plan.head(&scope(inbound, ScopePayload::Bytes, &steps), inbound.identity.envelope_id(parts))
    }

    fn map(&self, inbound: Inbound) -> MapResult {
        let steps = Cell::new(0);
        let (mapping, decoded) = match self.taker(&inbound, &steps) {
            Ok(found) => found,
            Err(refused) => {
                let (route, rejection) = *refused;
                let rest = self.one_to_one.get(&*inbound.bridge).filter(|_| rejection.kind == RejectKind::Unmapped);
                if let Some(rest) = rest {
                    return rest.map(inbound, &self.domain);
                }
                return MapResult::Refused(route, rejection);
            }
        };
        let route = mapping.route.clone();
        let made = match mapping.make(&inbound, decoded, &self.domain, &steps) {
            Ok(made) => made,
            Err(rejection) => return MapResult::Refused(Some(route), rejection),
        };
        let Some(Made { group: Some(group), identity }) = made else {
            return MapResult::Filtered(route);
        };
        MapResult::Mapped(Mapped {
            route,
            ack: promised(
                mapping.ack,
                &inbound,
                mapping.terms.keep_last || mapping.terms.reply.is_some() || identity.is_some(),
            ),
            terms: mapping.terms.clone(),
            bridge: inbound.bridge,
            lane: inbound.lane,
            principal: inbound.principal,
            identity: identity.unwrap_or(inbound.identity),
            retain: inbound.retain || mapping.terms.keep_last,
            group,
        })
    }
}

/// When its sender hears yes: one that hears nothing is not waited for, unless what it sent is `known` again later, by its
/// topic or its name.
pub(crate) fn promised(ack: AckPoint, inbound: &Inbound, known: bool) -> AckPoint {
    let waits_for_nobody = ack == AckPoint::Durable && inbound.unacknowledged && !inbound.retain && !known;
    if waits_for_nobody { AckPoint::Received } else { ack }
}

// === impl Mappings ===

impl Mappings {
    /// The first in order whose condition holds.
    fn taker<'m, 'p>(&'m self, inbound: &'p Inbound, steps: &Cell<usize>) -> Result<Taker<'m, 'p>, Refused> {
        let index = self.bridges.get(&*inbound.bridge);
        let Some((index, first)) = index.and_then(|index| Some((index, index.find(&inbound.address)?))) else {
            return Err(Box::new((None, unmapped(inbound, &[]))));
        };
        if self.all[first].keys.when.is_none() {
            return Ok((&self.all[first], None));
        }
        let (mut parsed, mut passed) = (None, Vec::new());
        for mapping in index.candidates(&inbound.address).into_iter().map(|number| &self.all[number]) {
            match mapping.takes(inbound, &mut parsed, steps) {
                Ok(true) => {
                    let decoded = parsed.filter(|(codec, _)| **codec == mapping.from.decode);
                    return Ok((mapping, decoded.map(|(_, decoded)| decoded)));
                }
                Ok(false) => passed.push(mapping.route.name()),
                Err(rejection) => return Err(Box::new((Some(mapping.route.clone()), rejection))),
            }
        }
        Err(Box::new((None, unmapped(inbound, &passed))))
    }
}

/// `passed`: the mappings that match the address and whose condition is false.
fn unmapped(inbound: &Inbound, passed: &[&str]) -> Rejection {
    const NAMED: usize = 8;
    let (address, bridge) = (shown(&inbound.address), &inbound.bridge);
    let mut detail = format!("no mapping takes address {address:?} of bridge {bridge:?}");
    if !passed.is_empty() {
        let names: Vec<_> = passed.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
        detail = format!("{detail}: \"when\" is false in {}", names.join(", "));
        if passed.len() > NAMED {
            detail = format!("{detail} and {} more", passed.len() - NAMED);
        }
    }
    Rejection::new(RejectKind::Unmapped, "mapping", detail)
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

/// What an expression reads, without names of the file's own.
fn scope<'a>(inbound: &'a Inbound, payload: ScopePayload<'a>, steps: &'a Cell<usize>) -> Scope<'a> {
    Scope {
        payload,
        address: &inbound.address,
        headers: &inbound.headers,
        principal_id: &inbound.principal.id,
        principal_domain: &inbound.principal.domain,
        now: Timestamp::from(inbound.received_at),
        about: About::Inbound,
        own: None,
        steps: Some(steps),
        item: None,
    }
}

// === impl Mapping ===

impl Mapping {
    /// Whether its condition holds. The payload is decoded only for one that reads it.
    fn takes<'m, 'p>(
        &'m self,
        inbound: &'p Inbound,
        parsed: &mut Parsed<'m, 'p>,
        steps: &Cell<usize>,
    ) -> Result<bool, Rejection> {
        let Some(guard) = &self.keys.when else { return Ok(true) };
        let codec = &self.from.decode;
        if guard.reads_payload && deletes(inbound) {
            return Err(nothing_to_read("when", guard.expr.text()));
        }
        if guard.reads_payload && parsed.as_ref().is_none_or(|(other, _)| *other != codec) {
            *parsed = Some((codec, codec.decode(&inbound.payload)?));
        }
        let payload = match parsed {
            Some((_, decoded)) if guard.reads_payload => decoded.scope(),
            _ => ScopePayload::Bytes,
        };
        Let::bind(&self.keys.lets.all, &guard.lets, &scope(inbound, payload, steps), &mut |scope| {
            guard.expr.test(scope).map_err(|fault| refusal("when", &guard.expr, *fault))
        })
    }

    /// `None`: dropped.
    fn make(
        &self,
        inbound: &Inbound,
        decoded: Option<Decoded<'_>>,
        domain: &str,
        steps: &Cell<usize>,
    ) -> Result<Option<Made>, Rejection> {
        if matches!(self.action, Action::Drop) && self.from.schema.is_none() {
            return Ok(None);
        }
        if deletes(inbound) {
            let Action::Envelope(plan) = &self.action else { return Ok(None) };
            return self.delete(plan, inbound, domain, steps).map(Some);
        }
        let decoded = match decoded {
            Some(decoded) => decoded,
            None => self.from.decode.decode(&inbound.payload)?,
        };
        if let (Some(schema), Some(json)) = (&self.from.schema, decoded.tree()) {
            schema.check(json).map_err(|violation| {
                let detail = format!("payload: {}", violation.detail);
                Rejection::new(RejectKind::Malformed, "mapping.from.schema", detail).at(violation.pointer)
            })?;
        }
        let Action::Envelope(plan) = &self.action else { return Ok(None) };
        let (scope, lets) = (scope(inbound, decoded.scope(), steps), &self.keys.lets);
        let fill = |scope: &Scope<'_>| self.fill(plan, scope, inbound, domain);
        let mut made = match lets.all.is_empty() {
            true => fill(&scope),
            false => Let::bind(&lets.all, &lets.once, &scope, &mut |scope| fill(scope)),
        }?;
        if let Some(Group::One(envelope)) = &mut made.group
            && plan.goes_through()
        {
            // of bytes that nobody read only their sender can tell, unless the file does
            if matches!(decoded, Decoded::Bytes) && !plan.says_content_type() {
                envelope.datacontenttype = Some(one_to_one::content_type(inbound)?);
            }
            envelope.data = untouched(decoded, inbound);
        }
        Ok(Some(made))
    }

    /// An envelope without data, whatever the mapping's format and schema are: there is nothing that could be of them.
    fn delete(&self, plan: &Plan, inbound: &Inbound, domain: &str, steps: &Cell<usize>) -> Result<Made, Rejection> {
        if let Some(each) = &self.keys.each {
            return Err(nothing_to_read("each", each.expr.text()));
        }
        let scope = scope(inbound, ScopePayload::Nothing, steps);
        let lets = &self.keys.lets;
        Let::bind(&lets.all, &lets.once, &scope, &mut |scope| self.fill(plan, scope, inbound, domain))
    }

    /// Everything but a payload that goes through untouched.
    fn fill(&self, plan: &Plan, scope: &Scope<'_>, inbound: &Inbound, domain: &str) -> Result<Made, Rejection> {
        let mut scratch = String::with_capacity(128);
        scratch.push_str(&self.source_prefix);
        uri::write_segment(&mut scratch, &inbound.principal.id);
        let source: Arc<str> = scratch.as_str().into();
        let identity = self.keys.identity.as_ref().map(|expr| identity(expr, scope)).transpose()?;
        let parts = IdentityParts {
            domain,
            bridge: &inbound.bridge,
            principal: &inbound.principal.id,
            route: self.route.name(),
        };
        let id = identity.as_ref().unwrap_or(&inbound.identity).envelope_id(parts);
        let trace = inbound.trace.as_ref().map_or_else(TraceContext::root, TraceContext::child);
        let deletes = deletes(inbound);
        let mut envelope = |scope: &Scope<'_>, id| {
            let mut made = plan.envelope(scope, &mut scratch, id, source.clone(), trace.clone())?;
            made.hops.clone_from(&inbound.hops);
            if !deletes && let Some(data) = plan.data(scope, inbound.payload.len())? {
                made.data = data;
            }
            Ok(made)
        };
        let group = match &self.keys.each {
            None => Some(Group::One(envelope(scope, id)?)),
            Some(each) => self.items(each, plan, scope, |scope, number| envelope(scope, id.item(number)))?,
        };
        Ok(Made { group, identity })
    }

    fn items(
        &self,
        each: &Each,
        plan: &Plan,
        scope: &Scope<'_>,
        mut envelope: impl FnMut(&Scope<'_>, u32) -> Result<Envelope, Rejection>,
    ) -> Result<Option<Group>, Rejection> {
        let array = each.expr.to_array(scope).map_err(|fault| refusal("each", &each.expr, *fault))?;
        let count = array.as_array().map_or(0, |items| items.len());
        let too_large = |detail: String| {
            let rejection = Rejection::new(RejectKind::TooLarge, "mapping", format!("each: {detail}"));
            match &each.pointer {
                Some(pointer) => rejection.at(pointer.as_str()),
                None => rejection,
            }
        };
        if count > MAX_GROUP {
            return Err(too_large(format!("{count} items, the limit is {MAX_GROUP}")));
        }
        let (mut envelopes, mut bytes, lets) = (Vec::with_capacity(count), 0, &self.keys.lets);
        for (number, node) in (0_u32..).zip(array.as_array().into_iter().flatten()) {
            let item = Item { node, number: number as usize, array: each.pointer.as_deref() };
            let scope = Scope { item: Some(item), ..*scope };
            let made = Let::bind(&lets.all, &lets.per_item, &scope, &mut |scope| envelope(scope, number));
            let mut made = made.map_err(|rejection| in_item(rejection, item))?;
            if plan.goes_through() {
                made.data = Data::Opaque(node.json().bytes().slice_ref(node.source().as_bytes()));
            }
            bytes += weight(&made);
            if bytes > MAX_OUTPUT {
                return Err(too_large(format!("the items make more than {MAX_OUTPUT} bytes")));
            }
            envelopes.push(made);
        }
        Ok((!envelopes.is_empty()).then_some(Group::Many(envelopes)))
    }
}

/// Whether the message deletes the last value of its topic (MQTT 5.0, section 3.3.1.3): whatever format the mapping
/// decodes, there is nothing in it.
fn deletes(inbound: &Inbound) -> bool {
    inbound.retain && inbound.payload.is_empty()
}

fn nothing_to_read(field: &str, expr: &str) -> Rejection {
    let detail = format!("{field}: {expr} reads the payload, and a message that deletes a last value has none");
    Rejection::new(RejectKind::Malformed, "mapping", detail)
}

/// The bytes of an envelope that a message decides on.
fn weight(envelope: &Envelope) -> usize {
    let optional = [&envelope.performative, &envelope.partitionkey, &envelope.classification];
    let attributes: usize = optional.into_iter().flatten().chain(&envelope.residency).map(|text| text.len()).sum();
    let talk = envelope.conversation.as_deref().map_or(0, |conversation| {
        let single = [&conversation.id, &conversation.inreplyto].into_iter().flatten();
        single.chain(&conversation.recipients).map(|text| text.len()).sum()
    });
    let origin = envelope
        .origin
        .as_deref()
        .map_or(0, |origin| [&origin.id, &origin.source].into_iter().flatten().map(|text| text.len()).sum());
    let head = envelope.subject.as_str().len() + envelope.source.len() + attributes + talk + origin;
    envelope.data.as_slice().len() + head
}

/// Says which item it is about.
fn in_item(mut rejection: Rejection, item: Item<'_>) -> Rejection {
    rejection.detail = format!("item {}: {}", item.number, rejection.detail);
    match (&rejection.pointer, item.array) {
        (None, Some(array)) => rejection.at(format!("{array}/{}", item.number)),
        _ => rejection,
    }
}

/// What the sender calls the message.
fn identity(expr: &Expr, scope: &Scope<'_>) -> Result<Identity, Rejection> {
    const MAX: usize = 1_024;
    let refuse = |problem: String| {
        let detail = format!("identity: {}: {problem}", expr.text());
        Rejection::new(RejectKind::Malformed, "mapping", detail)
    };
    let text = expr.to_text(scope).map_err(|fault| refusal("identity", expr, *fault))?;
    match text.len() {
        0 => Err(refuse("it is empty".to_owned())),
        1..=MAX => Ok(Identity::Native(Bytes::copy_from_slice(text.as_bytes()))),
        size => Err(refuse(format!("it has {size} bytes, the limit is {MAX}"))),
    }
}

/// The payload as it came; what was parsed stays parsed.
fn untouched(decoded: Decoded<'_>, inbound: &Inbound) -> Data {
    match decoded {
        Decoded::Json(json) => Data::Json(Arc::new(json)),
        Decoded::Tree(_) | Decoded::Text(_) | Decoded::Bytes => Data::Opaque(inbound.payload.clone()),
    }
}
