//! CSV (RFC 4180) with a header row to a JSON array of objects, all values strings.
//!
//! Strict, which the readers of spreadsheets are not: a quote that does not close, a quote within a bare field, a row
//! that is longer or shorter than the header are errors with their line. Lines end with LF or CRLF; empty ones are
//! passed over.

use std::{borrow::Cow, collections::HashSet};

use super::output::{Fault, Output, Place, Step};

/// The most columns.
const MAX_COLUMNS: usize = 1 << 16;

/// Writes the rows of `text` behind its header.
pub(super) fn write(text: &str, delimiter: u8, out: &mut Output) -> Step {
    let mut rows = Rows::new(text, delimiter);
    rows.write(out).map_err(|fault| fault.at(Place::Line(rows.begin)))
}

/// Reads the rows of a text, one after the other.
#[derive(Debug)]
pub(crate) struct Rows<'t> {
    text: &'t str,
    at: usize,
    /// Of the next byte, from 1.
    line: usize,
    /// The line on which the row begins that is being read.
    begin: usize,
    delimiter: u8,
}

// === impl Rows ===

impl<'t> Rows<'t> {
    /// At the first row of `text`, whose fields the byte separates.
    pub(crate) fn new(text: &'t str, delimiter: u8) -> Self {
        Self { text, at: 0, line: 1, begin: 1, delimiter }
    }

    /// The next row that is not empty, each field with the byte it begins at; none at the end. The error is what is
    /// wrong at the byte where reading stopped.
    pub(crate) fn placed(&mut self, row: &mut Vec<(usize, Cow<'t, str>)>) -> Result<bool, (usize, Cow<'static, str>)> {
        row.clear();
        let read = self.read(|at, field| row.push((at, field)));
        read.map_err(|fault| (self.at.min(self.text.len()), fault.problem))
    }

    fn write(&mut self, out: &mut Output) -> Step {
        let (mut header, mut row) = (Vec::new(), Vec::new());
        if !self.row(&mut header)? {
            return Err(Fault::new("there is no header row"));
        }
        let mut names = HashSet::with_capacity(header.len());
        if let Some(name) = header.iter().find(|name| !names.insert(&**name)) {
            let shown: String = name.chars().take(64).collect();
            return Err(Fault::new(format!("two columns are named {shown:?}")));
        }
        out.raw("[")?;
        let mut first = true;
        while self.row(&mut row)? {
            if row.len() != header.len() {
                let problem = format!("the row has {} fields, the header has {}", row.len(), header.len());
                return Err(Fault::new(problem));
            }
            out.raw(if first { "{" } else { ",{" })?;
            first = false;
            for (n, (name, value)) in header.iter().zip(&row).enumerate() {
                if n > 0 {
                    out.raw(",")?;
                }
                out.string(name)?;
                out.raw(":")?;
                out.string(value)?;
            }
            out.raw("}")?;
        }
        out.raw("]")
    }

    /// The next row that is not empty. `false`: there is none.
    fn row(&mut self, fields: &mut Vec<Cow<'t, str>>) -> Step<bool> {
        fields.clear();
        self.read(|_, field| fields.push(field))
    }

    /// Gives each field of the next row that is not empty, with the byte it begins at.
    fn read(&mut self, mut each: impl FnMut(usize, Cow<'t, str>)) -> Step<bool> {
        while self.end_of_line()? {}
        self.begin = self.line;
        if self.at == self.text.len() {
            return Ok(false);
        }
        let mut count = 0;
        loop {
            let at = self.at;
            each(at, self.field()?);
            count += 1;
            if count > MAX_COLUMNS {
                return Err(Fault::new(format!("more than {MAX_COLUMNS} columns")));
            }
            if self.byte() == Some(self.delimiter) {
                self.at += 1;
            } else if self.at == self.text.len() || self.end_of_line()? {
                return Ok(true);
            } else {
                return Err(Fault::new(format!("text behind the closing quote of field {count}")));
            }
        }
    }

    /// Takes the end of a line, if it is one.
    fn end_of_line(&mut self) -> Step<bool> {
        let length = match self.text.as_bytes().get(self.at..) {
            Some([b'\n', ..]) => 1,
            Some([b'\r', b'\n', ..]) => 2,
            Some([b'\r', ..]) => return Err(Fault::new("a carriage return without a line feed")),
            _ => return Ok(false),
        };
        self.at += length;
        self.line += 1;
        Ok(true)
    }

    fn field(&mut self) -> Step<Cow<'t, str>> {
        if self.byte() == Some(b'"') {
            return self.quoted();
        }
        let rest = &self.text[self.at..];
        let ends = |byte: u8| byte == self.delimiter || matches!(byte, b'\n' | b'\r' | b'"');
        let field = &rest[..rest.bytes().position(ends).unwrap_or(rest.len())];
        self.at += field.len();
        match self.byte() {
            Some(b'"') => Err(Fault::new("a quote within a field that has none around it")),
            _ => Ok(Cow::Borrowed(field)),
        }
    }

    fn quoted(&mut self) -> Step<Cow<'t, str>> {
        let mut field = Cow::Borrowed("");
        loop {
            self.at += 1;
            let rest = &self.text[self.at..];
            let Some(end) = rest.find('"') else {
                return Err(Fault::new("a quote that does not close"));
            };
            let piece = &rest[..end];
            self.line += piece.bytes().filter(|byte| *byte == b'\n').count();
            self.at += end + 1;
            field = if field.is_empty() { Cow::Borrowed(piece) } else { field + piece };
            if self.byte() != Some(b'"') {
                return Ok(field);
            }
            field += "\"";
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}
