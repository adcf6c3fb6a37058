//! The frames that the gateway sends, as text.

use axum::extract::ws::{Message, Utf8Bytes};
use envelope::{Admission, Delivery, Rejection, Reply, cloudevents, json::write_string};

use crate::http::{
    Problem,
    answer::{not_settled, write_admission, write_position, write_receipt},
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
    match Utf8Bytes::try_from(reply.payload.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(reply.payload.clone()),
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

/// `subscribed`.
pub(super) fn subscribed(sub: &str) -> Message {
    frame(r#"{"op":"subscribed","sub":"#, sub, |_| {})
}

/// `message`: the envelope as a CloudEvent; with its data behind it if `binary`.
pub(super) fn message(sub: &str, delivery: &Delivery, binary: bool) -> Message {
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(br#","position":"#);
        write_position(out, &delivery.position);
        out.extend_from_slice(if delivery.redelivered {
            br#","redelivered":true"#
        } else {
            br#","redelivered":false"#
        });
        out.extend_from_slice(br#","envelope":"#);
        match binary {
            true => cloudevents::write_json_without_data(&delivery.envelope, out),
            false => cloudevents::write_json(&delivery.envelope, out),
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
