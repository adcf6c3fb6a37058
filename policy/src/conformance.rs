//! Refuses envelopes whose data is not what their type says.
//!
//! Fails closed: a type whose schema is not loaded is refused, for nobody can tell what it should look like. Only data of
//! the type `mesh/opaque@v1.0.0` passes unread. So is an envelope of a protocol whose package is not loaded: nobody could
//! tell what may be said in it next. No package can be loaded yet.

use std::sync::Arc;

use envelope::{Envelope, Mapped, Outgoing, RejectKind, Rejection};

use crate::{Epoch, lift::Rule};

pub(crate) const DECIDED_BY: &str = "conformance";

/// The type of data that no schema describes.
pub(crate) const OPAQUE: &str = "mesh/opaque@v1.0.0";

/// The most that is shown of a protocol's name, in bytes.
const MAX_SHOWN: usize = 200;

/// Checks data against the schema its envelope names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conformance;

// === impl Conformance ===

impl Rule<Mapped> for Conformance {
    /// One refused envelope refuses its group.
    fn check(&self, epoch: &Epoch, message: &Mapped) -> Result<(), Rejection> {
        let retained = message.retain;
        let envelopes = message.group.as_slice();
        envelopes.iter().enumerate().try_for_each(|(item, envelope)| {
            conforms(epoch, envelope, retained).map_err(|mut rejection| {
                if envelopes.len() > 1 {
                    rejection.detail = format!("envelope {item} of the group: {}", rejection.detail);
                }
                rejection
            })
        })
    }
}

impl Rule<Outgoing> for Conformance {
    fn check(&self, epoch: &Epoch, outgoing: &Outgoing) -> Result<(), Rejection> {
        conforms(epoch, &outgoing.delivery.envelope, outgoing.delivery.retained)
    }
}

/// Whether an answer is what its type says, and of the type that was asked for, if one was.
pub(crate) fn answers(epoch: &Epoch, answer: &Envelope, wanted: Option<&Arc<str>>) -> Result<(), Rejection> {
    let kind = &*answer.kind;
    match wanted {
        Some(wanted) if **wanted != *kind => {
            Err(refuse(format!("an answer of type {wanted:?} was asked for, not {kind:?}")))
        }
        Some(_) | None => conforms(epoch, answer, false),
    }
}

/// What is to be its topic's last value and has no data deletes that: there is nothing that could be of its type.
fn conforms(epoch: &Epoch, envelope: &Envelope, retained: bool) -> Result<(), Rejection> {
    if let Some(protocol) = envelope.conversation.as_ref().and_then(|conversation| conversation.protocol.as_deref()) {
        let shown = &protocol[..protocol.floor_char_boundary(MAX_SHOWN)];
        return Err(refuse(format!("no package of protocol {shown:?} is loaded")));
    }
    let kind = &*envelope.kind;
    if let Some(dataschema) = &envelope.dataschema {
        agrees(kind, dataschema)?;
    } else if kind == OPAQUE {
        return Ok(());
    }
    if retained && envelope.data.as_slice().is_empty() {
        return Ok(());
    }
    let schema = epoch.schemas.get(kind).ok_or_else(|| refuse(format!("no schema {kind:?} is loaded")))?;
    let json = envelope.data.json().map_err(|error| refuse(format!("data of type {kind:?}: {error}")))?;
    schema.check(&json).map_err(|violation| refuse(violation.detail).at(violation.pointer))
}

/// `dataschema` is the absolute name of the type: `mesh://<domain>/schemas/<type>`.
fn agrees(kind: &str, dataschema: &str) -> Result<(), Rejection> {
    let path = dataschema.strip_prefix("mesh://").and_then(|rest| rest.split_once('/'));
    match path.and_then(|(_, path)| path.strip_prefix("schemas/")) {
        Some(name) if name == kind => Ok(()),
        _ => Err(refuse(format!("dataschema {dataschema:?} is not the schema of type {kind:?}"))),
    }
}

fn refuse(detail: String) -> Rejection {
    Rejection::new(RejectKind::Malformed, DECIDED_BY, detail)
}
