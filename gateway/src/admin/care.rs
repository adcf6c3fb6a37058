//! What an operator does to the store: dead letters shown, delivered again and dropped, durable subscriptions ended.
//!
//! Whoever sees a dead letter sees its data, so all of `/dead-letters` is for operators; each look at one and each change is
//! on record.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Extension, Path, RawQuery, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use backbone::{DeadContent, DeadLetter, SubscriptionCounts};
use base64::{Engine, prelude::BASE64_STANDARD};
use bridges::http::Problem;
use envelope::Rejection;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    Admin,
    guard::Asks,
    openapi::{Guarded, Refusal},
    opening,
};

/// A page of `/dead-letters`: letters behind the number `after`, at most `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    after: u64,
    most: usize,
}

/// The letters of a page if nothing else is said, and the most.
const USUAL_PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

// === impl Page ===

impl Page {
    /// Reads `after=7&most=100`.
    fn parse(query: &str) -> Result<Self, String> {
        let mut page = Self { after: 0, most: USUAL_PAGE };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let digits = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let number = pair.split_once('=').filter(|(_, value)| digits(value));
            let number = number.and_then(|(key, value)| Some((key, value.parse::<i64>().ok()?.cast_unsigned())));
            match number {
                Some(("after", after)) => page.after = after,
                Some(("most", most @ 1..=1_000)) => page.most = usize::try_from(most).unwrap_or(MAX_PAGE),
                _ => return Err(format!("{pair:?} is neither after=NUMBER nor most=1 to {MAX_PAGE}")),
            }
        }
        Ok(page)
    }
}

/// Dead letters, the oldest first; without their data
#[utoipa::path(get, path = "/dead-letters",
    params(
        ("after" = Option<u64>, Query, description = "letters behind this number"),
        ("most" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "100 if left out"),
    ),
    responses(
        (status = 200, description = "a page", body = serde_json::Value),
        (status = 400, description = "the query can't be read", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be read now", body = Refusal, content_type = "application/problem+json"),
        Guarded,
    ))]
pub(super) async fn dead_letters(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let Some(backbone) = admin.backbone.get() else { return opening() };
    let page = match Page::parse(query.as_deref().unwrap_or_default()) {
        Ok(page) => page,
        Err(detail) => return Problem::new(StatusCode::BAD_REQUEST, "malformed", "admin", detail).into_response(),
    };
    match backbone.dead_letters(page.after, page.most).await {
        Ok(letters) => {
            let next = letters.last().map(|last| last.id);
            let letters: Vec<_> = letters.iter().map(|letter| described(letter, false)).collect();
            Json(json!({ "letters": letters, "next": next })).into_response()
        }
        Err(rejection) => refused(&rejection),
    }
}

/// A dead letter with its data
#[utoipa::path(get, path = "/dead-letters/{id}",
    params(("id" = u64, Path, description = "its number")),
    responses(
        (status = 200, description = "the letter", body = serde_json::Value),
        (status = 404, description = "there is none of this number", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be read now", body = Refusal, content_type = "application/problem+json"),
        Guarded,
    ))]
pub(super) async fn dead_letter(State(admin): State<Admin>, Extension(who): Extension<Asks>, id: Named) -> Response {
    let Some(backbone) = admin.backbone.get() else { return opening() };
    let Some(id) = number(&id) else { return no_letter(&id) };
    match backbone.dead_letters(id.saturating_sub(1), 1).await {
        Ok(letters) => match letters.iter().find(|letter| letter.id == id) {
            Some(letter) => {
                admin.audit.admin(&name(&who), "show-dead-letter", &id.to_string());
                Json(described(letter, true)).into_response()
            }
            None => absent(&format!("there is no dead letter {id}")),
        },
        Err(rejection) => refused(&rejection),
    }
}

/// Has the subscription deliver a dead letter's envelope again; the letter goes
#[utoipa::path(post, path = "/dead-letters/{id}/replay",
    params(("id" = u64, Path, description = "its number")),
    responses(
        (status = 200, description = "it is pending again", body = Done),
        (status = 404, description = "there is none of this number", body = Refusal, content_type = "application/problem+json"),
        (status = 409, description = "it can't be delivered again", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be written now", body = Refusal, content_type = "application/problem+json"),
        Guarded,
    ))]
pub(super) async fn replay_dead_letter(
    State(admin): State<Admin>,
    Extension(who): Extension<Asks>,
    id: Named,
) -> Response {
    let Some(backbone) = admin.backbone.get() else { return opening() };
    let Some(id) = number(&id) else { return no_letter(&id) };
    match backbone.replay_dead_letter(id).await {
        Ok(true) => done(&admin, &who, "replay-dead-letter", &id.to_string()),
        Ok(false) => absent(&format!("there is no dead letter {id}")),
        Err(rejection) => refused(&rejection),
    }
}

/// Drops a dead letter for good
#[utoipa::path(delete, path = "/dead-letters/{id}",
    params(("id" = u64, Path, description = "its number")),
    responses(
        (status = 200, description = "it is gone", body = Done),
        (status = 404, description = "there is none of this number", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be written now", body = Refusal, content_type = "application/problem+json"),
        Guarded,
    ))]
pub(super) async fn drop_dead_letter(
    State(admin): State<Admin>,
    Extension(who): Extension<Asks>,
    id: Named,
) -> Response {
    let Some(backbone) = admin.backbone.get() else { return opening() };
    let Some(id) = number(&id) else { return no_letter(&id) };
    match backbone.drop_dead_letters(vec![id]).await {
        Ok(0) => absent(&format!("there is no dead letter {id}")),
        Ok(_) => done(&admin, &who, "drop-dead-letter", &id.to_string()),
        Err(rejection) => refused(&rejection),
    }
}

/// Durable subscriptions: what became of all that each selects
#[utoipa::path(get, path = "/subscriptions", responses(
    (status = 200, description = "by name", body = AllSubscriptions),
    (status = 503, description = "the store is being opened", body = Refusal, content_type = "application/problem+json"),
    Guarded,
))]
pub(super) async fn subscriptions(State(admin): State<Admin>) -> Response {
    match admin.backbone.get() {
        Some(backbone) => Json(AllSubscriptions { subscriptions: backbone.report().subscriptions }).into_response(),
        None => opening(),
    }
}

/// Ends a durable subscription with all that is pending for it
#[utoipa::path(delete, path = "/subscriptions/{name}",
    params(("name" = String, Path, description = "the durable name")),
    responses(
        (status = 200, description = "it is gone", body = Done),
        (status = 404, description = "there is none of this name", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be written now", body = Refusal, content_type = "application/problem+json"),
        Guarded,
    ))]
pub(super) async fn drop_subscription(
    State(admin): State<Admin>,
    Extension(who): Extension<Asks>,
    subscription: Named,
) -> Response {
    let Some(backbone) = admin.backbone.get() else { return opening() };
    let Ok(Path(subscription)) = subscription else { return absent("the path names nothing in UTF-8") };
    match backbone.drop_subscription(&subscription).await {
        Ok(true) => done(&admin, &who, "drop-subscription", &subscription),
        Ok(false) => absent(&format!("there is no durable subscription {subscription:?}")),
        Err(rejection) => refused(&rejection),
    }
}

/// What a path names, if that can be read.
type Named = Result<Path<String>, PathRejection>;

/// What a change did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    done: &'static str,
    /// To what.
    what: String,
}

/// The durable subscriptions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AllSubscriptions {
    subscriptions: BTreeMap<String, SubscriptionCounts>,
}

fn number(named: &Named) -> Option<u64> {
    named.as_ref().ok().and_then(|Path(id)| id.parse().ok())
}

fn name(who: &Asks) -> String {
    who.0.as_ref().map_or_else(String::new, |principal| principal.id.to_string())
}

fn done(admin: &Admin, who: &Asks, done: &'static str, what: &str) -> Response {
    admin.audit.admin(&name(who), done, what);
    Json(Done { done, what: what.to_owned() }).into_response()
}

fn no_letter(named: &Named) -> Response {
    match named {
        Ok(Path(id)) => absent(&format!("there is no dead letter {id:?}")),
        Err(_) => absent("the path names nothing in UTF-8"),
    }
}

fn absent(detail: &str) -> Response {
    Problem::new(StatusCode::NOT_FOUND, "unmapped", "admin", detail.to_owned()).into_response()
}

fn refused(rejection: &Rejection) -> Response {
    Problem::from(rejection).into_response()
}

/// A letter, with its data or without.
fn described(letter: &DeadLetter, whole: bool) -> Value {
    let DeadLetter { id, at, kind, detail, bridge, mapping, principal, content } = letter;
    let mut said = json!({
        "id": id, "at": at.to_string(), "kind": kind.as_str(), "detail": detail,
        "bridge": &**bridge, "mapping": &**mapping, "principal": &**principal,
    });
    let more = match content {
        DeadContent::Envelope { subscription, sequence, envelope, record } => {
            let topic = envelope.as_ref().map(|envelope| envelope.subject.as_str());
            let whole = envelope.as_ref().filter(|_| whole).map(|envelope| cloud_event(envelope));
            json!({ "what": "envelope", "subscription": &**subscription, "sequence": sequence, "topic": topic,
                "bytes": record.len(), "envelope": whole })
        }
        DeadContent::Inbound { address, identity, payload } => {
            let whole = whole.then(|| BASE64_STANDARD.encode(payload));
            json!({ "what": "message", "address": &**address, "identity": BASE64_STANDARD.encode(identity),
                "bytes": payload.len(), "payload_base64": whole })
        }
        DeadContent::Withheld { address, identity, size, hash } => {
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "what": "withheld", "address": &**address, "identity": BASE64_STANDARD.encode(identity),
                "bytes": size, "sha256": hash })
        }
    };
    if let (Value::Object(said), Value::Object(more)) = (&mut said, more) {
        said.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
    said
}

/// As CloudEvents JSON.
pub(super) fn cloud_event(envelope: &envelope::Envelope) -> Value {
    let mut text = Vec::new();
    envelope::cloudevents::write_json(envelope, &mut text);
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_and_what_it_can_not_read_is_said() {
        assert_eq!(Page::parse(""), Ok(Page { after: 0, most: 100 }));
        assert_eq!(Page::parse("after=7&most=1000"), Ok(Page { after: 7, most: 1_000 }));
        for wrong in ["most=0", "most=1001", "after=-1", "after=9223372036854775808", "after", "all=1"] {
            assert!(Page::parse(wrong).is_err_and(|error| error.contains(wrong)), "{wrong}");
        }
    }
}
