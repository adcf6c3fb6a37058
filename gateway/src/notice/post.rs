//! Posts notices, a batch at a time, and tries again with growing, jittered pauses.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bridges::{
    connect::{ConnectError, Stream, connect},
    sign::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, signature},
};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Notice, NoticeConfig, Outcome};

/// The most notices of one post.
const BATCH: usize = 100;
/// The first pause, doubled with each try up to the longest; each is shortened by up to a half at random.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long what is left may still take when the gateway ends.
const LAST_TRY: Duration = Duration::from_secs(2);

/// What is posted.
#[derive(Serialize)]
struct Body<'n> {
    /// The same for each try of a batch.
    id: String,
    notices: &'n [Notice],
}

/// Why a post did not arrive.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no body: {0}")]
    Body(#[from] serde_json::Error),
    #[error("no request: {0}")]
    Request(#[from] http::Error),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("took longer than the timeout")]
    Timeout,
    #[error("answered {0}")]
    Status(StatusCode),
}

/// Posts what comes until the gateway ends; then what is left, once.
pub(crate) async fn run(config: NoticeConfig, mut notices: mpsc::Receiver<Notice>, stop: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let told = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            found = notices.recv_many(&mut batch, BATCH) => found > 0,
        };
        if !told {
            break;
        }
        if !deliver(&config, &batch, &stop).await {
            break;
        }
        batch.clear();
    }
    notices.close();
    let last = async {
        loop {
            if batch.is_empty() && notices.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            let outcome =
                if try_once(&config, Uuid::now_v7(), &batch).await.is_ok() { Outcome::Sent } else { Outcome::Stopped };
            outcome.count(batch.len());
            batch.clear();
        }
    };
    if timeout(LAST_TRY, last).await.is_err() {
        Outcome::Stopped.count(batch.len() + notices.len());
    }
}

/// Tries until it arrives, is refused, or it took too long. `false`: the gateway ends, and the batch is still there.
async fn deliver(config: &NoticeConfig, batch: &[Notice], stop: &CancellationToken) -> bool {
    let (id, until, mut pause) = (Uuid::now_v7(), Instant::now() + config.retry_for, FIRST_PAUSE);
    loop {
        let error = match try_once(config, id, batch).await {
            Ok(()) => {
                Outcome::Sent.count(batch.len());
                return true;
            }
            Err(error) => error,
        };
        let waits = jittered(pause);
        let outcome = match (error.is_final(), Instant::now() + waits > until) {
            (true, _) => Some(Outcome::Refused),
            (false, true) => Some(Outcome::Late),
            (false, false) => None,
        };
        if let Some(outcome) = outcome {
            tracing::error!(notices = batch.len(), %error, "notices of messages that do not conform are lost");
            outcome.count(batch.len());
            return true;
        }
        tracing::warn!(notices = batch.len(), %error, "notices wait to be posted again");
        tokio::select! {
            () = stop.cancelled() => return false,
            () = sleep(waits) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Between a half of it and all of it.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

async fn try_once(config: &NoticeConfig, id: Uuid, batch: &[Notice]) -> Result<(), PostError> {
    let body = serde_json::to_vec(&Body { id: id.to_string(), notices: batch })?;
    timeout(config.timeout, post(config, id, body.into())).await.map_err(|_| PostError::Timeout)?
}

/// One post on a connection of its own: there are few of them.
async fn post(config: &NoticeConfig, id: Uuid, body: Bytes) -> Result<(), PostError> {
    let request = request(config, id, body)?;
    let status = exchange(connect(&config.url, &config.authorities).await?, request).await?;
    if status.is_success() { Ok(()) } else { Err(PostError::Status(status)) }
}

/// The answer's status; what else it says is not read.
async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<StatusCode, PostError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    // no task: both end together, and so does the post
    let response = tokio::select! {
        biased;
        response = &mut answer => response?,
        ended = &mut connection => {
            ended?;
            // a receiver that closes has often answered before
            answer.await?
        }
    };
    Ok(response.status())
}

fn request(config: &NoticeConfig, id: Uuid, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let id = id.to_string();
    let path = config.url.path_and_query().map_or("/", |path| path.as_str());
    Request::post(path)
        .header(header::HOST, config.url.authority().map_or("", |authority| authority.as_str()))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("openmesh/", env!("CARGO_PKG_VERSION")))
        .header(WEBHOOK_ID, &id)
        .header(WEBHOOK_TIMESTAMP, seconds)
        .header(WEBHOOK_SIGNATURE, signature(&config.secret, &id, seconds, &body))
        .body(Full::new(body))
}

// === impl PostError ===

impl PostError {
    /// The same post would get the same answer.
    fn is_final(&self) -> bool {
        match self {
            Self::Status(status) => {
                let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
                !status.is_server_error() && !later.contains(status)
            }
            Self::Body(_) | Self::Request(_) => true,
            Self::Connect(_) | Self::Http(_) | Self::Timeout => false,
        }
    }
}
