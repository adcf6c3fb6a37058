//! What is wrong with a file, and where.

use std::{error::Error, fmt};

/// One error at one place. `Display` shows `path:line:column: error[code]: message`, the line and a caret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// Stable, in kebab case: `unknown-key`.
    pub code: &'static str,
    /// The file.
    pub path: String,
    /// From 1; 0 if the error is about the file as a whole.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// How many characters are marked, within the line; at least 1.
    pub length: usize,
    /// What is wrong: lower case, names the value and the limit.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// What is shown of the line.
    pub(crate) excerpt: String,
    /// Where in the excerpt the caret goes, from 0.
    pub(crate) caret: usize,
}

/// All errors of one or more files, by path and place. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

// === impl Diagnostic ===

impl Diagnostic {
    /// An error about a file as a whole: it can't be read, it contradicts another.
    pub fn of_file(path: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            path: path.into(),
            line: 0,
            column: 1,
            length: 1,
            message: message.into(),
            help: None,
            excerpt: String::new(),
            caret: 0,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn place(&self) -> (&str, usize, usize) {
        (&self.path, self.line, self.column)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, path, line, column, message, .. } = self;
        if *line == 0 {
            write!(f, "{path}: error[{code}]: {message}")?;
        } else {
            let number = line.to_string();
            let blank = " ".repeat(number.len());
            let room = self.excerpt.chars().count().saturating_sub(self.caret).max(1);
            let carets = "^".repeat(self.length.min(room));
            writeln!(f, "{path}:{line}:{column}: error[{code}]: {message}")?;
            writeln!(f, " {number} | {}", self.excerpt)?;
            write!(f, " {blank} | {}{carets}", " ".repeat(self.caret))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  = help: {help}"),
            None => Ok(()),
        }
    }
}

impl Error for Diagnostic {}

// === impl Diagnostics ===

impl Diagnostics {
    /// Sorts by path and place; `None` if there is nothing wrong.
    pub fn collect(all: impl IntoIterator<Item = Diagnostic>) -> Option<Self> {
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by(|a, b| a.place().cmp(&b.place()));
        (!all.is_empty()).then_some(Self(all))
    }

    /// The errors, by path and place; at least one.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// How many; at least one.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, diagnostic) in self.0.iter().enumerate() {
            let between = if n == 0 { "" } else { "\n" };
            write!(f, "{between}{diagnostic}")?;
        }
        Ok(())
    }
}

impl Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
