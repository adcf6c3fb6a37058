//! JSON Schema to a [`Type`]: at least every value that conforms, and where the schema is plain nothing else.

use std::sync::Arc;

use envelope::json::{Node, View};

use super::{
    number::{EXACT, Held, Number},
    text::Text,
    types::{Bools, Field, Kinds, List, Object, Rest, Type},
};

/// How many references and combinations deep a schema is read; below, anything is possible.
const MAX_DEPTH: usize = 24;
/// How many subschemas are read; beyond, anything is possible.
const MAX_READ: usize = 20_000;

/// A schema and what its references lead to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document<'s> {
    root: Node<'s>,
    /// A part has an `$id` of its own, so that references are relative to that.
    parts_are_named: bool,
}

struct Reading<'s, 'b> {
    document: Document<'s>,
    /// How many subschemas may still be read.
    left: &'b mut usize,
}

// === impl Document ===

impl<'s> Document<'s> {
    pub(crate) fn of(root: Node<'s>) -> Self {
        let parts_are_named = children(root).any(has_id);
        Self { root, parts_are_named }
    }

    pub(crate) fn root(self) -> Node<'s> {
        self.root
    }

    /// What a `$ref` leads to; `None` if that is not a place in this document.
    pub(crate) fn resolve(self, reference: &str) -> Option<Node<'s>> {
        if self.parts_are_named {
            return None;
        }
        let pointer = reference.strip_prefix('#')?;
        if pointer.contains('%') { None } else { self.root.at(pointer) }
    }

    /// Every value that conforms is one of it.
    pub(crate) fn admits(self) -> Type {
        Reading { document: self, left: &mut { MAX_READ } }.schema(self.root, 0)
    }

    /// The same of a part, of which at most so many subschemas are read as are left.
    pub(crate) fn part_admits(self, part: Node<'s>, left: &mut usize) -> Type {
        Reading { document: self, left }.schema(part, 0)
    }
}

fn children(node: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    let members = node.as_object().into_iter().flatten().map(|(_, node)| node);
    members.chain(node.as_array().into_iter().flatten())
}

fn has_id(node: Node<'_>) -> bool {
    node.get("$id").is_some_and(|id| id.as_str().is_some()) || children(node).any(has_id)
}

/// The one value that a part of a document is.
pub(crate) fn literal(node: Node<'_>) -> Type {
    match node.view() {
        View::Null => Type::NULL,
        View::Bool(value) => Type::bools(Bools::only(value)),
        View::Number(text) => Type::number(number_literal(text)),
        View::String(text) => Type::text(Text::one(text)),
        View::Array(items) => {
            let length = items.len();
            let of = items.map(literal).fold(Type::NEVER, |all, item| all.join(&item));
            Type::list(List { items: Some(Arc::new(of)), least: length, most: length })
        }
        View::Object(members) => {
            Type::object(Object::closed(members.map(|(name, value)| (name.into(), literal(value)))))
        }
    }
}

/// A number as a JSON text has it.
pub(crate) fn number_literal(text: &str) -> Number {
    let value: f64 = text.parse().unwrap_or(f64::NAN);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if value.is_nan() || digits > 15 {
        return Number { whole: !text.contains(['.', 'e', 'E']), ..Number::between(value, value) };
    }
    Number::one(value, Held::Source)
}

// === impl Reading ===

impl Reading<'_, '_> {
    fn schema(&mut self, node: Node<'_>, depth: usize) -> Type {
        if depth > MAX_DEPTH || *self.left == 0 {
            return Type::ANY;
        }
        *self.left -= 1;
        let Some(keywords) = node.as_object() else {
            return if node.as_bool() == Some(false) { Type::NEVER } else { Type::ANY };
        };
        let mut of = self.plain(node, depth);
        for (name, value) in keywords {
            let more = match name {
                "$ref" => value.as_str().and_then(|to| self.document.resolve(to)).map(|to| self.schema(to, depth + 1)),
                "enum" => value.as_array().map(|all| all.map(literal).fold(Type::NEVER, |a, b| a.join(&b))),
                "const" => Some(literal(value)),
                "allOf" => {
                    value.as_array().map(|all| all.fold(Type::ANY, |of, part| of.meet(&self.schema(part, depth + 1))))
                }
                "anyOf" | "oneOf" => {
                    value.as_array().map(|all| all.fold(Type::NEVER, |of, part| of.join(&self.schema(part, depth + 1))))
                }
                "if" => {
                    let branch = |reading: &mut Self, name| match node.get(name) {
                        Some(part) => reading.schema(part, depth + 1),
                        None => Type::ANY,
                    };
                    let condition = self.schema(value, depth + 1);
                    Some(condition.meet(&branch(self, "then")).join(&branch(self, "else")))
                }
                _ => None,
            };
            if let Some(more) = more {
                of = of.meet(&more);
            }
        }
        of
    }

    /// What each kind may be by the keywords about it.
    fn plain(&mut self, node: Node<'_>, depth: usize) -> Type {
        let kinds = node.get("type").map_or(Type::ANY.kinds(), |of| kinds(of));
        let mut of = Type::ANY.of_kinds(kinds);
        of.number = of.number.and_then(|_| number(node));
        of.text = of.text.and_then(|_| text(node));
        of.list = of.list.and_then(|_| self.list(node, depth));
        of.object = of.object.and_then(|_| self.object(node, depth));
        of
    }

    fn list(&mut self, node: Node<'_>, depth: usize) -> Option<List> {
        let first = node.get("prefixItems").and_then(Node::as_array).into_iter().flatten();
        let mut longest = usize::MAX;
        let of = node.get("items").map(|rest| {
            let rest = self.schema(rest, depth + 1);
            if rest.is_never() {
                longest = first.clone().count();
            }
            first.map(|part| self.schema(part, depth + 1)).fold(rest, |of, part| of.join(&part))
        });
        let least = node.get("minItems").and_then(count).unwrap_or(0);
        let needed = node.get("contains").is_some() && node.get("minContains").and_then(count) != Some(0);
        let most = node.get("maxItems").and_then(count).unwrap_or(usize::MAX).min(longest);
        let list = List { items: of.map(Arc::new), least: least.max(usize::from(needed)), most };
        let empty = list.items.as_ref().is_some_and(|items| items.is_never());
        let list = if empty { List { most: 0, ..list } } else { list };
        (list.least <= list.most).then_some(list)
    }

    fn object(&mut self, node: Node<'_>, depth: usize) -> Option<Object> {
        let patterns = node.get("patternProperties").is_some();
        let rest = match node.get("additionalProperties") {
            _ if patterns => Rest::Open,
            None => Rest::Open,
            Some(more) => match self.schema(more, depth + 1) {
                of if of.is_never() => Rest::Closed,
                of if of == Type::ANY => Rest::Open,
                of => Rest::Of(Arc::new(of)),
            },
        };
        let mut object = Object { fields: Default::default(), rest };
        for (name, part) in node.get("properties").and_then(Node::as_object).into_iter().flatten() {
            let of = Arc::new(self.schema(part, depth + 1));
            object.fields.insert(name.into(), Field { of, required: false });
        }
        for name in node.get("required").and_then(Node::as_array).into_iter().flatten().filter_map(Node::as_str) {
            let of = object.member(name).map(|(of, _)| of)?;
            if of.is_never() {
                return None;
            }
            object.fields.insert(name.into(), Field { of: Arc::new(of), required: true });
        }
        Some(object)
    }
}

/// What `type` says.
pub(crate) fn kinds(of: Node<'_>) -> Kinds {
    let kind = |node: Node<'_>| match node.as_str() {
        Some("null") => Kinds::NULL,
        Some("boolean") => Kinds::BOOL,
        Some("number" | "integer") => Kinds::NUMBER,
        Some("string") => Kinds::TEXT,
        Some("array") => Kinds::LIST,
        Some("object") => Kinds::OBJECT,
        _ => Kinds::NONE,
    };
    match of.as_array() {
        Some(all) => all.map(kind).fold(Kinds::NONE, Kinds::and),
        None => kind(of),
    }
}

/// `type` has no `number`, only `integer`.
pub(crate) fn only_integers(of: Node<'_>) -> bool {
    let says = |word: &str| match of.as_array() {
        Some(mut all) => all.any(|one| one.as_str() == Some(word)),
        None => of.as_str() == Some(word),
    };
    says("integer") && !says("number")
}

fn number(node: Node<'_>) -> Option<Number> {
    let bound = |name: &str| node.get(name).and_then(Node::as_number).and_then(|text| text.parse::<f64>().ok());
    // beyond 2^53 a neighbour may be the same double
    let above = |bound: f64| if bound.abs() < EXACT { bound.next_up() } else { bound };
    let below = |bound: f64| if bound.abs() < EXACT { bound.next_down() } else { bound };
    let low = [bound("minimum"), bound("exclusiveMinimum").map(above)].into_iter().flatten();
    let high = [bound("maximum"), bound("exclusiveMaximum").map(below)].into_iter().flatten();
    let (low, high) = (low.fold(f64::NEG_INFINITY, f64::max), high.fold(f64::INFINITY, f64::min));
    let whole = node.get("type").is_some_and(only_integers)
        || bound("multipleOf").is_some_and(|of| of.fract() == 0.0 && of.abs() < EXACT);
    (low <= high).then(|| Number { whole, ..Number::between(low, high) })
}

fn text(node: Node<'_>) -> Option<Text> {
    let least = node.get("minLength").and_then(count).unwrap_or(0);
    let most = node.get("maxLength").and_then(count).unwrap_or(usize::MAX);
    let fact = |name: &str| Some(format!("{name}:{}", node.get(name)?.as_str()?).into());
    let facts = ["format", "pattern"].into_iter().filter_map(fact).collect();
    (least <= most).then_some(Text { only: None, least, most, facts })
}

/// A whole number from 0; `4.0` is one.
pub(crate) fn count(node: Node<'_>) -> Option<usize> {
    let value: f64 = node.as_number()?.parse().ok()?;
    (value >= 0.0 && value.fract() == 0.0).then_some(value as usize)
}

#[cfg(test)]
mod tests {
    use envelope::Json;

    use super::*;

    fn admits(text: &'static str) -> Type {
        let json = Json::parse(bytes::Bytes::from_static(text.as_bytes())).unwrap();
        Document::of(json.root()).admits()
    }

    #[test]
    fn a_plain_object_is_its_fields() {
        let of = admits(r#"{"type":"object","properties":{"n":{"type":"integer","minimum":1}},"required":["n","m"]}"#);
        assert_eq!(of.kinds(), Kinds::OBJECT);
        let object = of.object.unwrap();
        let (n, always) = object.member("n").unwrap();
        assert!(always && n.number.unwrap().whole);
        assert!(object.member("m").unwrap().1 && !object.member("x").unwrap().1);
    }

    #[test]
    fn closed_objects_have_no_other_members() {
        let of = admits(r#"{"properties":{"n":true},"additionalProperties":false}"#);
        assert!(of.object.unwrap().member("x").is_none());
        let of = admits(r#"{"properties":{"n":true},"patternProperties":{"^x":true},"additionalProperties":false}"#);
        assert!(of.object.unwrap().member("x").is_some(), "a pattern may let it in");
    }

    #[test]
    fn combinations_and_references_are_followed() {
        let of = admits(
            r##"{"$defs":{"t":{"type":"string","minLength":2}},"anyOf":[{"$ref":"#/$defs/t"},{"type":"null"}]}"##,
        );
        assert_eq!(of.kinds(), Kinds::TEXT.and(Kinds::NULL));
        assert_eq!(of.text.unwrap().least, 2);
        assert_eq!(admits(r#"{"allOf":[{"type":"string"},{"type":"number"}]}"#), Type::NEVER);
        assert_eq!(admits(r#"{"enum":["a",1]}"#).kinds(), Kinds::TEXT.and(Kinds::NUMBER));
    }

    #[test]
    fn a_schema_that_never_ends_is_anything_somewhere() {
        let of = admits(r##"{"type":"object","properties":{"next":{"$ref":"#"}}}"##);
        assert_eq!(of.kinds(), Kinds::OBJECT);
        let wide = r##"{"$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"}"##;
        assert_eq!(admits(wide), Type::ANY);
    }

    #[test]
    fn parts_with_names_of_their_own_are_not_followed() {
        let of = admits(r##"{"$defs":{"t":{"$id":"x","type":"string"}},"$ref":"#/$defs/t"}"##);
        assert_eq!(of, Type::ANY);
    }
}
