//! Any text as a mapping file: it loads, or every error says where; what loads runs its tests and takes any payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mapping::{Bridge, Context, Source, Tables};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut schemas = schema::Schemas::default();
    let schema = schema::Schema::compile("reading@v1.0.0", br#"{"type":"object","required":["c"]}"#).expect("compiles");
    schemas.insert(schema);
    let bridges = [Bridge::named("web")];
    let context = Context::new("d", &bridges, &schemas, Tables::none());
    match mapping::load(&[Source { path: "m.yaml", text }], &context) {
        Ok(mappings) => {
            assert_eq!(mappings.routes().len(), 1);
            mappings.run_tests();
        }
        Err(errors) => {
            assert!(errors.len() > 0);
            for error in errors.iter() {
                assert!(error.line > 0 && error.column > 0 && !error.message.is_empty());
            }
        }
    }
});
