//! Any text as an expression over a payload: it is refused at load, refuses the message, or makes JSON; and always the
//! same.
#![no_main]

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use envelope::{Data, Group, Identity, Inbound, Lane, MapResult, Mapper as _, Principal};
use libfuzzer_sys::fuzz_target;
use mapping::{Bridge, Context, Source, Tables};

const PAYLOAD: &str = r#"{"a":1,"b":-2.50,"c":"text","d":[1,2,{"e":null}],"f":{"g":true},"h":9007199254740993,"i":""}"#;

fuzz_target!(|expression: &str| {
    let template = serde_json::to_string(&format!("${{{expression}}}")).expect("a string");
    let text = format!(
        "mapping: m\nfrom: {{ bridge: b, address: \"a/{{x}}\" }}\nenvelope: {{ topic: t, data: {{ v: {template} }} }}\n"
    );
    let schemas = schema::Schemas::default();
    let bridges = [Bridge::named("b")];
    let context = Context::new("d", &bridges, &schemas, Tables::none());
    let Ok(mappings) = mapping::load(&[Source { path: "m.yaml", text: &text }], &context) else { return };
    let run = || match mappings.map(inbound()) {
        MapResult::Mapped(mapped) => match mapped.group {
            Group::One(envelope) => Some(envelope.data),
            Group::Many(_) => panic!("a group"),
        },
        MapResult::Filtered(_) => panic!("filtered"),
        MapResult::Refused(_, rejection) => {
            assert!(!rejection.detail.is_empty());
            None
        }
    };
    let made: Option<Data> = run();
    if let Some(data) = &made {
        data.json().expect("is JSON");
    }
    // an id that is made anew is meant to differ
    if !expression.contains("uuid") {
        assert_eq!(made, run());
    }
});

fn inbound() -> Inbound {
    Inbound {
        bridge: "b".into(),
        address: "a/7".into(),
        headers: Arc::new([("etag".to_owned(), Bytes::from_static(b"7"))]),
        payload: Bytes::from_static(PAYLOAD.as_bytes()),
        lane: Lane(0),
        identity: Identity::Native("n".into()),
        principal: Arc::new(Principal::anonymous("d")),
        peer: None,
        trace: None,
        retain: false,
        unacknowledged: false,
        hops: Vec::new(),
        received_at: SystemTime::UNIX_EPOCH,
    }
}
