//! Fetches the keys of token issuers, before a token asks for them.
//!
//! Nobody waits for it: what is fetched is put where tokens look. An endpoint that is slow, down, or answers with something
//! else changes nothing; the keys before stay, and it is asked again after a while, at random within it.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use policy::{Current, Fetched, FetchedKeys, KeySet, KeySetError, KeysFrom, MAX_DOCUMENT};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use bridges::connect::{ConnectError, Stream, connect};

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

/// When keys are fetched again.
struct Due {
    /// As the configuration says it.
    from: KeysFrom,
    /// `None`: that is under way.
    at: Option<Instant>,
}

// === impl Due ===

impl Due {
    /// By the clock, or because the configuration says something else of it.
    fn is(&self, now: Instant, from: &KeysFrom) -> bool {
        self.at.is_some_and(|at| at <= now) || self.from != *from
    }
}

/// Fetches what the issuers of the epoch in force need, until `stop`.
pub(crate) async fn fetch(current: Current, fetched: Fetched, stop: CancellationToken) {
    stop.run_until_cancelled(forever(&current, &fetched)).await;
}

async fn forever(current: &Current, fetched: &Fetched) {
    let mut changes = current.changes();
    let mut due: HashMap<Uri, Due> = HashMap::new();
    // one a URL: an endpoint that is slow keeps no other waiting
    let mut under_way = FuturesUnordered::new();
    loop {
        {
            let epoch = current.load();
            let wanted: Vec<_> = epoch.issuers.fetched().collect();
            due.retain(|url, _| wanted.iter().any(|(keys, _)| keys.url() == url));
            let now = Instant::now();
            for (keys, config) in wanted {
                let early = keys.is_wanted();
                let at = due.get(keys.url());
                let is_due = at.is_none_or(|due| due.is(now, &config.keys) || (early && due.at.is_some()));
                if is_due {
                    due.insert(keys.url().clone(), Due { from: config.keys.clone(), at: None });
                    under_way.push(one(keys.clone(), config.keys.clone()));
                }
            }
        }
        fetched.tidy();
        let next = due.values().filter_map(|due| due.at).min();
        tokio::select! {
            Some((url, from, next)) = under_way.next() => {
                let at = Instant::now() + next.mul_f64(0.9 + fastrand::f64() / 10.0);
                // unless the configuration has changed meanwhile, and it is fetched from elsewhere
                if let Some(due) = due.get_mut(&url).filter(|due| due.from == from) {
                    due.at = Some(at);
                }
            }
            () = sleep_until(next.unwrap_or_else(|| Instant::now() + LOOK_EVERY)) => {}
            () = fetched.wanted() => {}
            // the epochs end when the gateway does
            _ = changes.changed() => {}
        }
    }
}

/// Fetches once; from where, and when to fetch again.
async fn one(keys: Arc<FetchedKeys>, from: KeysFrom) -> (Uri, KeysFrom, Duration) {
    let next = get_into(&keys, &from).await;
    (keys.url().clone(), from, next)
}

async fn get_into(keys: &FetchedKeys, from: &KeysFrom) -> Duration {
    let KeysFrom::Url { url, refresh, authorities } = from else { return LOOK_EVERY };
    let got = timeout(WITHIN, get(url, authorities)).await.unwrap_or(Err(FetchError::Timeout));
    match got {
        Ok(set) => {
            keys.put(set);
            *refresh
        }
        Err(error) => {
            keys.fail();
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
