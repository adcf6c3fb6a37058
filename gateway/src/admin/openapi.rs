//! The OpenAPI 3.1 document of the admin API: made of the handlers themselves, so that it can't tell of others.

use std::sync::Arc;

use axum::{
    Extension,
    http::header,
    response::{IntoResponse, Response},
};
use bridges::http::Refusal;
use bytes::Bytes;
use utoipa::{
    IntoResponses, OpenApi,
    openapi::{
        self as spec,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

/// What there is to say of the API as a whole.
#[derive(OpenApi)]
#[openapi(
    info(title = "OpenMesh Gateway", description = "The admin API of one gateway."),
    security((), ("key" = []), ("password" = [])),
)]
struct Frame;

/// What `guard` answers in a page's place.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it is only told of; the answers are made by `guard` and by the listener")]
pub(super) enum Guarded {
    /// No valid credentials
    #[response(status = 401, content_type = "application/problem+json")]
    Unknown(Refusal),
    /// These credentials may not, or a foreign Origin
    #[response(status = 403, content_type = "application/problem+json")]
    Denied(Refusal),
    /// Too many tries from this address
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Refusal),
}

/// The document as it is served. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Document {
    json: Bytes,
    paths: Arc<str>,
}

/// This document
#[utoipa::path(get, path = "/openapi.json", responses(
    (status = 200, description = "OpenAPI 3.1", body = bridges::http::Document),
    Guarded,
))]
pub(super) async fn serve(Extension(document): Extension<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.json).into_response()
}

/// The document without the pages.
pub(super) fn frame() -> spec::OpenApi {
    let mut api = Frame::openapi();
    let schemes = [("key", HttpAuthScheme::Bearer), ("password", HttpAuthScheme::Basic)];
    let components = api.components.get_or_insert_default();
    for (name, scheme) in schemes {
        components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
    }
    api
}

// === impl Document ===

impl Document {
    /// Of a document that is whole.
    pub(super) fn of(api: &spec::OpenApi) -> Self {
        let paths: Vec<_> = api.paths.paths.keys().map(String::as_str).collect();
        // Text and numbers only: there is nothing in it that could not be written.
        let json = serde_json::to_vec(api).unwrap_or_default();
        Self { json: json.into(), paths: paths.join(" ").into() }
    }

    /// All paths, with a space between.
    pub(super) fn paths(&self) -> String {
        self.paths.to_string()
    }
}
