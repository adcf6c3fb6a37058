//! The generated parts of docs/mapping.md: between markers, and held to what generates them.

use std::{fs, path::Path};

/// Fails if the part is not in the manual as it is generated. `OPENMESH_GENERATE=1 cargo test -p mapping generated -- --test-threads=1` writes
/// it anew.
pub(crate) fn holds(part: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mapping.md");
    let manual = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- generated: {part} -->\n"), format!("<!-- end of {part} -->"));
    let from = manual.find(&begin).unwrap_or_else(|| panic!("no {begin:?} in docs/mapping.md")) + begin.len();
    let to = from + manual[from..].find(&end).unwrap_or_else(|| panic!("no {end:?} in docs/mapping.md"));
    if std::env::var_os("OPENMESH_GENERATE").is_some() {
        let written = format!("{}{generated}{}", &manual[..from], &manual[to..]);
        fs::write(&path, written).unwrap();
        return;
    }
    assert_eq!(
        &manual[from..to],
        generated,
        "OPENMESH_GENERATE=1 cargo test -p mapping generated -- --test-threads=1 writes it anew"
    );
}
