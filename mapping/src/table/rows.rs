//! A table as YAML: `columns`, a name and a type each, and `rows`, a list of lists.

use yaml::{Diagnostics, Fields, File, Kind, Node, Problems, Span};

use super::{
    Cell, Column, ColumnKind, Table, TableSource,
    build::{Build, Room},
};

pub(super) fn read(file: &TableSource<'_>, room: &mut Room) -> Result<Table, Diagnostics> {
    File::parse(file.path, file.text)?.read(|root, problems| table(root, room, problems))
}

fn table(root: &Node, room: &mut Room, problems: &Problems) -> Option<Table> {
    let mut fields = Fields::of(root, problems)?;
    let columns = fields.required("columns");
    let rows = fields.required("rows").and_then(|node| node.list(problems));
    fields.finish();
    let declared = declared(columns?, problems)?;
    let mut build = Build::new(&declared, columns?.span, room, problems)?;
    for row in rows? {
        let Some(cells) = row.list(problems) else { continue };
        if cells.len() != build.columns().len() {
            let message = format!("the row has {} cells, \"columns\" has {}", cells.len(), build.columns().len());
            problems.report(row.span, "wrong-type", message);
            continue;
        }
        let read: Vec<_> =
            cells.iter().zip(build.columns()).map(|(node, column)| cell(node, column, problems)).collect();
        if let Some(read) = read.into_iter().collect::<Option<Vec<_>>>() {
            build.row(read, cells.first().map_or(row.span, |key| key.span))?;
        }
    }
    Some(build.finish())
}

fn declared<'n>(node: &'n Node, problems: &Problems) -> Option<Vec<(&'n str, &'n str, Span)>> {
    let read: Vec<_> = node
        .map(problems)?
        .iter()
        .map(|(name, kind)| kind.string(problems).map(|word| (name.name.as_str(), word, kind.span)))
        .collect();
    read.into_iter().collect()
}

fn cell(node: &Node, column: &Column, problems: &Problems) -> Option<Cell> {
    let cell = match (column.kind, &node.kind) {
        (_, Kind::Null) if column.optional => Some(Cell::Null),
        (ColumnKind::Text, Kind::String(text)) => Some(Cell::Text(text.value.as_str().into())),
        (ColumnKind::Boolean, Kind::Bool(value)) => Some(Cell::Boolean(*value)),
        (ColumnKind::Integer, Kind::Integer(value, _)) => Some(Cell::Integer(*value)),
        (ColumnKind::Number, Kind::Integer(_, text) | Kind::Float(_, text)) => Some(Cell::Number(text.clone())),
        _ => None,
    };
    match cell {
        Some(cell) => Some(cell),
        None => node.mismatch(&format!("{} in column {:?}", column.kind.name(), column.name), problems),
    }
}
