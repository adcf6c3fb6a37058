//! The physical limit of an HTTP publish: the same server library, and no work. The benchmark runs itself with `--bare` for it.

use std::{
    env,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::{Router, body::Bytes, http::StatusCode, routing::any};
use integration::{client, eventually, site::free_port};

use crate::reading::READING;

/// A server that reads the body and answers 202; killed when dropped.
pub(crate) struct Bare {
    child: Child,
    /// Where it listens.
    pub(crate) at: SocketAddr,
}

/// Serves, and does not come back, if this process was started for that.
pub(crate) fn serve_if_asked() {
    let arguments: Vec<_> = env::args().collect();
    let Some(flag) = arguments.iter().position(|argument| argument == "--bare") else { return };
    let at: SocketAddr = arguments[flag + 1].parse().expect("an address");
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let listener = tokio::net::TcpListener::bind(at).await.expect("the port");
        let handler = any(|body: Bytes| async move { (StatusCode::ACCEPTED, body.len().to_string()) });
        axum::serve(listener, Router::new().fallback(handler)).await.expect("to serve");
    });
    unreachable!("a server that ends has panicked");
}

// === impl Bare ===

impl Bare {
    /// Starts it and waits until it answers.
    pub(crate) fn start() -> Self {
        let at = free_port();
        let child = Command::new(env::current_exe().expect("this program"))
            .args(["--bare", &at.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .expect("the bare server");
        let bare = Self { child, at };
        eventually("the bare server answers", Duration::from_secs(10), || {
            (client::post(&bare.url("/"), READING).status == 202).then_some(())
        });
        bare
    }

    /// One of its URLs.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.child.kill().expect("the bare server ends");
        self.child.wait().expect("the bare server ends");
    }
}
