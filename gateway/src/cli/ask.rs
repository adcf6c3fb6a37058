//! One request to a gateway that runs: how `status` and `send` speak to it. A client like any other.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    Failure,
    credentials::{Credentials, SecretError},
};
use bridges::connect::{ConnectError, connect};

/// The gateway to ask.
#[derive(Debug, Args)]
pub(super) struct Gateway {
    /// The gateway's admin API
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    url: Uri,
    #[command(flatten)]
    credentials: Credentials,
}

/// What the gateway answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("no gateway answers at {url}: {cause}")]
    Away { url: Uri, cause: ConnectError },
    #[error("{url} did not answer within {} s", WITHIN.as_secs())]
    Slow { url: Uri },
    #[error("{url}: {cause}")]
    Http { url: Uri, cause: Box<dyn std::error::Error + Send + Sync> },
    #[error("{0} is no URL of a gateway: http://HOST:PORT or https://HOST:PORT")]
    Url(Uri),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// How long a gateway has for an answer; longer than a mapping's `ack_within` if that is left as it is.
const WITHIN: Duration = Duration::from_secs(45);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

// === impl Credentials ===

impl Credentials {
    /// One request and its answer, whatever the status.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, AskError> {
        let answered = timeout(WITHIN, self.exchange(method, url, headers, body)).await;
        answered.map_err(|_| AskError::Slow { url: url.clone() })?
    }

    async fn exchange(&self, method: Method, url: &Uri, headers: HeaderMap, body: Bytes) -> Result<Answer, AskError> {
        let authority = match (url.scheme_str(), url.authority()) {
            (Some("http" | "https"), Some(authority)) if !authority.as_str().contains('@') => authority,
            _ => return Err(AskError::Url(url.clone())),
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let host = HeaderValue::try_from(authority.as_str()).map_err(|_| AskError::Url(url.clone()))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| AskError::Url(url.clone()))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::HOST, host);
        if let Some(value) = self.authorization()? {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let stream = connect(url, &self.ca_file).await.map_err(|cause| AskError::Away { url: url.clone(), cause })?;
        let http = |cause: hyper::Error| AskError::Http { url: url.clone(), cause: cause.into() };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(http)?;
            let status = response.status();
            let read = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = read.map_err(|cause| AskError::Http { url: url.clone(), cause })?.to_bytes();
            Ok(Answer { status, body })
        };
        tokio::pin!(answer, connection);
        // no task: both end together
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => {
                ended.map_err(http)?;
                answer.await
            }
        }
    }
}

// === impl Gateway ===

impl Gateway {
    /// The JSON of an answer that went well, or whose status is `or`; else why there is none.
    pub(super) async fn ask(&self, method: Method, path: &str, or: StatusCode) -> Result<Value, Failure> {
        let body = self.text(method, path, or).await?;
        Ok(serde_json::from_str(&body).map_err(|error| format!("{} is no gateway's: {error}", self.url))?)
    }

    /// As [`Self::ask`], and as it was answered.
    pub(super) async fn text(&self, method: Method, path: &str, or: StatusCode) -> Result<String, Failure> {
        let mut url = self.url.clone().into_parts();
        url.path_and_query = Some(path.parse()?);
        let url = Uri::from_parts(url)?;
        let answer = self.credentials.ask(method, &url, HeaderMap::new(), Bytes::new()).await?;
        if !answer.status.is_success() && answer.status != or {
            return Err(clean(&answer.refusal()).into());
        }
        Ok(String::from_utf8(answer.body.into()).map_err(|error| format!("{url} is no gateway's: {error}"))?)
    }
}

/// Without what a terminal would obey: a subscription's name, an address and why it was refused are a client's.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// JSON text without what a terminal would obey, which may be in strings only.
pub(super) fn clean_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !c.is_ascii_whitespace() {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

// === impl Answer ===

impl Answer {
    /// The sentence of a refusal: the problem's `detail` and who decided, else the status.
    pub(super) fn refusal(&self) -> String {
        let problem: Option<Value> = serde_json::from_slice(&self.body).ok();
        let member = |name: &str| problem.as_ref()?.get(name)?.as_str().map(str::to_owned);
        match (member("detail"), member("decided_by")) {
            (Some(detail), Some(rule)) => format!("{}: {detail} (decided by {rule})", self.status),
            (Some(detail), None) => format!("{}: {detail}", self.status),
            _ => self.status.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_no_text_of_a_gateway() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{9b}1m"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}1m");
        let text = "{\"a\": 12.10,\n\"b\": \"\u{7f}\u{9b}2J é\"}";
        assert_eq!(clean_json(text), "{\"a\": 12.10,\n\"b\": \"\\u007f\\u009b2J é\"}");
    }
}
