//! XML 1.0 to JSON text by one rule.
//!
//! The document is an object with one member, named as the root element. An element that has neither attributes nor
//! child elements is its text. Any other is an object: `@name` for each attribute, a member for each name of a child
//! (an array where there are several of it) and `#text` for text that is not only white space. Every value is a string.
//!
//! There is no document type: an entity that a document defines is refused with its definition, so nothing expands and
//! nothing is fetched. Prefixes stay part of names.

use std::{borrow::Cow, collections::HashMap};

use envelope::json::MAX_DEPTH;
use quick_xml::{
    Reader, XmlVersion,
    events::{BytesDecl, BytesStart, Event},
};

use super::{
    charset::Charset,
    output::{Fault, Output, Place, Step},
};

/// Writes the document.
pub(super) fn write(text: &str, charset: Charset, out: &mut Output) -> Step {
    let line = |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !is_char(*c)) {
        return Err(Fault::new(format!("the character {c:?}")).at(Place::Line(line(at))));
    }
    let mut document = Document { text, at: 0, elements: Vec::new(), open: Vec::new(), charset };
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
        element.attributes = attributes(&self.text[begin + length..begin + tag.len()])?;
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
        match declaration.xml_version() {
            Ok(XmlVersion::Explicit1_0) => {}
            Ok(_) => return Err(Fault::new("XML of a version other than 1.0")),
            Err(error) => return Err(Fault::new(error.to_string())),
        }
        match declaration.encoding() {
            Some(Ok(declared)) if !self.charset.is_called(&declared) => {
                let declared = shown(&declared);
                Err(Fault::new(format!("the document says it is in {declared}, the mapping in {}", self.charset)))
            }
            Some(Err(error)) => Err(Fault::new(error.to_string())),
            Some(Ok(_)) | None => Ok(()),
        }
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

// === grammar ===

/// The attributes of a start tag, as it has them behind its name. Two of one name are found when the tree is built.
fn attributes(mut rest: &str) -> Step<Vec<(&str, Box<str>)>> {
    let mut found = Vec::new();
    loop {
        let begin = rest.trim_start_matches(is_space);
        if begin.is_empty() {
            return Ok(found);
        }
        if begin.len() == rest.len() {
            return Err(Fault::new("an attribute without white space before it"));
        }
        let length = begin.find(|c| is_space(c) || c == '=').unwrap_or(begin.len());
        let name = name(&begin[..length])?;
        let value = begin[length..].trim_start_matches(is_space).strip_prefix('=').unwrap_or_default();
        let value = value.trim_start_matches(is_space);
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let Some((value, behind)) = quote.and_then(|quote| value[1..].split_once(quote)) else {
            return Err(Fault::new(format!("attribute {:?} has no value in quotes", shown(name))));
        };
        found.push((name, attribute_value(value)?));
        rest = behind;
    }
}

/// XML 1.0, section 3.3.3: white space is spaces.
fn attribute_value(mut rest: &str) -> Step<Box<str>> {
    let mut value = String::with_capacity(rest.len());
    while let Some(at) = rest.find(['&', '<', '\t', '\n', '\r']) {
        value.push_str(&rest[..at]);
        let special = &rest[at..];
        let length = if let Some(reference) = special.strip_prefix('&') {
            let Some((reference, _)) = reference.split_once(';') else {
                return Err(Fault::new("an '&' that no ';' ends"));
            };
            value.push(resolve(reference)?);
            reference.len() + 2
        } else if special.starts_with('<') {
            return Err(Fault::new("a '<' within an attribute"));
        } else {
            value.push(' ');
            if special.starts_with("\r\n") { 2 } else { 1 }
        };
        rest = &special[length..];
    }
    value.push_str(rest);
    Ok(value.into())
}

/// What stands between `&` and `;`.
fn resolve(reference: &str) -> Step<char> {
    let number = |digits: &str, radix| {
        let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        let c = u32::from_str_radix(digits, radix).ok().filter(|_| plain).and_then(char::from_u32);
        c.filter(|c| is_char(*c)).ok_or_else(|| Fault::new(format!("no character is &{};", shown(reference))))
    };
    match reference {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => match reference.strip_prefix('#').map(|digits| (digits, digits.strip_prefix('x'))) {
            Some((_, Some(digits))) => number(digits, 16),
            Some((digits, None)) => number(digits, 10),
            None => Err(Fault::new(format!("entity &{}; is not defined", shown(reference)))),
        },
    }
}

fn name(text: &str) -> Step<&str> {
    let mut chars = text.chars();
    match chars.next().is_some_and(is_name_start) && chars.all(is_name) {
        true => Ok(text),
        false => Err(Fault::new(format!("{:?} is no name", shown(text)))),
    }
}

/// As an error may show it.
fn shown(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(at, _)| &text[..at])
}

/// `S`
const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_blank(text: &str) -> bool {
    text.chars().all(is_space)
}

/// `Char`
const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// `NameStartChar`
const fn is_name_start(c: char) -> bool {
    matches!(c,
        ':' | '_' | 'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
        | '\u{10000}'..='\u{effff}')
}

/// `NameChar`
const fn is_name(c: char) -> bool {
    is_name_start(c) || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}
