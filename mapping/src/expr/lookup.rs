//! `table("name.column", key, default)`: which table and column is settled when the file is loaded; a look-up is one hash.

use std::{borrow::Cow, sync::Arc};

use cel::common::ast::{CallExpr, Expr as Syntax, IdedExpr, LiteralValue};

use super::{
    Op, Term, check,
    check::Type,
    compile::{Compiled, Compiler},
    frame::Frame,
    number::Number,
    value::{Evaluated, Value},
};
use crate::{
    proof::{self, Held, Kinds, Number as Range, Type as Known},
    table::{Cell, Column, ColumnKind, Table},
};

/// The rows of a table of which each is known to the proof.
const MAX_KNOWN: usize = 256;

/// A look-up.
#[derive(Debug)]
pub(super) struct Lookup {
    table: Arc<Table>,
    /// From 0, behind the key.
    column: usize,
    pub(super) key: Term,
    /// What a key that is not there gives.
    pub(super) default: Option<Term>,
}

const USAGE: &str = "expected table(\"name\", key) or table(\"name.column\", key, default)";

// === impl Compiler ===

impl Compiler<'_> {
    pub(super) fn lookup(&mut self, call: &CallExpr, span: (u32, u32)) -> Compiled<Op> {
        let (name, key, default) = match call.args.as_slice() {
            [name, key] => (name, key, None),
            [name, key, default] => (name, key, Some(default)),
            _ => return self.refuse(span, "expression-call", USAGE),
        };
        let named = self.named_cell(name);
        let (key, default) = (self.term(key), default.map(|default| self.term(default)));
        let (table, column) = named?;
        let (key, default) = (key?, default.map_or(Some(None), |default| default.map(Some))?);
        let (takes, says) = match table.key_kind() {
            ColumnKind::Integer => (Type::Number, "whole numbers"),
            ColumnKind::Text | ColumnKind::Number | ColumnKind::Boolean => (Type::Text, "texts"),
        };
        if !table.columns().is_empty() && check::wrong([&key], &[takes]).is_some() {
            let found = check::with_article(check::type_of(&key).name());
            let message = format!("the keys of table {:?} are {says}, found {found}", table.name());
            return self.refuse(key.span, "expression-type", message);
        }
        Some(Op::Table(Box::new(Lookup { table, column, key, default })))
    }

    /// The table and the column that a literal names.
    fn named_cell(&mut self, name: &IdedExpr) -> Compiled<(Arc<Table>, usize)> {
        let place = self.place(name);
        let Syntax::Literal(LiteralValue::String(text)) = &name.expr else {
            return self.refuse(place, "expression-call", "the table must be known when the file is loaded: a literal");
        };
        let (name, column) = match text.inner().split_once('.') {
            Some((name, column)) => (name, Some(column)),
            None => (text.inner(), None),
        };
        let Some(table) = self.names.tables.get(name).cloned() else {
            let known: Vec<_> = self.names.tables.names().collect();
            let help = match (yaml::nearest(name, &known), known.is_empty()) {
                (Some(near), _) => format!("did you mean {near:?}?"),
                (None, false) => format!("there are {}", known.join(", ")),
                (None, true) => "no tables are loaded".to_owned(),
            };
            let shown: String = name.chars().take(64).collect();
            return self.refuse_with_help(place, "unknown-table", format!("unknown table {shown:?}"), help);
        };
        let columns = table.columns();
        let column = match (column, columns) {
            (_, []) | (None, [_]) => Some(0),
            (Some(column), _) => columns.iter().position(|of| *of.name == *column),
            (None, _) => None,
        };
        match column {
            Some(column) => Some((table, column)),
            None => {
                let (message, help) = unknown_column(name, text.inner(), columns);
                self.refuse_with_help(place, "unknown-column", message, help)
            }
        }
    }
}

fn unknown_column(table: &str, written: &str, columns: &[Column]) -> (String, String) {
    let known: Vec<String> = columns.iter().map(|column| format!("{table}.{}", column.name)).collect();
    let words: Vec<&str> = known.iter().map(String::as_str).collect();
    let message = match written.len() > table.len() {
        true => format!("table {table:?} has no such column"),
        false => format!("table {table:?} has more than one column: say which"),
    };
    let help = match yaml::nearest(written, &words) {
        Some(near) if near != written => format!("did you mean {near:?}?"),
        _ => format!("there are {}", words.join(", ")),
    };
    (message, help)
}

/// The one value that a cell is.
fn known(cell: &Cell) -> Known {
    match cell {
        Cell::Null => Known::NULL,
        Cell::Text(text) => Known::text(proof::Text::one(text)),
        Cell::Number(text) => Known::number(proof::number_literal(text)),
        Cell::Integer(value) => Known::number(Range { whole: true, ..Range::one(*value as f64, Held::Int) }),
        Cell::Boolean(value) => Known::bools(proof::Bools::only(*value)),
    }
}

// === impl Lookup ===

impl Lookup {
    /// The table's name and the column, from 0.
    pub(super) fn cell(&self) -> (&str, usize) {
        (self.table.name(), self.column)
    }

    /// The type of what it gives.
    pub(super) fn gives(&self) -> Type {
        let Some(column) = self.table.columns().get(self.column).filter(|column| !column.optional) else {
            return Type::Any;
        };
        let cell = match column.kind {
            ColumnKind::Text => Type::Text,
            ColumnKind::Number | ColumnKind::Integer => Type::Number,
            ColumnKind::Boolean => Type::Bool,
        };
        match &self.default {
            Some(default) if check::type_of(default) != cell => Type::Any,
            Some(_) | None => cell,
        }
    }

    /// The file of the table could not be read: nothing is known of it.
    pub(super) fn is_unknown(&self) -> bool {
        self.table.columns().is_empty()
    }

    /// What its keys are.
    pub(super) fn takes(&self) -> Kinds {
        match self.table.key_kind() {
            _ if self.is_unknown() => Kinds::TEXT.and(Kinds::NUMBER),
            ColumnKind::Integer => Kinds::NUMBER,
            ColumnKind::Text | ColumnKind::Number | ColumnKind::Boolean => Kinds::TEXT,
        }
    }

    /// Every key that there may be is there.
    pub(super) fn has_all(&self, keys: &Known) -> bool {
        let texts = keys.text.as_ref().is_none_or(|text| {
            let all = text.only.as_ref();
            all.is_some_and(|all| all.iter().all(|key| self.table.of_text(key, self.column).is_some()))
        });
        let numbers = keys.number.as_ref().is_none_or(|number| {
            let all = number.only.as_ref().filter(|all| all.iter().all(|key| key.fract() == 0.0));
            all.is_some_and(|all| all.iter().all(|key| self.table.of_integer(*key as i64, self.column).is_some()))
        });
        texts && numbers
    }

    /// What the cells of its column are: each of a small table, the type of a large one.
    pub(super) fn cells(&self) -> Known {
        let Some(column) = self.table.columns().get(self.column) else { return Known::ANY };
        if self.table.len() <= MAX_KNOWN {
            return self.table.cells_of(self.column).fold(Known::NEVER, |all, cell| all.join(&known(cell)));
        }
        let of = match column.kind {
            ColumnKind::Text => Known::TEXT,
            ColumnKind::Number => Known::number(Range::ANY),
            ColumnKind::Integer => Known::number(Range::ints(i64::MIN as f64, i64::MAX as f64)),
            ColumnKind::Boolean => Known::BOOL,
        };
        if column.optional { of.join(&Known::NULL) } else { of }
    }

    /// The terms it is made of.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Term> {
        std::iter::once(&self.key).chain(&self.default)
    }
}

// === impl Term ===

impl Term {
    pub(super) fn look_up<'a>(&self, of: &'a Lookup, frame: &Frame<'_, 'a>) -> Evaluated<Value<'a>> {
        let key = of.key.eval(frame)?;
        self.charge_bytes(frame, key.bytes())?;
        let cell = match of.table.key_kind() {
            ColumnKind::Integer => match key.exact().map(Number::whole) {
                Some(whole) => whole.and_then(|whole| of.table.of_integer(whole, of.column)),
                None => return Err(of.key.wrong_type("a whole number, as the keys of the table", &key)),
            },
            ColumnKind::Text | ColumnKind::Number | ColumnKind::Boolean => match &key {
                Value::Text(text) => of.table.of_text(text, of.column),
                other => return Err(of.key.wrong_type("a string, as the keys of the table", other)),
            },
        };
        match (cell, &of.default) {
            (Some(cell), _) => Ok(Value::of_cell(cell)),
            (None, Some(default)) => default.eval(frame),
            (None, None) => {
                let shown: String = key.into_text().unwrap_or_default().chars().take(64).collect();
                Err(self.fault(format!("table {:?} has no key {shown:?}", of.table.name())))
            }
        }
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    fn of_cell(cell: &'a Cell) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Text(text) => Self::Text(Cow::Borrowed(text)),
            Cell::Number(text) => Self::Source(Cow::Borrowed(text)),
            Cell::Integer(value) => Self::Number(Number::Int(*value)),
            Cell::Boolean(value) => Self::Bool(*value),
        }
    }
}
