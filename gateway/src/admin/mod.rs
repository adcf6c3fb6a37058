//! The admin API: health, readiness, metrics, the ledger and the routes; and a reload. `guard` says who may ask.
//!
//! On a listener of its own, with the bridges' check of Host and Origin: a web page must not read it either. It answers
//! from before the store is open until after the drain, so that it can say what is going on.

mod guard;
mod ledger;

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
    routing::{get, post},
};
use backbone::{Backbone, Status};
use envelope::AckPoint;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use serde_json::json;

pub(crate) use guard::Guard;
pub(crate) use ledger::{describe, watch};

use crate::{
    audit::AuditLog,
    readiness::Readiness,
    reload::{Because, Reload, Reloaded},
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
}

/// A mapping as `/routes` lists it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    mapping: &'a str,
    version: &'a str,
    bridge: &'a str,
    address: &'a str,
    topic: Option<&'a str>,
    ack: &'static str,
    file: &'a str,
}

/// What `/readyz` says while messages are taken.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    /// The files do not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<String>,
    /// Issuers whose keys can't be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<String>,
}

/// The Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The API's pages, for those whom `guard` lets in.
pub(crate) fn router(admin: Admin, guard: Guard) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/ledger", get(serve_ledger))
        .route("/routes", get(routes))
        .route("/reload", post(reload))
        .fallback(absent)
        .layer(from_fn_with_state(guard, guard::guard))
        .with_state(admin)
}

/// The process answers; nothing more.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.not_ready() {
        // by what is in force it takes messages as before
        None => {
            let mut said = Ready { ready: true, configuration: None, tokens: Vec::new() };
            said.configuration = admin.reload.refused().map(|errors| {
                let plural = if errors == 1 { "" } else { "s" };
                format!("refused with {errors} error{plural}, the one before is in force")
            });
            let epoch = admin.reload.current().load_full();
            said.tokens = epoch.issuers.troubles().map(|(name, why)| format!("issuer {name:?}: {why}")).collect();
            Json(said).into_response()
        }
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "why": why }))).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    if let Some(backbone) = admin.backbone.get() {
        ledger::expose(&backbone.report());
    }
    ([(header::CONTENT_TYPE, PROMETHEUS)], admin.metrics.render()).into_response()
}

async fn serve_ledger(State(admin): State<Admin>) -> Response {
    match admin.backbone.get() {
        Some(backbone) => Json(ledger::Page::of(backbone.report())).into_response(),
        None => {
            let why = json!({ "detail": "the store is being opened" });
            (StatusCode::SERVICE_UNAVAILABLE, Json(why)).into_response()
        }
    }
}

async fn routes(State(admin): State<Admin>) -> Response {
    let (epoch, mappings) = admin.reload.status();
    let listed: Vec<_> = mappings
        .routes()
        .map(|route| Listed {
            mapping: route.route.name(),
            version: route.route.version(),
            bridge: route.bridge,
            address: route.address,
            topic: route.topic,
            ack: ack_word(route.ack),
            file: route.file,
        })
        .collect();
    Json(json!({ "epoch": epoch, "routes": listed })).into_response()
}

/// Reads the configuration's files again; says how it ended.
async fn reload(State(admin): State<Admin>, Extension(guard::Asks(who)): Extension<guard::Asks>) -> Response {
    let who = who.map_or_else(String::new, |principal| principal.id.to_string());
    admin.audit.admin(&who, "reload", "asked for");
    let (status, said) = match admin.reload.now(Because::Requested).await {
        Reloaded::Changed(epoch) => (StatusCode::OK, json!({ "reload": "changed", "epoch": epoch })),
        Reloaded::Unchanged(epoch) => (StatusCode::OK, json!({ "reload": "unchanged", "epoch": epoch })),
        Reloaded::Refused(errors) => (StatusCode::CONFLICT, json!({ "reload": "refused", "errors": errors })),
    };
    (status, Json(said)).into_response()
}

async fn absent() -> Response {
    (StatusCode::NOT_FOUND, "there are: /healthz /readyz /metrics /ledger /routes, and POST /reload\n").into_response()
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

// === impl Admin ===

impl Admin {
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
