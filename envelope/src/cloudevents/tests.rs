use std::sync::Arc;

use bytes::Bytes;
use cloudevents::{AttributesReader, Data as SdkData, Event as SdkEvent};
use proptest::prelude::*;

use super::*;
use crate::{Conversation, Data, Envelope, EnvelopeId, Json, Origin, Timestamp, Topic, TraceContext};

fn envelope() -> Envelope {
    Envelope {
        datacontenttype: Some("application/json".into()),
        ..Envelope::plain(
            EnvelopeId::parse("0192f8a0-0000-7000-8000-000000000001").unwrap(),
            "mesh://plant-a/web/anonymous".into(),
            "telemetry/reading@v1.0.0".into(),
            Topic::new("telemetry/7/temperature").unwrap(),
            Timestamp::from_micros(1_700_000_000_000_000),
            Data::Opaque(Bytes::from_static(br#"{"celsius": 12.10}"#)),
        )
    }
}

fn written(envelope: &Envelope) -> String {
    let mut out = Vec::new();
    write_json(envelope, &mut out);
    String::from_utf8(out).unwrap()
}

fn read(text: &str) -> Result<Envelope, CloudEventError> {
    parse_json(&Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap())
}

/// The error of the event above with one member replaced or added.
fn error_with(name: &str, value: &str) -> String {
    let mut event: serde_json::Map<_, _> = serde_json::from_str(&written(&envelope())).unwrap();
    event.insert(name.to_owned(), serde_json::from_str(value).unwrap());
    read(&serde_json::to_string(&event).unwrap()).unwrap_err().to_string()
}

#[test]
fn a_priority_is_one_of_four_words() {
    use crate::Priority;
    for priority in Priority::ALL {
        let text = written(&Envelope { priority: Some(priority), ..envelope() });
        assert!(text.contains(&format!("\"priority\":\"{}\"", priority.word())), "{text}");
        assert_eq!(read(&text).unwrap().priority, Some(priority));
    }
    assert_eq!(
        error_with("priority", "\"urgent\""),
        "attribute \"priority\" must be command, event, telemetry or bulk, this is \"urgent\""
    );
}

#[test]
fn an_envelope_is_written_as_a_cloud_event() {
    let text = written(&Envelope { residency: vec!["no".into(), "eu".into()], ..envelope() });
    let expected = concat!(
        r#"{"specversion":"1.0","id":"0192f8a0-0000-7000-8000-000000000001","source":"mesh://plant-a/web/anonymous","#,
        r#""type":"telemetry/reading@v1.0.0","subject":"telemetry/7/temperature","time":"2023-11-14T22:13:20.000000Z","#,
        r#""datacontenttype":"application/json","residency":"no eu","data":{"celsius": 12.10}}"#,
    );
    assert_eq!(text, expected);
}

#[test]
fn data_stands_in_json_as_its_content_type_allows() {
    let end = |content_type: Option<&str>, data: &'static [u8]| {
        let data = Data::Opaque(Bytes::from_static(data));
        let text = written(&Envelope { datacontenttype: content_type.map(Arc::from), data, ..envelope() });
        text[text.find(r#","data"#).unwrap_or(text.len() - 1)..].to_owned()
    };
    let end = |content_type, data| end(content_type, data).replace(r#","datacontenttype":"application/json""#, "");
    assert_eq!(end(Some("application/x+json"), b"[1]"), r#","datacontenttype":"application/x+json","data":[1]}"#);
    assert_eq!(end(Some("text/plain"), b"a\"b"), r#","datacontenttype":"text/plain","data":"a\"b"}"#);
    assert_eq!(end(Some("text/plain"), b"\xff"), r#","datacontenttype":"text/plain","data_base64":"/w=="}"#);
    assert_eq!(end(Some("image/png"), b"abc"), r#","datacontenttype":"image/png","data_base64":"YWJj"}"#);
    assert_eq!(end(None, b"abc"), r#","data_base64":"YWJj"}"#);
    assert_eq!(end(Some("application/json"), b""), "}");
}

#[test]
fn data_that_only_claims_to_be_json_can_not_close_the_event() {
    let data = Data::Opaque(Bytes::from_static(br#"1},"id":"forged"#));
    let hostile = Envelope { data, ..envelope() };
    assert!(written(&hostile).contains("data_base64"));
    assert_eq!(read(&written(&hostile)), Ok(hostile));
}

#[test]
fn data_of_the_deepest_nesting_reads_back() {
    let deep = |levels: usize| format!(r#"{}"[[{{\"["{}"#, "[".repeat(levels), "]".repeat(levels));
    for levels in [crate::json::MAX_DEPTH - 1, crate::json::MAX_DEPTH] {
        let json = Json::parse(deep(levels).into()).unwrap();
        let deepest = Envelope { data: Data::Json(Arc::new(json)), ..envelope() };
        assert_eq!(read(&written(&deepest)), Ok(deepest));
    }
}

#[test]
fn an_error_names_the_attribute() {
    assert_eq!(error_with("id", r#""x""#), r#"attribute "id" must be a UUID, or one with an item number, this is "x""#);
    assert_eq!(error_with("source", "null"), r#"attribute "source" is missing"#);
    assert_eq!(error_with("type", "7"), r#"attribute "type" must be a string, this is number"#);
    assert_eq!(error_with("subject", r#""a//b""#), r#"attribute "subject" is no topic: segment 2 is empty"#);
    assert_eq!(error_with("specversion", r#""0.3""#), r#"attribute "specversion" must be 1.0, this is "0.3""#);
    assert_eq!(error_with("time", r#""now""#), r#"attribute "time" must be a time of RFC 3339 in UTC, this is "now""#);
    assert_eq!(error_with("shape", r#""x""#), r#"attribute "shape" is not one of an envelope"#);
    assert_eq!(
        error_with("performative", r#""""#),
        r#"attribute "performative" must be a string that is not empty, this is """#
    );
    assert_eq!(
        error_with("hops", r#""a  b""#),
        r#"attribute "hops" must be percent-encoded tokens with a space between, this is "a  b""#
    );
    assert_eq!(error_with("data_base64", r#""YQ==""#), r#""data" and "data_base64" exclude each other"#);
    assert_eq!(read("[]").unwrap_err().to_string(), "a cloud event is a JSON object, this is array");
    let bad = written(&envelope()).replace(r#""data":{"celsius": 12.10}"#, r#""data_base64":"%""#);
    assert_eq!(read(&bad).unwrap_err().to_string(), r#"attribute "data_base64" must be base64, this is "%""#);
}

#[test]
fn null_is_an_absent_attribute_and_bad_trace_context_is_dropped() {
    let text = written(&envelope()).replacen('{', r#"{"performative":null,"traceparent":"x","#, 1);
    assert_eq!(read(&text), Ok(envelope()));
}

fn word() -> impl Strategy<Value = Arc<str>> {
    prop_oneof!["[a-z]{1,8}", ".{1,8}"].prop_map(Arc::from)
}

fn optional() -> impl Strategy<Value = Option<Arc<str>>> {
    prop::option::of(word())
}

fn list() -> impl Strategy<Value = Vec<Arc<str>>> {
    prop::collection::vec(prop_oneof![word(), Just("".into())], 0..4)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..=Timestamp::MAX.as_micros()).prop_map(Timestamp::from_micros)
}

/// Content type and data; always such that the official SDK can read it.
fn content() -> impl Strategy<Value = (Option<Arc<str>>, Data)> {
    let json = any::<(String, i64, bool)>().prop_map(|value| serde_json::to_string(&value).unwrap().into_bytes());
    let json_type = prop_oneof![Just(None), Just(Some("application/json".into())), Just(Some("a/b+json".into()))];
    let text = any::<String>().prop_map(String::into_bytes);
    let opaque = |bytes: Vec<u8>| Data::Opaque(bytes.into());
    prop_oneof![
        (json_type, json).prop_map(|(kind, json)| (kind, Data::Json(Arc::new(Json::parse(json.into()).unwrap())))),
        text.prop_map(move |text| (Some("text/plain".into()), opaque(text))),
        any::<Vec<u8>>().prop_map(move |bytes| (Some("application/octet-stream".into()), opaque(bytes))),
    ]
}

fn any_envelope() -> impl Strategy<Value = Envelope> {
    let conversation = (optional(), optional(), optional(), optional(), prop::option::of(time()), list()).prop_map(
        |(protocol, id, inreplyto, replyto, replyby, recipients)| {
            let conversation = Conversation { protocol, id, inreplyto, replyto, replyby, recipients };
            (conversation != Conversation::default()).then(|| Box::new(conversation))
        },
    );
    let origin = (optional(), optional()).prop_map(|(id, source)| {
        let origin = Origin { id, source };
        (origin != Origin::default()).then(|| Box::new(origin))
    });
    let trace = prop::option::of(optional()).prop_map(|state| {
        state.and_then(|state| {
            TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", state.as_deref())
        })
    });
    let id = (any::<u128>(), prop::option::of(any::<u32>())).prop_map(|(uuid, item)| {
        let id = EnvelopeId::new(uuid::Uuid::from_u128(uuid));
        item.map_or(id, |item| id.item(item))
    });
    let first =
        (id, "[a-z]{1,5}(/[^/+#\\x00-\\x1f\\x7f-\\u{9f}]{1,5}){0,3}", time(), prop::option::of(time()), content());
    let second = (optional(), optional(), list(), optional(), list());
    (first, second, trace, conversation, origin).prop_map(|(first, second, trace, conversation, origin)| {
        let (id, subject, time, expirytime, (datacontenttype, data)) = first;
        let (performative, partitionkey, residency, classification, hops) = second;
        Envelope {
            id,
            subject: Topic::new(subject).unwrap(),
            time,
            expirytime,
            datacontenttype,
            dataschema: Some("mesh://plant-a/schemas/telemetry/reading@v1.0.0".into()),
            data,
            performative,
            partitionkey,
            residency,
            classification,
            hops,
            trace,
            conversation,
            origin,
            ..envelope()
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(envelope in any_envelope()) {
        prop_assert_eq!(read(&written(&envelope)), Ok(envelope));
    }

    #[test]
    fn the_official_sdk_reads_what_we_write(envelope in any_envelope()) {
        let event: SdkEvent = serde_json::from_str(&written(&envelope)).unwrap();
        prop_assert_eq!(event.id(), envelope.id.to_string());
        prop_assert_eq!(event.source().as_str(), &*envelope.source);
        prop_assert_eq!(event.ty(), &*envelope.kind);
        prop_assert_eq!(event.subject(), Some(envelope.subject.as_str()));
        prop_assert_eq!(event.datacontenttype(), envelope.datacontenttype.as_deref());
        prop_assert_eq!(event.dataschema().map(|url| url.as_str()), envelope.dataschema.as_deref());
        let micros = event.time().map(|time| time.timestamp_micros());
        prop_assert_eq!(micros, i64::try_from(envelope.time.as_micros()).ok());
        for (name, value) in [("performative", &envelope.performative), ("partitionkey", &envelope.partitionkey)] {
            let extension = event.extension(name).map(|value| value.to_string());
            prop_assert_eq!(extension.as_deref(), value.as_deref());
        }
        let data = match event.data() {
            None => Vec::new(),
            Some(SdkData::Binary(bytes)) => bytes.clone(),
            Some(SdkData::String(text)) => text.clone().into_bytes(),
            Some(SdkData::Json(value)) => serde_json::to_vec(value).unwrap(),
        };
        prop_assert_eq!(&data, envelope.data.as_slice());
    }

    #[test]
    fn hostile_events_never_panic(member in "[a-z_0-9]{0,12}", value in ".{0,40}") {
        let text = serde_json::json!({ member: value }).to_string();
        prop_assert!(read(&text).is_err());
    }
}
