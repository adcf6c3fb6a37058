//! Refuses data a place where it may not be: this gateway, its store, a bridge, a receiver.
//!
//! A label is the jurisdictions that may hold or carry an envelope, one of which a place has to be in. Every envelope is
//! labelled once, behind MAPPING, and keeps its label in the store. Asked at ingress, before storage, and at every
//! egress, again each time: the places may have changed since. Nothing of what is refused here is kept.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use envelope::{Envelope, Mapped, Outgoing, Principal, RejectKind, Rejection};

pub use config::{Labels, ResidencyConfig};

use crate::{Epoch, lift::Rule};

pub(crate) const DECIDED_BY: &str = "residency";

/// Checks the places of the ingress: this gateway, the bridge it came by, the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Residency;

/// Checks the places of one bridge's egress: the bridge and whoever receives.
#[derive(Debug, Clone)]
pub(crate) struct EgressResidency {
    pub(crate) bridge: Arc<str>,
}

// === impl Residency ===

impl Rule<Mapped> for Residency {
    /// One refused envelope refuses its group.
    fn check(&self, epoch: &Epoch, message: &Mapped) -> Result<(), Rejection> {
        message.group.as_slice().iter().try_for_each(|envelope| may_be_here(epoch, envelope, &message.bridge))
    }
}

/// Whether this gateway, the bridge it came by and the store may have it.
fn may_be_here(epoch: &Epoch, envelope: &Envelope, bridge: &str) -> Result<(), Rejection> {
    may_pass(epoch, envelope, bridge)?;
    let Some(label) = label_of(epoch, envelope) else { return Ok(()) };
    let store = epoch.access.residency.store.as_deref().unwrap_or(epoch.jurisdictions());
    may_be(label, store, || "the store".to_owned())
}

/// Whether this gateway and the bridge it came by may have it.
fn may_pass(epoch: &Epoch, envelope: &Envelope, bridge: &str) -> Result<(), Rejection> {
    let Some(label) = label_of(epoch, envelope) else { return Ok(()) };
    may_be(label, epoch.jurisdictions(), || "this gateway".to_owned())?;
    may_be(label, place_of(epoch, bridge), || format!("bridge {bridge:?}"))
}

/// Labels an envelope that is still to be made, and says whether it may be here.
pub(crate) fn may_be_kept(
    epoch: &Epoch,
    sender: &Principal,
    envelope: &mut Envelope,
    bridge: &str,
) -> Result<(), Rejection> {
    label_one(epoch, sender, envelope)?;
    may_be_here(epoch, envelope, bridge)
}

// === impl EgressResidency ===

impl Rule<Outgoing> for EgressResidency {
    fn check(&self, epoch: &Epoch, outgoing: &Outgoing) -> Result<(), Rejection> {
        may_go_to(epoch, &outgoing.delivery.envelope, &self.bridge, &outgoing.to)
    }
}

/// Whether a bridge, and who receives by it, may have it.
pub(crate) fn may_go_to(epoch: &Epoch, envelope: &Envelope, bridge: &str, to: &Principal) -> Result<(), Rejection> {
    let Some(label) = label_of(epoch, envelope) else { return Ok(()) };
    may_be(label, place_of(epoch, bridge), || format!("bridge {bridge:?}"))?;
    match &to.jurisdiction {
        Some(place) => may_be(label, std::slice::from_ref(place), || "the receiver".to_owned()),
        None => Ok(()),
    }
}

/// Labels what is passed on without being stored, and says whether it may come here by this bridge.
pub(crate) fn may_be_handed_in(
    epoch: &Epoch,
    sender: &Principal,
    envelope: &mut Envelope,
    bridge: &str,
) -> Result<(), Rejection> {
    label_one(epoch, sender, envelope)?;
    may_pass(epoch, envelope, bridge)
}

/// Labels what the mapping left without one, or whose schema is stricter: an envelope keeps the label that it is stored
/// with. Refuses what nothing could be labelled with.
///
/// The labels of the mapping and of the schema hold both. Where neither says anything it is where the sender is, and then
/// the default.
pub(crate) fn label(epoch: &Epoch, message: &mut Mapped) -> Result<(), Rejection> {
    let Mapped { group, principal, .. } = message;
    group.as_mut_slice().iter_mut().try_for_each(|envelope| label_one(epoch, principal, envelope))
}

fn label_one(epoch: &Epoch, principal: &Principal, envelope: &mut Envelope) -> Result<(), Rejection> {
    let schema = epoch.schemas.get(&envelope.kind).map(schema::Schema::residency).unwrap_or_default();
    if !envelope.residency.is_empty() {
        let both = |label: &Arc<str>| schema.is_empty() || schema.contains(label);
        if envelope.residency.iter().all(both) {
            return Ok(());
        }
        let given = std::mem::take(&mut envelope.residency);
        envelope.residency = given.iter().filter(|label| both(label)).cloned().collect();
        if envelope.residency.is_empty() {
            let kind = &envelope.kind;
            return Err(refuse(format!(
                "no place is in {} and in {}, which data of type {kind:?} has to be",
                listed(&given),
                listed(schema)
            )));
        }
        return Ok(());
    }
    if !schema.is_empty() {
        envelope.residency = schema.to_vec();
    } else if let Some(place) = &principal.jurisdiction {
        envelope.residency = vec![place.clone()];
    } else if let Some(default) = &epoch.access.residency.default {
        envelope.residency = default.to_vec();
    }
    Ok(())
}

/// Where an envelope may be; `None` if anywhere. What was stored without a label has the default of now.
fn label_of<'e>(epoch: &'e Epoch, envelope: &'e Envelope) -> Option<&'e [Arc<str>]> {
    match &envelope.residency[..] {
        [] => epoch.access.residency.default.as_deref(),
        label => Some(label),
    }
}

/// Where the peers of a bridge are.
fn place_of<'e>(epoch: &'e Epoch, bridge: &str) -> &'e [Arc<str>] {
    epoch.access.residency.bridges.get(bridge).map_or(epoch.jurisdictions(), |labels| labels)
}

fn may_be(label: &[Arc<str>], place: &[Arc<str>], what: impl FnOnce() -> String) -> Result<(), Rejection> {
    if place.iter().any(|at| label.contains(at)) {
        return Ok(());
    }
    let at = if place.is_empty() { "no declared jurisdiction".to_owned() } else { listed(place) };
    Err(refuse(format!("the data may be in {}, and {} is in {at}", listed(label), what())))
}

fn listed(labels: &[Arc<str>]) -> String {
    /// The most that are shown of a list that a sender may have made.
    const SHOWN: usize = 8;
    let shown: Vec<_> = labels.iter().take(SHOWN).map(|label| label.get(..64).unwrap_or(label)).collect();
    let more = if labels.len() > SHOWN { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn refuse(detail: String) -> Rejection {
    Rejection::new(RejectKind::Denied, DECIDED_BY, detail)
}
