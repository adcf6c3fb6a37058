//! The source: one listener; a request is a message, unless its path is one of the gateway's own endpoints.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use http::Request;
use hyper::body::{Body as _, Incoming};
use tower::{ServiceExt, service_fn};

use super::{
    HttpConfig, Listener, Peer,
    address::is_reserved,
    coding::{Accept, deflate},
    offer::Offer,
    openapi::endpoints,
    publish::{discard, publish},
    websocket,
};
use crate::{BridgeError, Source, SourceContext};

/// Takes what HTTP clients publish, and serves those that subscribe.
#[derive(Debug)]
pub(super) struct HttpSource {
    config: HttpConfig,
    listener: Option<Listener>,
}

// === impl HttpSource ===

impl HttpSource {
    pub(super) fn new(config: HttpConfig) -> Self {
        Self { config, listener: None }
    }

    async fn listener(&mut self) -> Result<Listener, BridgeError> {
        match self.listener.take() {
            Some(listener) => Ok(listener),
            None => Listener::bind(self.config.server.clone()).await,
        }
    }
}

impl Source for HttpSource {
    fn bind(&mut self) -> BoxFuture<'_, Result<Vec<SocketAddr>, BridgeError>> {
        Box::pin(async move {
            let listener = self.listener().await?;
            let address = listener.local_addr();
            self.listener = Some(listener);
            Ok(vec![address])
        })
    }

    fn run(mut self: Box<Self>, cx: SourceContext) -> BoxFuture<'static, Result<(), BridgeError>> {
        Box::pin(async move {
            let listener = self.listener().await?;
            let (bridge, drain, tasks) = (cx.bridge.clone(), cx.drain.clone(), cx.tasks.clone());
            let offer = Arc::new(Offer::new(cx, self.config));
            let endpoints = endpoints(&offer);
            let service = move |peer: Peer| {
                let (offer, endpoints) = (offer.clone(), endpoints.clone());
                service_fn(move |request| answer(offer.clone(), endpoints.clone(), peer.clone(), request))
            };
            listener.serve(&bridge, service, drain, tasks).await;
            Ok(())
        })
    }
}

async fn answer(
    offer: Arc<Offer>,
    endpoints: Router,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let accept = match Accept::of(request.headers()) {
        Ok(accept) => accept,
        Err(problem) => {
            discard(request.into_body()).await;
            return Ok(problem.into_response());
        }
    };
    let response = respond(&offer, endpoints, peer, request).await?;
    Ok(deflate(accept, &offer.coders, response).await)
}

async fn respond(
    offer: &Arc<Offer>,
    endpoints: Router,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if is_reserved(request.uri().path()) {
        request.extensions_mut().insert(peer);
        if request.body().is_end_stream() {
            return endpoints.oneshot(request).await;
        }
        // none of them reads a body
        let (head, body) = request.into_parts();
        discard(body).await;
        return endpoints.oneshot(Request::from_parts(head, Body::empty())).await;
    }
    if websocket::is_for_messages(offer, &request) {
        return Ok(websocket::upgrade_for_messages(offer.clone(), peer, request).await);
    }
    Ok(publish(offer, &peer, request).await)
}
