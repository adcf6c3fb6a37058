//! The one HTTP listener, which the bridge and the gateway's admin API share: limits, drain, Host and Origin.
//!
//! It knows nothing of messages; what a request means is the service's business.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use envelope::Rejection;
use futures_util::future::{BoxFuture, Either};
use http::Request;
use hyper::body::Incoming;
use metrics::Counter;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt, util::Oneshot};

use super::{ServerConfig, guard::Guard, publish::discard, versions::Versions};
use crate::{
    BridgeError,
    net::{self, Cut, Cuts, Slots, Stream},
    tls::{ClientCertificate, Tls},
};

/// A bound listener that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    config: ServerConfig,
    tls: Option<Tls>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// The client certificate that it proved to own, whose chain was verified.
    pub certificate: Option<ClientCertificate>,
}

/// Lets a connection's service see only what the guard lets through.
struct Guarded<S> {
    inner: S,
    guard: Arc<Guard>,
    refused: Counter,
}

/// What a handshake agrees on.
const PROTOCOLS: &[&str] = &["h2", "http/1.1"];

// === impl Listener ===

impl Listener {
    /// Binds, and reads the files of TLS. Refuses plain text off loopback that nobody said is meant.
    pub async fn bind(config: ServerConfig) -> Result<Self, BridgeError> {
        let address = config.listen;
        config.check_plain_text()?;
        let load =
            |tls| Tls::load(tls, PROTOCOLS).map_err(|error| BridgeError::Tls { address, source: Box::new(error) });
        let tls = config.tls.clone().map(load).transpose()?;
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bound.await.map_err(|source| BridgeError::Bind { address, source })?;
        Ok(Self { listener, address, config, tls })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `drain` is cancelled. `service` makes the service of a connection from what is known of the peer: an
    /// [`axum::Router`] or any other that never fails. `name` is the label `bridge` of its metrics.
    ///
    /// Connections run in `tasks`; at the drain they finish the request that they are in and close.
    pub async fn serve<S>(
        self,
        name: &str,
        service: impl Fn(Peer) -> S + Clone + Send + 'static,
        drain: CancellationToken,
        tasks: TaskTracker,
    ) where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let cuts = Arc::new(Cuts::new(name, self.config.write_timeout));
        let versions = Versions::new(&self.config, tasks.clone());
        let guard = Arc::new(Guard::new(&self.config, self.address));
        metrics::describe_gauge!("openmesh_bridge_connections", "open HTTP connections");
        metrics::describe_counter!(
            "openmesh_bridge_foreign_requests_total",
            "requests refused for their Host or Origin"
        );
        let open = metrics::gauge!("openmesh_bridge_connections", "bridge" => name.to_owned());
        let refused = metrics::counter!("openmesh_bridge_foreign_requests_total", "bridge" => name.to_owned());
        let slots = Slots::new(name, self.config.max_connections, self.config.max_connections_per_address);
        if let Some(tls) = self.tls.clone() {
            tasks.spawn(tls.watch(name.to_owned(), drain.clone()));
        }
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.cancelled() => return,
                accepted = net::accept(&self.listener, &slots, &cuts) => accepted,
            };
            let Some((socket, address)) = accepted else { return };
            let (tls, within) = (self.tls.clone(), self.config.header_timeout);
            let (versions, service, guard) = (versions.clone(), service.clone(), guard.clone());
            let (refused, drain, open) = (refused.clone(), drain.child_token(), open.clone());
            let cuts = cuts.clone();
            tasks.spawn(async move {
                // nothing is in flight yet: at the drain, a handshake is cut
                let shaken = drain.run_until_cancelled(Stream::open(socket, tls, within)).await;
                let (stream, certificate) = match shaken {
                    Some(Ok(opened)) => opened,
                    Some(Err(error)) => return tracing::debug!(%error, %address, "no TLS connection"),
                    None => return,
                };
                let not_let_in = Peer { address, certificate: certificate.clone() }.not_let_in();
                let inner = service(Peer { address, certificate });
                let ending = async {
                    tokio::select! {
                        why = not_let_in => tracing::debug!(%why, "connection ended"),
                        () = drain.cancelled() => {}
                    }
                };
                open.increment(1.0);
                let unread = || cuts.tell(address, Cut::Unread);
                versions.serve(stream, Guarded { inner, guard, refused }, ending, unread).await;
                open.decrement(1.0);
            });
        }
    }
}

// === impl Peer ===

impl Peer {
    /// Ends with the reason once the certificate that it showed is let in no more; never without one.
    pub async fn not_let_in(self) -> Rejection {
        match self.certificate {
            Some(certificate) => certificate.ended().await,
            None => std::future::pending().await,
        }
    }

    /// As [`Self::not_let_in`], or with what `principal` ends with: whoever it is let in as.
    pub(super) fn ended(self, principal: BoxFuture<'static, Rejection>) -> BoxFuture<'static, Rejection> {
        if self.certificate.is_none() {
            return principal;
        }
        Box::pin(async move {
            tokio::select! {
                why = principal => why,
                why = self.not_let_in() => why,
            }
        })
    }
}

// === impl Guarded ===

impl<S> hyper::service::Service<Request<Incoming>> for Guarded<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<BoxFuture<'static, Result<Response<Body>, Infallible>>, Oneshot<S, Request<Incoming>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match self.guard.check(&request) {
            Ok(()) => Either::Right(self.inner.clone().oneshot(request)),
            Err(problem) => {
                self.refused.increment(1);
                Either::Left(Box::pin(async {
                    discard(request.into_body()).await;
                    Ok(problem.into_response())
                }))
            }
        }
    }
}
