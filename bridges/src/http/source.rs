//! The source: one listener, a message a request.

use std::net::SocketAddr;

use futures_util::future::BoxFuture;

use super::{HttpConfig, Listener};
use crate::{BridgeError, Source, SourceContext};

/// Takes what HTTP clients publish.
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
            let router = axum::Router::new();
            listener.serve(&cx.bridge, |_| router.clone(), cx.drain, cx.tasks).await;
            Ok(())
        })
    }
}
