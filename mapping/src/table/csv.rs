//! A table as CSV (RFC 4180): `line,jurisdiction,limit:number` and then the rows.
//!
//! A column of the header is a name and, behind a colon, its type; without one it is text.

use std::borrow::Cow;

use envelope::Json;
use yaml::{Diagnostics, Problems, Source, Span};

use super::{
    Cell, Column, ColumnKind, Table,
    build::{Build, Room, shown},
};
use crate::codec::Rows;

pub(super) fn read(source: &Source, room: &mut Room) -> Result<Table, Diagnostics> {
    let problems = Problems::new(source);
    let table = table(source.text(), room, &problems);
    problems.finish(table)
}

fn table(text: &str, room: &mut Room, problems: &Problems) -> Option<Table> {
    let (mut rows, mut row) = (Rows::new(text, b','), Vec::new());
    if !next(&mut rows, &mut row, problems)? {
        problems.report(Span { start: 0, end: 0 }, "empty", "there is no header row");
        return None;
    }
    let declared: Vec<_> = row
        .iter()
        .map(|(at, cell)| {
            let (name, kind) = cell.split_once(':').unwrap_or((cell, "text"));
            (name.trim(), kind.trim(), place(*at, cell))
        })
        .collect();
    let whole = Span { start: 0, end: declared.last().map_or(0, |(.., at)| at.end) };
    let mut build = Build::new(&declared, whole, room, problems)?;
    let mut row = Vec::new();
    while next(&mut rows, &mut row, problems)? {
        let begin = row.first().map_or(Span { start: 0, end: 0 }, |(at, cell)| place(*at, cell));
        if row.len() != build.columns().len() {
            let message = format!("the row has {} cells, the header has {}", row.len(), build.columns().len());
            problems.report(begin, "wrong-type", message);
            continue;
        }
        let read = row.iter().zip(build.columns()).map(|((at, text), column)| {
            let read = cell(text, column);
            if read.is_none() {
                problems.report(place(*at, text), "wrong-type", mismatch(text, column));
            }
            read
        });
        let read: Vec<_> = read.collect();
        if let Some(cells) = read.into_iter().collect::<Option<Vec<_>>>() {
            build.row(cells, begin)?;
        }
    }
    Some(build.finish())
}

/// `None`: what stands there is no CSV, which is reported.
fn next<'t>(rows: &mut Rows<'t>, row: &mut Vec<(usize, Cow<'t, str>)>, problems: &Problems) -> Option<bool> {
    match rows.placed(row) {
        Ok(found) => Some(found),
        Err((at, problem)) => {
            problems.report(Span { start: at, end: at }, "csv", problem);
            None
        }
    }
}

/// A quoted cell is longer in the file than its text: the caret begins where the cell does.
fn place(at: usize, text: &str) -> Span {
    Span { start: at, end: at + text.len() }
}

fn cell(text: &str, column: &Column) -> Option<Cell> {
    if text.is_empty() && column.optional {
        return Some(Cell::Null);
    }
    match column.kind {
        ColumnKind::Text => Some(Cell::Text(text.into())),
        ColumnKind::Boolean => match text {
            "true" => Some(Cell::Boolean(true)),
            "false" => Some(Cell::Boolean(false)),
            _ => None,
        },
        ColumnKind::Integer => {
            let value: i64 = text.parse().ok()?;
            // one spelling a number: no +7, no 007
            (value.to_string() == text).then_some(Cell::Integer(value))
        }
        ColumnKind::Number => {
            let json = Json::parse(bytes::Bytes::copy_from_slice(text.as_bytes())).ok()?;
            json.root().as_number().filter(|number| *number == text).map(|number| Cell::Number(number.into()))
        }
    }
}

fn mismatch(text: &str, column: &Column) -> String {
    let found = if text.is_empty() { "an empty cell".to_owned() } else { shown(text) };
    format!("column {:?} takes {}, found {found}", column.name, column.kind.name())
}
