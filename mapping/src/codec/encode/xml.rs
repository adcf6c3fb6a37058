//! JSON to XML 1.0 by the rule that decoding has: an object with one member is the document, `@name` is an attribute,
//! `#text` is text, an array is several elements of one name.

use std::fmt::Write;

use envelope::json::{Node, View};

use super::{
    super::xml::{checked_name, is_char},
    Charset, Unfit, Written, below, scalar,
};

pub(super) fn write(root: Node<'_>, charset: Charset) -> Written<String> {
    const LAW: &str = "xml is made of an object with one member, the root element";
    let mut members = root.as_object().ok_or_else(|| Unfit::at("", LAW))?;
    let (Some((name, value)), None) = (members.next(), members.next()) else {
        return Err(Unfit::at("", LAW));
    };
    let pointer = below("", name);
    if value.as_array().is_some() {
        return Err(Unfit::at(&pointer, "a document has one root element"));
    }
    let mut out = Writer { out: String::new(), charset };
    let encoding = charset.iana_name();
    out.out.push_str(&format!("<?xml version=\"1.0\" encoding=\"{encoding}\"?>\n"));
    out.element(name, value, &pointer)?;
    out.out.push('\n');
    Ok(out.out)
}

struct Writer {
    out: String,
    charset: Charset,
}

// === impl Writer ===

impl Writer {
    /// Depth is bounded by the parser of the tree.
    fn element(&mut self, name: &str, value: Node<'_>, pointer: &str) -> Written {
        checked_name(name).map_err(|_| Unfit::at(pointer, format!("{name:?} is no name of an element")))?;
        self.out.push('<');
        self.out.push_str(name);
        match value.as_object() {
            None => {
                self.out.push('>');
                self.text(scalar(value, pointer)?, false, pointer)?;
            }
            Some(members) => {
                for (key, value) in members.clone() {
                    if let Some(attribute) = key.strip_prefix('@') {
                        self.attribute(attribute, value, &below(pointer, key))?;
                    }
                }
                self.out.push('>');
                for (key, value) in members.filter(|(key, _)| !key.starts_with('@')) {
                    self.child(key, value, &below(pointer, key))?;
                }
            }
        }
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: Node<'_>, pointer: &str) -> Written {
        checked_name(name).map_err(|_| Unfit::at(pointer, format!("{name:?} is no name of an attribute")))?;
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        self.text(scalar(value, pointer)?, true, pointer)?;
        self.out.push('"');
        Ok(())
    }

    fn child(&mut self, key: &str, value: Node<'_>, pointer: &str) -> Written {
        match value.view() {
            _ if key == "#text" => self.text(scalar(value, pointer)?, false, pointer),
            View::Array(items) => {
                for (n, item) in items.enumerate() {
                    let pointer = format!("{pointer}/{n}");
                    if item.as_array().is_some() {
                        return Err(Unfit::at(&pointer, "an array within an array has no name"));
                    }
                    self.element(key, item, &pointer)?;
                }
                Ok(())
            }
            _ => self.element(key, value, pointer),
        }
    }

    /// A character that the charset does not have is written as a reference to it.
    fn text(&mut self, text: &str, attribute: bool, pointer: &str) -> Written {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' if attribute => self.out.push_str("&quot;"),
                '\r' => self.out.push_str("&#13;"),
                '\t' | '\n' if attribute => drop(write!(self.out, "&#{};", u32::from(c))),
                _ if !is_char(c) => return Err(Unfit::at(pointer, format!("the character {c:?} is none of XML"))),
                _ if c.is_ascii() || self.charset.has(c) => self.out.push(c),
                // writing to a String can't fail
                _ => drop(write!(self.out, "&#{};", u32::from(c))),
            }
        }
        Ok(())
    }
}
