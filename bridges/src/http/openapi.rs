//! The OpenAPI 3.1 document of the listener's own endpoints: made of the handlers themselves, so that it can't tell of others.
//!
//! What a mapping takes is not in it: `openmesh check` and the admin API's `/routes` say what that is.

use std::sync::Arc;

use axum::{
    Router,
    extract::Extension,
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use utoipa::{
    IntoResponses, OpenApi, ToSchema,
    openapi::{
        self as spec, RefOr, Schema,
        path::Parameter,
        schema::{SchemaType, Type},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use super::{Problem, events, last, offer::Offer, websocket};

/// What there is to say of the endpoints as a whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "OpenMesh Gateway: the mesh over HTTP",
        description = "What an HTTP listener of one gateway serves by itself. Any other path is a message for its mappings.",
    ),
    security((), ("key" = []), ("password" = [])),
    components(schemas(TopicName, TopicFilter)),
)]
struct Frame;

/// Problem details (RFC 9457).
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is only told of; `Problem` writes it")]
pub struct Refusal {
    /// `urn:openmesh:problem:` and the kind.
    #[schema(rename = "type")]
    kind_uri: String,
    title: String,
    status: u16,
    detail: String,
    /// A word from a closed list.
    kind: String,
    /// The rule.
    decided_by: String,
    /// Where in the message it is, as a JSON pointer (RFC 6901).
    #[schema(required = false, nullable = false)]
    pointer: Option<String>,
}

/// An envelope as CloudEvents JSON; more extension attributes as it has them, each in lower case.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is only told of; `envelope` writes it")]
pub struct CloudEvent {
    #[schema(pattern = "^1\\.0$")]
    specversion: String,
    id: String,
    source: String,
    #[schema(rename = "type")]
    kind: String,
    /// The topic.
    subject: String,
    #[schema(format = DateTime)]
    time: String,
    #[schema(required = false, nullable = false, format = DateTime)]
    expirytime: Option<String>,
    #[schema(required = false, nullable = false)]
    dataschema: Option<String>,
    #[schema(required = false, nullable = false)]
    datacontenttype: Option<String>,
    #[schema(required = false, nullable = false)]
    performative: Option<String>,
    /// Where it is neither JSON nor text.
    #[schema(required = false, nullable = false)]
    data_base64: Option<String>,
}

/// A topic: segments with `/` between.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 256, pattern = "^[^/+#%\\x00-\\x1f\\x7f-\\x9f]+(/[^/+#%\\x00-\\x1f\\x7f-\\x9f]+)*$")]
#[expect(dead_code, reason = "it is only told of")]
pub(super) struct TopicName(String);

/// A filter of topics: `+` is any segment, `#` at its end all that is below.
///
/// In a query a plus is a plus, and a space is `%20`; there is none in this pattern, since many clients write a plus for it.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 256, pattern = "^(#|([^/+#\\x00-\\x20\\x7f-\\x9f]+|\\+)(/([^/+#\\x00-\\x20\\x7f-\\x9f]+|\\+))*(/#)?)$")]
#[expect(dead_code, reason = "it is only told of")]
pub(super) struct TopicFilter(String);

/// A document of this kind.
#[derive(Debug, ToSchema)]
#[schema(as = OpenApi)]
#[expect(dead_code, reason = "it is only told of")]
pub struct Document {
    #[schema(pattern = "^3\\.1\\.")]
    openapi: String,
    #[schema(value_type = Object)]
    info: (),
    #[schema(value_type = Object)]
    paths: (),
    #[schema(value_type = Object)]
    components: (),
}

/// What is answered to whoever is not let in, by every listener.
#[derive(Debug, IntoResponses)]
pub enum NotLetIn {
    /// No valid credentials, and nobody is let in without
    #[response(status = 401, content_type = "application/problem+json")]
    Unknown(Refusal),
    /// These credentials may not, or a foreign Origin
    #[response(status = 403, content_type = "application/problem+json")]
    Denied(Refusal),
    /// Too many tries from this address, or too much of this principal
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Refusal),
}

/// What every endpoint that reads the mesh may answer besides.
#[derive(IntoResponses)]
#[response(status = 503, description = "Not now: `Retry-After` says when", content_type = "application/problem+json")]
#[expect(dead_code, reason = "it is only told of; the answers are made elsewhere")]
pub(super) struct NotNow(Refusal);

/// The document as it is served, and the paths in it. Cheap to clone.
#[derive(Debug, Clone)]
struct Served {
    json: Bytes,
    paths: Arc<str>,
}

/// The endpoints. Each is registered once, for requests and for the document.
pub(super) fn endpoints(offer: &Arc<Offer>) -> Router {
    let (router, mut api) = OpenApiRouter::with_openapi(secured(Frame::openapi()))
        .routes(whole(routes!(websocket::upgrade), any(websocket::upgrade)))
        .routes(whole(routes!(events::events), any(events::events)))
        .routes(whole(routes!(last::last), any(last::last)))
        .routes(whole(routes!(serve), any(serve)))
        .with_state(offer.clone())
        .split_for_parts();
    // the router's sign for all that is left of a path is none of the document's
    let paths = std::mem::take(&mut api.paths.paths);
    api.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    // what may be left out is never null: a request has no way to say that
    let all = api.paths.paths.values_mut().filter_map(|item| item.get.as_mut()?.parameters.as_mut()).flatten();
    all.for_each(never_null);
    let served = Served::of(&api);
    let paths = served.paths.clone();
    router
        .fallback(async move || {
            let detail = format!("no endpoint has this path, and none under /mesh/v1 is mapped; there are: {paths}");
            Problem::new(StatusCode::NOT_FOUND, "not-found", "http", detail)
        })
        .layer(Extension(served))
}

fn never_null(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(Parameter { schema: Some(RefOr::T(Schema::Object(object))), .. }) = parameter
        && let SchemaType::Array(types) = &object.schema_type
        && let Some(only) = types.iter().find(|one| **one != Type::Null)
    {
        object.schema_type = SchemaType::Type(only.clone());
    }
}

/// An endpoint is asked whatever the method: it says itself which one it has.
fn whole<S>(
    (schemas, paths, _): UtoipaMethodRouter<S>,
    handler: axum::routing::MethodRouter<S>,
) -> UtoipaMethodRouter<S> {
    (schemas, paths, handler)
}

/// With the ways to say who asks that every listener knows: `key` and `password`.
#[must_use]
pub fn secured(mut api: spec::OpenApi) -> spec::OpenApi {
    let components = api.components.get_or_insert_default();
    for (name, scheme) in [("key", HttpAuthScheme::Bearer), ("password", HttpAuthScheme::Basic)] {
        components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
    }
    api
}

/// This document
#[utoipa::path(get, path = "/mesh/v1/openapi.json", security(()), responses(
    (status = 200, description = "OpenAPI 3.1", body = Document),
))]
async fn serve(Extension(served): Extension<Served>, method: Method) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return only_get("the document", &"GET, HEAD").into_response();
    }
    ([(header::CONTENT_TYPE, "application/json")], served.json).into_response()
}

/// The answer to another method; `allowed` are those that there are.
pub(super) fn only_get(what: &str, allowed: &'static &'static str) -> Problem {
    let detail = format!("{what} is asked for with GET");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "http", detail).allow(allowed)
}

// === impl Served ===

impl Served {
    fn of(api: &spec::OpenApi) -> Self {
        let paths: Vec<_> = api.paths.paths.keys().map(String::as_str).collect();
        // text and numbers only: there is nothing in it that could not be written
        Self { json: api.to_json().unwrap_or_default().into(), paths: paths.join(" ").into() }
    }
}
