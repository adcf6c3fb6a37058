//! The seeds of the loader's fuzz target load, so that it begins behind every key, and what they say is proven holds.

use std::{fs, path::Path};

use super::*;
use crate::Abilities;

const ORDER: &str = r#"{"type":"object","required":["id","n","kind"],"additionalProperties":false,"properties":{
    "id":{"type":"string","pattern":"^[A-Z0-9-]{3,20}$"},"n":{"type":"integer","minimum":1,"maximum":9},
    "kind":{"enum":["new","old"]},"at":{"type":"string","format":"date-time"},
    "lines":{"type":"array","minItems":1,"items":{"type":"object","required":["sku"],"properties":{"sku":{"type":"string"}}}}}}"#;

#[test]
fn the_seeds_of_the_loader_load_and_hold_what_is_proven_of_them() {
    let mut schemas = Schemas::default();
    schemas.insert(Schema::compile("order", ORDER.as_bytes()).unwrap());
    let csv = "sku,description,price:number,stock:integer?\nA-1,Bolt,0.35,12000\nA-2,Nut,0.12,\n";
    let yaml = "columns: { number: integer, site: text }\nrows: [[1, oslo], [2, bergen]]\n";
    let (tables, errors) = Tables::load(&[
        TableSource { path: "articles.csv", name: "articles", text: csv },
        TableSource { path: "sites.yaml", name: "sites", text: yaml },
    ]);
    assert_eq!(errors, []);
    let bridges = [
        Bridge { replies: true, ..Bridge::named("web") },
        Bridge { sends: true, ..Bridge::named("out") },
        Bridge { sends: true, shows: true, exactly_once: true, ..Bridge::named("floor") },
    ];
    let gateway = Abilities { last_values: true, later_acks: true, pass_through: true };
    let context = Context { gateway, ..Context::new("d", &bridges, &schemas, &tables) };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/mapping_loader");
    for seed in ["sends", "template", "replies", "promises"] {
        let text = fs::read_to_string(folder.join(seed)).unwrap();
        let mappings =
            load(&[Source { path: seed, text: &text }], &context).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(mappings.routes().len() + mappings.senders().count(), 1);
        for result in mappings.run_tests() {
            assert_eq!(result.outcome, Outcome::Passed, "{seed}");
        }
        for number in 0..20 {
            assert_eq!(mappings.fuzz(number, 50, |_| true)[0].failure, None, "{seed}");
        }
    }
}
