//! `openmesh send`: one message to a gateway, as any HTTP client would send it.

use std::{
    fs,
    io::{self, Read, Write},
    path::PathBuf,
};

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use super::{Failure, credentials::Credentials};

/// A message.
#[derive(Debug, Args)]
pub(super) struct Send {
    /// What the mapping's `from.address` is: `POST /path`, or only the path
    address: String,
    /// What is sent: the text itself, @FILE, or @- for standard input
    #[arg(long, short, default_value = "")]
    data: String,
    /// A header, as `name: value`; may be given several times
    #[arg(long = "header", short = 'H', value_parser = header_of)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Makes a retry a duplicate: 1 to 255 visible ASCII characters
    #[arg(long)]
    idempotency_key: Option<HeaderValue>,
    /// The gateway's HTTP bridge
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: Uri,
    #[command(flatten)]
    credentials: Credentials,
}

/// The longest message that is read, in bytes.
const MAX_DATA: u64 = 1 << 30;

fn header_of(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is no header's name"))?;
    Ok((name, value.trim().parse().map_err(|_| "that is no header's value".to_owned())?))
}

// === impl Send ===

impl Send {
    /// Prints the receipt, or fails with the rule that refused.
    pub(super) async fn run(self, out: &mut (impl Write + std::marker::Send)) -> Result<(), Failure> {
        let (method, url) = self.target()?;
        let body = self.body()?;
        let mut headers = HeaderMap::new();
        // what a sample looks like, unless it is said otherwise
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        let usual = if json { "application/json" } else { "application/octet-stream" };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(usual));
        if let Some(key) = self.idempotency_key {
            headers.insert("idempotency-key", key);
        }
        headers.extend(self.headers);
        let answer = self.credentials.ask(method, &url, headers, body).await?;
        if !answer.status.is_success() {
            return Err(format!("the gateway refused: {}", answer.refusal()).into());
        }
        out.write_all(&answer.body)?;
        if !answer.body.ends_with(b"\n") {
            writeln!(out)?;
        }
        Ok(())
    }

    fn target(&self) -> Result<(Method, Uri), Failure> {
        let (method, path) = match self.address.split_once(' ') {
            Some((method, path)) => (method.parse().map_err(|_| format!("{method:?} is no method"))?, path),
            None => (Method::POST, self.address.as_str()),
        };
        if !path.starts_with('/') {
            return Err(format!("an address is METHOD /path, and {path:?} is no path").into());
        }
        let mut url = self.url.clone().into_parts();
        url.path_and_query = Some(path.parse().map_err(|error| format!("{path:?} is no path: {error}"))?);
        Ok((method, Uri::from_parts(url)?))
    }

    fn body(&self) -> Result<Bytes, Failure> {
        let Some(path) = self.data.strip_prefix('@') else { return Ok(self.data.clone().into()) };
        let mut body = Vec::new();
        if path == "-" {
            io::stdin().take(MAX_DATA).read_to_end(&mut body)?;
        } else {
            let path = PathBuf::from(path);
            let file = fs::File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            file.take(MAX_DATA).read_to_end(&mut body)?;
        }
        Ok(body.into())
    }
}
