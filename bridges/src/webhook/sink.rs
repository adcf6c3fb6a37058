//! Sends messages: each as a request, one after the other within a call.

use std::{sync::Arc, time::SystemTime};

use envelope::{Batch, Disposition, Lane, Outbound, RejectKind, Rejection, Sink, Taken, Verdict, Verdicts};
use http::Request;
use http_body_util::Full;
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};
use tokio::time::{Instant, timeout};

use super::{
    address::{self, Address},
    answer::{self, ExchangeError},
    config::WebhookConfig,
    destination::{Destination, Destinations},
    exchange::{Answer, Connection},
    request::request,
};
use crate::{
    connect::{ConnectError, connect_if},
    private,
};

/// What the requests of one bridge share.
struct Webhooks {
    bridge: String,
    config: WebhookConfig,
    destinations: Destinations,
    answers: [Counter; 5],
    unanswered: Counter,
    forbidden: Counter,
    left_alone: Counter,
    seconds: Histogram,
}

const DECIDED_BY: &str = "webhook";

/// The sink of the bridge of this name. It connects when something is sent.
pub(super) fn sink(bridge: &str, config: WebhookConfig) -> Sink {
    let webhooks = Arc::new(Webhooks::new(bridge, config));
    Sink::new(tower::service_fn(move |batch: Batch<Outbound>| {
        let webhooks = webhooks.clone();
        async move { Ok(webhooks.send_all(batch).await) }
    }))
}

// === impl Webhooks ===

impl Webhooks {
    fn new(bridge: &str, config: WebhookConfig) -> Self {
        const REQUESTS: &str = "openmesh_webhook_requests_total";
        const SECONDS: &str = "openmesh_webhook_request_seconds";
        describe_counter!(REQUESTS, "requests that a webhook bridge made, or would have, by what was answered");
        describe_histogram!(SECONDS, "how long a webhook took to answer");
        let count = |outcome| counter!(REQUESTS, "bridge" => bridge.to_owned(), "outcome" => outcome);
        Self {
            bridge: bridge.to_owned(),
            config,
            destinations: Destinations::default(),
            answers: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(count),
            unanswered: count("unanswered"),
            forbidden: count("forbidden"),
            left_alone: count("left-alone"),
            seconds: histogram!(SECONDS, "bridge" => bridge.to_owned()),
        }
    }

    /// In order; what is behind a message that is to be offered again, in its lane, waits for it.
    async fn send_all(&self, batch: Batch<Outbound>) -> Verdicts<Taken> {
        let mut stopped: Vec<Lane> = Vec::new();
        let mut verdicts = Vec::with_capacity(batch.len());
        for outbound in batch.into_vec() {
            let lane = outbound.lane;
            let answer = match stopped.contains(&lane) {
                true => Err(Rejection::new(RejectKind::Behind, "lane", "an earlier message is retried first")),
                false => self.send(&outbound).await,
            };
            if answer.as_ref().is_err_and(|no| no.disposition() == Disposition::Retry) {
                stopped.push(lane);
            }
            verdicts.push(Verdict { route: None, answer });
        }
        verdicts
    }

    async fn send(&self, outbound: &Outbound) -> Result<Taken, Rejection> {
        let config = &self.config;
        let address = address::parse(&outbound.address, config.url.as_ref(), config.plain_text)
            .map_err(|problem| Rejection::new(RejectKind::Malformed, DECIDED_BY, format!("to.address: {problem}")))?;
        let request = request(config, &address, outbound, SystemTime::now())?;
        let destination = self.destinations.of(&address.url, config.max_in_flight)?;
        let away = |_| Rejection::new(RejectKind::Unavailable, DECIDED_BY, "the bridge has ended");
        let _place = destination.places.acquire().await.map_err(away)?;
        let leave = destination.leave().map_err(|wait| {
            self.left_alone.increment(1);
            Rejection::new(RejectKind::Unavailable, DECIDED_BY, "the server failed too often and is left alone for now")
                .after(wait)
        })?;
        let began = Instant::now();
        let within = config.timeout;
        let answered = timeout(within, self.exchange(&destination, &address, request))
            .await
            .unwrap_or(Err(ExchangeError::Timeout(within)));
        self.seconds.record(began.elapsed().as_secs_f64());
        match answered {
            Ok(answer) => {
                if let Some(counter) = self.answers.get(usize::from(answer.status.as_u16() / 100).wrapping_sub(1)) {
                    counter.increment(1);
                }
                match answer::is_failure(answer.status) {
                    true => self.opened(leave.failed(config.breaker), &address),
                    false => leave.answered(),
                }
                answer::verdict(answer.status, &answer.headers, SystemTime::now())
            }
            Err(error @ ExchangeError::Connect(ConnectError::Forbidden(_))) => {
                // said of the message: the next one of the same server may be let through
                drop(leave);
                self.forbidden.increment(1);
                Err(error.rejection())
            }
            Err(error) => {
                self.unanswered.increment(1);
                self.opened(leave.failed(config.breaker), &address);
                Err(error.rejection())
            }
        }
    }

    fn opened(&self, opened: bool, address: &Address) {
        if opened {
            let server = address.url.authority().map_or("", |authority| authority.as_str());
            tracing::warn!(bridge = %self.bridge, %server, "the server failed too often and is left alone for a while");
        }
    }

    /// Over a connection that is there, or over a new one. A connection that its peer has closed meanwhile is none.
    async fn exchange(
        &self,
        destination: &Destination,
        address: &Address,
        request: Request<Full<bytes::Bytes>>,
    ) -> Result<Answer, ExchangeError> {
        while let Some(connection) = destination.idle() {
            match self.over(destination, connection, request.clone()).await {
                Err(ExchangeError::Http(error)) if is_stale(&error) => {}
                answered => return answered,
            }
        }
        let allowed = &self.config.allow_private;
        let may = |address| private::check(address, allowed);
        let stream = connect_if(&address.url, &self.config.authorities, may).await?;
        self.over(destination, Connection::open(stream).await?, request).await
    }

    async fn over(
        &self,
        destination: &Destination,
        mut connection: Connection,
        request: Request<Full<bytes::Bytes>>,
    ) -> Result<Answer, ExchangeError> {
        let answer = connection.send(request, self.config.max_response_bytes).await?;
        if answer.reusable {
            destination.keep(connection);
        }
        Ok(answer)
    }
}

/// The connection was closed before anything was answered over it.
fn is_stale(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_closed() || error.is_incomplete_message()
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks").field("bridge", &self.bridge).finish_non_exhaustive()
    }
}
