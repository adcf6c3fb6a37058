//! What both forms of a table are held to: declared types, bounds, unique keys.

use std::collections::{HashMap, hash_map::Entry};

use yaml::{Problems, Span};

use super::{Cell, Column, ColumnKind, Keys, MAX_COLUMNS, MAX_ROWS, MAX_VALUES, Table};

/// How many values all tables may still have.
#[derive(Debug)]
pub(super) struct Room(usize);

/// A table that is being read.
#[derive(Debug)]
pub(super) struct Build<'b> {
    problems: &'b Problems,
    room: &'b mut Room,
    /// The key first.
    columns: Vec<Column>,
    texts: HashMap<Box<str>, u32>,
    integers: HashMap<i64, u32>,
    /// Where the keys stand, by row.
    places: Vec<Span>,
    cells: Vec<Cell>,
}

// === impl Room ===

impl Room {
    pub(super) fn new() -> Self {
        Self(MAX_VALUES)
    }
}

// === impl Build ===

impl<'b> Build<'b> {
    /// A table of these columns, each as `name`, its declared type and where it stands. Reports what is wrong with them.
    pub(super) fn new(
        declared: &[(&str, &str, Span)],
        whole: Span,
        room: &'b mut Room,
        problems: &'b Problems,
    ) -> Option<Self> {
        if !(2..=MAX_COLUMNS).contains(&declared.len()) {
            let message = format!(
                "a table has a key and at least one column behind it, at most {MAX_COLUMNS} in all; this has {}",
                declared.len()
            );
            problems.report(whole, "out-of-range", message);
            return None;
        }
        let before = problems.len();
        let mut columns: Vec<Column> = Vec::new();
        for (name, kind, at) in declared {
            if columns.iter().any(|column| *column.name == **name) {
                problems.report(*at, "same-name", format!("two columns are named {name:?}"));
            }
            columns.extend(column(name, kind, columns.is_empty(), *at, problems));
        }
        let (texts, integers, places, cells) = (HashMap::new(), HashMap::new(), Vec::new(), Vec::new());
        (problems.len() == before).then_some(Self { problems, room, columns, texts, integers, places, cells })
    }

    /// The columns, the key first.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Takes a row: the cells in the order of the columns, the key first, and where that stands. `None`: no further row
    /// can be taken.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>, at: Span) -> Option<()> {
        let number = u32::try_from(self.places.len()).ok().filter(|number| (*number as usize) < MAX_ROWS);
        let (Some(number), Some(left)) = (number, self.room.0.checked_sub(self.columns.len())) else {
            let message = format!("at most {MAX_ROWS} rows a table, and {MAX_VALUES} values in all tables");
            self.problems.report(at, "too-large", message);
            return None;
        };
        self.room.0 = left;
        let mut cells = cells.into_iter();
        let taken = match cells.next()? {
            Cell::Integer(key) => match self.integers.entry(key) {
                Entry::Vacant(free) => Ok(*free.insert(number)),
                Entry::Occupied(taken) => Err((key.to_string(), *taken.get())),
            },
            Cell::Text(key) => match self.texts.entry(key) {
                Entry::Vacant(free) => Ok(*free.insert(number)),
                Entry::Occupied(taken) => Err((shown(taken.key()), *taken.get())),
            },
            Cell::Null | Cell::Number(_) | Cell::Boolean(_) => return None,
        };
        if let Err((key, first)) = taken {
            let place = self.places.get(first as usize).map_or(0, |span| span.start);
            let (line, _) = self.problems.source().line_and_column(place);
            self.problems.report(at, "same-key", format!("the key {key} is in line {line} already"));
        }
        self.places.push(at);
        self.cells.extend(cells);
        Some(())
    }

    pub(super) fn finish(self) -> Table {
        let keys = match self.columns.first().map(|key| key.kind) {
            Some(ColumnKind::Integer) => Keys::Integer(self.integers),
            _ => Keys::Text(self.texts),
        };
        let columns = self.columns.into_iter().skip(1).collect();
        Table { name: Box::default(), keys, columns, cells: self.cells.into() }
    }
}

/// `text`, `number?`, ...: with a question mark a cell may be empty.
fn column(name: &str, declared: &str, key: bool, at: Span, problems: &Problems) -> Option<Column> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(plain) {
        let message = format!("{} can't be the name of a column: letters, digits, \"-\" and \"_\"", shown(name));
        problems.report(at, "name", message);
        return None;
    }
    let (word, optional) = match declared.strip_suffix('?') {
        Some(word) => (word, true),
        None => (declared, false),
    };
    let Some((_, kind)) = ColumnKind::WORDS.into_iter().find(|(known, _)| *known == word) else {
        let words: Vec<_> = ColumnKind::WORDS.iter().map(|(word, _)| *word).collect();
        let message = format!("{} is no type of a column", shown(word));
        let known = format!("there are {}, with ? behind it where a cell may be empty", words.join(", "));
        let help = match yaml::nearest(word, &words) {
            Some(near) => format!("did you mean \"{near}\"? {known}"),
            None => known,
        };
        problems.report_with_help(at, "not-one-of", message, help);
        return None;
    };
    if key && (optional || !matches!(kind, ColumnKind::Text | ColumnKind::Integer)) {
        let message = "the first column is the key: text or integer, never empty";
        problems.report(at, "contradiction", message);
        return None;
    }
    Some(Column { name: name.into(), kind, optional })
}

/// As a message may quote it.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}
