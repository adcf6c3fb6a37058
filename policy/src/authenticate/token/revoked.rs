//! Tokens that count no more, though their time is not over: a file beside the policies, read again whenever it changes.

use std::{collections::HashSet, sync::Arc};

use yaml::{Diagnostics, Fields, File, Node, Problems};

/// Which tokens of an issuer are refused.
///
/// ```yaml
/// ids: [f3a9c1]            # the tokens with this jti
/// subjects: [eve]          # every token of this principal
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revoked {
    ids: HashSet<Arc<str>>,
    subjects: HashSet<Arc<str>>,
}

/// The longest `jti`, in bytes.
pub(super) const MAX_ID: usize = 256;

// === impl Revoked ===

impl Revoked {
    /// Reads the file's text; `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Diagnostics> {
        File::parse(name, text)?.read(read)
    }

    /// Whether a token with this `jti`, if it has one, of this principal counts no more.
    pub(super) fn names(&self, id: Option<&str>, subject: &str) -> bool {
        id.is_some_and(|id| self.ids.contains(id)) || self.subjects.contains(subject)
    }
}

fn read(root: &Node, problems: &Problems) -> Option<Revoked> {
    if root.is_null() {
        return Some(Revoked::default());
    }
    let mut fields = Fields::of(root, problems)?;
    let ids = fields.optional("ids").map_or(Some(HashSet::new()), |node| texts(node, problems));
    let subjects = fields.optional("subjects").map_or(Some(HashSet::new()), |node| texts(node, problems));
    fields.finish();
    Some(Revoked { ids: ids?, subjects: subjects? })
}

fn texts(node: &Node, problems: &Problems) -> Option<HashSet<Arc<str>>> {
    let text = |item: &Node| {
        let text = item.non_empty(problems)?;
        if text.len() > MAX_ID {
            let message = format!("{} bytes, limit is {MAX_ID}: no token has that", text.len());
            problems.report(item.span, "too-large", message);
            return None;
        }
        Some(Arc::from(text))
    };
    let read: Vec<_> = node.list(problems)?.iter().map(text).collect();
    read.into_iter().collect()
}
