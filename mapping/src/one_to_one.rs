//! Messages that no mapping takes, of a bridge that says that they go through one to one: the address below a prefix is the
//! topic, and the payload goes through unread.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use envelope::{
    AckPoint, Conversation, Data, Envelope, Group, IdentityParts, Inbound, MapResult, Mapped, RejectKind, Rejection,
    Route, Terms, Timestamp, Topic, TraceContext,
};

use crate::{
    RouteInfo,
    file::version,
    map::promised,
    plan::{MAX_ATTRIBUTE, OPAQUE},
    uri,
};

/// What is said of one bridge, compiled.
#[derive(Debug)]
pub(crate) struct OneToOne {
    pub(crate) route: Route,
    bridge: Box<str>,
    /// With a separator at its end.
    prefix: Box<str>,
    /// As lists show it.
    topic: Box<str>,
    source_prefix: Box<str>,
    terms: Arc<Terms>,
}

/// Of a payload that its sender says nothing of.
const BYTES: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";

// === impl OneToOne ===

impl OneToOne {
    pub(crate) fn new(domain: &str, bridge: &str, prefix: &str) -> Self {
        Self {
            // no file has such a name
            route: Route::new(&format!("one-to-one:{bridge}"), &version(prefix)),
            bridge: bridge.into(),
            prefix: format!("{prefix}/").into(),
            topic: format!("{prefix}/#").into(),
            source_prefix: uri::source_prefix(domain, bridge),
            terms: Arc::default(),
        }
    }

    /// As lists show it.
    pub(crate) fn info(&self) -> RouteInfo<'_> {
        RouteInfo {
            route: &self.route,
            bridge: &self.bridge,
            address: "#",
            topic: Some(&self.topic),
            when: None,
            identity: None,
            ack: AckPoint::Durable,
            proofs: &[],
            replies: &[],
            file: "gateway.yaml",
        }
    }

    pub(crate) fn map(&self, inbound: Inbound, domain: &str) -> MapResult {
        match self.envelope(&inbound, domain) {
            Ok(envelope) => MapResult::Mapped(Mapped {
                route: self.route.clone(),
                ack: promised(AckPoint::Durable, &inbound, false),
                terms: self.terms.clone(),
                bridge: inbound.bridge,
                lane: inbound.lane,
                principal: inbound.principal,
                identity: inbound.identity,
                retain: inbound.retain,
                group: Group::One(envelope),
            }),
            Err(rejection) => MapResult::Refused(Some(self.route.clone()), rejection),
        }
    }

    fn envelope(&self, inbound: &Inbound, domain: &str) -> Result<Envelope, Rejection> {
        if is_text(inbound)
            && let Err(error) = std::str::from_utf8(&inbound.payload)
        {
            let at = error.valid_up_to();
            return Err(malformed(format!("a payload that says it is UTF-8 and is not, from byte {at} on")));
        }
        let subject = self.topic_of(&inbound.address)?;
        let mut source = String::from(&*self.source_prefix);
        uri::write_segment(&mut source, &inbound.principal.id);
        let (bridge, principal) = (&*inbound.bridge, &*inbound.principal.id);
        let parts = IdentityParts { domain, bridge, principal, route: self.route.name() };
        let time = Timestamp::from(inbound.received_at);
        Ok(Envelope {
            expirytime: expiry(inbound)?.map(|after| time.plus(after)),
            datacontenttype: Some(content_type(inbound)?),
            hops: inbound.hops.clone(),
            trace: Some(inbound.trace.as_ref().map_or_else(TraceContext::root, TraceContext::child)),
            conversation: self.conversation(inbound)?,
            ..Envelope::plain(
                inbound.identity.envelope_id(parts),
                source.into(),
                OPAQUE.into(),
                subject,
                time,
                Data::Opaque(inbound.payload.clone()),
            )
        })
    }

    fn topic_of(&self, address: &str) -> Result<Topic, Rejection> {
        if address.starts_with('$') {
            let detail = format!("{address:?}: a topic that begins with '$' is reserved");
            return Err(Rejection::new(RejectKind::Denied, "mapping", detail));
        }
        Topic::new(format!("{}{address}", self.prefix)).map_err(|error| malformed(error.to_string()).because(error))
    }

    fn conversation(&self, inbound: &Inbound) -> Result<Option<Box<Conversation>>, Rejection> {
        let id = header(inbound, "correlation-data").map(|bytes| Conversation::id_of(bytes));
        let replyto = header(inbound, "response-topic").and_then(|topic| std::str::from_utf8(topic).ok());
        if id.is_none() && replyto.is_none() {
            return Ok(None);
        }
        if let Some(id) = id.as_ref().filter(|id| id.len() > MAX_ATTRIBUTE) {
            let detail = format!("correlation data of {} characters, the limit is {MAX_ATTRIBUTE}", id.len());
            return Err(Rejection::new(RejectKind::TooLarge, "mapping", detail));
        }
        let replyto = replyto.map(|topic| self.topic_of(topic)).transpose()?;
        let replyto = replyto.map(|topic| Arc::from(topic.as_str()));
        Ok(Some(Box::new(Conversation { id, replyto, ..Conversation::default() })))
    }
}

fn header<'i>(inbound: &'i Inbound, name: &str) -> Option<&'i Bytes> {
    inbound.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value)
}

/// Whether its sender says that it is UTF-8.
fn is_text(inbound: &Inbound) -> bool {
    header(inbound, "payload-format-indicator").is_some_and(|value| *value == "1")
}

/// What its sender says that it is.
pub(crate) fn content_type(inbound: &Inbound) -> Result<Arc<str>, Rejection> {
    let said = header(inbound, "content-type").filter(|value| !value.is_empty());
    let Some(said) = said else {
        return Ok(if is_text(inbound) { TEXT } else { BYTES }.into());
    };
    match std::str::from_utf8(said) {
        Ok(text) if text.len() <= MAX_ATTRIBUTE && !text.chars().any(char::is_control) => Ok(text.into()),
        _ => Err(malformed(format!("a content type has at most {MAX_ATTRIBUTE} bytes and no control characters"))),
    }
}

/// When nobody is to get it any more.
fn expiry(inbound: &Inbound) -> Result<Option<Duration>, Rejection> {
    let Some(said) = header(inbound, "message-expiry-interval") else { return Ok(None) };
    let seconds = std::str::from_utf8(said).ok().and_then(|text| text.parse::<u32>().ok());
    let seconds =
        seconds.ok_or_else(|| malformed("a message expiry interval that is no number of seconds".to_owned()))?;
    Ok(Some(Duration::from_secs(seconds.into())))
}

fn malformed(detail: String) -> Rejection {
    Rejection::new(RejectKind::Malformed, "mapping", detail)
}
