//! What a mapping says of whom an envelope answers, is for and comes from: `conversation`, `inreplyto`, `recipients`,
//! `originid` and `originsource`.
//!
//! No sender has to say any of these, so a value that is empty or `null` leaves its attribute out.

use std::sync::Arc;

use envelope::{Conversation, EnvelopeId, Origin, RejectKind, Rejection};
use yaml::{Fields, Kind, Node, Problems};

use super::{MAX_ATTRIBUTE, control, refusal};
use crate::{
    expr::{Expr, Names, Scope},
    proof::Place,
    template::Template,
};

/// The most recipients of one envelope.
const MAX_RECIPIENTS: usize = 64;
/// The longest name of a recipient, in bytes.
const MAX_RECIPIENT: usize = 256;

/// What a file says of a conversation; at least one of them.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    conversation: Option<Said>,
    inreplyto: Option<Said>,
    originid: Option<Said>,
    originsource: Option<Said>,
    recipients: Vec<Said>,
}

/// An attribute that a message may leave out.
#[derive(Debug)]
pub(crate) struct Said {
    pub(super) of: Which,
    pub(super) template: Template,
    fixed: Option<Arc<str>>,
}

/// Which attribute it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Conversation,
    InReplyTo,
    OriginId,
    OriginSource,
    Recipients,
    ContentType,
}

// === impl Talk ===

impl Talk {
    /// Reports everything that is wrong with what the file says; the inner `None`: it says nothing of it.
    pub(super) fn read(
        fields: &mut Fields<'_, '_>,
        names: Names<'_>,
        problems: &Problems,
    ) -> Option<Option<Box<Self>>> {
        let mut one = |of: Which| match fields.optional(of.key()) {
            Some(node) => Said::read(node, of, names, problems).map(Some),
            None => Some(None),
        };
        let conversation = one(Which::Conversation);
        let inreplyto = one(Which::InReplyTo);
        let originid = one(Which::OriginId);
        let originsource = one(Which::OriginSource);
        let recipients = match fields.optional(Which::Recipients.key()) {
            Some(node) => recipients(node, names, problems),
            None => Some(Vec::new()),
        };
        let talk = Self {
            conversation: conversation?,
            inreplyto: inreplyto?,
            originid: originid?,
            originsource: originsource?,
            recipients: recipients?,
        };
        let says = talk.all().next().is_some();
        Some(says.then(|| Box::new(talk)))
    }

    /// Everything that the file says, in the order of the manual.
    fn all(&self) -> impl Iterator<Item = &Said> {
        let single = [&self.conversation, &self.inreplyto];
        let origin = [&self.originid, &self.originsource];
        single.into_iter().flatten().chain(&self.recipients).chain(origin.into_iter().flatten())
    }

    /// The same, for the proof.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Said> {
        let single = [&mut self.conversation, &mut self.inreplyto];
        let origin = [&mut self.originid, &mut self.originsource];
        single.into_iter().flatten().chain(&mut self.recipients).chain(origin.into_iter().flatten())
    }

    /// All its expressions.
    pub(super) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.all().flat_map(|said| said.template.exprs())
    }

    /// Whether what an envelope answers is known without its payload.
    pub(super) fn answers_without_payload(&self) -> bool {
        self.inreplyto.as_ref().is_none_or(|said| said.template.needs_no_payload())
    }

    /// What an envelope answers, and nothing else of its conversation.
    pub(super) fn answered(&self, scope: &Scope<'_>) -> Result<Option<Box<Conversation>>, Rejection> {
        let inreplyto = self.inreplyto.as_ref().map(|said| said.one(scope)).transpose()?.flatten();
        Ok(inreplyto.map(|id| Box::new(Conversation { inreplyto: Some(id), ..Conversation::default() })))
    }

    /// The conversation of one message, if it is of any.
    pub(super) fn conversation(&self, scope: &Scope<'_>) -> Result<Option<Box<Conversation>>, Rejection> {
        let one = |said: &Option<Said>| said.as_ref().map(|said| said.one(scope)).transpose().map(Option::flatten);
        let (id, inreplyto) = (one(&self.conversation)?, one(&self.inreplyto)?);
        let mut recipients: Vec<Arc<str>> = Vec::new();
        for said in &self.recipients {
            for name in said.each(scope)? {
                if recipients.contains(&name) {
                    continue;
                }
                if recipients.len() == MAX_RECIPIENTS {
                    let problem = format!("more than {MAX_RECIPIENTS} recipients, which is the limit");
                    return Err(said.of.refuse(RejectKind::TooLarge, &problem));
                }
                recipients.push(name);
            }
        }
        if id.is_none() && inreplyto.is_none() && recipients.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(Conversation { id, inreplyto, recipients, ..Conversation::default() })))
    }

    /// What the sender's own event said of itself, if it said anything.
    pub(super) fn origin(&self, scope: &Scope<'_>) -> Result<Option<Box<Origin>>, Rejection> {
        let one = |said: &Option<Said>| said.as_ref().map(|said| said.one(scope)).transpose().map(Option::flatten);
        let (id, source) = (one(&self.originid)?, one(&self.originsource)?);
        Ok((id.is_some() || source.is_some()).then(|| Box::new(Origin { id, source })))
    }
}

/// One or a list of them.
fn recipients(node: &Node, names: Names<'_>, problems: &Problems) -> Option<Vec<Said>> {
    let Kind::List(items) = &node.kind else {
        return Said::read(node, Which::Recipients, names, problems).map(|one| vec![one]);
    };
    if items.is_empty() || items.len() > MAX_RECIPIENTS {
        let message = format!("expected 1 to {MAX_RECIPIENTS} recipients, found {}", items.len());
        problems.report(node.span, "out-of-range", message);
        return None;
    }
    let read: Vec<_> = items.iter().map(|item| Said::read(item, Which::Recipients, names, problems)).collect();
    read.into_iter().collect()
}

// === impl Said ===

impl Said {
    pub(super) fn read(node: &Node, of: Which, names: Names<'_>, problems: &Problems) -> Option<Self> {
        let template = Template::read(node, names, problems)?;
        let mut fixed = None;
        if let Some(text) = template.literal() {
            match of.checked(text) {
                Ok(Some(text)) => fixed = Some(text),
                Ok(None) => {
                    problems.report(node.span, "attribute", "an attribute is not empty");
                    return None;
                }
                Err((_, problem)) => {
                    problems.report(node.span, "attribute", problem);
                    return None;
                }
            }
        }
        Some(Self { of, template, fixed })
    }

    /// Its value for one message; `None`: there is none.
    pub(super) fn one(&self, scope: &Scope<'_>) -> Result<Option<Arc<str>>, Rejection> {
        if let Some(fixed) = &self.fixed {
            return Ok(Some(fixed.clone()));
        }
        let mut values = Vec::with_capacity(1);
        self.put(scope, false, &mut values)?;
        Ok(values.pop())
    }

    /// Its values for one message: those of an array are several.
    fn each(&self, scope: &Scope<'_>) -> Result<Vec<Arc<str>>, Rejection> {
        if let Some(fixed) = &self.fixed {
            return Ok(vec![fixed.clone()]);
        }
        let mut values = Vec::new();
        self.put(scope, true, &mut values)?;
        Ok(values)
    }

    fn put(&self, scope: &Scope<'_>, several: bool, values: &mut Vec<Arc<str>>) -> Result<(), Rejection> {
        let mut put = |text: &str| {
            values.extend(self.of.checked(text).map_err(|(kind, problem)| self.of.refuse(kind, &problem))?);
            Ok(())
        };
        match &self.template {
            Template::Whole(expr) => {
                let fault = |fault| refusal(self.of.field(), expr, fault);
                let found = expr.to_texts(scope, several, MAX_RECIPIENTS).map_err(|found| fault(*found))?;
                found.iter().try_for_each(|text| put(text))
            }
            template => {
                let mut text = String::new();
                let written = template.write(scope, &mut text, |_| Ok(()));
                written.map_err(|(expr, found)| refusal(self.of.field(), expr, *found))?;
                put(&text)
            }
        }
    }
}

// === impl Which ===

impl Which {
    const fn key(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::InReplyTo => "inreplyto",
            Self::OriginId => "originid",
            Self::OriginSource => "originsource",
            Self::Recipients => "recipients",
            Self::ContentType => "content_type",
        }
    }

    /// As errors and proofs call it.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Conversation => "envelope.conversation",
            Self::InReplyTo => "envelope.inreplyto",
            Self::OriginId => "envelope.originid",
            Self::OriginSource => "envelope.originsource",
            Self::Recipients => "envelope.recipients",
            Self::ContentType => "envelope.content_type",
        }
    }

    /// Where its values go, for the proof.
    pub(super) const fn place(self) -> Place {
        match self {
            Self::Conversation | Self::OriginId | Self::OriginSource | Self::ContentType => Place::Optional,
            Self::InReplyTo => Place::Id,
            Self::Recipients => Place::Names,
        }
    }

    /// The attribute as it is kept; `None`: it is empty and so not there.
    fn checked(self, text: &str) -> Result<Option<Arc<str>>, (RejectKind, String)> {
        let most = if self == Self::Recipients { MAX_RECIPIENT } else { MAX_ATTRIBUTE };
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() > most {
            let what = if self == Self::Recipients { "a recipient" } else { "an attribute" };
            return Err((RejectKind::TooLarge, format!("{what} has at most {most} bytes, this has {}", text.len())));
        }
        if let Some(c) = control(text) {
            return Err((RejectKind::Malformed, format!("{c:?} is not allowed in an attribute")));
        }
        if self != Self::InReplyTo {
            return Ok(Some(text.into()));
        }
        match EnvelopeId::parse(text) {
            Some(id) => Ok(Some(id.to_string().into())),
            None => {
                let shown: String = text.chars().take(64).collect();
                Err((RejectKind::Malformed, format!("{shown:?} is no id of an envelope")))
            }
        }
    }

    fn refuse(self, kind: RejectKind, problem: &str) -> Rejection {
        Rejection::new(kind, "mapping", format!("{}: {problem}", self.field()))
    }
}
