//! CloudEvents: an event that is read and written reads back as the same envelope.
#![no_main]

use bytes::Bytes;
use envelope::{
    Json,
    cloudevents::{parse_json, write_json},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(json) = Json::parse(Bytes::copy_from_slice(text)) else {
        return;
    };
    let Ok(envelope) = parse_json(&json) else {
        return;
    };
    let mut out = Vec::new();
    write_json(&envelope, &mut out);
    let again = Json::parse(out.into()).expect("what we write is JSON");
    assert_eq!(parse_json(&again).as_ref(), Ok(&envelope));
});
