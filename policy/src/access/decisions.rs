//! Decisions that were made: found again by all that they depend on.
//!
//! They live as long as their policies: another epoch begins with none. What depends on the data or on the time is not
//! kept, but what was prepared for it is.

use std::{
    hash::{Hash, Hasher, RandomState},
    sync::Arc,
};

use envelope::Principal;
use quick_cache::{
    Equivalent, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::{Action, Decision, Question, ask::Asks, scope::Resource};

/// What is known of a question.
#[derive(Debug, Clone)]
pub(super) enum Known {
    Decided(Decision),
    /// Depends on the message: what to ask.
    Asks(Arc<Asks>),
}

/// All that a decision depends on.
#[derive(Debug, Clone)]
pub(super) struct Key {
    principal: Arc<Principal>,
    action: Action,
    topic: Arc<str>,
    schema: Arc<str>,
    performative: Arc<str>,
    bridge: Arc<str>,
}

/// Bounded by weight, which is about 64 bytes a unit.
#[derive(Debug, Clone, Copy)]
struct Weight;

/// The decisions of one epoch.
#[derive(Debug)]
pub(super) struct Decisions(Cache<Key, Known, Weight, RandomState>);

/// About 16 MiB.
const CAPACITY: u64 = 262_144;
/// Of prepared entities and policies.
const ASKS: u64 = 64;

// === impl Decisions ===

impl Decisions {
    pub(super) fn new() -> Self {
        Self(Cache::with(4_096, CAPACITY, Weight, RandomState::new(), DefaultLifecycle::default()))
    }

    pub(super) fn get(&self, question: &Question<'_>) -> Option<Known> {
        self.0.get(question)
    }

    pub(super) fn put(&self, question: &Question<'_>, known: Known) {
        let text = |text: Option<&str>| text.unwrap_or_default().into();
        let Resource::Topic(topic) = question.resource else { return };
        let key = Key {
            principal: question.principal.clone(),
            action: question.action,
            topic: topic.into(),
            schema: text(question.schema),
            performative: text(question.performative),
            bridge: text(question.bridge),
        };
        self.0.insert(key, known);
    }
}

// === impl Weight ===

impl Weighter<Key, Known> for Weight {
    fn weight(&self, key: &Key, known: &Known) -> u64 {
        let own = match known {
            Known::Decided(_) => 4,
            Known::Asks(_) => ASKS,
        };
        own + ((key.topic.len() + key.schema.len() + key.performative.len()) / 64) as u64
    }
}

// === impl Key ===

// Of a principal only what tells most apart; all of it is compared.
fn hash(state: &mut impl Hasher, principal: &Principal, action: Action, texts: [&str; 4]) {
    principal.id.hash(state);
    principal.expires.hash(state);
    action.hash(state);
    texts.hash(state);
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(state, &self.principal, self.action, [&self.topic, &self.schema, &self.performative, &self.bridge]);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.principal == other.principal
            && self.action == other.action
            && self.topic == other.topic
            && self.schema == other.schema
            && self.performative == other.performative
            && self.bridge == other.bridge
    }
}

impl Eq for Key {}

impl Hash for Question<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(state, self.principal, self.action, self.texts());
    }
}

impl Equivalent<Key> for Question<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        // the same allocation most of the time
        let principal = Arc::ptr_eq(self.principal, &key.principal) || **self.principal == *key.principal;
        let [topic, schema, performative, bridge] = self.texts();
        principal
            && self.action == key.action
            && *topic == *key.topic
            && *schema == *key.schema
            && *performative == *key.performative
            && *bridge == *key.bridge
    }
}
