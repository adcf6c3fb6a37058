//! What an operator does to the store: dead letters shown, delivered again and dropped, durable subscriptions ended.
//!
//! Whoever sees a dead letter sees its data, so all of `/dead-letters` is for operators; each look at one and each change is
//! on record.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, RequestPartsExt,
    extract::{Extension, FromRequestParts, Path, RawQuery, State, rejection::PathRejection},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use backbone::{Backbone, SubscriptionCounts};
use bridges::http::{NotLetIn, Problem, Refusal};
use envelope::Rejection;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Admin,
    asked::{USUAL_PAGE, asked, page_size, unreadable},
    guard::Asks,
    letter::{Letters, Shown},
};

/// A page of `/dead-letters`: letters behind the number `after`, at most `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    after: u64,
    most: usize,
}

/// The dead letter that a path names, in a store that is open.
pub(super) struct Letter {
    backbone: Arc<dyn Backbone>,
    id: u64,
}

// === impl Page ===

impl Page {
    /// Reads `after=7&most=100`.
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut page = Self { after: 0, most: USUAL_PAGE };
        for (name, value) in asked(query, &["after", "most"])? {
            let read = match name {
                "after" => number(&value).map(|after| page.after = after).ok_or("is no number of a letter"),
                // the other of the two
                _ => page_size(&value).map(|most| page.most = most),
            };
            read.map_err(|why| unreadable(name, why, &value))?;
        }
        Ok(page)
    }
}

// === impl Letter ===

impl FromRequestParts<Admin> for Letter {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Response> {
        let backbone = admin.backbone.get().cloned().ok_or_else(|| admin.unopened())?;
        let named: Named = parts.extract().await;
        let Path(named) = named.map_err(|_| absent(UNREADABLE))?;
        let id = number(&named).ok_or_else(|| absent(&format!("there is no dead letter {named:?}")))?;
        Ok(Self { backbone, id })
    }
}

/// Dead letters, the oldest first; without their data
#[utoipa::path(get, path = "/dead-letters",
    params(
        ("after" = Option<u64>, Query, description = "letters behind this number"),
        ("most" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "100 if left out"),
    ),
    responses(
        (status = 200, description = "a page", body = Letters),
        (status = 400, description = "the query can't be read", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be read now", body = Refusal, content_type = "application/problem+json"),
        NotLetIn,
    ))]
pub(super) async fn dead_letters(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let Some(backbone) = admin.backbone.get() else { return admin.unopened() };
    let page = match Page::parse(query.as_deref()) {
        Ok(page) => page,
        Err(problem) => return problem.into_response(),
    };
    match backbone.dead_letters(page.after, page.most).await {
        Ok(letters) => Json(Letters::of(&letters)).into_response(),
        Err(rejection) => refused(&rejection),
    }
}

/// A dead letter with its data
#[utoipa::path(get, path = "/dead-letters/{id}",
    params(("id" = u64, Path, description = "its number", minimum = 1, maximum = 9223372036854775807_u64, example = 1)),
    responses(
        (status = 200, description = "the letter", body = Shown),
        (status = 404, description = "there is none of this number", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be read now", body = Refusal, content_type = "application/problem+json"),
        NotLetIn,
    ))]
pub(super) async fn dead_letter(
    State(admin): State<Admin>,
    Extension(who): Extension<Asks>,
    Letter { backbone, id }: Letter,
) -> Response {
    match backbone.dead_letters(id.saturating_sub(1), 1).await {
        Ok(letters) => match letters.iter().find(|letter| letter.id == id) {
            Some(letter) => {
                admin.audit.admin(&name(&who), "show-dead-letter", &id.to_string());
                Json(Shown::of(letter, true)).into_response()
            }
            None => absent(&format!("there is no dead letter {id}")),
        },
        Err(rejection) => refused(&rejection),
    }
}

/// Has the subscription deliver a dead letter's envelope again; the letter goes
#[utoipa::path(post, path = "/dead-letters/{id}/replay",
    params(("id" = u64, Path, description = "its number", minimum = 1, maximum = 9223372036854775807_u64, example = 3)),
    responses(
        (status = 200, description = "it is pending again", body = Done),
        (status = 404, description = "there is none of this number", body = Refusal, content_type = "application/problem+json"),
        (status = 409, description = "it can't be delivered again", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be written now", body = Refusal, content_type = "application/problem+json"),
        NotLetIn,
    ))]
pub(super) async fn replay_dead_letter(
    State(admin): State<Admin>,
    Extension(who): Extension<Asks>,
    Letter { backbone, id }: Letter,
) -> Response {
    match backbone.replay_dead_letter(id).await {
        Ok(true) => done(&admin, &who, "replay-dead-letter", &id.to_string()),
        Ok(false) => absent(&format!("there is no dead letter {id}")),
        Err(rejection) => refused(&rejection),
    }
}

/// Drops a dead letter for good
#[utoipa::path(delete, path = "/dead-letters/{id}",
    params(("id" = u64, Path, description = "its number", minimum = 1, maximum = 9223372036854775807_u64, example = 2)),
    responses(
        (status = 200, description = "it is gone", body = Done),
        (status = 404, description = "there is none of this number", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be written now", body = Refusal, content_type = "application/problem+json"),
        NotLetIn,
    ))]
pub(super) async fn drop_dead_letter(
    State(admin): State<Admin>,
    Extension(who): Extension<Asks>,
    Letter { backbone, id }: Letter,
) -> Response {
    match backbone.drop_dead_letters(vec![id]).await {
        Ok(0) => absent(&format!("there is no dead letter {id}")),
        Ok(_) => done(&admin, &who, "drop-dead-letter", &id.to_string()),
        Err(rejection) => refused(&rejection),
    }
}

/// Durable subscriptions: what became of all that each selects
#[utoipa::path(get, path = "/subscriptions", responses(
    (status = 200, description = "by name", body = AllSubscriptions),
    (status = 503, description = "the store is not open", body = Refusal, content_type = "application/problem+json"),
    NotLetIn,
))]
pub(super) async fn subscriptions(State(admin): State<Admin>) -> Response {
    match admin.backbone.get() {
        Some(backbone) => Json(AllSubscriptions { subscriptions: backbone.report().subscriptions }).into_response(),
        None => admin.unopened(),
    }
}

/// Ends a durable subscription with all that is pending for it
#[utoipa::path(delete, path = "/subscriptions/{name}",
    params(("name" = String, Path, description = "the durable name", example = "sse:anonymous:screen")),
    responses(
        (status = 200, description = "it is gone", body = Done),
        (status = 404, description = "there is none of this name", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be written now", body = Refusal, content_type = "application/problem+json"),
        NotLetIn,
    ))]
pub(super) async fn drop_subscription(
    State(admin): State<Admin>,
    Extension(who): Extension<Asks>,
    subscription: Named,
) -> Response {
    let Some(backbone) = admin.backbone.get() else { return admin.unopened() };
    let Ok(Path(subscription)) = subscription else { return absent(UNREADABLE) };
    match backbone.drop_subscription(&subscription).await {
        Ok(true) => done(&admin, &who, "drop-subscription", &subscription),
        Ok(false) => absent(&format!("there is no durable subscription {subscription:?}")),
        Err(rejection) => refused(&rejection),
    }
}

/// What a path names, if that can be read.
type Named = Result<Path<String>, PathRejection>;

const UNREADABLE: &str = "the path names nothing in UTF-8";

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

/// Of a letter: they are counted from 1, and never get beyond what a signed number holds.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<i64>().ok().filter(|_| digits).map(i64::cast_unsigned)
}

fn name(who: &Asks) -> String {
    who.0.as_ref().map_or_else(String::new, |principal| principal.id.to_string())
}

fn done(admin: &Admin, who: &Asks, done: &'static str, what: &str) -> Response {
    admin.audit.admin(&name(who), done, what);
    Json(Done { done, what: what.to_owned() }).into_response()
}

fn absent(detail: &str) -> Response {
    Problem::new(StatusCode::NOT_FOUND, "unmapped", "admin", detail.to_owned()).into_response()
}

fn refused(rejection: &Rejection) -> Response {
    Problem::from(rejection).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_and_what_it_can_not_read_is_said() {
        assert_eq!(Page::parse(None).unwrap(), Page { after: 0, most: 100 });
        assert_eq!(Page::parse(Some("after=7&most=1000")).unwrap(), Page { after: 7, most: 1_000 });
        assert_eq!(Page::parse(Some("after=%37")).unwrap(), Page { after: 7, most: 100 });
        for (wrong, said) in [
            ("most=0", "\"most\" is no number from 1 to 1000: \"0\""),
            ("most=1001", "\"most\" is no number from 1 to 1000"),
            ("after=-1", "\"after\" is no number of a letter: \"-1\""),
            ("after=9223372036854775808", "\"after\" is no number of a letter"),
            ("after", "\"after\" is no number of a letter"),
            ("after=1&after=2", "\"after\" is there twice"),
            ("all=1", "unknown parameter \"all\""),
        ] {
            let problem = Page::parse(Some(wrong)).unwrap_err();
            assert!(problem.detail().contains(said), "{wrong}: {}", problem.detail());
        }
    }
}
