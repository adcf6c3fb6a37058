//! Objects and lists: what their members and elements are, and how many.

use envelope::json::Node;

use super::{
    super::{
        json_schema,
        types::{Kinds, Object, Rest, Type},
    },
    Check,
};

// === impl Check ===

impl<'s> Check<'s> {
    pub(super) fn object(&mut self, keyword: &str, value: Node<'s>, schema: Node<'s>, of: &Type, path: &mut String) {
        let Some(object) = &of.object else { return };
        let alone = of.kinds() == Kinds::OBJECT;
        match keyword {
            "required" => {
                for name in value.as_array().into_iter().flatten().filter_map(Node::as_str) {
                    match object.member(name) {
                        Some((_, true)) => {}
                        Some((_, false)) => self.doubt(path, format!("member {name:?} may be missing")),
                        None if alone => self.never(path, format!("member {name:?} is missing")),
                        None => self.doubt(path, format!("member {name:?} is missing")),
                    }
                }
            }
            "properties" => {
                for (name, part) in value.as_object().into_iter().flatten() {
                    if let Some((member, always)) = object.member(name) {
                        self.member(&member, always && alone, part, name, path);
                    }
                }
            }
            _ => self.additional(value, schema, object, alone, path),
        }
    }

    fn additional(&mut self, value: Node<'s>, schema: Node<'s>, object: &Object, alone: bool, path: &mut String) {
        if schema.get("patternProperties").is_some() {
            return self.doubt(path, "\"additionalProperties\" beside \"patternProperties\" is checked at run time");
        }
        let named = schema.get("properties");
        let is_named = |name: &str| named.is_some_and(|named| named.get(name).is_some());
        for (name, field) in object.fields.iter().filter(|(name, field)| !is_named(name) && !field.of.is_never()) {
            self.member(&field.of, field.required && alone, value, name, path);
        }
        match &object.rest {
            Rest::Closed => {}
            Rest::Open if value.as_bool() == Some(true) => {}
            Rest::Open if value.as_bool() == Some(false) => {
                self.doubt(path, "there may be members that the schema does not have");
            }
            Rest::Open => self.member(&Type::ANY, false, value, "*", path),
            Rest::Of(of) => self.member(of, false, value, "*", path),
        }
    }

    /// A member's findings; that one never fits is said of the whole only if the member is always there.
    fn member(&mut self, of: &Type, always: bool, schema: Node<'s>, name: &str, path: &mut String) {
        let (length, before) = (path.len(), self.found.len());
        path.push('.');
        path.push_str(name);
        self.schema(of, schema, path);
        path.truncate(length);
        if !always {
            self.found[before..].iter_mut().for_each(|found| found.never = false);
        }
    }

    pub(super) fn members(&mut self, keyword: &str, value: Node<'s>, of: &Type, path: &str) {
        let (Some(object), Some(bound)) = (&of.object, json_schema::count(value)) else { return };
        let always = object.fields.values().filter(|field| field.required).count();
        let most = if object.rest == Rest::Closed { object.fields.len() } else { usize::MAX };
        let proven = if keyword == "minProperties" { always >= bound } else { most <= bound };
        if !proven {
            self.doubt(path, format!("{keyword:?} is checked at run time"));
        }
    }

    pub(super) fn list(&mut self, keyword: &str, value: Node<'s>, schema: Node<'s>, of: &Type, path: &mut String) {
        let Some(list) = &of.list else { return };
        let alone = of.kinds() == Kinds::LIST;
        let count = json_schema::count(value);
        match keyword {
            "minItems" => self.count(list.least, list.most, (count, None), alone, "elements", path),
            "maxItems" => self.count(list.least, list.most, (None, count), alone, "elements", path),
            "uniqueItems" if value.as_bool() == Some(true) && list.most > 1 => {
                self.doubt(path, "\"uniqueItems\" is checked at run time");
            }
            "items" => {
                // of those only that are behind the ones of "prefixItems"
                let first = schema.get("prefixItems").and_then(Node::as_array).map_or(0, Iterator::count);
                if list.most > first {
                    self.elements(&list.items(), list.least > first && alone, value, path);
                }
            }
            "prefixItems" => {
                for (number, part) in value.as_array().into_iter().flatten().enumerate().take(list.most) {
                    self.elements(&list.items(), list.least > number && alone, part, path);
                }
            }
            _ => {}
        }
    }

    fn elements(&mut self, of: &Type, always: bool, schema: Node<'s>, path: &mut String) {
        let (length, before) = (path.len(), self.found.len());
        path.push_str("[]");
        self.schema(of, schema, path);
        path.truncate(length);
        if !always {
            self.found[before..].iter_mut().for_each(|found| found.never = false);
        }
    }
}
