//! Tables that expressions look a value up in: `table("line-jurisdiction", address.line)`.
//!
//! A table is a file below `tables/`, CSV or YAML: typed columns, of which the first is the key. It is read once and then
//! only asked; a look-up is one hash and copies nothing. `csv` and `rows` read the two forms, `build` holds them to the
//! declared types, the bounds and unique keys.

mod build;
mod csv;
mod rows;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use yaml::{Diagnostic, Source as Text};

use build::Room;

/// The longest table, in bytes: 64 MiB. In YAML it is also a YAML file, so at most 1 MiB.
pub const MAX_TABLE: usize = 64 << 20;
/// The most rows of a table.
const MAX_ROWS: usize = 1_000_000;
/// The most columns of a table, the key included.
const MAX_COLUMNS: usize = 64;
/// The most values of all tables together, keys included.
const MAX_VALUES: usize = 4_000_000;

/// One file of a table.
#[derive(Debug, Clone, Copy)]
pub struct TableSource<'a> {
    /// Its path, as errors name it; the ending tells its form: `.csv`, `.yaml` or `.yml`.
    pub path: &'a str,
    /// What expressions call it: its path below the folder, without the ending.
    pub name: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// The loaded tables, by name.
#[derive(Debug, Clone, Default)]
pub struct Tables(BTreeMap<Box<str>, Arc<Table>>);

/// One table. Immutable.
#[derive(Debug, Default)]
pub(crate) struct Table {
    name: Box<str>,
    keys: Keys,
    /// Without the key. None: the file is wrong, which is reported; who reads it is not wrong because of that.
    columns: Box<[Column]>,
    /// Row by row, in the order of the columns.
    cells: Box<[Cell]>,
}

/// A column behind the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: Box<str>,
    pub(crate) kind: ColumnKind,
    /// A cell may be empty.
    pub(crate) optional: bool,
}

/// The types a column may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Text,
    /// Any number of JSON, which keeps its spelling.
    Number,
    /// A whole number of 64 bits.
    Integer,
    Boolean,
}

/// A value of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Left empty, where the column lets it.
    Null,
    Text(Box<str>),
    /// Its spelling, which is a JSON number's.
    Number(Box<str>),
    Integer(i64),
    Boolean(bool),
}

/// The rows by their keys.
#[derive(Debug)]
enum Keys {
    Text(HashMap<Box<str>, u32>),
    Integer(HashMap<i64, u32>),
}

// === impl Tables ===

impl Tables {
    /// No table at all.
    pub fn none() -> &'static Self {
        static NONE: Tables = Tables(BTreeMap::new());
        &NONE
    }

    /// Reads a set of tables. One that is wrong is among the errors and still has its name, so that a mapping that reads
    /// it is not wrong because of it: use the tables only if there is no error.
    pub fn load(files: &[TableSource<'_>]) -> (Self, Vec<Diagnostic>) {
        let (mut tables, mut found, mut room) = (BTreeMap::<Box<str>, Arc<Table>>::new(), Vec::new(), Room::new());
        for file in files {
            let read = match (valid_name(file.name), tables.contains_key(file.name)) {
                (true, false) => Table::read(file, &mut room),
                (false, _) => {
                    let message = format!("{:?} can't be the name of a table: {NAME_LAW}", file.name);
                    Err(vec![Diagnostic::of_file(file.path, "name", message)])
                }
                (true, true) => {
                    let message = format!("there is another table {:?}: names go without their ending", file.name);
                    Err(vec![Diagnostic::of_file(file.path, "same-name", message)])
                }
            };
            let table = read.unwrap_or_else(|errors| {
                found.extend(errors);
                Table { name: file.name.into(), ..Table::default() }
            });
            tables.entry(file.name.into()).or_insert_with(|| Arc::new(table));
        }
        (Self(tables), found)
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    /// Each with its number of rows, by name.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, table)| (&**name, table.len()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Table>> {
        self.0.get(name)
    }
}

const NAME_LAW: &str = "letters, digits, \"-\" and \"_\", and \"/\" between folders";

/// A dot in a name would be taken for the one before a column.
fn valid_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.split('/').all(|part| !part.is_empty() && part.chars().all(plain))
}

// === impl Table ===

impl Table {
    fn read(file: &TableSource<'_>, room: &mut Room) -> Result<Self, Vec<Diagnostic>> {
        if file.text.len() > MAX_TABLE {
            let message = format!("the table has {} bytes, the limit is {MAX_TABLE}", file.text.len());
            return Err(vec![Diagnostic::of_file(file.path, "too-large", message)]);
        }
        let read = if file.path.ends_with(".csv") {
            csv::read(&Text::new(file.path, file.text.trim_start_matches('\u{feff}')), room)
        } else {
            rows::read(file, room)
        };
        read.map(|table| Self { name: file.name.into(), ..table }).map_err(|errors| errors.into_iter().collect())
    }

    /// What expressions call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Those behind the key; none if the file is wrong.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// What its keys are.
    pub(crate) fn key_kind(&self) -> ColumnKind {
        match self.keys {
            Keys::Text(_) => ColumnKind::Text,
            Keys::Integer(_) => ColumnKind::Integer,
        }
    }

    /// The cell of a column, from 0 behind the key, in the row of a text.
    pub(crate) fn of_text(&self, key: &str, column: usize) -> Option<&Cell> {
        match &self.keys {
            Keys::Text(rows) => rows.get(key).and_then(|row| self.cell(*row, column)),
            Keys::Integer(_) => None,
        }
    }

    /// The same for a whole number.
    pub(crate) fn of_integer(&self, key: i64, column: usize) -> Option<&Cell> {
        match &self.keys {
            Keys::Integer(rows) => rows.get(&key).and_then(|row| self.cell(*row, column)),
            Keys::Text(_) => None,
        }
    }

    /// Every cell of a column.
    pub(crate) fn cells_of(&self, column: usize) -> impl Iterator<Item = &Cell> {
        self.cells.iter().skip(column).step_by(self.columns.len().max(1))
    }

    fn cell(&self, row: u32, column: usize) -> Option<&Cell> {
        self.cells.get(row as usize * self.columns.len() + column)
    }

    /// How many rows.
    pub(crate) fn len(&self) -> usize {
        match &self.keys {
            Keys::Text(rows) => rows.len(),
            Keys::Integer(rows) => rows.len(),
        }
    }
}

// === impl Keys ===

impl Default for Keys {
    fn default() -> Self {
        Self::Text(HashMap::new())
    }
}

// === impl ColumnKind ===

impl ColumnKind {
    /// As a file writes them.
    const WORDS: [(&'static str, Self); 4] =
        [("text", Self::Text), ("number", Self::Number), ("integer", Self::Integer), ("boolean", Self::Boolean)];

    /// What a person calls a value of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Integer => "a whole number of 64 bits",
            Self::Boolean => "true or false",
        }
    }
}
