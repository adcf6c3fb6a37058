//! `${env:NAME}` and `${file:PATH}`, and the type of what must not be shown.
//!
//! It reads neither the environment nor files: who calls it does, through [`Resolve`].

use std::{fmt, io};

use crate::{Node, Problems, suggest};

/// A text that never shows itself: `Debug` and `Display` print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Where `${env:NAME}` and `${file:PATH}` get their values.
#[derive(Clone, Copy)]
pub struct Resolve<'a> {
    /// The variable's value, if it is set and text.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The file's text; the caller bounds its size and says what a relative path is relative to.
    pub file: &'a dyn Fn(&str) -> io::Result<String>,
}

// === impl Secret ===

impl Secret {
    /// Takes a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, to authenticate with; never to log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

// === impl Resolve ===

impl fmt::Debug for Resolve<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolve")
    }
}

impl Resolve<'_> {
    fn value(&self, reference: &str) -> Result<String, String> {
        let (scheme, name) = reference.split_once(':').unwrap_or((reference, ""));
        match scheme {
            "env" if !name.is_empty() => {
                (self.env)(name).ok_or_else(|| format!("environment variable {} is not set", suggest::quote(name)))
            }
            "file" if !name.is_empty() => match (self.file)(name) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(format!("file {} can't be read: {error}", suggest::quote(name))),
            },
            _ => Err(format!("${{{reference}}} is neither ${{env:NAME}} nor ${{file:PATH}}")),
        }
    }
}

// === impl Node ===

impl Node {
    /// A string with its `${env:NAME}` and `${file:PATH}` replaced; `$${` stands for `${`. What is put in is not looked
    /// at again; a file's last line ends are left out.
    pub fn substituted(&self, resolve: &Resolve<'_>, problems: &Problems) -> Option<String> {
        let text = self.string(problems)?;
        let (mut out, mut at, mut sound) = (String::with_capacity(text.len()), 0, true);
        while let Some(found) = text[at..].find("${") {
            let start = at + found;
            if text[at..start].ends_with('$') {
                out.push_str(&text[at..start]);
                out.push('{');
                at = start + 2;
                continue;
            }
            out.push_str(&text[at..start]);
            let Some(length) = text[start..].find('}') else {
                problems.report(self.span_within(start..text.len()), "bad-reference", "\"${\" without \"}\"");
                return None;
            };
            at = start + length + 1;
            match resolve.value(&text[start + 2..at - 1]) {
                Ok(value) => out.push_str(&value),
                Err(why) => {
                    problems.report(self.span_within(start..at), "bad-reference", why);
                    sound = false;
                }
            }
        }
        out.push_str(&text[at..]);
        sound.then_some(out)
    }

    /// As [`substituted`](Self::substituted), as a secret that is not empty.
    pub fn secret(&self, resolve: &Resolve<'_>, problems: &Problems) -> Option<Secret> {
        let text = self.substituted(resolve, problems)?;
        if text.is_empty() {
            problems.report(self.span, "empty", "a secret must not be empty");
            return None;
        }
        Some(Secret(text))
    }
}
