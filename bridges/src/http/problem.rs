//! Refusals as problem details (RFC 9457): the one table from [`RejectKind`] to HTTP.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use envelope::{Quota, QuotaUnit, RejectKind, Rejection, Reply, json::write_string};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::answer::in_words;

/// What a peer is told of a refusal: the deciding rule and the place, never internals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: Cow<'static, str>,
    decided_by: &'static str,
    /// Said in its place: the user's own rule, where one decided.
    policy: Option<Arc<String>>,
    pointer: Option<Box<str>>,
    retry_after: Option<Duration>,
    /// Behind one more reference, so that a problem stays small.
    allow: Option<&'static &'static str>,
    more: Option<Box<More>>,
}

/// What few problems have; apart, so that a problem stays small.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct More {
    quota: Option<Box<Quota>>,
    header: Option<(HeaderName, HeaderValue)>,
    /// Said in place of all of it, where the mapping has words of its own.
    reply: Option<Box<Reply>>,
}

/// Said where the rejection does not say when to come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The table.
const fn status(kind: RejectKind) -> StatusCode {
    match kind {
        RejectKind::Unmapped => StatusCode::NOT_FOUND,
        RejectKind::Malformed => StatusCode::UNPROCESSABLE_ENTITY,
        RejectKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RejectKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        RejectKind::Denied => StatusCode::FORBIDDEN,
        RejectKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        RejectKind::Conflict => StatusCode::CONFLICT,
        // a kind that is newer than this table is nobody's fault but ours
        RejectKind::Overloaded | RejectKind::Behind | RejectKind::Unavailable | _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `RateLimit-Policy` and `RateLimit`, as the IETF's draft of them has it: the rule, its quota of a second, what is left.
fn limits(headers: &mut HeaderMap, rule: &str, quota: Quota, wait: u64) {
    let unit = match quota.unit {
        QuotaUnit::Messages => "requests",
        QuotaUnit::Bytes => "content-bytes",
    };
    let policy = format!("\"{rule}\";q={};w=1;qu=\"{unit}\"", quota.per_second);
    let left = format!("\"{rule}\";r=0;t={wait}");
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
        // a rule's name is no header's business if it has other than visible characters
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

// === impl Problem ===

impl Problem {
    /// A refusal that is no message's: `kind` is a word for machines, `decided_by` the rule.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        decided_by: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
            decided_by,
            policy: None,
            pointer: None,
            retry_after: None,
            allow: None,
            more: None,
        }
    }

    /// Says when to come again.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says which methods there are: the `Allow` header.
    #[must_use]
    pub fn allow(mut self, methods: &'static &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    /// Says something more in a header.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.more.get_or_insert_default().header = Some((name, value));
        self
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The word for machines.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// For people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Without what a mapping says in its place.
    #[must_use]
    pub(super) fn in_its_own_words(self) -> Self {
        let more = self.more.map(|more| Box::new(More { reply: None, ..*more }));
        Self { more, ..self }
    }

    /// What the mapping says in its place, if it does.
    pub(super) fn reply(&self) -> Option<&Reply> {
        self.more.as_ref()?.reply.as_deref()
    }

    /// The mapping's status, unless it would tell a client to give up what it is to offer again.
    fn status_of(&self, reply: &Reply) -> StatusCode {
        let wanted = reply.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(self.status);
        let passing = |status: StatusCode| status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        if passing(self.status) && !passing(wanted) { self.status } else { wanted }
    }

    fn in_own_words(&self) -> Response {
        let mut body = Vec::with_capacity(256);
        body.push(b'{');
        self.write_members(&mut body);
        body.push(b'}');
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }

    /// Appends the members of the JSON object, without its braces.
    pub(super) fn write_members(&self, out: &mut Vec<u8>) {
        let title = self.status.canonical_reason().unwrap_or("Refused");
        out.extend_from_slice(b"\"type\":\"urn:openmesh:problem:");
        out.extend_from_slice(self.kind.as_bytes());
        out.extend_from_slice(b"\",\"title\":");
        write_string(out, title);
        out.extend_from_slice(b",\"status\":");
        out.extend_from_slice(self.status.as_str().as_bytes());
        out.extend_from_slice(b",\"kind\":");
        write_string(out, self.kind);
        out.extend_from_slice(b",\"detail\":");
        write_string(out, &self.detail);
        out.extend_from_slice(b",\"decided_by\":");
        write_string(out, self.policy.as_deref().map_or(self.decided_by, String::as_str));
        if let Some(pointer) = &self.pointer {
            out.extend_from_slice(b",\"pointer\":");
            write_string(out, pointer);
        }
    }
}

impl From<&Rejection> for Problem {
    fn from(rejection: &Rejection) -> Self {
        let status = status(rejection.kind);
        let busy = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        Self {
            status,
            kind: rejection.kind.as_str(),
            detail: rejection.detail.clone().into(),
            decided_by: rejection.decided_by,
            policy: rejection.policy.clone(),
            pointer: rejection.pointer.as_deref().map(Box::from),
            retry_after: rejection.retry_after.or(busy.then_some(RETRY_AFTER)),
            allow: None,
            more: (rejection.quota.is_some() || rejection.reply.is_some()).then(|| {
                Box::new(More { quota: rejection.quota.clone(), header: None, reply: rejection.reply.clone() })
            }),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = match self.reply() {
            Some(reply) => in_words(reply, self.status_of(reply)),
            None => self.in_own_words(),
        };
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            // whole seconds, rounded up: never earlier than said
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let More { quota, header, .. } = self.more.map(|more| *more).unwrap_or_default();
        if let Some(quota) = quota {
            let wait = self.retry_after.unwrap_or(RETRY_AFTER).as_secs_f64().ceil() as u64;
            limits(headers, self.decided_by, *quota, wait);
        }
        headers.extend(header);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"openmesh\", Basic realm=\"openmesh\", charset=\"UTF-8\""),
            );
        }
        if let Some(methods) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_status_of_the_table() {
        let statuses: Vec<_> = RejectKind::ALL.into_iter().map(|kind| (kind.as_str(), status(kind).as_u16())).collect();
        let table = [
            ("unmapped", 404),
            ("malformed", 422),
            ("too-large", 413),
            ("unauthenticated", 401),
            ("denied", 403),
            ("overloaded", 503),
            ("rate-limited", 429),
            ("behind", 503),
            ("unavailable", 503),
            ("conflict", 409),
        ];
        assert_eq!(statuses, table);
    }

    #[test]
    fn the_body_names_rule_and_place_and_never_the_cause() {
        let rejection = Rejection::new(RejectKind::Malformed, "conformance", "\"x\" is not a number")
            .at("/celsius")
            .because(std::io::Error::other("secret path"));
        let mut body = Vec::new();
        Problem::from(&rejection).write_members(&mut body);
        let expected = r#""type":"urn:openmesh:problem:malformed","title":"Unprocessable Entity","status":422,"#
            .to_owned()
            + r#""kind":"malformed","detail":"\"x\" is not a number","decided_by":"conformance","pointer":"/celsius""#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn who_is_over_a_rate_is_told_the_rate_and_what_is_left() {
        let quota = Quota { per_second: 50, unit: QuotaUnit::Bytes };
        let rejection = Rejection::new(RejectKind::RateLimited, "principal_limit", "too fast");
        let response = Problem::from(&rejection.after(Duration::from_millis(1_200)).over(quota)).into_response();
        let header = |name| response.headers()[name].to_str().unwrap();
        assert_eq!(header("ratelimit-policy"), r#""principal_limit";q=50;w=1;qu="content-bytes""#);
        assert_eq!(header("ratelimit"), r#""principal_limit";r=0;t=2"#);
        assert_eq!(header("retry-after"), "2");
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        let wait = |wait| {
            let rejection = Rejection::new(RejectKind::RateLimited, "topic_limit", "too fast").after(wait);
            let response = Problem::from(&rejection).into_response();
            response.headers()[header::RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!(wait(Duration::from_millis(1)), "1");
        assert_eq!(wait(Duration::from_secs(2)), "2");
        assert_eq!(wait(Duration::from_millis(2_001)), "3");
    }
}
