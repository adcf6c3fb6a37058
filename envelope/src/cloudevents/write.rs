//! Envelope to JSON. On the path of every delivery: nothing is allocated but room in `out`.

use std::{fmt::Display, io::Write as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{media::Media, tokens::write_tokens};
use crate::{
    Data, Envelope,
    json::{Json, MAX_DEPTH, write_string},
};

/// Appends the envelope as one JSON object. JSON data goes in as its source text under `data`, text as a string under
/// `data`, everything else under `data_base64`; no data leaves both out. Empty attributes are left out.
pub fn write_json(envelope: &Envelope, out: &mut Vec<u8>) {
    out.reserve(512 + envelope.data.as_slice().len());
    write_attributes(envelope, out);
    write_data(envelope, out);
    out.push(b'}');
}

/// As [`write_json`] does, for data that goes elsewhere: neither `data` nor `data_base64`.
pub fn write_json_without_data(envelope: &Envelope, out: &mut Vec<u8>) {
    out.reserve(512);
    write_attributes(envelope, out);
    out.push(b'}');
}

/// Up to the last attribute; the object is open.
fn write_attributes(envelope: &Envelope, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"specversion":"1.0""#);
    write_display(out, "id", &envelope.id);
    write_text(out, "source", &envelope.source);
    write_text(out, "type", &envelope.kind);
    write_text(out, "subject", envelope.subject.as_str());
    write_display(out, "time", &envelope.time);
    if let Some(time) = &envelope.expirytime {
        write_display(out, "expirytime", time);
    }
    write_optional(out, "dataschema", envelope.dataschema.as_ref());
    write_optional(out, "datacontenttype", envelope.datacontenttype.as_ref());
    write_optional(out, "performative", envelope.performative.as_ref());
    if let Some(priority) = envelope.priority {
        write_display(out, "priority", &priority.word());
    }
    write_optional(out, "partitionkey", envelope.partitionkey.as_ref());
    write_list(out, "residency", &envelope.residency);
    write_optional(out, "classification", envelope.classification.as_ref());
    write_list(out, "hops", &envelope.hops);
    write_relations(out, envelope);
}

/// Conversation, origin and trace.
fn write_relations(out: &mut Vec<u8>, envelope: &Envelope) {
    if let Some(conversation) = &envelope.conversation {
        write_optional(out, "protocol", conversation.protocol.as_ref());
        write_optional(out, "conversation", conversation.id.as_ref());
        write_optional(out, "inreplyto", conversation.inreplyto.as_ref());
        write_optional(out, "replyto", conversation.replyto.as_ref());
        if let Some(time) = &conversation.replyby {
            write_display(out, "replyby", time);
        }
        write_list(out, "recipients", &conversation.recipients);
    }
    if let Some(origin) = &envelope.origin {
        write_optional(out, "originid", origin.id.as_ref());
        write_optional(out, "originsource", origin.source.as_ref());
    }
    if let Some(trace) = &envelope.trace {
        write_text(out, "traceparent", &trace.traceparent());
        write_optional(out, "tracestate", trace.tracestate());
    }
}

fn write_data(envelope: &Envelope, out: &mut Vec<u8>) {
    let data = envelope.data.as_slice();
    if data.is_empty() {
        return;
    }
    let media = Media::of(envelope.datacontenttype.as_deref());
    if media == Media::Json && is_json(envelope) && fits_one_level_down(data) {
        write_name(out, "data");
        out.extend_from_slice(data);
        return;
    }
    match std::str::from_utf8(data) {
        Ok(text) if media == Media::Text => write_text(out, "data", text),
        _ => {
            write_name(out, "data_base64");
            out.push(b'"');
            let start = out.len();
            out.resize(start + data.len().div_ceil(3) * 4, 0);
            // the slice is exactly as long as the encoding
            let written = STANDARD.encode_slice(data, &mut out[start..]).unwrap_or_default();
            out.truncate(start + written);
            out.push(b'"');
        }
    }
}

/// Bytes that nobody parsed are parsed before they are put into another text: they could close it and go on.
/// Without a content type, bytes that nobody parsed are just bytes.
fn is_json(envelope: &Envelope) -> bool {
    match &envelope.data {
        Data::Json(_) => true,
        Data::Opaque(bytes) => envelope.datacontenttype.is_some() && Json::parse(bytes.clone()).is_ok(),
    }
}

/// JSON of the deepest nesting that is read would be too deep inside the event. Only counted exactly where it may be.
fn fits_one_level_down(json: &[u8]) -> bool {
    let opening = |byte: &u8| matches!(byte, b'[' | b'{');
    if json.iter().filter(|byte| opening(byte)).count() < MAX_DEPTH {
        return true;
    }
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest < MAX_DEPTH
}

/// `,"name":`
fn write_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_text(out: &mut Vec<u8>, name: &str, value: &str) {
    write_name(out, name);
    write_string(out, value);
}

fn write_optional(out: &mut Vec<u8>, name: &str, value: Option<&Arc<str>>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        write_text(out, name, value);
    }
}

/// For values whose text needs no escape.
fn write_display(out: &mut Vec<u8>, name: &str, value: &dyn Display) {
    write_name(out, name);
    // a vector takes everything
    let _ = write!(out, "\"{value}\"");
}

/// Tokens are visible ASCII, but a quote or a backslash in one still needs its escape.
fn write_list(out: &mut Vec<u8>, name: &str, list: &[Arc<str>]) {
    if list.is_empty() {
        return;
    }
    write_name(out, name);
    if list.iter().any(|token| token.contains(['"', '\\'])) {
        let mut tokens = Vec::new();
        write_tokens(&mut tokens, list);
        write_string(out, &String::from_utf8_lossy(&tokens));
        return;
    }
    out.push(b'"');
    write_tokens(out, list);
    out.push(b'"');
}
