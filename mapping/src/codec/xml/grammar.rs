//! The productions of XML 1.0 that `quick-xml` leaves to its users.

use super::super::output::{Fault, Step};

/// The attributes of a start tag, as it has them behind its name. Two of one name are found when the tree is built.
pub(super) fn attributes(mut rest: &str, most: usize) -> Step<Vec<(&str, Box<str>)>> {
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
        if found.len() > most {
            return Err(Fault::new(format!("more than {most} attributes")));
        }
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
pub(super) fn resolve(reference: &str) -> Step<char> {
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

pub(in crate::codec) fn name(text: &str) -> Step<&str> {
    let mut chars = text.chars();
    match chars.next().is_some_and(is_name_start) && chars.all(is_name) {
        true => Ok(text),
        false => Err(Fault::new(format!("{:?} is no name", shown(text)))),
    }
}

/// As an error may show it.
pub(super) fn shown(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(at, _)| &text[..at])
}

/// `S`
const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(is_space)
}

/// `Char`
pub(in crate::codec) const fn is_char(c: char) -> bool {
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
