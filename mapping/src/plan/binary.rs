//! Data of an envelope that is no JSON: what the payload has in base64, and what data says that it is.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use envelope::{RejectKind, Rejection};
use yaml::{Fields, Node, Problems};

use super::{
    refusal,
    talk::{Said, Which},
};
use crate::{
    expr::{Expr, Names, Scope},
    proof::Place,
    template::Template,
};

/// `data_base64` and `content_type`.
#[derive(Debug, Default)]
pub(super) struct Binary {
    pub(super) base64: Option<Template>,
    pub(super) content_type: Option<Said>,
}

pub(super) const BASE64: &str = "envelope.data_base64";

// === impl Binary ===

impl Binary {
    /// Reports everything that is wrong with what the file says. `each`: the envelopes are made of the items of an array.
    pub(super) fn read(
        node: &Node,
        fields: &mut Fields<'_, '_>,
        each: bool,
        names: Names<'_>,
        problems: &Problems,
    ) -> Option<Self> {
        let before = problems.len();
        let base64 = fields.entry("data_base64").map(|(key, found)| {
            for other in ["data", "schema"].iter().filter(|other| node.get(other).is_some()) {
                let message = format!("either \"data_base64\", which are bytes, or {other:?}");
                problems.report(key.span, "contradiction", message);
            }
            Template::read(found, names, problems)
        });
        let content_type = fields.entry("content_type").map(|(key, found)| {
            if node.get("data").is_some() || each && base64.is_none() {
                let message = "\"content_type\" says nothing of data that is made here: it is JSON";
                problems.report(key.span, "contradiction", message);
            }
            Said::read(found, Which::ContentType, names, problems)
        });
        let read = Self { base64: base64.flatten(), content_type: content_type.flatten() };
        (problems.len() == before).then_some(read)
    }

    /// All its expressions.
    pub(super) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let content_type = self.content_type.iter().map(|said| &said.template);
        self.base64.iter().chain(content_type).flat_map(Template::exprs)
    }

    /// Each text, with what it is called and where it goes, for the proof.
    pub(super) fn texts_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Template, Place)> {
        let base64 = self.base64.iter_mut().map(|template| (BASE64, template, Place::Optional));
        let content_type = self.content_type.iter_mut();
        base64.chain(content_type.map(|said| (said.of.field(), &mut said.template, said.of.place())))
    }

    /// The data of one message, if the file says what that is; empty or `null` is none at all.
    pub(super) fn data(&self, scope: &Scope<'_>) -> Result<Option<Bytes>, Rejection> {
        let Some(template) = &self.base64 else { return Ok(None) };
        let mut text = String::new();
        match template {
            Template::Whole(expr) => {
                let found = expr.to_texts(scope, false, 1).map_err(|fault| refusal(BASE64, expr, *fault))?;
                found.iter().for_each(|found| text.push_str(found));
            }
            template => {
                let written = template.write(scope, &mut text, |_| Ok(()));
                written.map_err(|(expr, fault)| refusal(BASE64, expr, *fault))?;
            }
        }
        match STANDARD.decode(&text) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => {
                let detail = format!("{BASE64}: no base64 (RFC 4648, padded): {error}");
                Err(Rejection::new(RejectKind::Malformed, "mapping", detail).because(error))
            }
        }
    }
}
