//! The tables of `docs/bridges/README.md`: what each way in and out can say beside the data.

use std::fs;

use integration::site::repository;

/// What one way can say; in a table `-` stands where it can't.
pub(crate) struct Says {
    pub(crate) headers: bool,
    pub(crate) correlation: bool,
    pub(crate) trace: bool,
}

/// The rows of the table of ways `in` or `out`: the way, and the cells of the columns of these names.
pub(crate) fn read(way: &str) -> Vec<(String, Says)> {
    let text = fs::read_to_string(repository().join("docs/bridges/README.md")).expect("the page");
    let head = format!("| way {way} |");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&head));
    let columns: Vec<_> = cells(lines.next().unwrap_or_else(|| panic!("no {head}"))).collect();
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let of: Vec<_> = cells(row).collect();
        let has = |name: &str| {
            let column = columns.iter().position(|column| *column == name);
            of[column.unwrap_or_else(|| panic!("no column {name:?}"))] != "-"
        };
        let says = Says { headers: has("headers"), correlation: has("correlation"), trace: has("trace context") };
        (of[0].to_owned(), says)
    })
    .collect()
}

pub(crate) fn names(rows: &[(String, Says)]) -> Vec<&str> {
    rows.iter().map(|(name, _)| name.as_str()).collect()
}

fn cells(row: &str) -> impl Iterator<Item = &str> {
    row.trim_matches('|').split('|').map(str::trim)
}
