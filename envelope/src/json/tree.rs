//! The tree: one slot a value in document order, read through [`Node`].

use super::{
    Json,
    slot::{Kind, Name, Slot},
};

/// One value of a tree. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    json: &'a Json,
    at: u32,
}

/// A value by its type.
#[derive(Debug, Clone)]
pub enum View<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number's source text, of RFC 8259's grammar and within IEEE 754 double range.
    Number(&'a str),
    /// A string, unescaped.
    String(&'a str),
    /// The elements.
    Array(Items<'a>),
    /// The members; no two have the same name.
    Object(Members<'a>),
}

/// The elements of an array, in order.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    json: &'a Json,
    at: u32,
    left: u32,
}

/// The members of an object, in order.
#[derive(Debug, Clone)]
pub struct Members<'a>(Items<'a>);

// === impl Node ===

impl<'a> Node<'a> {
    #[inline]
    pub(super) fn root(json: &'a Json) -> Self {
        Self { json, at: 0 }
    }

    #[inline]
    fn slot(self) -> &'a Slot {
        &self.json.slots[self.at as usize]
    }

    /// The value by its type.
    #[inline]
    pub fn view(self) -> View<'a> {
        let slot = self.slot();
        match slot.kind() {
            Kind::Null => View::Null,
            Kind::True => View::Bool(true),
            Kind::False => View::Bool(false),
            Kind::Number => View::Number(self.source()),
            Kind::String | Kind::Escaped => View::String(self.text()),
            Kind::Array => View::Array(self.items()),
            Kind::Object => View::Object(Members(self.items())),
        }
    }

    /// The value as it stands in the text.
    #[inline]
    pub fn source(self) -> &'a str {
        let slot = self.slot();
        &self.json.text[slot.start()..slot.end as usize]
    }

    /// Byte offsets of the value in the text.
    pub fn span(self) -> std::ops::Range<usize> {
        let slot = self.slot();
        slot.start()..slot.end as usize
    }

    /// A number that is unique within its tree.
    pub fn index(self) -> u32 {
        self.at
    }

    /// The tree it is a value of.
    pub fn json(self) -> &'a Json {
        self.json
    }

    /// The member of an object; `None` if there is none, or if this is no object.
    #[inline]
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        if self.slot().kind() != Kind::Object {
            return None;
        }
        Members(self.items()).find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// [`Self::get`] for a name that is looked for again and again: texts are compared only where signatures are equal.
    #[inline]
    pub fn member(self, name: &Name) -> Option<Node<'a>> {
        let slot = self.slot();
        if slot.kind() != Kind::Object {
            return None;
        }
        let next = slot.next;
        let mut at = self.at + 1;
        while at < next {
            let key = Node { json: self.json, at };
            let value = Node { json: self.json, at: at + 1 };
            if key.slot().count == name.signature && key.text() == &*name.text {
                return Some(value);
            }
            at = value.slot().after(value.at);
        }
        None
    }

    /// The element of an array, from 0; `None` if there is none, or if this is no array.
    #[inline]
    pub fn item(self, index: usize) -> Option<Node<'a>> {
        if self.slot().kind() != Kind::Array {
            return None;
        }
        self.items().nth(index)
    }

    /// The value that a JSON Pointer (RFC 6901) leads to; the empty one leads here.
    pub fn at(self, pointer: &str) -> Option<Node<'a>> {
        if !(pointer.is_empty() || pointer.starts_with('/')) {
            return None;
        }
        pointer.split('/').skip(1).try_fold(self, |node, token| match node.as_array() {
            Some(_) if token.len() > 1 && token.starts_with('0') => None,
            Some(_) => node.item(token.parse().ok().filter(|_| !token.starts_with('+'))?),
            None if token.contains('~') => node.get(&token.replace("~1", "/").replace("~0", "~")),
            None => node.get(token),
        })
    }

    /// `true` or `false`.
    #[inline]
    pub fn as_bool(self) -> Option<bool> {
        match self.slot().kind() {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// A string, unescaped.
    #[inline]
    pub fn as_str(self) -> Option<&'a str> {
        matches!(self.slot().kind(), Kind::String | Kind::Escaped).then(|| self.text())
    }

    /// A number's source text.
    #[inline]
    pub fn as_number(self) -> Option<&'a str> {
        (self.slot().kind() == Kind::Number).then(|| self.source())
    }

    /// The elements of an array.
    pub fn as_array(self) -> Option<Items<'a>> {
        (self.slot().kind() == Kind::Array).then(|| self.items())
    }

    /// The members of an object.
    pub fn as_object(self) -> Option<Members<'a>> {
        (self.slot().kind() == Kind::Object).then(|| Members(self.items()))
    }

    /// `null`.
    pub fn is_null(self) -> bool {
        self.slot().kind() == Kind::Null
    }

    /// What a person calls its type.
    pub fn type_name(self) -> &'static str {
        match self.slot().kind() {
            Kind::Null => "null",
            Kind::True | Kind::False => "boolean",
            Kind::Number => "number",
            Kind::String | Kind::Escaped => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }

    #[inline]
    fn text(self) -> &'a str {
        let slot = self.slot();
        match slot.kind() {
            Kind::Escaped => &self.json.unescaped[slot.next as usize],
            _ => &self.json.text[slot.start() + 1..slot.end as usize - 1],
        }
    }

    #[inline]
    fn items(self) -> Items<'a> {
        Items { json: self.json, at: self.at + 1, left: self.slot().count }
    }
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.source())
    }
}

// === impl Items ===

impl<'a> Iterator for Items<'a> {
    type Item = Node<'a>;

    #[inline]
    fn next(&mut self) -> Option<Node<'a>> {
        self.left = self.left.checked_sub(1)?;
        let node = Node { json: self.json, at: self.at };
        self.at = node.slot().after(self.at);
        Some(node)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Items<'_> {}

// === impl Members ===

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Node<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.left = self.0.left.checked_sub(1)?;
        let key = Node { json: self.0.json, at: self.0.at };
        let value = Node { json: self.0.json, at: self.0.at + 1 };
        self.0.at = value.slot().after(value.at);
        Some((key.text(), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Members<'_> {}
