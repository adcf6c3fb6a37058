//! The text of a file and the way from byte offsets to lines and columns.

use std::{fmt, sync::Arc};

use crate::{Diagnostic, Span};

/// A file's path and text. Cheap to clone: keep one to report a problem long after reading.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    path: String,
    text: String,
    /// Offset of each line's first byte.
    lines: Vec<usize>,
}

/// The longest excerpt of a line that is shown, in characters.
const MAX_EXCERPT: usize = 120;
/// What is shown before the place when a line is too long for the excerpt.
const LEAD: usize = 40;

// === impl Source ===

impl Source {
    /// A file of any format, for the places of its errors. `path` is only shown.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self(Arc::new(Inner { path, text, lines }))
    }

    /// The path as it was given; shown, never opened.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.0.text.floor_char_boundary(offset);
        let line = self.0.lines.partition_point(|start| *start <= offset);
        let start = self.0.lines[line - 1];
        (line, 1 + self.0.text[start..offset].chars().count())
    }

    /// An error at a place. `code` is stable, in kebab case.
    pub fn diagnostic(&self, span: Span, code: &'static str, message: impl Into<String>) -> Diagnostic {
        let (line, column) = self.line_and_column(span.start);
        let text = self.line(line);
        let marked = self.0.text.get(span.start..span.end).unwrap_or_default();
        let marked = marked.split('\n').next().unwrap_or_default().trim_end();
        let length = marked.chars().count().max(1);
        let (excerpt, caret) = excerpt(text, column - 1);
        Diagnostic {
            code,
            path: self.0.path.clone(),
            line,
            column,
            length,
            message: message.into(),
            help: None,
            excerpt,
            caret,
        }
    }

    /// A line, from 1, without its end.
    fn line(&self, line: usize) -> &str {
        let start = self.0.lines[line - 1];
        let end = self.0.lines.get(line).copied().unwrap_or(self.0.text.len());
        self.0.text[start..end].trim_end_matches(['\n', '\r'])
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({}, {} bytes)", self.path(), self.text().len())
    }
}

/// What is shown of a line, and where in it the caret goes, from 0. One character stays one, so that the caret stays in
/// place; control characters could speak to the terminal and become blanks.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    let skip = if column < MAX_EXCERPT - LEAD { 0 } else { column - LEAD };
    let shown = line.chars().skip(skip).take(MAX_EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    (shown, column - skip)
}
