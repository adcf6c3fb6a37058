//! The OpenAPI 3.1 document of the admin API: made of the handlers themselves, so that it can't tell of others.

use std::sync::Arc;

use axum::{
    Extension,
    http::header,
    response::{IntoResponse, Response},
};
use bridges::http::{NotLetIn, secured};
use bytes::Bytes;
use utoipa::{
    OpenApi,
    openapi::{self as spec},
};

/// What there is to say of the API as a whole.
#[derive(OpenApi)]
#[openapi(
    info(title = "OpenMesh Gateway", description = "The admin API of one gateway."),
    security((), ("key" = []), ("password" = [])),
)]
struct Frame;

/// The document as it is served. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Document {
    json: Bytes,
    paths: Arc<str>,
}

/// This document
#[utoipa::path(get, path = "/openapi.json", responses(
    (status = 200, description = "OpenAPI 3.1", body = bridges::http::Document),
    NotLetIn,
))]
pub(super) async fn serve(Extension(document): Extension<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.json).into_response()
}

/// The document without the pages.
pub(super) fn frame() -> spec::OpenApi {
    secured(Frame::openapi())
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
