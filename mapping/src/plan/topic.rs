//! The topic of an envelope: whose shape the file says, and never a sender.
//!
//! The one exception is an answer. A file that says `inreplyto` may send to a topic below `$mesh/reply/`: who waits for the
//! answer is found by it, and nobody can guess one.

use envelope::{RejectKind, Rejection, Topic};
use yaml::{Node, Problems};

use super::{control, refusal};
use crate::{
    expr::{Names, Scope},
    proof::Place,
    template::Template,
};

/// The topic.
#[derive(Debug)]
pub(crate) struct TopicPlan {
    /// As the file writes it.
    pub(crate) text: Box<str>,
    pub(super) template: Template,
    fixed: Option<Topic>,
    answers: Answers,
}

/// Whether what a file makes may be an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// It does not say what it answers.
    Never,
    /// The message chooses: the topic is one value, and may be one that answers are sent to.
    Maybe,
    /// The topic begins with [`Topic::REPLIES`].
    Always,
}

// === impl TopicPlan ===

impl TopicPlan {
    /// Stands for a value in [`Self::shape`].
    pub(crate) const ANY: char = Template::ANY;
    pub(super) const FIELD: &str = "envelope.topic";

    /// `answers`: the file says what its envelope answers.
    pub(super) fn read(node: &Node, answers: bool, names: Names<'_>, problems: &Problems) -> Option<Self> {
        let text = node.non_empty(problems)?;
        let template = Template::read(node, names, problems)?;
        let fixed = match template.literal().map(Topic::new).transpose() {
            Ok(fixed) => fixed,
            Err(error) => {
                problems.report(node.span, "topic", error.to_string());
                return None;
            }
        };
        let to_replies = text.starts_with(Topic::REPLIES);
        let answers = match (&template, answers) {
            (Template::Mixed(_), true) if to_replies => Answers::Always,
            (Template::Whole(_), true) => Answers::Maybe,
            _ => Answers::Never,
        };
        let reserved =
            fixed.as_ref().is_some_and(Topic::is_reserved) || text.starts_with('$') && !text.starts_with("${");
        if reserved && answers != Answers::Always {
            let message = "a topic that begins with '$' is reserved";
            match to_replies {
                true => {
                    let help = "an answer says \"inreplyto\", and its topic is a value of the message: no two requests have the same";
                    problems.report_with_help(node.span, "topic", message, help);
                }
                false => problems.report(node.span, "topic", message),
            }
            return None;
        }
        Some(Self { text: text.into(), template, fixed, answers })
    }

    /// Whether all that is made of it are answers.
    pub(crate) fn is_for_answers(&self) -> bool {
        self.answers == Answers::Always
    }

    /// Where its values go, for the proof.
    pub(super) fn place(&self) -> Place {
        match self.answers {
            Answers::Maybe => Place::Answer,
            Answers::Never | Answers::Always => Place::Topic,
        }
    }

    /// The topic with [`Self::ANY`] for each value that is put into it.
    pub(crate) fn shape(&self) -> String {
        self.template.shape()
    }

    /// The topic of one message. What a message puts into it is one segment or a part of one: a sender chooses a value,
    /// never the shape of the topic, but for one that answers are sent to.
    pub(crate) fn of(&self, scope: &Scope<'_>, scratch: &mut String) -> Result<Topic, Rejection> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        scratch.clear();
        let may_answer = self.answers == Answers::Maybe;
        let fits = |value: &str| if may_answer && value.starts_with(Topic::REPLIES) { Ok(()) } else { segment(value) };
        self.template.write(scope, scratch, fits).map_err(|(expr, fault)| refusal(Self::FIELD, expr, *fault))?;
        let topic = Topic::new(scratch.as_str()).map_err(|error| {
            Rejection::new(RejectKind::Malformed, "mapping", format!("{}: {error}", Self::FIELD)).because(error)
        })?;
        let answers = self.answers != Answers::Never && topic.takes_answers();
        if topic.is_reserved() && !answers {
            let detail = format!("{}: a topic that begins with '$' is reserved", Self::FIELD);
            return Err(Rejection::new(RejectKind::Denied, "mapping", detail));
        }
        Ok(topic)
    }
}

/// What a value that is put into a topic has none of: it would shape the topic, or can't stand in one.
pub(crate) fn is_shape(c: char) -> bool {
    matches!(c, '/' | '+' | '#') || c.is_control()
}

/// What may be put into a topic.
fn segment(value: &str) -> Result<(), String> {
    let shapes = || value.bytes().find(|b| matches!(b, b'/' | b'+' | b'#')).map(char::from);
    match shapes().or_else(|| control(value)) {
        Some(c) => Err(format!("{c:?} is not allowed in what is put into a topic")),
        None if value.is_empty() => Err("nothing at all is not allowed in a topic".to_owned()),
        None => Ok(()),
    }
}
