//! An HTTP server that does what a test says: takes, refuses, lies, is slow, dies.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use crate::conformance::{Does, HARD_TIMEOUT, Receiver};

/// What is answered to a request; `None` for a connection that is cut.
pub(super) type Script = dyn Fn(&Request) -> Option<String> + Send + Sync;

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// In lower case but for the first line.
    pub(super) head: String,
    pub(super) body: Bytes,
    /// Which connection it came by, counted from 0.
    pub(super) connection: usize,
}

/// The server; it ends with the runtime of its test.
pub(super) struct Server {
    pub(super) at: SocketAddr,
    script: Arc<Mutex<Arc<Script>>>,
    seen: watch::Sender<Vec<Request>>,
}

/// With this status and these further lines of the head.
pub(super) fn status(status: u16, more: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n{more}\r\nok"))
}

// === impl Request ===

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

// === impl Server ===

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let script: Arc<Mutex<Arc<Script>>> = Arc::new(Mutex::new(Arc::new(|_| status(200, ""))));
        let seen = watch::Sender::new(Vec::new());
        let server = Self { at, script: script.clone(), seen: seen.clone() };
        #[expect(clippy::disallowed_methods, reason = "a test's own task")]
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                #[expect(clippy::disallowed_methods, reason = "a test's own task")]
                tokio::spawn(serve(stream, connection, script.clone(), seen.clone()));
            }
        });
        server
    }

    pub(super) fn answer(&self, script: impl Fn(&Request) -> Option<String> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.borrow().clone()
    }

    /// Waits until so many requests have come.
    pub(super) async fn until(&self, count: usize) -> Vec<Request> {
        let mut seen = self.seen.subscribe();
        let found = timeout(HARD_TIMEOUT, seen.wait_for(|seen| seen.len() >= count)).await;
        found.expect("too few requests come").unwrap().clone()
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.at)
    }
}

impl Receiver for Server {
    fn address(&self) -> Arc<str> {
        format!("POST {}/hook", self.url()).into()
    }

    fn does(&self, what: Does) {
        self.answer(move |_| match what {
            Does::Take => status(200, ""),
            Does::Refuse => status(400, ""),
            Does::Later => status(503, ""),
            Does::Die => None,
        });
    }

    fn received(&self) -> BoxFuture<'_, Vec<Bytes>> {
        Box::pin(async { self.seen().into_iter().map(|request| request.body).collect() })
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: Arc<Mutex<Arc<Script>>>,
    seen: watch::Sender<Vec<Request>>,
) {
    let mut bytes = Vec::new();
    loop {
        let request = loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let (first, rest) = head.split_once("\r\n").unwrap();
                let head = format!("{first}\r\n{rest}");
                let length = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok();
                let length: usize = rest.lines().find_map(length).unwrap_or(0);
                if body.len() >= length {
                    let body = Bytes::copy_from_slice(&body.as_bytes()[..length]);
                    bytes.clear();
                    break Request { head, body, connection };
                }
            }
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        seen.send_modify(|seen| seen.push(request.clone()));
        let script = script.lock().unwrap().clone();
        let Some(answer) = script(&request) else { return };
        if answer.is_empty() {
            // slow: says nothing, and holds the connection
            std::future::pending::<()>().await;
        }
        if stream.write_all(answer.as_bytes()).await.is_err() || answer.contains("connection: close") {
            let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
            return;
        }
    }
}
