//! JSON Schema's equality over our tree: numbers by value, objects in any order.

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hash, Hasher, RandomState},
};

use envelope::json::{Node, View};
use serde_json::Value;

use crate::number::{Decimal, Number};

/// Up to this many elements are compared in pairs.
const FEW: usize = 12;

/// A value as a key: equal and hashed by meaning. The hash is keyed, so nobody can choose collisions.
struct ByMeaning<'a, 'k> {
    node: Node<'a>,
    keys: &'k RandomState,
}

/// Whether no two of the elements are equal.
pub(crate) fn all_differ<'a>(mut elements: impl ExactSizeIterator<Item = Node<'a>> + Clone) -> bool {
    if elements.len() <= FEW {
        while let Some(first) = elements.next() {
            if elements.clone().any(|other| equal(first, other)) {
                return false;
            }
        }
        return true;
    }
    let keys = RandomState::new();
    let mut seen = HashSet::with_capacity_and_hasher(elements.len(), keys.clone());
    elements.all(|node| seen.insert(ByMeaning { node, keys: &keys }))
}

/// Whether two values of our tree are equal.
fn equal(a: Node<'_>, b: Node<'_>) -> bool {
    match (a.view(), b.view()) {
        (View::Null, View::Null) => true,
        (View::Bool(a), View::Bool(b)) => a == b,
        (View::Number(a), View::Number(b)) => a == b || Number(a).decimal() == Number(b).decimal(),
        (View::String(a), View::String(b)) => a == b,
        (View::Array(a), View::Array(b)) => a.len() == b.len() && a.zip(b).all(|(a, b)| equal(a, b)),
        (View::Object(mine), View::Object(others)) => mine.len() == others.len() && same_members(a, b),
        _ => false,
    }
}

/// Two objects of the same size: no quadratic search, whatever the order.
fn same_members(a: Node<'_>, b: Node<'_>) -> bool {
    sorted(a).into_iter().zip(sorted(b)).all(|((name, a), (other, b))| name == other && equal(a, b))
}

fn sorted(object: Node<'_>) -> Vec<(&str, Node<'_>)> {
    let mut members: Vec<_> = object.as_object().into_iter().flatten().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    members
}

/// Whether a value equals one of a schema.
pub(crate) fn equals(node: Node<'_>, expected: &Value) -> bool {
    match (node.view(), expected) {
        (View::Null, Value::Null) => true,
        (View::Bool(a), Value::Bool(b)) => a == *b,
        (View::Number(a), Value::Number(b)) => number_equals(a, b),
        (View::String(a), Value::String(b)) => a == b,
        (View::Array(a), Value::Array(b)) => a.len() == b.len() && a.zip(b).all(|(a, b)| equals(a, b)),
        (View::Object(a), Value::Object(b)) => {
            let mut members = a;
            members.len() == b.len() && members.all(|(name, a)| b.get(name).is_some_and(|b| equals(a, b)))
        }
        _ => false,
    }
}

fn number_equals(text: &str, expected: &serde_json::Number) -> bool {
    if Number(text).decimal() == Number(&expected.to_string()).decimal() {
        return true;
    }
    // The schema's own number was read as a double: then so must this one be.
    expected.is_f64() && text.parse().ok() == expected.as_f64()
}

// === impl ByMeaning ===

impl PartialEq for ByMeaning<'_, '_> {
    fn eq(&self, other: &Self) -> bool {
        equal(self.node, other.node)
    }
}

impl Eq for ByMeaning<'_, '_> {}

impl Hash for ByMeaning<'_, '_> {
    /// Recursion is bounded by the depth of a tree.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ByMeaning { node, keys } = *self;
        state.write(node.type_name().as_bytes());
        match node.view() {
            View::Null => {}
            View::Bool(value) => value.hash(state),
            View::Number(text) => Decimal::hash(&Number(text).decimal(), state),
            View::String(text) => text.hash(state),
            View::Array(items) => items.for_each(|node| ByMeaning { node, keys }.hash(state)),
            View::Object(members) => {
                let one = |(name, node)| keys.hash_one((name, ByMeaning { node, keys }));
                state.write_u64(members.map(one).fold(0, u64::wrapping_add));
            }
        }
    }
}
