//! Any text as a mapping file, one that takes messages in or one that sends: it loads, or every error says where. What loads runs its
//! tests, and takes made-up messages without breaking what was proven of it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mapping::{Abilities, Bridge, Context, Source, TableSource, Tables};
use schema::{Schema, Schemas};

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| {
    let order = br#"{"type":"object","required":["id","n","kind"],"additionalProperties":false,"properties":{
        "id":{"type":"string","pattern":"^[A-Z0-9-]{3,20}$"},"n":{"type":"integer","minimum":1,"maximum":9},
        "kind":{"enum":["new","old"]},"at":{"type":"string","format":"date-time"},
        "lines":{"type":"array","minItems":1,"items":{"type":"object","required":["sku"],"properties":{"sku":{"type":"string"}}}}}}"#;
    let mut schemas = Schemas::default();
    for (name, text) in [("reading@v1.0.0", &br#"{"type":"object","required":["c"]}"#[..]), ("order", order)] {
        schemas.insert(Schema::compile(name, text).expect("compiles"));
    }
    schemas
});

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let csv = "sku,description,price:number,stock:integer?\nA-1,Bolt,0.35,12000\nA-2,Nut,0.12,\n";
    let yaml = "columns: { number: integer, site: text }\nrows: [[1, oslo], [2, bergen]]\n";
    let (tables, errors) = Tables::load(&[
        TableSource { path: "articles.csv", name: "articles", text: csv },
        TableSource { path: "sites.yaml", name: "sites", text: yaml },
    ]);
    assert!(errors.is_empty());
    tables
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let bridges = [
        Bridge { replies: true, ..Bridge::named("web") },
        Bridge { sends: true, ..Bridge::named("out") },
        Bridge { sends: true, shows: true, exactly_once: true, ..Bridge::named("floor") },
    ];
    let gateway = Abilities { last_values: true, later_acks: true, pass_through: true };
    let context = Context { gateway, ..Context::new("d", &bridges, &SCHEMAS, &TABLES) };
    match mapping::load(&[Source { path: "m.yaml", text }], &context) {
        Ok(mappings) => {
            assert_eq!(mappings.routes().len() + mappings.senders().count(), 1);
            mappings.run_tests();
            for result in mappings.fuzz(1, 8, |_| true) {
                assert_eq!(result.failure, None);
            }
        }
        Err(errors) => {
            assert!(errors.len() > 0);
            for error in errors.iter() {
                assert!(error.line > 0 && error.column > 0 && !error.message.is_empty());
            }
        }
    }
});
