//! Posts notices, a batch at a time, and tries again with growing, jittered pauses.

use std::{
    fs::File,
    io::{self, Read},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Notice, NoticeConfig, Outcome, sign::signature};

/// The most notices of one post.
const BATCH: usize = 100;
/// The first pause, doubled with each try up to the longest; each is shortened by up to a half at random.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long what is left may still take when the gateway ends.
const LAST_TRY: Duration = Duration::from_secs(2);
/// The longest file of authorities, in bytes.
const MAX_AUTHORITIES: u64 = 4 << 20;

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
    #[error("no connection: {0}")]
    Connect(#[from] io::Error),
    #[error("no TLS: {0}")]
    Tls(String),
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
    let body = serde_json::to_vec(&Body { id: id.to_string(), notices: batch }).map_err(io::Error::other)?;
    timeout(config.timeout, post(config, id, body.into())).await.map_err(|_| PostError::Timeout)?
}

/// One post on a connection of its own: there are few of them.
async fn post(config: &NoticeConfig, id: Uuid, body: Bytes) -> Result<(), PostError> {
    let host = config.url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let https = config.is_https();
    let port = config.url.port_u16().unwrap_or(if https { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    let request = request(config, id, body).map_err(io::Error::other)?;
    let status = if https {
        let name = ServerName::try_from(host).map_err(|error| PostError::Tls(error.to_string()))?;
        let connector = connector(config).await?;
        let stream = connector.connect(name, stream).await.map_err(|error| PostError::Tls(error.to_string()))?;
        exchange(stream, request).await?
    } else {
        exchange(stream, request).await?
    };
    if status.is_success() { Ok(()) } else { Err(PostError::Status(status)) }
}

/// The answer's status; what else it says is not read.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, PostError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
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
    let path = config.url.path_and_query().map_or("/", |path| path.as_str());
    Request::post(path)
        .header(header::HOST, config.url.authority().map_or("", |authority| authority.as_str()))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("openmesh/", env!("CARGO_PKG_VERSION")))
        .header("openmesh-notice", id.to_string())
        .header("openmesh-time", seconds)
        .header("openmesh-signature", signature(config.secret.expose(), seconds, &body))
        .body(Full::new(body))
}

/// Reads the authorities each time: they change, and posts are few.
async fn connector(config: &NoticeConfig) -> Result<TlsConnector, PostError> {
    let path = config.authorities.clone();
    let read = tokio::task::spawn_blocking(move || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(path)?.take(MAX_AUTHORITIES).read_to_end(&mut text)?;
        Ok(text)
    });
    let text = read.await.map_err(io::Error::other)??;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    if roots.is_empty() {
        return Err(PostError::Tls(format!("{}: holds no certificate", config.authorities.display())));
    }
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| PostError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(client)))
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
            Self::Connect(_) | Self::Tls(_) | Self::Http(_) | Self::Timeout => false,
        }
    }
}
