//! What of a policy is known at load: the principals, actions and resources it is about, and what of a message it reads.
//!
//! By it a request is decided by the few policies that can apply. A policy whose scope does not match says nothing and
//! can't fail, so leaving it out never changes a decision.

use std::sync::Arc;

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};
use envelope::Principal;
use serde_json::Value;

use super::{Action, condition::Condition, load::name};
use crate::config::AccessConfig;

/// A policy and its scope.
#[derive(Debug)]
pub(super) struct Scoped {
    pub(super) policy: Policy,
    /// As decisions name it.
    pub(super) name: Arc<str>,
    /// Compiled; `None`: Cedar is asked.
    pub(super) condition: Option<Condition>,
    pub(super) actions: Vec<Action>,
    pub(super) permits: bool,
    pub(super) reads: Reads,
    who: Who,
    what: What,
}

/// What a policy reads that is not the same for every message with the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reads {
    /// Fields of the data.
    pub(super) data: bool,
    /// The clock.
    pub(super) time: bool,
    /// What is known of a message, and not of a filter: its schema, its performative, its topic's name.
    pub(super) message: bool,
}

#[derive(Debug)]
enum Who {
    Anybody,
    Principal(String),
    Role(String),
    Domain(String),
    Nobody,
}

#[derive(Debug)]
enum What {
    Anything,
    Is(&'static str),
    At(&'static str, String),
    Below(&'static str, String),
    Nothing,
}

/// What a decision is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Resource<'r> {
    /// A topic, or what of a filter comes before its first wildcard: empty for `#`.
    Topic(&'r str),
    /// This gateway, by its domain.
    Gateway(&'r str),
}

// === impl Scoped ===

impl Scoped {
    pub(super) fn new(policy: Policy, config: &AccessConfig) -> Self {
        let actions = Action::ALL.into_iter().filter(|action| is_about(&policy.action_constraint(), *action)).collect();
        let who = match policy.principal_constraint() {
            PrincipalConstraint::Any => Who::Anybody,
            PrincipalConstraint::Is(_) => Who::Anybody,
            PrincipalConstraint::Eq(uid) => match kind(&uid) {
                "Principal" => Who::Principal(id(&uid)),
                _ => Who::Nobody,
            },
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => match kind(&uid) {
                "Principal" => Who::Principal(id(&uid)),
                "Role" => Who::Role(id(&uid)),
                "Domain" => Who::Domain(id(&uid)),
                _ => Who::Nobody,
            },
        };
        let what = match policy.resource_constraint() {
            ResourceConstraint::Any => What::Anything,
            ResourceConstraint::Is(name) => resource(&name.to_string()).map_or(What::Nothing, What::Is),
            ResourceConstraint::Eq(uid) => resource(kind(&uid)).map_or(What::Nothing, |kind| What::At(kind, id(&uid))),
            ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                resource(kind(&uid)).map_or(What::Nothing, |kind| What::Below(kind, id(&uid)))
            }
        };
        let permits = policy.effect() == Effect::Permit;
        // what can't be looked into is taken to read everything
        let json = policy.to_json().ok();
        let reads = json.as_ref().map_or(Reads { data: true, time: true, message: true }, Reads::of);
        let condition = json.as_ref().and_then(|json| Condition::compile(json, config));
        Self { name: name(policy.id()), condition, policy, actions, permits, reads, who, what }
    }

    /// Whether its scope matches. A reserved topic is reached only by a permit that names it, or what is above it but
    /// reserved as well.
    pub(super) fn is_about(&self, principal: &Principal, resource: Resource<'_>) -> bool {
        let reserved = matches!(resource, Resource::Topic(topic) if topic.starts_with('$'));
        if reserved && self.permits && !self.what.is_reserved() {
            return false;
        }
        self.who.is(principal) && self.what.is(resource)
    }
}

fn is_about(constraint: &ActionConstraint, action: Action) -> bool {
    let names = |uid: &EntityUid| {
        let name = uid.id().unescaped();
        name == action.word() || (name == Action::GROUP && action.sends())
    };
    match constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid.id().unescaped() == action.word(),
        ActionConstraint::In(uids) => uids.iter().any(names),
    }
}

fn resource(kind: &str) -> Option<&'static str> {
    ["Topic", "Gateway"].into_iter().find(|name| *name == kind)
}

fn kind(uid: &EntityUid) -> &str {
    uid.type_name().basename()
}

fn id(uid: &EntityUid) -> String {
    uid.id().unescaped().to_owned()
}

// === impl Who ===

impl Who {
    fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Anybody => true,
            Self::Principal(id) => *principal.id == **id,
            Self::Role(role) => principal.has_role(role),
            Self::Domain(domain) => *principal.domain == **domain,
            Self::Nobody => false,
        }
    }
}

// === impl What ===

impl What {
    fn is(&self, resource: Resource<'_>) -> bool {
        let (kind, name) = match resource {
            Resource::Topic(name) => ("Topic", name),
            Resource::Gateway(name) => ("Gateway", name),
        };
        match self {
            Self::Anything => true,
            Self::Is(own) => *own == kind,
            Self::At(own, id) => *own == kind && id == name,
            Self::Below(own, id) => *own == kind && is_below(name, id),
            Self::Nothing => false,
        }
    }

    fn is_reserved(&self) -> bool {
        match self {
            Self::At(_, id) | Self::Below(_, id) => id.starts_with('$'),
            Self::Anything | Self::Is(_) | Self::Nothing => false,
        }
    }
}

pub(super) fn is_below(name: &str, above: &str) -> bool {
    name.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

// === impl Reads ===

impl Reads {
    /// From a policy in Cedar's JSON notation.
    fn of(json: &Value) -> Self {
        let mut reads = Self::default();
        reads.visit(json);
        reads
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { data: self.data || other.data, time: self.time || other.time, message: self.message || other.message }
    }

    fn visit(&mut self, json: &Value) {
        match json {
            Value::Array(items) => items.iter().for_each(|item| self.visit(item)),
            Value::Object(members) => {
                for (name, value) in members {
                    self.visit_member(name, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn visit_member(&mut self, name: &str, value: &Value) {
        let of = |variable: &str| value["left"]["Var"] == variable;
        match (name, value["attr"].as_str()) {
            ("." | "has", Some(attribute)) if of("context") => match attribute {
                "data" => self.data = true,
                "time" => self.time = true,
                "schema" | "performative" => self.message = true,
                // the bridge, and values of the policy file: the same for all
                _ => {}
            },
            ("." | "has", _) if of("resource") => self.message = true,
            // the context as a whole is everything in it
            ("Var", _) if value == "context" => *self = Self { data: true, time: true, message: true },
            _ => self.visit(value),
        }
    }
}
