//! What the user writes of webhooks, and its bounds.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use envelope::Flow;
use http::{HeaderValue, Uri};
use yaml::{Fields, Node, Problems, Resolve, Secret};

use super::{address, breaker::BreakerConfig, sink};
use crate::{Bridge, BridgeConfig, Guarantees, Sending, private::Block, section::blocks};

/// The webhook bridge: where it may send, and how.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// What an address without a host is relative to.
    pub url: Option<Uri>,
    /// What requests are signed with.
    pub secret: Option<Secret>,
    /// The value of `Authorization`.
    pub authorization: Option<Secret>,
    /// The authorities that a server's certificate may be from, as PEM.
    pub authorities: PathBuf,
    /// Blocks that are not of the internet, and may be sent to.
    pub allow_private: Vec<Block>,
    /// `http://` is meant.
    pub plain_text: bool,
    /// How long one request may take, from the connection to the end of the answer.
    pub timeout: Duration,
    /// How long a message is offered again.
    pub retry_for: Duration,
    /// The most requests to one server at a time.
    pub max_in_flight: usize,
    /// The most that is read of an answer.
    pub max_response_bytes: usize,
    /// When a server is left alone.
    pub breaker: BreakerConfig,
}

/// The authorities of Debian and most others.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The shortest secret, in bytes, as Standard Webhooks asks for.
const MIN_SECRET: usize = 24;
/// The most calls of one mapping at a time.
const CALLS: usize = 64;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
const RETRY: RangeInclusive<Duration> = Duration::from_secs(0)..=Duration::from_secs(30 * 86_400);
const IN_FLIGHT: RangeInclusive<i64> = 1..=1_024;
const RESPONSE: RangeInclusive<u64> = 0..=16_777_216;

// === impl WebhookConfig ===

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            authorization: None,
            authorities: AUTHORITIES.into(),
            allow_private: Vec::new(),
            plain_text: false,
            timeout: Duration::from_secs(10),
            retry_for: Duration::from_secs(86_400),
            max_in_flight: 8,
            max_response_bytes: 65_536,
            breaker: BreakerConfig::default(),
        }
    }
}

impl WebhookConfig {
    /// Reads `{ url: https://hooks.example, secret: ${file:secrets/hooks}, ... }`, all of which may be left out.
    pub fn read(node: &Node, folder: &Path, resolve: &Resolve<'_>, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let usual = Self::default();
        let plain_text = fields.optional("plain_text").map_or(Some(false), |node| node.bool(problems));
        let url = match fields.optional("url") {
            Some(node) => base(node, plain_text.unwrap_or(true), resolve, problems).map(Some),
            None => Some(None),
        };
        let secret = match fields.optional("secret") {
            Some(node) => secret(node, resolve, problems).map(Some),
            None => Some(None),
        };
        let authorization = match fields.optional("authorization") {
            Some(node) if url.as_ref().is_some_and(Option::is_none) => {
                let message = "whose it is, \"url\" says: it is sent to that server and to no other";
                problems.report(node.span, "no-url", message.to_owned());
                None
            }
            Some(node) => authorization(node, resolve, problems).map(Some),
            None => Some(None),
        };
        let authorities = match fields.optional("authorities") {
            Some(node) => node.substituted(resolve, problems).map(|path| folder.join(path)),
            None => Some(usual.authorities),
        };
        let allow_private = match fields.optional("allow_private") {
            Some(node) => blocks(node, problems),
            None => Some(Vec::new()),
        };
        let timeout = duration(&mut fields, "timeout", usual.timeout, TIMEOUT, problems);
        let retry_for = duration(&mut fields, "retry_for", usual.retry_for, RETRY, problems);
        let max_in_flight = match fields.optional("max_in_flight") {
            Some(node) => node.integer(IN_FLIGHT, problems).and_then(|count| usize::try_from(count).ok()),
            None => Some(usual.max_in_flight),
        };
        let max_response_bytes = match fields.optional("max_response_bytes") {
            Some(node) => node.bytes(RESPONSE, problems).and_then(|bytes| usize::try_from(bytes).ok()),
            None => Some(usual.max_response_bytes),
        };
        let breaker = match fields.optional("breaker") {
            Some(node) => BreakerConfig::read(node, problems),
            None => Some(usual.breaker),
        };
        fields.finish();
        Some(Self {
            url: url?,
            secret: secret?,
            authorization: authorization?,
            authorities: authorities?,
            allow_private: allow_private?,
            plain_text: plain_text?,
            timeout: timeout?,
            retry_for: retry_for?,
            max_in_flight: max_in_flight?,
            max_response_bytes: max_response_bytes?,
            breaker: breaker?,
        })
    }
}

impl BridgeConfig for WebhookConfig {
    fn build(&self, name: &str) -> Bridge {
        Bridge { source: None, sink: Some(sink::sink(name, self.clone())), link: None }
    }

    fn delivery(&self) -> Guarantees {
        Guarantees {
            ordered_within: "what has the same key",
            ack: "a status of 200 to 299",
            identity: "webhook-id and Idempotency-Key tell a receiver that it has had a request before",
        }
    }

    fn flow(&self) -> Flow {
        Flow::Pull
    }

    fn sending(&self) -> Option<Sending> {
        Some(Sending { max_batch: 1, max_calls: CALLS, retry_for: Some(self.retry_for) })
    }

    fn check_address(&self, written: &str) -> Result<(), String> {
        address::check_written(written, self.url.as_ref(), self.plain_text)
    }

    /// Nothing comes in by it.
    fn max_payload_bytes(&self) -> usize {
        1
    }

    fn max_message_bytes(&self) -> usize {
        1
    }
}

fn duration(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    default: Duration,
    range: RangeInclusive<Duration>,
    problems: &Problems,
) -> Option<Duration> {
    fields.optional(key).map_or(Some(default), |node| node.duration(range, problems))
}

fn base(node: &Node, plain_text: bool, resolve: &Resolve<'_>, problems: &Problems) -> Option<Uri> {
    let text = node.substituted(resolve, problems)?;
    match address::base(&text, plain_text) {
        Ok(url) => Some(url),
        Err(problem) => {
            problems.report(node.span, "bad-url", problem);
            None
        }
    }
}

fn secret(node: &Node, resolve: &Resolve<'_>, problems: &Problems) -> Option<Secret> {
    let text = node.substituted(resolve, problems)?;
    let bytes = match text.strip_prefix("whsec_") {
        Some(encoded) => match STANDARD.decode(encoded) {
            Ok(key) => key.len(),
            Err(_) => {
                problems.report(node.span, "bad-secret", "what stands behind \"whsec_\" is no base64");
                return None;
            }
        },
        None => text.len(),
    };
    if bytes >= MIN_SECRET {
        return Some(Secret::new(text));
    }
    let message = format!("a secret has at least {MIN_SECRET} bytes, this has {bytes}");
    problems.report_with_help(node.span, "short-secret", message, "make one with: openssl rand -hex 32");
    None
}

fn authorization(node: &Node, resolve: &Resolve<'_>, problems: &Problems) -> Option<Secret> {
    let text = node.substituted(resolve, problems)?;
    if text.is_empty() || HeaderValue::from_str(&text).is_err() {
        problems.report(node.span, "bad-header", "it can't be the value of a header");
        return None;
    }
    Some(Secret::new(text))
}
