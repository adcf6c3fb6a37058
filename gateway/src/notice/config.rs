//! `notices:` of `gateway.yaml`: who is told of messages that do not conform.

use std::{
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use yaml::{Fields, Node, Problems, Resolve, Secret};

/// Where notices are posted, and how long that is tried.
#[derive(Debug, Clone)]
pub struct NoticeConfig {
    /// `https://...`, or `http://` of this host.
    pub url: Uri,
    /// What the posts are signed with: at least 32 bytes.
    pub secret: Secret,
    /// The authorities that the receiver's certificate may be from, as PEM.
    pub authorities: PathBuf,
    /// How long one post may take.
    pub timeout: Duration,
    /// How long a batch is tried again.
    pub retry_for: Duration,
    /// How many notices wait at most.
    pub queue: usize,
}

/// The authorities of Debian and most others.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The shortest secret, in bytes: as long as the signature.
const MIN_SECRET: usize = 32;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const RETRY: RangeInclusive<Duration> = Duration::from_secs(0)..=Duration::from_secs(86_400);
const QUEUE: RangeInclusive<i64> = 1..=65_536;

// === impl NoticeConfig ===

impl NoticeConfig {
    /// Reads `notices`, which may be left out. `folder` is what paths are relative to.
    pub(crate) fn read(
        fields: &mut Fields<'_, '_>,
        folder: &Path,
        resolve: &Resolve<'_>,
        problems: &Problems,
    ) -> Option<Option<Self>> {
        let Some(node) = fields.optional("notices") else { return Some(None) };
        let mut fields = Fields::of(node, problems)?;
        let url = fields.required("url").and_then(|node| url(node, resolve, problems));
        let secret = fields.required("secret").and_then(|node| secret(node, resolve, problems));
        let authorities = match fields.optional("authorities") {
            Some(node) => node.substituted(resolve, problems).map(|path| folder.join(path)),
            None => Some(AUTHORITIES.into()),
        };
        let timeout = match fields.optional("timeout") {
            Some(node) => node.duration(TIMEOUT, problems),
            None => Some(Duration::from_secs(5)),
        };
        let retry_for = match fields.optional("retry_for") {
            Some(node) => node.duration(RETRY, problems),
            None => Some(Duration::from_secs(300)),
        };
        let queue = match fields.optional("queue") {
            Some(node) => node.integer(QUEUE, problems).and_then(|queue| usize::try_from(queue).ok()),
            None => Some(1_024),
        };
        fields.finish();
        Some(Some(Self {
            url: url?,
            secret: secret?,
            authorities: authorities?,
            timeout: timeout?,
            retry_for: retry_for?,
            queue: queue?,
        }))
    }
}

fn url(node: &Node, resolve: &Resolve<'_>, problems: &Problems) -> Option<Uri> {
    let text = node.substituted(resolve, problems)?;
    let refuse = |problem: &str| {
        problems.report(node.span, "bad-url", format!("{problem}: expected https://HOST/PATH"));
        None
    };
    let Ok(url) = text.parse::<Uri>() else { return refuse("no URL") };
    let Some(authority) = url.authority() else { return refuse("no host") };
    if authority.as_str().contains('@') {
        return refuse("a name and password have no place in it");
    }
    match url.scheme_str() {
        Some("https") => Some(url),
        Some("http") if is_this_host(authority.host()) => Some(url),
        Some("http") => refuse("what is told would be readable on the way"),
        _ => refuse("neither https nor http"),
    }
}

fn is_this_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn secret(node: &Node, resolve: &Resolve<'_>, problems: &Problems) -> Option<Secret> {
    let text = node.substituted(resolve, problems)?;
    if text.len() >= MIN_SECRET {
        return Some(Secret::new(text));
    }
    let message = format!("a secret has at least {MIN_SECRET} bytes, this has {}", text.len());
    problems.report_with_help(node.span, "short-secret", message, "make one with: openssl rand -hex 32");
    None
}
