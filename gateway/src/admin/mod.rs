//! The admin API: health, readiness, metrics, the ledger and the routes; and a reload. `guard` says who may ask.
//!
//! On a listener of its own, with the bridges' check of Host and Origin: a web page must not read it either. It answers
//! from before the store is open until after the drain, so that it can say what is going on.

mod asked;
mod care;
mod guard;
mod ledger;
mod letter;
mod messages;
mod openapi;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use axum::{
    Json, Router,
    extract::{Extension, State},
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
};
use backbone::{Backbone, LedgerReport, RouteCounts, Status};
use bridges::{
    Standings,
    http::{NotLetIn, Problem},
};
use envelope::AckPoint;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use guard::{ADMIN, Guard};
pub(crate) use ledger::{describe, watch};

use crate::{
    audit::AuditLog,
    egress::Shown,
    outlet::GatewayOutlet,
    readiness::{NotReady, Readiness},
    reload::{self, Because, Reload, Reloaded},
};

/// What the API tells of. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) readiness: Readiness,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) reload: Reload,
    pub(crate) audit: AuditLog,
    /// Empty until the store is open.
    pub(crate) backbone: Arc<OnceLock<Arc<dyn Backbone>>>,
    /// What is stored, behind policy; as empty.
    pub(crate) reader: Arc<OnceLock<GatewayOutlet>>,
    /// The connections that bridges make.
    pub(crate) standings: Standings,
}

/// Whether messages are taken.
#[derive(Debug, Serialize, ToSchema)]
struct Ready {
    ready: bool,
    /// Why not, if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// What is wrong with the configuration on disk, if it was refused: the one before it is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<String>,
    /// Issuers whose keys can't be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<String>,
}

/// The mappings in force.
#[derive(Debug, Serialize, ToSchema)]
struct Routes {
    epoch: reload::Status,
    routes: Vec<Listed>,
    /// The mappings that send.
    sends: Vec<Sends>,
    /// Mappings that sent once: their subscriptions wait where they were.
    parked: Vec<String>,
    /// The connections that bridges make by themselves.
    connections: Vec<Connection>,
}

/// A connection to a remote peer.
#[derive(Debug, Serialize, ToSchema)]
struct Connection {
    bridge: String,
    /// `in` or `out`.
    direction: &'static str,
    /// What it is to.
    peer: String,
    /// `connecting`, `connected`, `away` or `refused`.
    state: &'static str,
    since: String,
    /// What is wrong, if something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// A mapping.
#[derive(Debug, Serialize, ToSchema)]
struct Listed {
    mapping: String,
    /// Changes with the file's content.
    version: String,
    bridge: String,
    /// What its messages are addressed to, in the protocol's terms.
    address: String,
    /// The mesh topic, if the file has it as plain text.
    topic: Option<String>,
    /// When the sender hears yes: `received`, `durable`, `delivered` or `consumer`.
    ack: &'static str,
    file: String,
    now: Taken,
}

/// What a mapping has taken, over restarts: with all that it refused for good.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Taken {
    /// Messages that have an outcome.
    taken: u64,
    #[serde(flatten)]
    counts: RouteCounts,
}

/// How a reload ended.
#[derive(Debug, Serialize, ToSchema)]
struct Ended {
    /// `changed`, `unchanged` or `refused`.
    reload: &'static str,
    /// The epoch in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    /// How many errors there are, where it was refused: the log and `/routes` have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<usize>,
}

/// A mapping that sends.
#[derive(Debug, Serialize, ToSchema)]
struct Sends {
    mapping: String,
    /// Changes with the file's content.
    version: String,
    /// The topics it takes envelopes from.
    topic: String,
    bridge: String,
    /// Where it sends to, as the file writes it.
    address: String,
    file: String,
    /// How that goes; nothing while it does not run.
    now: Option<Shown>,
}

/// The Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The API's pages, for those whom `guard` lets in. Each is registered once, for requests and for `/openapi.json`.
pub(crate) fn router(admin: Admin, guard: Guard) -> Router {
    let (router, api) = OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(serve_ledger))
        .routes(routes!(routes_in_force))
        .routes(routes!(reload))
        .routes(routes!(messages::messages))
        .routes(routes!(care::dead_letters))
        .routes(routes!(care::dead_letter, care::drop_dead_letter))
        .routes(routes!(care::replay_dead_letter))
        .routes(routes!(care::subscriptions))
        .routes(routes!(care::drop_subscription))
        .routes(routes!(openapi::serve))
        .split_for_parts();
    let document = openapi::Document::of(&api);
    let paths = document.paths();
    router
        .fallback(move || absent(paths))
        .method_not_allowed_fallback(wrong_method)
        .layer(Extension(document))
        .layer(from_fn_with_state(guard, guard::guard))
        .with_state(admin)
}

/// The process answers; nothing more
#[utoipa::path(get, path = "/healthz", responses(
    (status = 200, description = "it does", body = String, content_type = "text/plain"),
))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether messages are taken
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "they are", body = Ready),
    (status = 503, description = "they are not, and why", body = Ready),
))]
async fn readyz(State(admin): State<Admin>) -> Response {
    let Some(why) = admin.not_ready() else {
        // by what is in force it takes messages as before
        let configuration = admin.reload.refused().map(|errors| {
            let plural = if errors == 1 { "" } else { "s" };
            format!("refused with {errors} error{plural}, the one before is in force")
        });
        let epoch = admin.reload.current().load_full();
        let tokens = epoch.issuers.troubles().map(|(name, why)| format!("issuer {name:?}: {why}")).collect();
        return Json(Ready { ready: true, why: None, configuration, tokens }).into_response();
    };
    let ready = Ready { ready: false, why: Some(why), configuration: None, tokens: Vec::new() };
    (StatusCode::SERVICE_UNAVAILABLE, Json(ready)).into_response()
}

/// All counters, in the Prometheus text format
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "openmesh_...", body = String, content_type = "text/plain"),
    NotLetIn,
))]
async fn metrics(State(admin): State<Admin>) -> Response {
    if let Some(backbone) = admin.backbone.get() {
        ledger::expose(&backbone.report());
    }
    ([(header::CONTENT_TYPE, PROMETHEUS)], admin.metrics.render()).into_response()
}

/// The conservation ledger: what became of every message, and whether the sums hold
#[utoipa::path(get, path = "/ledger", responses(
    (status = 200, description = "all counts", body = ledger::Page),
    (status = 503, description = "the store is not open", body = bridges::http::Refusal, content_type = "application/problem+json"),
    NotLetIn,
))]
async fn serve_ledger(State(admin): State<Admin>) -> Response {
    match admin.backbone.get() {
        Some(backbone) => Json(ledger::Page::of(backbone.report())).into_response(),
        None => admin.unopened(),
    }
}

/// The mappings in force, the epoch, and what waits for a restart
#[utoipa::path(get, path = "/routes", responses(
    (status = 200, description = "the mappings", body = Routes),
    NotLetIn,
))]
async fn routes_in_force(State(admin): State<Admin>) -> Response {
    let (epoch, mappings) = admin.reload.status();
    let report = admin.backbone.get().map(|backbone| backbone.report()).unwrap_or_default();
    let listed = mappings.routes().map(|route| Listed {
        mapping: route.route.name().to_owned(),
        version: route.route.version().to_owned(),
        bridge: route.bridge.to_owned(),
        address: route.address.to_owned(),
        topic: route.topic.map(str::to_owned),
        ack: ack_word(route.ack),
        file: route.file.to_owned(),
        now: Taken::of(&report, route.bridge, route.route.name()),
    });
    let egress = admin.reload.egress();
    let sends = mappings.senders().map(|sender| Sends {
        mapping: sender.route.name().to_owned(),
        version: sender.route.version().to_owned(),
        topic: sender.topic.as_str().to_owned(),
        bridge: sender.bridge.to_owned(),
        address: sender.address.to_owned(),
        file: sender.file.to_owned(),
        now: egress.and_then(|egress| egress.shown(sender.route.name())),
    });
    let durables = report.subscriptions.keys().map(String::as_str);
    let parked = egress.map(|egress| egress.parked(durables)).unwrap_or_default();
    let parked = parked.into_iter().map(str::to_owned).collect();
    let connections = admin.standings.all().into_iter().map(|(bridge, direction, standing)| Connection {
        bridge: bridge.to_string(),
        direction,
        state: standing.state.word(),
        since: humantime::format_rfc3339_millis(standing.since).to_string(),
        why: standing.state.why().map(str::to_owned),
        peer: standing.peer,
    });
    let (routes, sends, connections) = (listed.collect(), sends.collect(), connections.collect());
    Json(Routes { epoch, routes, sends, parked, connections }).into_response()
}

/// Reads the configuration's files again
#[utoipa::path(post, path = "/reload", security(("key" = []), ("password" = [])), responses(
    (status = 200, description = "they hold", body = Ended),
    (status = 409, description = "they do not, and what was in force stays", body = Ended),
    NotLetIn,
))]
async fn reload(State(admin): State<Admin>, Extension(guard::Asks(who)): Extension<guard::Asks>) -> Response {
    let who = who.map_or_else(String::new, |principal| principal.id.to_string());
    admin.audit.admin(&who, "reload", "asked for");
    let ended = |reload, epoch, errors| Ended { reload, epoch, errors };
    let (status, ended) = match admin.reload.now(Because::Requested).await {
        Reloaded::Changed(epoch) => (StatusCode::OK, ended("changed", Some(epoch), None)),
        Reloaded::Unchanged(epoch) => (StatusCode::OK, ended("unchanged", Some(epoch), None)),
        Reloaded::Refused(errors) => (StatusCode::CONFLICT, ended("refused", None, Some(errors))),
    };
    (status, Json(ended)).into_response()
}

async fn absent(paths: String) -> Response {
    Problem::new(StatusCode::NOT_FOUND, "unmapped", "admin", format!("there are: {paths}")).into_response()
}

async fn wrong_method() -> Response {
    let detail = "this path has another method: /openapi.json says which";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "unmapped", "admin", detail).into_response()
}

/// As mapping files write it.
pub(crate) const fn ack_word(ack: AckPoint) -> &'static str {
    match ack {
        AckPoint::Received => "received",
        AckPoint::Durable => "durable",
        AckPoint::Delivered => "delivered",
        AckPoint::Consumer => "consumer",
    }
}

// === impl Taken ===

impl Taken {
    fn of(report: &LedgerReport, bridge: &str, route: &str) -> Self {
        let counts = report.bridges.get(bridge).and_then(|bridge| bridge.routes.get(route));
        let Some(counts) = counts.cloned() else { return Self::default() };
        let RouteCounts { accepted, duplicate, passed, filtered, rejected, .. } = &counts;
        Self { taken: accepted + duplicate + passed + filtered + rejected.values().sum::<u64>(), counts }
    }
}

// === impl Admin ===

impl Admin {
    /// What is answered as long as the store is not open, or because it can't be opened.
    fn unopened(&self) -> Response {
        let detail = match self.readiness.check() {
            Err(NotReady::Broken(_)) => "the store can't be opened: /readyz says why",
            _ => "the store is being opened",
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "admin", detail).into_response()
    }

    /// Why no message is taken, if none is.
    fn not_ready(&self) -> Option<String> {
        if let Err(why) = self.readiness.check() {
            return Some(why.to_string());
        }
        match self.backbone.get()?.status() {
            Status::Ready => None,
            Status::Refusing(why) => Some(format!("the store takes nothing: {why}")),
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}
