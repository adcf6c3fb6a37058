//! What a test in a file expects of a message that is sent: to a peer of an egress mapping, or to the sender as a reply.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use envelope::{Headers, Json, Outbound, Qos, Reply};
use yaml::{Fields, Node, Problems};

use crate::{
    compare::{self, Differences},
    egress::QOS,
};

/// What it does not name may be anything.
#[derive(Debug, Default)]
pub(crate) struct ExpectedMessage {
    address: Option<String>,
    key: Option<String>,
    qos: Option<Qos>,
    retain: Option<bool>,
    status: Option<i64>,
    headers: Vec<(String, String)>,
    content: Option<Content>,
}

#[derive(Debug)]
enum Content {
    Json(Node),
    Text(String),
    Bytes(Vec<u8>),
}

// === impl ExpectedMessage ===

impl ExpectedMessage {
    /// Of what is sent to a peer.
    pub(crate) fn sent(fields: &mut Fields<'_, '_>, problems: &Problems) -> Option<Self> {
        let before = problems.len();
        let mut text = |key| fields.optional(key).and_then(|node| node.string(problems)).map(str::to_owned);
        let (address, key) = (text("address"), text("key"));
        let qos = fields.optional("qos").and_then(|node| node.one_of(&QOS, problems));
        let retain = fields.optional("retain").and_then(|node| node.bool(problems));
        let expected = Self { address, key, qos, retain, ..Self::content(fields, problems)? };
        (problems.len() == before).then_some(expected)
    }

    /// Of a reply.
    pub(crate) fn reply(node: &Node, problems: &Problems) -> Option<Self> {
        let before = problems.len();
        let mut fields = Fields::of(node, problems)?;
        let status = fields.optional("status").and_then(|node| node.integer(200..=599, problems));
        let expected = Self::content(&mut fields, problems);
        fields.finish();
        let expected = Self { status, ..expected? };
        (problems.len() == before).then_some(expected)
    }

    fn content(fields: &mut Fields<'_, '_>, problems: &Problems) -> Option<Self> {
        let headers = match fields.optional("headers") {
            Some(node) => {
                let read: Vec<_> = node
                    .map(problems)?
                    .iter()
                    .map(|(key, value)| Some((key.name.to_ascii_lowercase(), value.string(problems)?.to_owned())))
                    .collect();
                read.into_iter().collect::<Option<Vec<_>>>()?
            }
            None => Vec::new(),
        };
        let found = ["payload", "text", "base64"].map(|key| fields.entry(key));
        let mut all = found.into_iter().flatten();
        let (first, second) = (all.next(), all.next());
        if let (Some((first, _)), Some((second, _))) = (first, second) {
            let message = format!("either {:?} or {:?}", first.name, second.name);
            problems.report(second.span, "contradiction", message);
        }
        let content = match first {
            None => None,
            Some((key, node)) => Some(match key.name.as_str() {
                "payload" => compare::check(node, problems).then(|| Content::Json(node.clone()))?,
                "text" => Content::Text(node.string(problems)?.to_owned()),
                _ => match BASE64_STANDARD.decode(node.string(problems)?) {
                    Ok(bytes) => Content::Bytes(bytes),
                    Err(_) => return node.mismatch("base64 with padding", problems),
                },
            }),
        };
        Some(Self { headers, content, ..Self::default() })
    }

    pub(crate) fn compare_sent(&self, sent: &Outbound, found: &mut Differences) {
        differ("address", self.address.as_deref(), Some(&*sent.address), found);
        differ("key", self.key.as_deref(), sent.key.as_deref(), found);
        if self.qos.is_some() && self.qos != sent.qos {
            found.add("qos", format!("{:?}", self.qos), format!("{:?}", sent.qos));
        }
        if let Some(retain) = self.retain.filter(|retain| *retain != sent.retain) {
            found.add("retain", retain.to_string(), sent.retain.to_string());
        }
        self.compare("", &sent.headers, &sent.payload, found);
    }

    pub(crate) fn compare_reply(&self, reply: &Reply, found: &mut Differences) {
        if self.status.is_some() && self.status != reply.status.map(i64::from) {
            found.add("reply.status", format!("{:?}", self.status), format!("{:?}", reply.status));
        }
        self.compare("reply.", &reply.headers, &reply.payload, found);
    }

    fn compare(&self, path: &str, headers: &Headers, payload: &Bytes, found: &mut Differences) {
        for (name, expected) in &self.headers {
            let got = headers.iter().find(|(other, _)| other == name).map(|(_, value)| String::from_utf8_lossy(value));
            differ(&format!("{path}headers.{name}"), Some(expected), got.as_deref(), found);
        }
        let shown = || format!("{:?}", String::from_utf8_lossy(payload));
        match &self.content {
            None => {}
            Some(Content::Json(expected)) => match Json::parse(payload.clone()) {
                Ok(json) => compare::value(expected, json.root(), &format!("{path}payload"), found),
                Err(error) => found.add(&format!("{path}payload"), "JSON".to_owned(), format!("{}: {error}", shown())),
            },
            Some(Content::Text(expected)) if expected.as_bytes() != payload => {
                found.add(&format!("{path}text"), format!("{expected:?}"), shown());
            }
            Some(Content::Bytes(expected)) if expected != payload => {
                let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
                found.add(&format!("{path}base64"), base64(expected), base64(payload));
            }
            Some(Content::Text(_) | Content::Bytes(_)) => {}
        }
    }
}

fn differ(path: &str, expected: Option<&str>, got: Option<&str>, found: &mut Differences) {
    if let Some(expected) = expected.filter(|expected| Some(*expected) != got) {
        found.add(path, format!("{expected:?}"), got.map_or("nothing".into(), |got| format!("{got:?}")));
    }
}
