//! The request that a message becomes.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use envelope::{Outbound, RejectKind, Rejection};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::Full;

use super::{address::Address, config::WebhookConfig};
use crate::sign::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, signature};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Headers that belong to the connection, or that the bridge sets by itself.
fn is_own(name: &HeaderName) -> bool {
    let own = [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        WEBHOOK_ID,
        WEBHOOK_TIMESTAMP,
        WEBHOOK_SIGNATURE,
    ];
    own.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// What is sent. A refusal is final: the same message makes the same request.
pub(super) fn request(
    config: &WebhookConfig,
    address: &Address,
    outbound: &Outbound,
    now: SystemTime,
) -> Result<Request<Full<Bytes>>, Rejection> {
    let mut headers = HeaderMap::with_capacity(outbound.headers.len() + 8);
    for (name, value) in outbound.headers.iter() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse(format!("{name:?} is no header")))?;
        if is_own(&name) {
            return Err(refuse(format!("the header {name:?} is the bridge's own")));
        }
        let value = HeaderValue::from_maybe_shared(value.clone())
            .map_err(|_| refuse(format!("the value of {name:?} has a control character")))?;
        headers.append(name, value);
    }
    let id = outbound.id.to_string();
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    set(&mut headers, WEBHOOK_ID, &id)?;
    set(&mut headers, WEBHOOK_TIMESTAMP, &seconds.to_string())?;
    if let Some(secret) = &config.secret {
        set(&mut headers, WEBHOOK_SIGNATURE, &signature(secret, &id, seconds, &outbound.payload))?;
    }
    if !headers.contains_key(IDEMPOTENCY_KEY) {
        set(&mut headers, IDEMPOTENCY_KEY, &id)?;
    }
    // a secret is its server's: an address may name any
    let ours = config.url.as_ref().is_some_and(|url| same_server(url, &address.url));
    let authorization = config.authorization.as_ref().filter(|_| ours && !headers.contains_key(header::AUTHORIZATION));
    if let Some(secret) = authorization {
        set(&mut headers, header::AUTHORIZATION, secret.expose())?;
    }
    if let Some(trace) = outbound.trace.as_ref().filter(|_| !headers.contains_key(TRACEPARENT)) {
        set(&mut headers, TRACEPARENT, &trace.traceparent())?;
        if let Some(state) = trace.tracestate() {
            set(&mut headers, TRACESTATE, state)?;
        }
    }
    if !headers.contains_key(header::USER_AGENT) {
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("openmesh/", env!("CARGO_PKG_VERSION"))));
    }
    set(&mut headers, header::HOST, address.url.authority().map_or("", |authority| authority.as_str()))?;
    let path = address.url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder().method(&address.method).uri(path).body(Full::new(outbound.payload.clone()));
    let mut request = request.map_err(|error| refuse(format!("no request: {error}")))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Whether both are of one scheme, host and port.
fn same_server(a: &Uri, b: &Uri) -> bool {
    let port = |url: &Uri| url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |url: &Uri| url.host().map(str::to_ascii_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), Rejection> {
    let mut made = HeaderValue::from_str(value).map_err(|_| refuse(format!("the value of {name:?} is none")))?;
    made.set_sensitive(name == header::AUTHORIZATION || name == WEBHOOK_SIGNATURE);
    headers.insert(name, made);
    Ok(())
}

fn refuse(detail: String) -> Rejection {
    Rejection::new(RejectKind::Malformed, "webhook", detail)
}
