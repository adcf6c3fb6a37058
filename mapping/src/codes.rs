//! The stable codes of everything that can be wrong with a mapping file or a message, each with its cure.
//!
//! One table: `--format json` prints the codes, docs/mapping.md lists them. A code is never given to something else.

use envelope::{RejectKind, Rejection};

/// A kind of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// `M0101`.
    pub id: &'static str,
    /// As errors of files show it: `unknown-key`. Of refusals: who decides, and the kind.
    pub name: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What to do about it.
    pub cure: &'static str,
}

const fn code(id: &'static str, name: &'static str, means: &'static str, cure: &'static str) -> Code {
    Code { id, name, means, cure }
}

/// What is wrong with a file, at load.
pub const LOAD: &[Code] = &[
    // YAML
    code("M0101", "syntax", "the file is no YAML", "mend it at the place; often an indent or a missing quote"),
    code("M0102", "tab", "a tab in an indent", "indent with blanks"),
    code("M0103", "duplicate-key", "a key is there twice", "remove one"),
    code("M0104", "key-type", "a key is no string", "put the key in quotes"),
    code("M0105", "anchor", "`&name`", "write the value out: files have no anchors"),
    code("M0106", "alias", "`*name`", "write the value out: files have no aliases"),
    code("M0107", "merge-key", "`<<`", "write the keys out"),
    code("M0108", "tag", "`!type`", "leave the tag out"),
    code("M0109", "one-document", "more than one document", "one mapping a file"),
    code("M0110", "unsupported", "a part of YAML that files do not have", "write it plainly"),
    code("M0111", "too-large", "the file is too long", "split it; the limit is in the message"),
    code("M0112", "too-deep", "nested too deep", "flatten it"),
    code("M0113", "too-many", "too many values in one file", "split it"),
    code("M0114", "ambiguous", "a plain word that YAML versions read differently", "put it in quotes"),
    code("M0115", "unreadable", "the file can't be read", "look at its path and rights"),
    // keys
    code("M0201", "unknown-key", "no such key", "the valid keys are in the message; what was meant is suggested"),
    code("M0202", "missing-key", "a key that must be there", "add it"),
    code("M0203", "wrong-type", "a value of another type", "the message says what is expected"),
    code("M0204", "out-of-range", "a number, size or count outside its bounds", "the bounds are in the message"),
    code("M0205", "empty", "nothing where something must be", "say something, or leave the key out"),
    code("M0206", "not-one-of", "none of the words that are possible", "take one of the message"),
    code("M0207", "contradiction", "two keys that exclude each other", "remove one"),
    code("M0208", "name", "not allowed as a name", "the law of names is in the message"),
    code("M0209", "not-available", "a key or word that this gateway can't do", "do without, or see the documentation"),
    code("M0210", "not-supported", "a form that is not supported yet", "write it another way"),
    code("M0211", "address", "an address that is none", "see Addresses"),
    code(
        "M0212",
        "topic",
        "a topic that is none, or is reserved",
        "1 to 64 segments, none empty, no `+`, `#`, no `$` first",
    ),
    code("M0213", "attribute", "an attribute that is not allowed", "the law is in the message"),
    code("M0214", "unknown-bridge", "no bridges are configured", "add one to `gateway.yaml`"),
    code("M0215", "unknown-schema", "no schemas are loaded", "put the schema below `schemas/`"),
    code(
        "M0216",
        "bad-reference",
        "a `${env:...}` or `${file:...}` that leads nowhere",
        "set the variable, or mend the path",
    ),
    code("M0217", "header", "a header that is none", "the law is in the message"),
    code(
        "M0218",
        "keeps-a-command",
        "`keep: last` on what asks for something",
        "say when it `expires`, or leave `keep` out",
    ),
    code(
        "M0221",
        "sheds-a-command",
        "`shed: latest` on what asks for something",
        "leave `shed` out: a command waits, or its sender hears no",
    ),
    code("M0219", "nobody-takes", "a promise that waits for nobody", "add what would take it, or promise less"),
    code("M0220", "template", "a text template that can't be", "mend it at the place"),
    // expressions
    code("M0301", "expression-syntax", "no expression of CEL", "mend it at the caret; put YAML's own signs in quotes"),
    code(
        "M0302",
        "expression-type",
        "an operand or argument of the wrong type",
        "convert it: `int()`, `string()`, ...",
    ),
    code("M0303", "expression-value", "a constant part that has no value, as `1 / 0`", "mend it"),
    code("M0304", "expression-call", "a function that takes other arguments", "the message shows how it is written"),
    code("M0305", "expression-index", "an index that is no number from 0 and no key", "write `[0]` or `[\"key\"]`"),
    code(
        "M0306",
        "expression-key",
        "an object's key that is no string literal, or there twice",
        "write `{\"key\": value}`",
    ),
    code(
        "M0307",
        "expression-number",
        "a number that is out of the range of 64 bits, or of a double",
        "write a smaller one, or text",
    ),
    code(
        "M0308",
        "expression-pattern",
        "no pattern of RE2's syntax, or not a literal",
        "no look-around, no back references",
    ),
    code("M0309", "expression-too-long", "over 2,048 bytes", "name parts of it under `let`"),
    code("M0310", "expression-too-deep", "nested deeper than 64 operations", "name parts of it under `let`"),
    code(
        "M0316",
        "expression-format",
        "a format that is none, or asks for more values than it gets",
        "the clauses are in the message; a percent sign is `%%`",
    ),
    code(
        "M0317",
        "expression-zone",
        "a time zone that there is not",
        "a name of the IANA database, as \"Europe/Oslo\", or an offset, as \"+02:00\"",
    ),
    code("M0311", "unknown-name", "a name that is not in scope", "the names are in the message"),
    code("M0312", "unknown-function", "no such function", "see Functions"),
    code("M0313", "unknown-table", "no such table", "put it below `tables/`, or mend the name"),
    code("M0314", "unknown-column", "the table has no such column", "the columns are in the message"),
    code("M0315", "cycle", "names under `let` that read themselves", "break the circle that the message shows"),
    // the proof
    code(
        "M0401",
        "unknown-member",
        "a path that `from.schema` does not have",
        "take the member that is suggested, or add it to the schema",
    ),
    code("M0402", "never-fits", "a value that can never be what its place takes", "convert it, or mend the schema"),
    code(
        "M0403",
        "never-true",
        "a condition that no message fulfils",
        "take the word that is suggested, or mend the schema",
    ),
    code(
        "M0404",
        "missing-member",
        "the envelope's schema requires a member that is not given",
        "add it to `envelope.data`",
    ),
    code(
        "M0405",
        "unproven",
        "a required field that may not turn out well",
        "say more in `from.schema`, ask with `has()`, or `unproven: dead-letter`",
    ),
    // the set
    code("M0501", "same-name", "two mappings of one name", "rename one"),
    code("M0502", "same-address", "two mappings take the same addresses at the same order", "give one an `order`"),
    code(
        "M0503",
        "unreachable",
        "a mapping that no message gets to",
        "give it the lower `order`, or the other a `when`",
    ),
    code(
        "M0504",
        "circle",
        "a mapping sends to where its bridge takes it in again",
        "name it under `own` of the bridge, or send it elsewhere",
    ),
    code(
        "M0505",
        "not-permitted",
        "no policy lets a bridge read what one of its mappings is to send",
        "add the `permit` that is suggested",
    ),
    // tables
    code("M0601", "csv", "a table that is no CSV of RFC 4180", "mend the row"),
    code(
        "M0602",
        "same-key",
        "two rows of a table have the same key",
        "remove one; the other's line is in the message",
    ),
    // schemas
    code(
        "M0701",
        "bad-schema",
        "a file below `schemas/` that is no JSON Schema, or more than one may be",
        "mend it at the place in the message",
    ),
];

/// Why a message is refused.
pub const REFUSALS: &[Code] = &[
    code("M1001", "unmapped", "no mapping takes the address, or each `when` is false", "add a mapping, or mend `when`"),
    code(
        "M1002",
        "from.decode, malformed",
        "the payload is not of the format that `from.decode` says",
        "mend the sender, or `decode` and its charset",
    ),
    code("M1003", "from.decode, too-large", "the payload is too large once it is decoded", "send less at once"),
    code(
        "M1004",
        "from.schema, malformed",
        "the payload does not conform to `from.schema`",
        "mend the sender; the place is in the answer",
    ),
    code(
        "M1005",
        "mapping, malformed",
        "an expression has no value, or one that its place can't take",
        "make `check` say `proven`; ask with `has()`",
    ),
    code("M1006", "mapping, too-large", "more items, steps or bytes than a message may become", "send less at once"),
    code(
        "M1007",
        "mapping, denied",
        "the topic would be a reserved one",
        "put something before what the sender chooses",
    ),
    code(
        "M1008",
        "conformance, malformed",
        "the data does not conform to the envelope's schema",
        "make `check` say `proven`",
    ),
    code("M1009", "other", "refused by something that is no mapping: policy or storage", "see who decided"),
];

/// The code of an error of a file by its name. `None`: it is no error of mapping files.
pub fn of_load(name: &str) -> Option<&'static Code> {
    LOAD.iter().find(|code| code.name == name)
}

/// The code of a refusal.
pub fn of_refusal(rejection: &Rejection) -> &'static Code {
    let id = match (rejection.decided_by, rejection.kind) {
        (_, RejectKind::Unmapped) => "M1001",
        ("mapping.from.decode", RejectKind::TooLarge) => "M1003",
        ("mapping.from.decode", _) => "M1002",
        ("mapping.from.schema", _) => "M1004",
        ("mapping", RejectKind::TooLarge) => "M1006",
        ("mapping", RejectKind::Denied) => "M1007",
        ("mapping", _) => "M1005",
        ("conformance", _) => "M1008",
        _ => "M1009",
    };
    REFUSALS.iter().find(|code| code.id == id).unwrap_or(&REFUSALS[REFUSALS.len() - 1])
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// Every code that the loader's sources name beside a message.
    fn named(folder: &Path, found: &mut BTreeSet<String>) {
        // `report(span, "code", ...)` and what else takes a code, over line breaks; of_file takes the path first
        let call = r#"(?:report|report_with_help|refuse|refuse_with_help|diagnostic|of_file|Problem::new|nowhere|Nowhere|self\.error|fault|problem|refused)\(\s*(?:[^"\n;]{0,80},\s*)?"([a-z]+(?:-[a-z]+)*)",?\s"#;
        let call = regex::Regex::new(call).unwrap();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                named(&path, found);
            } else if name.ends_with(".rs") && !name.contains("tests") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                found.extend(call.captures_iter(text).map(|found| found[1].to_owned()));
            }
        }
    }

    #[test]
    fn every_error_of_the_loader_has_a_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        named(&root.join("src"), &mut found);
        named(&root.join("../yaml/src"), &mut found);
        found.extend(of_the_gateway(root));
        assert!(found.len() > 40, "{found:?}");
        let unknown: Vec<_> = found.iter().filter(|name| of_load(name).is_none()).collect();
        assert!(unknown.is_empty(), "without a code in mapping/src/codes.rs: {unknown:?}");
        let sources = sources(root);
        let gone: Vec<_> = LOAD.iter().filter(|code| !sources.contains(&format!("\"{}\"", code.name))).collect();
        assert!(gone.is_empty(), "nobody reports {gone:?}");
    }

    /// What the gateway says of mappings, schemas and tables as it reads them all; of its own file, it says it without a code.
    fn of_the_gateway(root: &Path) -> BTreeSet<String> {
        let text = fs::read_to_string(root.join("../gateway/src/config/load.rs")).unwrap();
        let call = regex::Regex::new(r#"of_file\((?:[^"\n;]{0,80},\s*)"([a-z-]+)","#).unwrap();
        let found: BTreeSet<_> = call.captures_iter(&text).map(|found| found[1].to_owned()).collect();
        assert!(found.contains("bad-schema") && found.contains("circle"), "{found:?}");
        found.into_iter().filter(|name| name != "open-to-anybody").collect()
    }

    fn sources(root: &Path) -> String {
        let mut folders = vec![root.join("src"), root.join("../yaml/src"), root.join("../gateway/src/config")];
        let mut text = String::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.ends_with("codes.rs") => {}
                    false => text += &fs::read_to_string(&path).unwrap(),
                }
            }
        }
        text
    }

    #[test]
    fn the_codes_in_the_manual_are_the_generated_ones() {
        for (part, codes) in [("load codes", LOAD), ("refusal codes", REFUSALS)] {
            let mut table = String::from("| code | name | what it means | cure |\n|---|---|---|---|\n");
            for Code { id, name, means, cure } in codes {
                table += &format!("| {id} | `{name}` | {means} | {cure} |\n");
            }
            crate::manual::holds(part, &table);
        }
    }

    #[test]
    fn a_code_is_given_once() {
        let all = LOAD.iter().chain(REFUSALS);
        assert_eq!(all.clone().map(|code| code.id).collect::<BTreeSet<_>>().len(), all.clone().count());
        assert_eq!(all.clone().map(|code| code.name).collect::<BTreeSet<_>>().len(), all.count());
    }

    #[test]
    fn a_refusal_has_the_code_of_who_decided() {
        let of = |by, kind| of_refusal(&Rejection::new(kind, by, "x")).id;
        assert_eq!(of("mapping.from.decode", RejectKind::Malformed), "M1002");
        assert_eq!(of("mapping", RejectKind::Unmapped), "M1001");
        assert_eq!(of("mapping", RejectKind::TooLarge), "M1006");
        assert_eq!(of("conformance", RejectKind::Malformed), "M1008");
        assert_eq!(of("access", RejectKind::Denied), "M1009");
    }
}
