//! The frames that the gateway sends, as text.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use envelope::{Admission, Delivery, Json, Part, Rejection, Reply, cloudevents, json::write_string};

use super::wire::Message;
use crate::http::{
    Problem,
    answer::{not_settled, write_admission, write_position, write_receipt},
    draft::is_carried,
    head,
    shown::Shown,
};

/// `receipt` or `filtered`; without a reference, what a request would hear.
pub(super) fn admitted(reference: Option<&str>, admission: &Admission) -> Message {
    let Some(reference) = reference else { return plain(admission) };
    match admission {
        Admission::Filtered => frame(r#"{"op":"filtered","ref":"#, reference, |_| {}),
        Admission::Stored(receipt) => match not_settled(receipt) {
            Some(problem) => error(Some(reference), &problem),
            None => frame(r#"{"op":"receipt","ref":"#, reference, |out| {
                out.push(b',');
                write_receipt(out, receipt);
            }),
        },
    }
}

fn plain(admission: &Admission) -> Message {
    if let Admission::Stored(receipt) = admission {
        if let Some(problem) = not_settled(receipt) {
            return refused(&problem);
        }
        if let Some(reply) = &receipt.reply {
            return in_words(reply);
        }
    }
    let mut out = Vec::with_capacity(128);
    write_admission(&mut out, admission);
    text(out)
}

/// A refusal where frames are messages: what the mapping says of it, else the problem.
pub(super) fn refused(problem: &Problem) -> Message {
    if let Some(reply) = problem.reply() {
        return in_words(reply);
    }
    let mut out = vec![b'{'];
    problem.write_members(&mut out);
    finish(out)
}

/// A WebSocket has neither status nor headers.
fn in_words(reply: &Reply) -> Message {
    payload(reply.payload.clone())
}

fn payload(payload: Bytes) -> Message {
    match std::str::from_utf8(&payload) {
        Ok(_) => Message::Text(payload),
        Err(_) => Message::Binary(payload),
    }
}

/// `answer`: what the mapping says of an envelope that answers, with its status and headers; `more` of it may follow.
pub(super) fn answer(reference: &str, reply: &Reply, more: bool) -> Message {
    frame(r#"{"op":"answer","ref":"#, reference, |out| {
        if let Some(status) = reply.status {
            out.extend_from_slice(br#","status":"#);
            out.extend_from_slice(status.to_string().as_bytes());
        }
        out.extend_from_slice(br#","headers":{"#);
        for (at, (name, values)) in joined(reply).iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string(out, name);
            out.push(b':');
            write_string(out, values);
        }
        out.push(b'}');
        write_part(out, &reply.payload, is_json_of(reply), more);
    })
}

/// A further part of an answer: `answer` with its payload, or just that where frames are messages.
pub(super) fn part(reference: Option<&str>, part: Part, is_json: bool) -> Message {
    match reference {
        Some(reference) => frame(r#"{"op":"answer","ref":"#, reference, |out| {
            write_part(out, &part.payload, is_json, !part.last);
        }),
        None => payload(part.payload),
    }
}

/// Whether what the receipt tells is JSON, and with it what follows.
pub(super) fn is_json(admission: &Admission) -> bool {
    matches!(admission, Admission::Stored(receipt) if receipt.reply.as_deref().is_some_and(is_json_of))
}

fn is_json_of(reply: &Reply) -> bool {
    reply.headers.iter().find(|(name, _)| name == "content-type").is_some_and(|(_, value)| head::is_json(value))
}

/// Headers of one name are one list (RFC 9110, section 5.3).
fn joined(reply: &Reply) -> BTreeMap<&str, String> {
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in reply.headers.iter().filter(|(name, _)| is_carried(name)) {
        let value = String::from_utf8_lossy(value);
        joined.entry(name).and_modify(|list| *list = format!("{list}, {value}")).or_insert_with(|| value.into_owned());
    }
    joined
}

/// Appends `more` and a payload: JSON as it is, other text as a string, bytes in base64.
fn write_part(out: &mut Vec<u8>, payload: &Bytes, is_json: bool, more: bool) {
    out.extend_from_slice(if more { br#","more":true,"# } else { br#","more":false,"# });
    match std::str::from_utf8(payload) {
        Ok(_) if is_json && Json::parse(payload.clone()).is_ok() => {
            out.extend_from_slice(br#""payload":"#);
            out.extend_from_slice(payload);
        }
        Ok(text) => {
            out.extend_from_slice(br#""text":"#);
            write_string(out, text);
        }
        Err(_) => {
            out.extend_from_slice(br#""base64":"#);
            write_string(out, &BASE64_STANDARD.encode(payload));
        }
    }
}

/// `error`, with the members of the problem.
pub(super) fn error(reference: Option<&str>, problem: &Problem) -> Message {
    let Some(reference) = reference else {
        let mut out = br#"{"op":"error","#.to_vec();
        problem.write_members(&mut out);
        return finish(out);
    };
    frame(r#"{"op":"error","ref":"#, reference, |out| {
        out.push(b',');
        problem.write_members(out);
    })
}

/// `subscribed`; says so where something is gone of what was stored behind the position that was asked for.
pub(super) fn subscribed(sub: &str, has_gap: bool) -> Message {
    let gap: &[u8] = if has_gap { br#","gap":true"# } else { b"" };
    frame(r#"{"op":"subscribed","sub":"#, sub, |out| out.extend_from_slice(gap))
}

/// `message`: the envelope as a CloudEvent; with its data behind it if `binary`.
pub(super) fn message(sub: &str, delivery: &Delivery, binary: bool, shown: &Shown) -> Message {
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(br#","position":"#);
        write_position(out, &delivery.position);
        out.extend_from_slice(if delivery.redelivered {
            br#","redelivered":true"#
        } else {
            br#","redelivered":false"#
        });
        if delivery.is_last {
            out.extend_from_slice(br#","last":true"#);
        }
        out.extend_from_slice(br#","envelope":"#);
        match binary {
            true => cloudevents::write_json_without_data(&delivery.envelope, out),
            false => shown.write(delivery, out),
        }
    };
    let mut out = begun(r#"{"op":"message","sub":"#, sub, write);
    if !binary {
        return finish(out);
    }
    out.extend_from_slice(b"}\n");
    out.extend_from_slice(delivery.envelope.data.as_slice());
    Message::Binary(out.into())
}

/// `closed`, at the client's wish.
pub(super) fn unsubscribed(sub: &str) -> Message {
    frame(r#"{"op":"closed","sub":"#, sub, |out| out.extend_from_slice(br#","reason":"unsubscribed""#))
}

/// `closed`, with the kind of the rejection as the reason.
pub(super) fn ended(sub: &str, rejection: &Rejection) -> Message {
    frame(r#"{"op":"closed","sub":"#, sub, |out| {
        out.extend_from_slice(br#","reason":"#);
        write_string(out, rejection.kind.as_str());
        out.extend_from_slice(br#","detail":"#);
        write_string(out, &rejection.detail);
        out.extend_from_slice(br#","decided_by":"#);
        write_string(out, rejection.decider());
    })
}

fn frame(head: &str, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> Message {
    finish(begun(head, name, write))
}

/// A frame but for its last brace.
fn begun(head: &str, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(192);
    out.extend_from_slice(head.as_bytes());
    write_string(&mut out, name);
    write(&mut out);
    out
}

fn finish(mut out: Vec<u8>) -> Message {
    out.push(b'}');
    text(out)
}

fn text(out: Vec<u8>) -> Message {
    // everything written is UTF-8; a slip in a writer must not end a connection
    Message::text(String::from_utf8(out).unwrap_or_else(|slip| String::from_utf8_lossy(slip.as_bytes()).into_owned()))
}
