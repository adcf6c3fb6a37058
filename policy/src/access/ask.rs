//! Asking the policies: what can be decided once is, and of each message only what reads it is asked.
//!
//! Of a question whose policies read the data, those that do not have said their part when it was first asked. The others
//! are asked as compiled [`Condition`](super::condition::Condition)s; Cedar is asked for those that could not be compiled, and
//! for all of them where one gives no answer, so that what fails fails as Cedar says it.

use std::sync::Arc;

use cedar_policy::{AuthorizationError, Context, Decision as Answer, PolicySet, Request};
use envelope::{Attribute, Envelope, Timestamp};

use super::{
    Decision, Policies, Question,
    condition::World,
    decision::Said,
    decisions::Known,
    load::name,
    request::{self, RequestError, Subject},
    scope::{Reads, Scoped},
};

/// What is asked for each message.
#[derive(Debug)]
pub(super) struct Asks {
    /// What those said that read no message.
    settled: Said,
    /// Those that are asked here: by their places.
    own: Vec<usize>,
    /// Those that Cedar is asked for.
    rest: Option<PolicySet>,
    /// Both.
    all: PolicySet,
    subject: Subject,
    reads: Reads,
}

impl Policies {
    /// What can be known of a question without its message.
    pub(super) fn look(&self, question: &Question<'_>) -> Known {
        let candidates: Vec<_> = self.candidates(question).collect();
        let later = |(_, scoped): &(usize, &Scoped)| scoped.reads.data || scoped.reads.time;
        let (later, now): (Vec<_>, Vec<_>) = candidates.into_iter().partition(later);
        let now: Vec<_> = now.into_iter().map(|(_, scoped)| scoped).collect();
        if later.is_empty() {
            return Known::Decided(self.decide_by(question, &now, None));
        }
        match self.asks(question, &later, &now) {
            Ok(asks) => Known::Asks(Arc::new(asks)),
            Err(error) => Known::Decided(undecided(&error)),
        }
    }

    fn asks(&self, question: &Question<'_>, later: &[(usize, &Scoped)], now: &[&Scoped]) -> Result<Asks, RequestError> {
        let subject = Subject::of(question, &self.config)?;
        let settled = self.said(&slice(now)?, &subject, None, None)?;
        let (own, rest): (Vec<_>, Vec<_>) = later.iter().partition(|(_, scoped)| scoped.condition.is_some());
        let policies = |some: &[(usize, &Scoped)]| slice(&some.iter().map(|(_, scoped)| *scoped).collect::<Vec<_>>());
        Ok(Asks {
            settled,
            own: own.into_iter().map(|(at, _)| at).collect(),
            rest: if rest.is_empty() { None } else { Some(policies(&rest)?) },
            all: policies(later)?,
            subject,
            reads: later.iter().fold(Reads::default(), |reads, (_, scoped)| reads.and(scoped.reads)),
        })
    }

    /// The decision on one message.
    pub(super) fn ask_of(&self, asks: &Asks, question: &Question<'_>, envelope: &Envelope) -> Decision {
        match self.say_of(asks, question, envelope) {
            Ok(said) => said.decision(),
            Err(error) => undecided(&error),
        }
    }

    fn say_of(&self, asks: &Asks, question: &Question<'_>, envelope: &Envelope) -> Result<Said, RequestError> {
        let fields = match asks.reads.data {
            true => Some(request::fields(&envelope.data, &self.config)?),
            false => None,
        };
        let time = || asks.reads.time.then(Timestamp::now);
        let Some(said) = self.own(asks, question, fields.as_deref()) else {
            return Ok(self.said(&asks.all, &asks.subject, time(), fields.as_deref())?.and(&asks.settled));
        };
        match &asks.rest {
            None => Ok(said),
            Some(rest) => Ok(self.said(rest, &asks.subject, time(), fields.as_deref())?.and(&said)),
        }
    }

    /// What is settled, and what the compiled ones say; `None` if one of them gives no answer.
    fn own(&self, asks: &Asks, question: &Question<'_>, fields: Option<&[Option<Attribute>]>) -> Option<Said> {
        let mut said = asks.settled.clone();
        let [topic, schema, performative, bridge] = question.texts();
        let fields = fields.unwrap_or_default();
        let (principal, action) = (&**question.principal, question.action);
        let world = World { principal, action, topic, schema, performative, bridge, fields };
        for at in &asks.own {
            let scoped = self.scoped.get(*at)?;
            if scoped.condition.as_ref()?.holds(&world)? {
                if scoped.permits {
                    said.permit(&scoped.name);
                } else {
                    said.forbid(&scoped.name);
                }
            }
        }
        Some(said)
    }

    /// The decision of Cedar by these policies alone.
    pub(super) fn decide_by(
        &self,
        question: &Question<'_>,
        candidates: &[&Scoped],
        envelope: Option<&Envelope>,
    ) -> Decision {
        if candidates.is_empty() {
            return Decision::NotPermitted;
        }
        let reads = candidates.iter().fold(Reads::default(), |reads, scoped| reads.and(scoped.reads));
        let said = || {
            let subject = Subject::of(question, &self.config)?;
            let fields = match envelope.filter(|_| reads.data) {
                Some(envelope) => Some(request::fields(&envelope.data, &self.config)?),
                None => None,
            };
            self.said(&slice(candidates)?, &subject, reads.time.then(Timestamp::now), fields.as_deref())
        };
        match said() {
            Ok(said) => said.decision(),
            Err(error) => undecided(&error),
        }
    }

    /// What Cedar says. A policy that fails is left out by it, so it is looked for.
    fn said(
        &self,
        slice: &PolicySet,
        subject: &Subject,
        time: Option<Timestamp>,
        fields: Option<&[Option<Attribute>]>,
    ) -> Result<Said, RequestError> {
        let mut said = Said::default();
        if slice.is_empty() {
            return Ok(said);
        }
        let context: Context =
            subject.context(time, fields.map(|fields| request::record(fields, &self.config)).transpose()?)?;
        let Subject { principal, action, resource, entities, .. } = subject;
        let request = Request::new(principal.clone(), action.clone(), resource.clone(), context, None)
            .map_err(|_| RequestError::Entities)?;
        let response = self.authorizer.is_authorized(&request, slice, entities);
        let fails = response.diagnostics().errors().map(|error| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            (name(error.policy_id()), Arc::from(error.inner().to_string()))
        });
        said.fails = fails.min();
        for policy in response.diagnostics().reason().map(name) {
            match response.decision() {
                Answer::Allow => said.permit(&policy),
                Answer::Deny => said.forbid(&policy),
            }
        }
        Ok(said)
    }
}

fn slice(scoped: &[&Scoped]) -> Result<PolicySet, RequestError> {
    PolicySet::from_policies(scoped.iter().map(|scoped| scoped.policy.clone())).map_err(|_| RequestError::Entities)
}

fn undecided(error: &RequestError) -> Decision {
    Decision::Undecided(None, error.to_string().into())
}
