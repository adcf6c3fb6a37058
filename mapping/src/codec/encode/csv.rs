//! JSON to CSV (RFC 4180): an array of objects with the same members, whose names are the header row.

use envelope::json::Node;

use super::{Unfit, Written, below, scalar};

/// Lines end with CRLF, as the standard has it.
pub(super) fn write(root: Node<'_>, delimiter: u8) -> Written<String> {
    let rows = root.as_array().ok_or_else(|| Unfit::at("", "csv is made of an array of objects"))?;
    let Some(first) = rows.clone().next() else {
        return Err(Unfit::at("", "an array of nothing has no header row"));
    };
    let members = first.as_object().ok_or_else(|| Unfit::at("/0", "a row is made of an object"))?;
    let names: Vec<&str> = members.map(|(name, _)| name).collect();
    if names.is_empty() {
        return Err(Unfit::at("/0", "a row of nothing"));
    }
    let mut out = String::new();
    line(names.iter().copied(), delimiter, &mut out);
    let mut cells = Vec::with_capacity(names.len());
    for (n, row) in rows.enumerate() {
        let pointer = format!("/{n}");
        let members = row.as_object().ok_or_else(|| Unfit::at(&pointer, "a row is made of an object"))?;
        if members.len() != names.len() {
            let problem = format!("the row has {} members, the first has {}", members.len(), names.len());
            return Err(Unfit::at(&pointer, problem));
        }
        cells.clear();
        for name in &names {
            let pointer = below(&pointer, name);
            let cell = row.get(name).ok_or_else(|| Unfit::at(&pointer, "the first row has such a member"))?;
            cells.push(scalar(cell, &pointer)?);
        }
        line(cells.iter().copied(), delimiter, &mut out);
    }
    Ok(out)
}

fn line<'a>(cells: impl ExactSizeIterator<Item = &'a str>, delimiter: u8, out: &mut String) {
    // an empty line would be passed over
    let alone = cells.len() == 1;
    for (n, cell) in cells.enumerate() {
        if n > 0 {
            out.push(char::from(delimiter));
        }
        let special = |c: char| matches!(c, '"' | '\r' | '\n') || c == char::from(delimiter);
        if cell.contains(special) || alone && cell.is_empty() {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(cell);
        }
    }
    out.push_str("\r\n");
}
