//! Lets `jsonschema` read our tree in place.

use std::{borrow::Cow, ptr, sync::OnceLock};

use envelope::json::{Items, Members, Node};
use jsonschema::{
    JsonType,
    json::{self, Array, NodeIdentity, Object},
};
use jsonschema_value::LazyInstance;

use crate::{equality, number::Number};

/// [`envelope::Json`] as a representation of JSON.
pub(crate) struct Tree;

/// A value that is looked at: one of the tree, or a member's name by itself, for `propertyNames`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Node(Node<'a>),
    Name(&'a str),
}

/// An object's members.
pub(crate) struct Fields<'a>(Node<'a>, Members<'a>);

/// An array's elements.
pub(crate) struct Elements<'a>(Items<'a>);

// === impl Tree ===

impl json::Json for Tree {
    type Node<'a> = Value<'a>;
    type PreparedKey = Box<str>;
    type StringBuffer = ();

    /// A look-up is a walk over the members here, so one walk for all names is better, whatever their number.
    const KEYS_PER_LOOKUP: usize = 1 << 16;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> Box<str> {
        key.into()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(Value<'_>) -> T) -> T {
        f(Value::Name(string))
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    fn node(self) -> Option<Node<'a>> {
        match self {
            Self::Node(node) => Some(node),
            Self::Name(_) => None,
        }
    }
}

impl<'a> json::Node<'a, Tree> for Value<'a> {
    type Object = Fields<'a>;
    type Array = Elements<'a>;
    type Number = Number<'a>;

    fn as_object(&self) -> Option<Fields<'a>> {
        let node = self.node()?;
        node.as_object().map(|members| Fields(node, members))
    }

    fn as_array(&self) -> Option<Elements<'a>> {
        self.node()?.as_array().map(Elements)
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match *self {
            Self::Node(node) => node.as_str().map(Cow::Borrowed),
            Self::Name(name) => Some(Cow::Borrowed(name)),
        }
    }

    fn as_number(&self) -> Option<Number<'a>> {
        self.node()?.as_number().map(Number)
    }

    fn as_boolean(&self) -> Option<bool> {
        self.node()?.as_bool()
    }

    fn is_null(&self) -> bool {
        self.node().is_some_and(Node::is_null)
    }

    fn json_type(&self) -> JsonType {
        use envelope::json::View;
        match self.node().map(Node::view) {
            Some(View::Null) => JsonType::Null,
            Some(View::Bool(_)) => JsonType::Boolean,
            Some(View::Number(_)) => JsonType::Number,
            Some(View::String(_)) | None => JsonType::String,
            Some(View::Array(_)) => JsonType::Array,
            Some(View::Object(_)) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &serde_json::Value) -> bool {
        match *self {
            Self::Node(node) => equality::equals(node, expected),
            Self::Name(name) => expected.as_str() == Some(name),
        }
    }

    fn to_value(&self) -> Cow<'a, serde_json::Value> {
        Cow::Owned(match *self {
            Self::Node(node) => copy(node.source().as_bytes(), 0),
            Self::Name(name) => name.into(),
        })
    }

    fn lazy_value(&self) -> LazyInstance<'a> {
        match *self {
            Self::Node(node) => {
                let bytes = node.source().as_bytes();
                LazyInstance::Deferred { bytes, tag: 0, make: copy, cell: OnceLock::new() }
            }
            Self::Name(_) => LazyInstance::Ready(self.to_value()),
        }
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(match *self {
            Self::Node(node) => NodeIdentity::tagged(ptr::from_ref(node.json()).addr(), node.index()),
            Self::Name(name) => NodeIdentity::tagged(name.as_ptr().addr(), u32::MAX),
        })
    }
}

/// A value as `serde_json` has it; nothing on the way to a verdict reads it.
fn copy(source: &[u8], _: u32) -> serde_json::Value {
    serde_json::from_slice(source).unwrap_or_default()
}

// === impl Fields ===

impl<'a> Object<'a, Tree> for Fields<'a> {
    type Node = Value<'a>;
    type MemberName = &'a str;
    type MembersIter = std::iter::Map<Members<'a>, fn((&'a str, Node<'a>)) -> (&'a str, Value<'a>)>;

    fn len(&self) -> usize {
        self.1.len()
    }

    fn get(&self, key: &Box<str>) -> Option<Value<'a>> {
        self.0.get(key).map(Value::Node)
    }

    fn members(&self) -> Self::MembersIter {
        self.1.clone().map(|(name, node)| (name, Value::Node(node)))
    }
}

// === impl Elements ===

impl<'a> Array<'a, Tree> for Elements<'a> {
    type Node = Value<'a>;
    type ElementsIter = std::iter::Map<Items<'a>, fn(Node<'a>) -> Value<'a>>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> Self::ElementsIter {
        self.0.clone().map(Value::Node)
    }

    fn is_unique(&self) -> bool {
        equality::all_differ(self.0.clone())
    }
}
