//! The JSON frames of `/mesh/v1/ws`: client frames to what they ask, answers to text. No I/O.
//!
//! A payload is the exact source text of its member, shared with the frame's bytes: 12.10 stays 12.10.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use envelope::{Filter, Headers, Json, Position, Settlement, Start, Timestamp, Topic, TraceContext, json::Node};
use http::{HeaderName, StatusCode};

use crate::http::{
    Problem,
    address::{AddressError, address},
    answer::read_position,
    draft::{self, Draft, QUERY, identity, is_carried},
    events::is_durable_name,
};

/// What a client sent.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// A line of JSON, a line feed and a payload; else it is JSON.
    pub(super) binary: bool,
}

/// What a client asks.
#[derive(Debug)]
pub(super) enum ClientFrame {
    Publish { reference: String, draft: Draft },
    Subscribe(Wish),
    Settle { sub: String, settled: Vec<(Position, Settlement)> },
    Credit { sub: String, more: u32 },
    Unsubscribe { sub: String },
}

/// A subscription as a client asks for it.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) reference: String,
    pub(super) filters: Vec<Filter>,
    pub(super) start: Start,
    pub(super) durable: Option<String>,
    pub(super) credit: u32,
}

/// A frame that is none, and the client's word for it if it could be read.
#[derive(Debug)]
pub(super) struct BadFrame {
    pub(super) reference: Option<String>,
    pub(super) problem: Box<Problem>,
}

/// The most bytes of a `ref`, and of a durable name.
const MAX_NAME_BYTES: usize = 128;
/// The most filters of a subscription, and the most positions of a frame.
const MAX_FILTERS: usize = 64;
const MAX_POSITIONS: usize = 4_096;
/// The most headers of a publish, as many as a request may have.
const MAX_HEADERS: usize = 100;
/// The longest a nack may ask for.
const MAX_AGAIN: Duration = Duration::from_secs(3_600);
const OPS: &str = "ack, credit, nack, publish, reply, subscribe, unsubscribe";

const REPLY: &[&str] = &[
    "op",
    "ref",
    "to",
    "inreplyto",
    "performative",
    "type",
    "protocol",
    "content_type",
    "payload",
    "text",
    "key",
    "more",
];

/// The members of a frame that were asked for; the others are unknown.
struct Members<'j> {
    root: Node<'j>,
    known: &'static [&'static str],
}

type Read<T> = Result<T, BadFrame>;

/// Any bytes as a frame: what is taken is within its bounds, and what is not has a reason.
///
/// # Panics
/// If it is not, or has none.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::http) fn fuzz_frame(binary: bool, bytes: Bytes) {
    let size = bytes.len();
    match parse(&Frame { bytes, binary }) {
        Ok(ClientFrame::Publish { reference, draft }) => {
            assert!((1..=MAX_NAME_BYTES).contains(&reference.len()));
            assert!(draft.payload.len() <= size && draft.headers.len() <= MAX_HEADERS + REPLY.len());
            assert!(draft.headers.iter().all(|(name, _)| is_carried(name) || name == QUERY), "{:?}", draft.headers);
        }
        Ok(ClientFrame::Subscribe(wish)) => {
            assert!((1..=MAX_FILTERS).contains(&wish.filters.len()) && wish.credit > 0);
            assert!(wish.durable.as_deref().is_none_or(is_durable_name));
        }
        Ok(ClientFrame::Settle { settled, .. }) => assert!((1..=MAX_POSITIONS).contains(&settled.len())),
        Ok(ClientFrame::Credit { sub, .. } | ClientFrame::Unsubscribe { sub }) => assert!(!sub.is_empty()),
        Err(bad) => {
            assert!(!bad.problem.detail().is_empty());
            assert!(bad.reference.is_none_or(|name| name.len() <= MAX_NAME_BYTES));
        }
    }
}

/// Reads a frame.
pub(super) fn parse(frame: &Frame) -> Read<ClientFrame> {
    let (text, body) = frame.parts()?;
    let json = Json::parse(text.clone()).map_err(|error| bad(error.to_string()))?;
    let root = json.root();
    read(&text, root, body).map_err(|frame| {
        let name = root.get("ref").or_else(|| root.get("sub")).and_then(Node::as_str);
        BadFrame { reference: name.map(|name| shortened(name).to_owned()), ..frame }
    })
}

fn read(text: &Bytes, root: Node<'_>, body: Option<Bytes>) -> Read<ClientFrame> {
    if root.as_object().is_none() {
        return Err(bad(format!("a frame is a JSON object, not {}", root.type_name())));
    }
    match root.get("op").and_then(Node::as_str) {
        Some("publish") => publish(text, root, body),
        Some("reply") => reply(text, root, body),
        Some(op) if body.is_some_and(|body| !body.is_empty()) => {
            Err(bad(format!("there is a payload behind op {:?}, which has none", shortened(op))))
        }
        Some("subscribe") => subscribe(root),
        Some("ack") => {
            let members = Members::of(root, &["op", "sub", "positions"])?;
            settle(&members, Settlement::Delivered)
        }
        Some("nack") => {
            let members = Members::of(root, &["op", "sub", "positions", "after_ms"])?;
            let after = Duration::from_millis(members.number("after_ms")?.unwrap_or(0).into());
            if after > MAX_AGAIN {
                return Err(bad(format!("after_ms is over the limit of {}", MAX_AGAIN.as_millis())));
            }
            settle(&members, Settlement::Again { after })
        }
        Some("credit") => {
            let members = Members::of(root, &["op", "sub", "more"])?;
            let more = members.number("more")?.ok_or_else(|| bad("member \"more\" is missing"))?;
            Ok(ClientFrame::Credit { sub: members.name("sub")?, more })
        }
        Some("unsubscribe") => Ok(ClientFrame::Unsubscribe { sub: Members::of(root, &["op", "sub"])?.name("sub")? }),
        Some(op) => Err(bad(format!("unknown op {:?}; ops: {OPS}", shortened(op)))),
        None => Err(bad(format!("member \"op\" is missing or no string; ops: {OPS}"))),
    }
}

fn publish(text: &Bytes, root: Node<'_>, body: Option<Bytes>) -> Read<ClientFrame> {
    let members = Members::of(root, &["op", "ref", "address", "headers", "payload", "text", "key"])?;
    let reference = members.name("ref")?;
    let target = members.string("address")?.ok_or_else(|| bad("member \"address\" is missing"))?;
    let (method, target) = target
        .split_once(' ')
        .filter(|(method, _)| http::Method::from_bytes(method.as_bytes()).is_ok())
        .ok_or_else(|| bad(format!("address {:?} is no \"METHOD /path\"", shortened(target))))?;
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let address = address(method, path)?;
    let payload = payload(text, root, body, "publish")?;
    let headers = headers(&members, query)?;
    let header = |name| headers.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..]);
    let event = header("ce-source").zip(header("ce-id"));
    let identity =
        identity(&address, members.string("key")?.map(str::as_bytes), event).map_err(|error| bad(error.to_string()))?;
    let ascii = |name| header(name).filter(|value| value.is_ascii()).and_then(|value| std::str::from_utf8(value).ok());
    let trace = ascii("traceparent").and_then(|parent| TraceContext::parse(parent, ascii("tracestate")));
    let mut draft = Draft { address, headers, payload, identity, trace };
    draft.fingerprint();
    Ok(ClientFrame::Publish { reference, draft })
}

/// An answer to an envelope: a message like any other, addressed to the envelope's `replyto`.
fn reply(text: &Bytes, root: Node<'_>, body: Option<Bytes>) -> Read<ClientFrame> {
    let members = Members::of(root, REPLY)?;
    let reference = members.name("ref")?;
    let to = members.string("to")?.filter(|to| to.starts_with(Topic::REPLIES));
    let to = to.ok_or_else(|| bad("member \"to\" is the \"replyto\" of the envelope that is answered"))?;
    let kind = match (root.get("payload"), &body) {
        (Some(_), _) => "application/json",
        (None, None) => "text/plain; charset=utf-8",
        (None, Some(_)) => "application/octet-stream",
    };
    let payload = payload(text, root, body, "reply")?;
    let said = [
        ("inreplyto", members.string("inreplyto")?),
        ("performative", members.string("performative")?),
        ("type", members.string("type")?),
        ("protocol", members.string("protocol")?),
        ("content-type", Some(members.string("content_type")?.unwrap_or(kind))),
        ("more", members.flag("more")?.map(|more| if more { "true" } else { "false" })),
    ];
    let header = |(name, value): (&str, Option<&str>)| {
        value.map(|value| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes())))
    };
    let headers = said.into_iter().filter_map(header).collect();
    let address = to.into();
    let key = members.string("key")?.map(str::as_bytes);
    let identity = identity(to, key, None).map_err(|error| bad(error.to_string()))?;
    Ok(ClientFrame::Publish { reference, draft: Draft { address, headers, payload, identity, trace: None } })
}

/// The message of a frame, as it stands there.
fn payload(text: &Bytes, root: Node<'_>, body: Option<Bytes>, op: &str) -> Read<Bytes> {
    match (root.get("payload"), root.get("text"), body) {
        (Some(payload), None, None) => Ok(text.slice(payload.span())),
        (None, None, Some(body)) => Ok(body),
        (_, _, Some(_)) => Err(bad(format!("the payload of a binary {op} frame stands behind it"))),
        (None, Some(text), None) => {
            let text = text.as_str().ok_or_else(|| bad("member \"text\" is no string"))?;
            Ok(Bytes::copy_from_slice(text.as_bytes()))
        }
        _ => Err(bad(format!("a {op} frame has either \"payload\" or \"text\""))),
    }
}

fn headers(members: &Members<'_>, query: Option<&str>) -> Read<Headers> {
    let mut headers = Vec::new();
    if let Some(node) = members.root.get("headers") {
        let members = node.as_object().ok_or_else(|| bad("member \"headers\" is no object"))?;
        if members.len() > MAX_HEADERS {
            return Err(bad(format!("{} headers, limit is {MAX_HEADERS}", members.len())));
        }
        for (name, value) in members {
            let wrong = || bad(format!("header {:?} is no header name with a string", shortened(name)));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let value = value.as_str().filter(|value| !value.chars().any(char::is_control)).ok_or_else(wrong)?;
            if is_carried(name.as_str()) {
                let bytes = Bytes::copy_from_slice(value.as_bytes());
                let is_attribute = name.as_str().starts_with(draft::ATTRIBUTE);
                headers.push((name.as_str().to_owned(), if is_attribute { draft::attribute(bytes) } else { bytes }));
            }
        }
    }
    headers.extend(query.map(|query| (QUERY.to_owned(), Bytes::copy_from_slice(query.as_bytes()))));
    Ok(headers.into())
}

fn subscribe(root: Node<'_>) -> Read<ClientFrame> {
    let members = Members::of(root, &["op", "ref", "filters", "start", "durable", "credit"])?;
    let filters = members.list("filters", MAX_FILTERS)?;
    let filters: Result<Vec<_>, _> = filters.iter().map(|text| Filter::new(*text)).collect();
    let start = match root.get("start") {
        None => Start::New,
        Some(start) => start_of(start)?,
    };
    let durable = match members.string("durable")? {
        None => None,
        Some(name) if is_durable_name(name) => Some(name.to_owned()),
        Some(_) => {
            return Err(bad(format!("a durable name is 1 to {MAX_NAME_BYTES} of A-Z, a-z, 0-9, '.', '_' and '-'")));
        }
    };
    let credit = members.number("credit")?.filter(|credit| *credit > 0);
    Ok(ClientFrame::Subscribe(Wish {
        reference: members.name("ref")?,
        filters: filters.map_err(|error| bad(format!("filters: {error}")))?,
        start,
        durable,
        credit: credit.ok_or_else(|| bad("member \"credit\" is missing or 0"))?,
    }))
}

fn start_of(start: Node<'_>) -> Read<Start> {
    let wrong = || bad("start is \"new\", \"earliest\", \"last\", {\"after\": position} or {\"time\": RFC 3339}");
    if let Some(word) = start.as_str() {
        return match word {
            "new" => Ok(Start::New),
            "earliest" => Ok(Start::Earliest),
            "last" => Ok(Start::Last),
            _ => Err(wrong()),
        };
    }
    let mut members = start.as_object().ok_or_else(wrong)?;
    match (members.next(), members.next()) {
        (Some(("after", after)), None) => Ok(Start::After(position(after.as_str().ok_or_else(wrong)?)?)),
        (Some(("time", time)), None) => {
            let time = time.as_str().and_then(Timestamp::parse).ok_or_else(wrong)?;
            Ok(Start::Time(time))
        }
        _ => Err(wrong()),
    }
}

fn settle(members: &Members<'_>, settlement: Settlement) -> Read<ClientFrame> {
    let positions = members.list("positions", MAX_POSITIONS)?;
    let settled: Read<Vec<_>> = positions.iter().map(|text| Ok((position(text)?, settlement.clone()))).collect();
    Ok(ClientFrame::Settle { sub: members.name("sub")?, settled: settled? })
}

fn position(text: &str) -> Read<Position> {
    read_position(text).ok_or_else(|| bad(format!("{:?} is no position of this gateway", shortened(text))))
}

fn shortened(text: &str) -> &str {
    let end = (0..=MAX_NAME_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> BadFrame {
    let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-frame", "websocket", detail);
    BadFrame { reference: None, problem: Box::new(problem) }
}

// === impl Frame ===

impl Frame {
    /// Its JSON, and what stands behind it.
    fn parts(&self) -> Read<(Bytes, Option<Bytes>)> {
        if !self.binary {
            return Ok((self.bytes.clone(), None));
        }
        let end = self.bytes.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| bad("a binary frame is a line of JSON, a line feed and a payload"))?;
        Ok((self.bytes.slice(..end), Some(self.bytes.slice(end + 1..))))
    }
}

// === impl BadFrame ===

impl From<AddressError> for BadFrame {
    fn from(error: AddressError) -> Self {
        Self { reference: None, problem: Box::new(error.into()) }
    }
}

// === impl Wish ===

impl Wish {
    /// The durable name within the gateway: a client's names are its own. In a principal's own name the separator is
    /// encoded, so that no two principals have a name in common.
    pub(super) fn durable_of(&self, principal: &str) -> Option<Arc<str>> {
        let name = self.durable.as_deref()?;
        Some(format!("ws:{}:{name}", principal.replace('%', "%25").replace(':', "%3A")).into())
    }
}

// === impl Members ===

impl<'j> Members<'j> {
    fn of(root: Node<'j>, known: &'static [&'static str]) -> Read<Self> {
        match root.as_object().and_then(|mut members| members.find(|(name, _)| !known.contains(name))) {
            None => Ok(Self { root, known }),
            Some((name, _)) => Err(bad(format!("unknown member {:?}; members: {}", shortened(name), known.join(", ")))),
        }
    }

    fn string(&self, name: &'static str) -> Read<Option<&'j str>> {
        debug_assert!(self.known.contains(&name));
        match self.root.get(name) {
            None => Ok(None),
            Some(node) => node.as_str().map(Some).ok_or_else(|| bad(format!("member {name:?} is no string"))),
        }
    }

    fn name(&self, name: &'static str) -> Read<String> {
        match self.string(name)? {
            Some(text) if (1..=MAX_NAME_BYTES).contains(&text.len()) => Ok(text.to_owned()),
            _ => Err(bad(format!("member {name:?} is to be a string of 1 to {MAX_NAME_BYTES} bytes"))),
        }
    }

    fn number(&self, name: &'static str) -> Read<Option<u32>> {
        let Some(node) = self.root.get(name) else { return Ok(None) };
        let number = node.as_number().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| bad(format!("member {name:?} is no whole number from 0 to {}", u32::MAX)))
    }

    fn flag(&self, name: &'static str) -> Read<Option<bool>> {
        let Some(node) = self.root.get(name) else { return Ok(None) };
        node.as_bool().map(Some).ok_or_else(|| bad(format!("member {name:?} is neither true nor false")))
    }

    fn list(&self, name: &'static str, most: usize) -> Read<Vec<&'j str>> {
        let wrong = || bad(format!("member {name:?} is to be a list of 1 to {most} strings"));
        let items = self.root.get(name).and_then(Node::as_array).ok_or_else(wrong)?;
        if !(1..=most).contains(&items.len()) {
            return Err(wrong());
        }
        items.map(|item| item.as_str().ok_or_else(wrong)).collect()
    }
}

#[cfg(test)]
mod tests;
