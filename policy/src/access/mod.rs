//! ACCESS: whether a principal may do this, by the Cedar policies of the folder `policies`.
//!
//! Fails closed: what no policy permits is refused, and so is what a policy that applies can't be asked about. A refusal
//! names the policy that decided. At ingress each envelope is decided on; a subscription is decided on when it is opened,
//! and each of its deliveries again, so a wildcard hands out nothing that its subscriber may not read.
//!
//! `scope` finds the few policies that can apply, `decisions` what was decided before; Cedar itself is asked for the rest.

mod ask;
mod condition;
mod decision;
mod decisions;
mod extent;
mod load;
mod names;
mod request;
mod rules;
mod schema;
mod scope;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use cedar_policy::Authorizer;
use envelope::{Envelope, Filter, INBOX, Principal};

use self::{
    decisions::{Decisions, Known},
    scope::{Resource, Scoped},
};
use crate::config::AccessConfig;

pub use decision::Decision;
pub use load::PolicySource;
pub use names::KnownNames;
pub(crate) use rules::{MayRead, MaySend};

/// The performative of an envelope that has none.
const NO_PERFORMATIVE: &str = "none";

/// What a principal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Brings in what is neither of the next two.
    Publish,
    /// Brings in what asks for an answer.
    Request,
    /// Brings in what answers.
    Reply,
    /// Reads what passes on a topic.
    Subscribe,
    /// Looks at the gateway itself.
    View,
    /// Changes the gateway itself.
    Administer,
}

/// The Cedar policies of one load. Without any, nothing is permitted.
pub struct Policies {
    scoped: Vec<Scoped>,
    /// Places in `scoped`.
    by_action: BTreeMap<Action, Vec<usize>>,
    config: AccessConfig,
    decisions: Decisions,
    authorizer: Authorizer,
}

/// What is decided on.
struct Question<'q> {
    principal: &'q Arc<Principal>,
    action: Action,
    resource: Resource<'q>,
    schema: Option<&'q str>,
    performative: Option<&'q str>,
    bridge: Option<&'q str>,
}

// === impl Action ===

impl Action {
    /// The three that bring a message in, as policies call them together.
    const GROUP: &'static str = "send";
    const ALL: [Self; 6] = [Self::Publish, Self::Request, Self::Reply, Self::Subscribe, Self::View, Self::Administer];

    /// As policies write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Request => "request",
            Self::Reply => "reply",
            Self::Subscribe => "subscribe",
            Self::View => "view",
            Self::Administer => "administer",
        }
    }

    const fn sends(self) -> bool {
        match self {
            Self::Publish | Self::Request | Self::Reply => true,
            Self::Subscribe | Self::View | Self::Administer => false,
        }
    }

    /// What its sender does with this envelope.
    pub fn of(envelope: &Envelope) -> Self {
        let conversation = envelope.conversation.as_deref();
        if conversation.is_some_and(|conversation| conversation.inreplyto.is_some()) {
            return Self::Reply;
        }
        let asks = matches!(envelope.performative.as_deref(), Some("request" | "query"));
        if asks || conversation.is_some_and(|conversation| conversation.replyto.is_some()) {
            return Self::Request;
        }
        Self::Publish
    }
}

// === impl Policies ===

impl Policies {
    fn new(scoped: Vec<Scoped>, config: AccessConfig) -> Self {
        let about = |action| {
            let places = scoped.iter().enumerate().filter(|(_, scoped)| scoped.actions.contains(&action));
            (action, places.map(|(at, _)| at).collect())
        };
        let by_action = Action::ALL.into_iter().map(about).collect();
        Self { scoped, by_action, config, decisions: Decisions::new(), authorizer: Authorizer::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.scoped.len()
    }

    /// Whether nothing can be permitted.
    pub fn is_empty(&self) -> bool {
        self.scoped.is_empty()
    }

    /// Whether the principal may send this envelope, which came through `bridge`.
    pub fn may_send(&self, principal: &Arc<Principal>, envelope: &Envelope, bridge: &str) -> Decision {
        self.message(principal, Action::of(envelope), (envelope.subject.as_str(), envelope), bridge)
    }

    /// Whether the principal may send every envelope like this one, whatever its data is.
    pub(crate) fn may_send_any(&self, principal: &Arc<Principal>, envelope: &Envelope, bridge: &str) -> bool {
        let question = Question {
            principal,
            action: Action::of(envelope),
            resource: Resource::Topic(envelope.subject.as_str()),
            schema: Some(&envelope.kind),
            performative: Some(envelope.performative.as_deref().unwrap_or(NO_PERFORMATIVE)),
            bridge: Some(bridge),
        };
        let candidates = self.candidates(&question).map(|(_, scoped)| scoped);
        let (later, now): (Vec<_>, Vec<_>) = candidates.partition(|scoped| scoped.reads.data);
        later.iter().all(|scoped| scoped.permits)
            && matches!(self.decide_by(&question, &now, None), Decision::Permitted(_))
    }

    /// Whether the principal may be handed this envelope through `bridge`: as a subscriber of its topic, or where no policy
    /// permits that and none forbids it, in its inbox.
    pub fn may_read(&self, principal: &Arc<Principal>, envelope: &Envelope, bridge: &str) -> Decision {
        let of_topic = self.message(principal, Action::Subscribe, (envelope.subject.as_str(), envelope), bridge);
        let is_for = envelope.recipients().iter().any(|recipient| has_inbox(principal, recipient));
        if of_topic != Decision::NotPermitted || !is_for {
            return of_topic;
        }
        let inbox = format!("{INBOX}{}", principal.id);
        self.message(principal, Action::Subscribe, (&inbox, envelope), bridge)
    }

    /// Whether the principal may open a subscription: some of what it selects may be permitted, and not all of it is
    /// forbidden. What depends on the messages is decided with each of them. An inbox is its principal's, whatever policies
    /// permit.
    pub fn may_open(&self, principal: &Arc<Principal>, filter: &Filter, bridge: &str) -> Decision {
        if filter.inbox().is_some_and(|inbox| !has_inbox(principal, inbox)) {
            return Decision::NotPermitted;
        }
        let prefix = prefix(filter);
        let question = Question {
            principal,
            action: Action::Subscribe,
            resource: Resource::Topic(prefix),
            schema: None,
            performative: None,
            bridge: Some(bridge),
        };
        let depends = |scoped: &&Scoped| scoped.reads.data || scoped.reads.message;
        let (later, now): (Vec<_>, Vec<_>) = self.candidates(&question).map(|(_, scoped)| scoped).partition(depends);
        match self.decide_by(&question, &now, None) {
            // a permit that reads the messages may permit some of them
            Decision::NotPermitted => match later.into_iter().find(|scoped| scoped.permits) {
                Some(scoped) => Decision::Permitted(scoped.name.clone()),
                None => Decision::NotPermitted,
            },
            decided => decided,
        }
    }

    /// Whether the principal may look at or change the gateway of this domain.
    pub fn may_administer(&self, principal: &Arc<Principal>, action: Action, domain: &str) -> Decision {
        let resource = Resource::Gateway(domain);
        let question = Question { principal, action, resource, schema: None, performative: None, bridge: None };
        let candidates: Vec<_> = self.candidates(&question).map(|(_, scoped)| scoped).collect();
        self.decide_by(&question, &candidates, None)
    }

    fn message(
        &self,
        principal: &Arc<Principal>,
        action: Action,
        (topic, envelope): (&str, &Envelope),
        bridge: &str,
    ) -> Decision {
        let question = Question {
            principal,
            action,
            resource: Resource::Topic(topic),
            schema: Some(&envelope.kind),
            performative: Some(envelope.performative.as_deref().unwrap_or(NO_PERFORMATIVE)),
            bridge: Some(bridge),
        };
        let known = self.decisions.get(&question).unwrap_or_else(|| {
            let known = self.look(&question);
            self.decisions.put(&question, known.clone());
            known
        });
        match known {
            Known::Decided(decision) => decision,
            Known::Asks(asks) => self.ask_of(&asks, &question, envelope),
        }
    }

    /// The policies whose scope matches.
    fn candidates<'p>(&'p self, question: &'p Question<'_>) -> impl Iterator<Item = (usize, &'p Scoped)> {
        let places = self.by_action.get(&question.action).into_iter().flatten();
        let scoped = places.filter_map(|at| Some((*at, self.scoped.get(*at)?)));
        scoped.filter(|(_, scoped)| scoped.is_about(question.principal, question.resource))
    }
}

/// Whether the inbox of this name is the principal's. Who has no name has none: it would be everybody's.
fn has_inbox(principal: &Principal, name: &str) -> bool {
    *principal.id == *name && name != Principal::ANONYMOUS
}

/// What comes before the first wildcard.
fn prefix(filter: &Filter) -> &str {
    let text = filter.as_str();
    match text.find(['+', '#']) {
        Some(wildcard) => text[..wildcard].trim_end_matches('/'),
        None => text,
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self::new(Vec::new(), AccessConfig::default())
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").field("policies", &self.len()).finish_non_exhaustive()
    }
}

// === impl Question ===

impl Question<'_> {
    fn texts(&self) -> [&str; 4] {
        let (Resource::Topic(topic) | Resource::Gateway(topic)) = self.resource;
        let text = Option::unwrap_or_default;
        [topic, text(self.schema), text(self.performative), text(self.bridge)]
    }
}
