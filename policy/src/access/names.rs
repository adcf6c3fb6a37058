//! Names in policies that nothing has: a bridge, a schema, a performative or a declared role that is misspelled permits nothing, and, which is
//! worse, forbids nothing.

use cedar_policy::EntityUid;
use yaml::{Diagnostic, Source, Span, nearest};

use super::request::above_schema;
use crate::config::AccessConfig;

/// What there is, as far as a gateway knows it. What is left out is not looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct KnownNames<'k> {
    /// Bridges of this gateway.
    pub bridges: Option<&'k [&'k str]>,
    /// Schemas, by their whole names.
    pub schemas: Option<&'k [&'k str]>,
    /// Performatives.
    pub performatives: Option<&'k [&'k str]>,
}

/// Types of the mesh itself, which need no schema.
const OWN_TYPES: &str = "mesh";

// === impl KnownNames ===

impl KnownNames<'_> {
    /// Tells of a literal that nothing has the name of.
    pub(super) fn check(&self, uid: &EntityUid, config: &AccessConfig, source: &Source) -> Option<Diagnostic> {
        let (kind, id) = (uid.type_name().basename(), uid.id().unescaped());
        let (what, known) = match kind {
            "Role" => {
                let (message, help) = config.attributes.unknown_role(id)?;
                return Some(told(uid, source, message, help));
            }
            "Bridge" => ("bridge", self.bridges?.to_vec()),
            "Performative" => ("performative", self.performatives?.to_vec()),
            "Schema" => {
                let whole = self.schemas?.iter().copied();
                ("schema", whole.clone().chain(whole.flat_map(above_schema)).collect())
            }
            _ => return None,
        };
        let own = match kind {
            "Performative" => id == super::NO_PERFORMATIVE || id.starts_with("x-"),
            "Schema" => id == OWN_TYPES || above_schema(id).any(|above| above == OWN_TYPES),
            _ => false,
        };
        if own || known.contains(&id) {
            return None;
        }
        let shown: String = id.chars().take(64).collect();
        let help = nearest(id, &known).map(|near| format!("did you mean {near:?}?"));
        Some(told(uid, source, format!("there is no {what} {shown:?}, so this is never so"), help))
    }
}

/// At the first place where the name is.
fn told(uid: &EntityUid, source: &Source, message: String, help: Option<String>) -> Diagnostic {
    let literal = format!("{}::\"{}\"", uid.type_name().basename(), uid.id().unescaped());
    let start = source.text().find(&literal).unwrap_or_default();
    let end = if source.text().contains(&literal) { start + literal.len() } else { start };
    let diagnostic = source.diagnostic(Span { start, end }, "unknown-name", message);
    match help {
        Some(help) => diagnostic.with_help(help),
        None => diagnostic,
    }
}
