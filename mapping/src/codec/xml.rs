//! XML 1.0 to JSON text by one rule.
//!
//! The document is an object with one member, named as the root element. An element that has neither attributes nor
//! child elements is its text. Any other is an object: `@name` for each attribute, a member for each name of a child
//! (an array where there are several of it) and `#text` for text that is not only white space. Every value is a string.
//!
//! There is no document type: an entity that a document defines is refused with its definition, so nothing expands and
//! nothing is fetched. Prefixes stay part of names.

mod grammar;

use std::{borrow::Cow, collections::HashMap};

use envelope::json::MAX_DEPTH;
use quick_xml::{
    Reader,
    events::{BytesDecl, BytesStart, Event},
};

use super::{
    charset::Charset,
    output::{Fault, Output, Place, Step},
};
use grammar::{attributes, is_blank, name, resolve, shown};
pub(super) use grammar::{is_char, name as checked_name};

/// The most elements and attributes together: an element costs more memory than the four bytes it can be written with.
const MAX_PARTS: usize = 1 << 18;

/// Writes the document.
pub(super) fn write(text: &str, charset: Charset, out: &mut Output) -> Step {
    let line = |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !is_char(*c)) {
        return Err(Fault::new(format!("the character {c:?}")).at(Place::Line(line(at))));
    }
    let mut document = Document { text, at: 0, elements: Vec::new(), open: Vec::new(), parts: 0, charset };
    let done = document.read().and_then(|()| document.write(out));
    done.map_err(|fault| fault.at(Place::Line(line(document.at))))
}

struct Document<'t> {
    text: &'t str,
    /// Where the element or piece of text begins that is being read or written.
    at: usize,
    /// In the order of their start tags; the first is the root.
    elements: Vec<Element<'t>>,
    /// The elements that are not closed yet.
    open: Vec<usize>,
    /// Elements and attributes so far.
    parts: usize,
    charset: Charset,
}

struct Element<'t> {
    name: &'t str,
    at: usize,
    attributes: Vec<(&'t str, Box<str>)>,
    text: Cow<'t, str>,
    children: Vec<usize>,
}

// === impl Document ===

impl<'t> Document<'t> {
    fn read(&mut self) -> Step {
        // the reader passes over one by itself, and every place behind it would be wrong
        if self.text.starts_with('\u{feff}') {
            return Err(Fault::new("a second byte order mark"));
        }
        let mut reader = Reader::from_str(self.text);
        reader.config_mut().check_comments = true;
        loop {
            let event = reader.read_event();
            match event {
                Err(error) => return Err(Fault::new(error.to_string())),
                Ok(Event::Start(tag)) => {
                    let number = self.element(&tag)?;
                    self.open.push(number);
                }
                Ok(Event::Empty(tag)) => {
                    self.element(&tag)?;
                }
                Ok(Event::End(_)) => {
                    self.open.pop();
                }
                Ok(Event::Text(text)) if text.contains("]]>") => return Err(Fault::new("\"]]>\" within text")),
                Ok(Event::Text(text)) => self.text(text.xml10_content())?,
                Ok(Event::CData(_)) if self.open.is_empty() => return Err(Fault::new("text outside of the root")),
                Ok(Event::CData(text)) => self.text(text.xml10_content())?,
                Ok(Event::GeneralRef(reference)) => self.text(resolve(&reference)?.to_string().into())?,
                Ok(Event::Decl(declaration)) => self.declaration(&declaration)?,
                Ok(Event::DocType(_)) => return Err(Fault::new("a document type, which is never read")),
                Ok(Event::PI(instruction)) => name(instruction.target()).map(|_| ())?,
                Ok(Event::Comment(_)) => {}
                Ok(Event::Eof) => break,
            }
            self.at = usize::try_from(reader.buffer_position()).unwrap_or(self.text.len());
        }
        match (self.open.last(), self.elements.is_empty()) {
            (Some(open), _) => Err(Fault::new(format!("<{}> is not closed", shown(self.elements[*open].name)))),
            (None, true) => Err(Fault::new("there is no element")),
            (None, false) => Ok(()),
        }
    }

    fn element(&mut self, tag: &BytesStart<'_>) -> Step<usize> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        let number = self.elements.len();
        match self.open.last() {
            Some(parent) => self.elements[*parent].children.push(number),
            None if number > 0 => return Err(Fault::new("a second root element")),
            None => {}
        }
        let length = tag.name().as_ref().len();
        let begin = self.at + 1;
        let name = name(&self.text[begin..begin + length])?;
        let mut element = Element { name, at: self.at, attributes: Vec::new(), text: "".into(), children: Vec::new() };
        element.attributes = attributes(&self.text[begin + length..begin + tag.len()], MAX_PARTS)?;
        self.parts += 1 + element.attributes.len();
        if self.parts > MAX_PARTS {
            return Err(Fault::new(format!("more than {MAX_PARTS} elements and attributes")));
        }
        self.elements.push(element);
        Ok(number)
    }

    /// Puts text behind what the innermost element has.
    fn text(&mut self, more: Cow<'t, str>) -> Step {
        match self.open.last() {
            Some(open) => {
                self.elements[*open].text += more;
                Ok(())
            }
            None if is_blank(&more) => Ok(()),
            None => Err(Fault::new("text outside of the root")),
        }
    }

    fn declaration(&self, declaration: &BytesDecl<'_>) -> Step {
        if self.at > 0 {
            return Err(Fault::new("a declaration that is not at the beginning"));
        }
        let said = attributes(declaration.strip_prefix("xml").unwrap_or_default(), 3)?;
        let names: Vec<&str> = said.iter().map(|(name, _)| *name).collect();
        if !matches!(
            *names,
            ["version"] | ["version", "encoding" | "standalone"] | ["version", "encoding", "standalone"]
        ) {
            return Err(Fault::new("a declaration says version, encoding and standalone, in this order"));
        }
        for (name, value) in &said {
            match *name {
                "version" if **value != *"1.0" => return Err(Fault::new("XML of a version other than 1.0")),
                "standalone" if !matches!(&**value, "yes" | "no") => return Err(Fault::new("standalone is yes or no")),
                "encoding" if !self.charset.is_called(value) => {
                    let (declared, charset) = (shown(value), self.charset);
                    let problem = format!("the document says it is in {declared}, the mapping in {charset}");
                    return Err(Fault::new(problem));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn write(&mut self, out: &mut Output) -> Step {
        out.raw("{")?;
        self.member(&[0], 1, out)?;
        out.raw("}")
    }

    /// The elements of one name within an object that is `depth` deep.
    fn member(&mut self, numbers: &[usize], depth: usize, out: &mut Output) -> Step {
        let Some(&first) = numbers.first() else { return Ok(()) };
        self.at = self.elements[first].at;
        out.string(self.elements[first].name)?;
        out.raw(":")?;
        if let [only] = numbers {
            return self.value(*only, depth, out);
        }
        if depth >= MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        for (n, number) in numbers.iter().enumerate() {
            out.raw(if n > 0 { "," } else { "[" })?;
            self.value(*number, depth + 1, out)?;
        }
        out.raw("]")
    }

    fn value(&mut self, number: usize, depth: usize, out: &mut Output) -> Step {
        let element = &mut self.elements[number];
        self.at = element.at;
        if element.attributes.is_empty() && element.children.is_empty() {
            return out.string(&element.text);
        }
        if depth >= MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        let children = std::mem::take(&mut element.children);
        let mut comma = "{";
        for (name, value) in &element.attributes {
            out.raw(comma)?;
            out.string(&format!("@{name}"))?;
            out.raw(":")?;
            out.string(value)?;
            comma = ",";
        }
        if !is_blank(&element.text) {
            out.raw(comma)?;
            out.raw("\"#text\":")?;
            out.string(&element.text)?;
            comma = ",";
        }
        for numbers in self.by_name(children) {
            out.raw(comma)?;
            self.member(&numbers, depth + 1, out)?;
            comma = ",";
        }
        out.raw("}")
    }

    /// In the order in which each name comes first.
    fn by_name(&self, children: Vec<usize>) -> Vec<Vec<usize>> {
        let mut places = HashMap::<&str, usize>::with_capacity(children.len());
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for number in children {
            let place = *places.entry(self.elements[number].name).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(number),
                None => groups.push(vec![number]),
            }
        }
        groups
    }
}
