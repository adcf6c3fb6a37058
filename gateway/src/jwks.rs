//! Fetches the keys of token issuers, before a token asks for them.
//!
//! Nobody waits for it: what is fetched is put where tokens look. An endpoint that is slow, down, or answers with something
//! else changes nothing; the keys before stay, and it is asked again after a while, at random within it.

use std::{collections::HashMap, path::Path, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use policy::{Current, Fetched, FetchedKeys, KeySet, KeySetError, KeysFrom, MAX_DOCUMENT};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::connect::{ConnectError, Stream, connect};

/// How long one fetch may take, from the look-up of the name to the last byte.
const WITHIN: Duration = Duration::from_secs(10);
/// How soon it is tried again after it failed.
const RETRY: Duration = Duration::from_secs(10);
/// How often to look whether something is due, if nothing else happens.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Why keys were not fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no request: {0}")]
    Request(#[from] http::Error),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("the answer ends early or is longer than {MAX_DOCUMENT} bytes: {0}")]
    Body(String),
    #[error(transparent)]
    Keys(#[from] KeySetError),
    #[error("took longer than {WITHIN:?}")]
    Timeout,
}

/// Fetches what the issuers of the epoch in force need, until `stop`.
pub(crate) async fn fetch(current: Current, fetched: Fetched, stop: CancellationToken) {
    stop.run_until_cancelled(forever(&current, &fetched)).await;
}

async fn forever(current: &Current, fetched: &Fetched) {
    let mut changes = current.changes();
    let mut due: HashMap<Uri, Instant> = HashMap::new();
    loop {
        let wanted: Vec<_> = {
            let epoch = current.load();
            epoch.issuers.fetched().map(|(keys, config)| (keys.clone(), config.keys.clone())).collect()
        };
        due.retain(|url, _| wanted.iter().any(|(keys, _)| keys.url() == url));
        let now = Instant::now();
        let fetches = wanted.iter().filter_map(|(keys, from)| {
            let early = keys.is_wanted();
            let is_due = due.get(keys.url()).is_none_or(|at| *at <= now);
            (early || is_due).then_some(async { (keys.url().clone(), one(keys, from).await) })
        });
        for (url, next) in join_all(fetches).await {
            due.insert(url, Instant::now() + next.mul_f64(0.9 + fastrand::f64() / 10.0));
        }
        drop(wanted);
        fetched.tidy();
        let next = due.values().min().copied().unwrap_or_else(|| Instant::now() + LOOK_EVERY);
        tokio::select! {
            () = sleep_until(next) => {}
            () = fetched.wanted() => {}
            // the epochs end when the gateway does
            _ = changes.changed() => {}
        }
    }
}

/// Fetches once; when to fetch again.
async fn one(keys: &FetchedKeys, from: &KeysFrom) -> Duration {
    let KeysFrom::Url { url, refresh, authorities } = from else { return LOOK_EVERY };
    let got = timeout(WITHIN, get(url, authorities)).await.unwrap_or(Err(FetchError::Timeout));
    match got {
        Ok(set) => {
            keys.put(set);
            *refresh
        }
        Err(error) => {
            tracing::warn!(%url, %error, "the keys of a token issuer can't be fetched, those before stay");
            RETRY
        }
    }
}

async fn get(url: &Uri, authorities: &Path) -> Result<KeySet, FetchError> {
    let request = Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, url.authority().map_or("", |authority| authority.as_str()))
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("openmesh/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())?;
    let document = exchange(connect(url, authorities).await?, request).await?;
    Ok(KeySet::parse(&document)?)
}

/// A redirect is no answer: where keys come from is said by the policy file alone.
async fn exchange(stream: Box<dyn Stream>, request: Request<Empty<Bytes>>) -> Result<Bytes, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response: Response<Incoming> = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(limit) => FetchError::Body(limit.to_string()),
            None => FetchError::Body(error.to_string()),
        })
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // a server that closes has often answered before
        _ = &mut connection => answer.await,
    }
}
