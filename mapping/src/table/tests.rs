//! Files to tables: what they may be and what is wrong with them, with its place.

use std::fmt::Write;

use super::*;

fn load(path: &str, text: &str) -> Result<Arc<Table>, String> {
    let (tables, errors) = Tables::load(&[TableSource { path, name: "t", text }]);
    match errors.is_empty() {
        true => Ok(tables.get("t").unwrap().clone()),
        false => Err(errors
            .iter()
            .map(|e| format!("{}:{}:{} {} {}\n", e.path, e.line, e.column, e.code, e.message))
            .collect()),
    }
}

#[test]
fn both_forms_say_the_same() {
    let csv = load(
        "t.csv",
        "\u{feff}line,to,n:number,i:integer,b:boolean?\r\n\"7\",\"a \"\"b\"\", c\",1.50,-3,\r\n9,,2,4,true\r\n",
    );
    let yaml = "columns: { line: text, to: text, n: number, i: integer, b: boolean? }\nrows:\n  - [\"7\", 'a \"b\", c', 1.50, -3, null]\n  - [\"9\", \"\", 2, 4, true]\n";
    for table in [csv.unwrap(), load("t.yaml", yaml).unwrap()] {
        assert_eq!(table.len(), 2);
        assert_eq!(table.of_text("7", 0), Some(&Cell::Text("a \"b\", c".into())));
        assert_eq!(table.of_text("7", 1), Some(&Cell::Number("1.50".into())));
        assert_eq!((table.of_text("7", 2), table.of_text("7", 3)), (Some(&Cell::Integer(-3)), Some(&Cell::Null)));
        assert_eq!(
            (table.of_text("9", 0), table.of_text("9", 3)),
            (Some(&Cell::Text("".into())), Some(&Cell::Boolean(true)))
        );
        assert_eq!((table.of_text("8", 0), table.of_integer(7, 0)), (None, None));
    }
    let numbers = load("t.csv", "id:integer,to\n-7,x\n").unwrap();
    assert_eq!((numbers.of_integer(-7, 0), numbers.of_text("-7", 0)), (Some(&Cell::Text("x".into())), None));
}

#[test]
fn a_wrong_type_in_row_70001_has_its_line_and_column() {
    let mut text = "id:integer,name,limit:number\n".to_owned();
    for row in 1..=70_000 {
        writeln!(text, "{row},n{row},{row}.5").unwrap();
    }
    assert_eq!(load("t.csv", &text).unwrap().of_integer(70_000, 1), Some(&Cell::Number("70000.5".into())));
    text.push_str("70001,x,many\n70002,y,2\n7,z,3\n");
    let said = load("t.csv", &text).unwrap_err();
    assert!(said.contains("t.csv:70002:9 wrong-type column \"limit\" takes a number, found \"many\"\n"), "{said}");
    assert!(said.contains("t.csv:70004:1 same-key the key 7 is in line 8 already\n"), "{said}");
}

#[test]
fn what_is_no_table_is_refused_with_its_place() {
    for (text, says) in [
        ("", "t.csv:1:1 empty there is no header row"),
        ("a\n", "t.csv:1:1 out-of-range a table has a key and at least one column"),
        ("a,a\n", "t.csv:1:3 same-name two columns are named \"a\""),
        ("a,b:txet\n", "t.csv:1:3 not-one-of \"txet\" is no type of a column"),
        ("a:number,b\n", "t.csv:1:1 contradiction the first column is the key"),
        ("a:text?,b\n", "t.csv:1:1 contradiction the first column is the key"),
        ("a,b c\n", "t.csv:1:3 name \"b c\" can't be the name of a column"),
        ("a,b\n1\n", "t.csv:2:1 wrong-type the row has 1 cells, the header has 2"),
        ("a,b\nx,1\nx,2\n", "t.csv:3:1 same-key the key \"x\" is in line 2 already"),
        ("a,b\nx,\"1\n", "t.csv:2:4 csv a quote that does not close"),
        ("a,b:integer\nx,007\n", "t.csv:2:3 wrong-type column \"b\" takes a whole number of 64 bits, found \"007\""),
        ("a,b:integer\nx,9223372036854775808\n", "found \"9223372036854775808\""),
        ("a,b:number\nx,NaN\n", "takes a number, found \"NaN\""),
        ("a,b:number\nx,1e999\n", "takes a number, found \"1e999\""),
        ("a,b:number\nx, 1\n", "takes a number, found \" 1\""),
        ("a,b:boolean\nx,yes\n", "takes true or false, found \"yes\""),
        ("a,b:boolean\nx,\n", "takes true or false, found an empty cell"),
    ] {
        let said = load("t.csv", text).unwrap_err();
        assert!(said.contains(says), "{text:?}: {said}");
    }
    for (text, says) in [
        ("rows: []\n", "t.yaml:1:1 missing-key key \"columns\" is missing"),
        (
            "columns: { a: text, b: text }\nrows: [[x, 1]]\n",
            "t.yaml:2:12 wrong-type expected a text in column \"b\", found 1",
        ),
        ("columns: { a: integer, b: text }\nrows: [[x, y]]\n", "expected a whole number of 64 bits in column \"a\""),
        (
            "columns: { a: text, b: text }\nrows: [[x, y], [x, z]]\n",
            "t.yaml:2:17 same-key the key \"x\" is in line 2 already",
        ),
        ("columns: { a: text, b: text }\nrows: [[x]]\n", "the row has 1 cells, \"columns\" has 2"),
        ("columns: { a: text, b: text }\nrows: []\nmore: 1\n", "unknown-key"),
    ] {
        let said = load("t.yaml", text).unwrap_err();
        assert!(said.contains(says), "{text:?}: {said}");
    }
}

#[test]
fn errors_of_one_table_are_bounded_and_the_next_is_still_read() {
    let mut text = "a,b:number\n".to_owned();
    (0..10_000).for_each(|row| writeln!(text, "{row},x").unwrap());
    let good = TableSource { path: "u.csv", name: "folder/u", text: "a,b\n1,2\n" };
    let (tables, errors) = Tables::load(&[TableSource { path: "t.csv", name: "t", text: &text }, good]);
    assert_eq!(errors.len(), yaml::MAX_PROBLEMS);
    assert_eq!(tables.sizes().collect::<Vec<_>>(), [("folder/u", 1), ("t", 0)]);
}

#[test]
fn names_are_told_apart_from_columns_and_used_once() {
    let of = |name| TableSource { path: "p.csv", name, text: "a,b\n" };
    let codes = |files: &[TableSource<'_>]| Tables::load(files).1.iter().map(|e| e.code).collect::<Vec<_>>();
    assert_eq!(codes(&[of("a.b")]), ["name"]);
    assert_eq!(codes(&[of("")]), ["name"]);
    assert_eq!(codes(&[of("a"), of("a")]), ["same-name"]);
    assert_eq!(codes(&[of("a"), of("b")]), [""; 0]);
}

#[test]
fn rows_and_values_are_bounded() {
    let mut text = "a:integer,b:integer\n".to_owned();
    (0..=MAX_ROWS).for_each(|row| writeln!(text, "{row},1").unwrap());
    let said = load("t.csv", &text).unwrap_err();
    assert!(said.starts_with("t.csv:1000002:1 too-large at most 1000000 rows a table"), "{said}");
}
