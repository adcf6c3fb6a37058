//! Collects what is wrong with a file, so that its author sees all of it at once.

use std::cell::RefCell;

use crate::{Diagnostic, Diagnostics, Source, Span};

/// The most errors of one file that are kept; a hostile file can't fill the memory.
pub const MAX_PROBLEMS: usize = 256;

/// The errors found in one file so far. Shared by reference between the readers of the file.
#[derive(Debug)]
pub struct Problems {
    source: Source,
    found: RefCell<Vec<Diagnostic>>,
}

// === impl Problems ===

impl Problems {
    /// None yet.
    pub fn new(source: &Source) -> Self {
        Self { source: source.clone(), found: RefCell::new(Vec::new()) }
    }

    /// Notes an error. `code` is stable, in kebab case; `message` is lower case, names the value and the limit.
    pub fn report(&self, span: Span, code: &'static str, message: impl Into<String>) {
        if self.len() < MAX_PROBLEMS {
            self.add(self.source.diagnostic(span, code, message));
        }
    }

    /// Notes an error with advice.
    pub fn report_with_help(
        &self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.len() < MAX_PROBLEMS {
            self.add(self.source.diagnostic(span, code, message).with_help(help));
        }
    }

    /// Notes an error that is made already.
    pub fn add(&self, diagnostic: Diagnostic) {
        let mut found = self.found.borrow_mut();
        if found.len() < MAX_PROBLEMS {
            found.push(diagnostic);
        }
    }

    /// How many errors there are; at most [`MAX_PROBLEMS`]. Compare before and after to know whether a part is sound.
    pub fn len(&self) -> usize {
        self.found.borrow().len()
    }

    /// Nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// The file they are about.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What was read if nothing was wrong, else everything that was. A reader that gives `None` must have reported why;
    /// one that did not is an error too.
    pub fn finish<T>(self, read: Option<T>) -> Result<T, Diagnostics> {
        match (Diagnostics::collect(self.found.into_inner()), read) {
            (Some(all), _) => Err(all),
            (None, Some(value)) => Ok(value),
            (None, None) => Err(Diagnostic::of_file(self.source.path(), "unreadable", "the file can't be read").into()),
        }
    }
}
