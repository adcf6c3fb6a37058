//! ACCESS: whether a principal may do this, by the Cedar policies of the folder `policies`.
//!
//! Fails closed: what no policy permits is refused, and so is what a policy that applies can't be asked about. A refusal
//! names the policy that decided. At ingress each envelope is decided on; a subscription is decided on when it is opened,
//! and each of its deliveries again, so a wildcard hands out nothing that its subscriber may not read.
//!
//! `scope` finds the few policies that can apply, `decisions` what was decided before; Cedar itself is asked for the rest.

mod decisions;
mod load;
mod request;
mod schema;
mod scope;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use cedar_policy::{Authorizer, Decision as Answer, Entities, PolicySet, Request, Response};
use envelope::{Envelope, Filter, Mapped, Outgoing, Principal, RejectKind, Rejection, Timestamp};

use self::{
    decisions::{Asks, Decisions, Known},
    load::name,
    request::{RequestError, Subject},
    scope::{Reads, Resource, Scoped},
};
use crate::{Epoch, config::AccessConfig, lift::Rule};

pub use load::PolicySource;

const DECIDED_BY: &str = "access";
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

/// What was decided, and by which policy: `FILE#NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// By this policy.
    Permitted(Arc<str>),
    /// By this policy, whatever others permit.
    Forbidden(Arc<str>),
    /// By none.
    NotPermitted,
    /// This policy, or all that apply, can't be asked: why.
    Undecided(Option<Arc<str>>, Arc<str>),
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

/// Refuses what its sender may not send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaySend;

/// Refuses what its receiver may not read.
#[derive(Debug, Clone)]
pub(crate) struct MayRead {
    bridge: Arc<str>,
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
        self.message(principal, Action::of(envelope), envelope, bridge)
    }

    /// Whether the principal may be handed this envelope through `bridge`.
    pub fn may_read(&self, principal: &Arc<Principal>, envelope: &Envelope, bridge: &str) -> Decision {
        self.message(principal, Action::Subscribe, envelope, bridge)
    }

    /// Whether the principal may open a subscription: some of what it selects may be permitted, and not all of it is
    /// forbidden. What depends on the messages is decided with each of them.
    pub fn may_open(&self, principal: &Arc<Principal>, filter: &Filter, bridge: &str) -> Decision {
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
        let (later, now): (Vec<_>, Vec<_>) = self.candidates(&question).partition(depends);
        match self.decide_by(&question, &now, None) {
            // a permit that reads the messages may permit some of them
            Decision::NotPermitted => match later.into_iter().find(|scoped| scoped.permits) {
                Some(scoped) => Decision::Permitted(name(scoped.policy.id())),
                None => Decision::NotPermitted,
            },
            decided => decided,
        }
    }

    /// Whether the principal may look at or change the gateway of this domain.
    pub fn may_administer(&self, principal: &Arc<Principal>, action: Action, domain: &str) -> Decision {
        let resource = Resource::Gateway(domain);
        let question = Question { principal, action, resource, schema: None, performative: None, bridge: None };
        let candidates: Vec<_> = self.candidates(&question).collect();
        self.decide_by(&question, &candidates, None)
    }

    fn message(&self, principal: &Arc<Principal>, action: Action, envelope: &Envelope, bridge: &str) -> Decision {
        let question = Question {
            principal,
            action,
            resource: Resource::Topic(envelope.subject.as_str()),
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
            Known::Asks(asks) => self.ask(&asks, Some(envelope)),
        }
    }

    /// What can be known of a question without its message.
    fn look(&self, question: &Question<'_>) -> Known {
        let candidates: Vec<_> = self.candidates(question).collect();
        match self.asks(question, &candidates) {
            Ok(None) => Known::Decided(Decision::NotPermitted),
            Ok(Some(asks)) if asks.reads.data || asks.reads.time => Known::Asks(Arc::new(asks)),
            Ok(Some(asks)) => Known::Decided(self.ask(&asks, None)),
            Err(error) => Known::Decided(undecided(&error)),
        }
    }

    fn decide_by(&self, question: &Question<'_>, candidates: &[&Scoped], envelope: Option<&Envelope>) -> Decision {
        match self.asks(question, candidates) {
            Ok(None) => Decision::NotPermitted,
            Ok(Some(asks)) => self.ask(&asks, envelope),
            Err(error) => undecided(&error),
        }
    }

    /// The policies whose scope matches.
    fn candidates<'p>(&'p self, question: &'p Question<'_>) -> impl Iterator<Item = &'p Scoped> {
        let places = self.by_action.get(&question.action).into_iter().flatten();
        let scoped = places.filter_map(|at| self.scoped.get(*at));
        scoped.filter(|scoped| scoped.is_about(question.principal, question.resource))
    }

    /// `None`: no policy applies, so there is nothing to ask.
    fn asks(&self, question: &Question<'_>, candidates: &[&Scoped]) -> Result<Option<Asks>, RequestError> {
        if candidates.is_empty() {
            return Ok(None);
        }
        let policies = candidates.iter().map(|scoped| scoped.policy.clone());
        let slice = PolicySet::from_policies(policies).map_err(|_| RequestError::Entities)?;
        let reads = candidates.iter().fold(Reads::default(), |reads, scoped| reads.and(scoped.reads));
        Ok(Some(Asks { slice, subject: Subject::of(question, &self.config)?, reads }))
    }

    fn ask(&self, asks: &Asks, envelope: Option<&Envelope>) -> Decision {
        let Asks { slice, subject, reads } = asks;
        let data = match envelope.filter(|_| reads.data) {
            Some(envelope) => request::data(&envelope.data, &self.config).map(Some),
            None => Ok(None),
        };
        let time = reads.time.then(Timestamp::now);
        let context = data.and_then(|data| subject.context(time, data));
        let context = match context {
            Ok(context) => context,
            Err(error) => return undecided(&error),
        };
        let Subject { principal, action, resource, entities, .. } = subject;
        match Request::new(principal.clone(), action.clone(), resource.clone(), context, None) {
            Ok(request) => self.answer(&request, slice, entities),
            Err(_) => undecided(&RequestError::Entities),
        }
    }

    /// A policy that fails is left out by Cedar; here it refuses, for it may be the one that forbids.
    fn answer(&self, request: &Request, slice: &PolicySet, entities: &Entities) -> Decision {
        let response = self.authorizer.is_authorized(request, slice, entities);
        if let Some(error) = response.diagnostics().errors().next() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            return Decision::Undecided(Some(name(error.policy_id())), error.inner().to_string().into());
        }
        match (response.decision(), first_reason(&response)) {
            (Answer::Allow, Some(policy)) => Decision::Permitted(policy),
            (Answer::Deny, Some(policy)) => Decision::Forbidden(policy),
            (Answer::Allow | Answer::Deny, None) => Decision::NotPermitted,
        }
    }
}

/// Of several, the first by name, so that the same is said each time.
fn first_reason(response: &Response) -> Option<Arc<str>> {
    response.diagnostics().reason().min().map(name)
}

/// What comes before the first wildcard.
fn prefix(filter: &Filter) -> &str {
    let text = filter.as_str();
    match text.find(['+', '#']) {
        Some(wildcard) => text[..wildcard].trim_end_matches('/'),
        None => text,
    }
}

fn undecided(error: &RequestError) -> Decision {
    Decision::Undecided(None, error.to_string().into())
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

// === impl Decision ===

impl Decision {
    /// Whether it may be done.
    pub fn is_permitted(&self) -> bool {
        matches!(self, Self::Permitted(_))
    }

    /// The policy that decided, if one did.
    pub fn policy(&self) -> Option<&Arc<str>> {
        match self {
            Self::Permitted(policy) | Self::Forbidden(policy) | Self::Undecided(Some(policy), _) => Some(policy),
            Self::NotPermitted | Self::Undecided(None, _) => None,
        }
    }

    /// Refuses what is not permitted. `what` is what was to be done.
    pub fn into_result(self, principal: &Principal, what: impl FnOnce() -> String) -> Result<(), Rejection> {
        let (policy, detail) = match self {
            Self::Permitted(_) => return Ok(()),
            Self::Forbidden(policy) => {
                let detail = format!("{:?} is forbidden to {}", principal.id, what());
                (Some(policy), detail)
            }
            Self::NotPermitted => (None, format!("no policy permits {:?} to {}", principal.id, what())),
            Self::Undecided(policy, why) => {
                let detail = format!("whether {:?} may {} can't be decided: {why}", principal.id, what());
                (policy, detail)
            }
        };
        let rejection = Rejection::new(RejectKind::Denied, DECIDED_BY, detail);
        Err(match policy {
            Some(policy) => rejection.by_policy(&policy),
            None => rejection,
        })
    }
}

// === impl MaySend ===

impl Rule<Mapped> for MaySend {
    /// One refused envelope refuses its group.
    fn check(&self, epoch: &Epoch, mapped: &Mapped) -> Result<(), Rejection> {
        mapped.group.as_slice().iter().try_for_each(|envelope| {
            let decision = epoch.policies.may_send(&mapped.principal, envelope, &mapped.bridge);
            decision.into_result(&mapped.principal, || what(Action::of(envelope), envelope))
        })
    }
}

// === impl MayRead ===

impl MayRead {
    pub(crate) fn new(bridge: Arc<str>) -> Self {
        Self { bridge }
    }
}

impl Rule<Outgoing> for MayRead {
    fn check(&self, epoch: &Epoch, outgoing: &Outgoing) -> Result<(), Rejection> {
        let Outgoing { to, delivery } = outgoing;
        let decision = epoch.policies.may_read(to, &delivery.envelope, &self.bridge);
        decision.into_result(to, || what(Action::Subscribe, &delivery.envelope))
    }
}

fn what(action: Action, envelope: &Envelope) -> String {
    let by = envelope.performative.as_deref().map(|verb| format!(" as {verb}")).unwrap_or_default();
    format!("{} {:?} on {:?}{by}", action.word(), envelope.kind, envelope.subject.as_str())
}
