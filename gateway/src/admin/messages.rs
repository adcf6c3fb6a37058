//! Stored messages, found by what they are; only those that whoever asks may read.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Json,
    extract::{Extension, RawQuery, State},
    response::{IntoResponse, Response},
};
use backbone::{Match, Query};
use bridges::http::{CloudEvent, NotLetIn, Problem, Refusal, read_position};
use envelope::{EnvelopeId, Filter, Position, Principal, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Admin,
    asked::{USUAL_PAGE, asked, bad, page_size, unreadable},
    guard::Asks,
    letter::cloud_event,
};

/// The longest name that is asked for, in characters.
const MAX_NAME: usize = 1_024;

const PARAMETERS: [&str; 9] = ["id", "conversation", "topic", "sender", "recipient", "from", "to", "limit", "cursor"];

/// Messages, in the order in which they were stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Messages {
    /// May be fewer than were asked for, or none, though there are more.
    messages: Vec<Message>,
    /// The `cursor` of the next page; `null` if there is none.
    next: Option<String>,
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
struct Message {
    /// Where it is stored, as its receipt has it.
    position: String,
    /// When it was admitted.
    #[schema(format = DateTime)]
    admitted_at: String,
    /// Who sent it.
    sender: String,
    /// The bridge it came through.
    bridge: String,
    /// The mapping that made it what it is.
    mapping: String,
    /// As CloudEvents JSON.
    #[schema(value_type = CloudEvent)]
    envelope: Option<Box<RawValue>>,
}

/// Stored messages of which all holds that is asked for, the oldest first
///
/// Each page has bounded work: it may have few messages, or none, and a `next`.
#[utoipa::path(get, path = "/messages",
    params(
        ("id" = Option<String>, Query, description = "of this id",
            pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(\\.(0|[1-9][0-9]{0,8}))?$"),
        ("conversation" = Option<String>, Query, description = "of this conversation", min_length = 1, max_length = 1024),
        ("topic" = Option<String>, Query, description = "on topics that this filter selects",
            max_length = 1024, pattern = "^(#|([^/+#\\x00-\\x1f\\x7f-\\x9f]+|\\+)(/([^/+#\\x00-\\x1f\\x7f-\\x9f]+|\\+))*(/#)?)$"),
        ("sender" = Option<String>, Query, description = "that this principal sent", min_length = 1, max_length = 1024),
        ("recipient" = Option<String>, Query, description = "addressed to it", min_length = 1, max_length = 1024),
        ("from" = Option<String>, Query, description = "from the first that was admitted at this time, in UTC, or later",
            pattern = "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"),
        ("to" = Option<String>, Query, description = "up to the last before the first that was admitted at this time or later",
            pattern = "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "the most messages; 100 if left out"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before", pattern = "^[0-9a-f]{24}$"),
    ),
    responses(
        (status = 200, description = "a page", body = Messages),
        (status = 400, description = "the query can't be read", body = Refusal, content_type = "application/problem+json"),
        (status = 409, description = "the cursor is none of this store", body = Refusal, content_type = "application/problem+json"),
        (status = 503, description = "the store can't be read now", body = Refusal, content_type = "application/problem+json"),
        NotLetIn,
    ))]
pub(super) async fn messages(
    State(admin): State<Admin>,
    Extension(Asks(who)): Extension<Asks>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = match parse(query.as_deref()) {
        Ok(query) => query,
        Err(problem) => return problem.into_response(),
    };
    let Some(reader) = admin.reader.get() else { return admin.unopened() };
    let who = who.unwrap_or_else(|| Arc::new(Principal::anonymous(&admin.reload.current().load().domain)));
    match reader.query(who, query).await {
        Ok(page) => {
            let messages = page.matches.into_iter().map(Message::from).collect();
            Json(Messages { messages, next: page.next.as_ref().map(text_of) }).into_response()
        }
        Err(rejection) => Problem::from(&rejection).into_response(),
    }
}

/// Reads `topic=orders/%23&limit=100`; each parameter at most once.
fn parse(text: Option<&str>) -> Result<Query, Problem> {
    let mut query = Query { most: USUAL_PAGE, ..Query::default() };
    for (name, value) in asked(text, &PARAMETERS)? {
        let read = match name {
            "id" => EnvelopeId::parse(&value).map(|id| query.id = Some(id)).ok_or("is not an envelope's id"),
            "conversation" => named(value.clone()).map(|name| query.conversation = Some(name)),
            "sender" => named(value.clone()).map(|name| query.sender = Some(name)),
            "recipient" => named(value.clone()).map(|name| query.recipient = Some(name)),
            "topic" => {
                let filter = Filter::new(&*value);
                query.topic = Some(filter.map_err(|error| bad(format!("parameter \"topic\": {error}")))?);
                Ok(())
            }
            "from" => time(&value).map(|at| query.from = Some(at)),
            "to" => time(&value).map(|at| query.to = Some(at)),
            "limit" => page_size(&value).map(|most| query.most = most),
            // the last of those that are known
            _ => cursor(&value).map(|after| query.after = Some(after)),
        };
        read.map_err(|why| unreadable(name, why, &value))?;
    }
    Ok(query)
}

fn named(value: Cow<'_, str>) -> Result<Arc<str>, &'static str> {
    if value.is_empty() || value.chars().count() > MAX_NAME {
        return Err("has 1 to 1024 characters, which this has not");
    }
    Ok(value.into())
}

fn time(value: &str) -> Result<Timestamp, &'static str> {
    Timestamp::parse(value).ok_or("is no time as 2026-01-31T12:00:00Z")
}

fn cursor(value: &str) -> Result<Position, &'static str> {
    let lower = value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let position = read_position(value).filter(|_| lower && value.len() == 24);
    position.ok_or("is no \"next\" of a page")
}

/// As receipts have it.
fn text_of(position: &Position) -> String {
    position.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl Message ===

impl From<Match> for Message {
    fn from(found: Match) -> Self {
        let Match { delivery, admitted_at, sender, bridge, mapping } = found;
        Self {
            position: text_of(&delivery.position),
            admitted_at: admitted_at.to_string(),
            sender: sender.to_string(),
            bridge: bridge.to_string(),
            mapping: mapping.to_string(),
            envelope: cloud_event(&delivery.envelope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read() {
        assert_eq!(parse(None).unwrap(), Query { most: 100, ..Query::default() });
        let asked = "id=00000000-0000-0000-0000-000000000001.2&conversation=a%20b&topic=a/+/%23&sender=ada&recipient=x%2Fy\
                     &from=2026-01-31T12:00:00Z&to=2026-02-01T00:00:00.5Z&limit=1000&cursor=0000000000000000000000ff";
        let query = parse(Some(asked)).unwrap();
        assert_eq!(query.id.unwrap().to_string(), "00000000-0000-0000-0000-000000000001.2");
        assert_eq!(query.topic.unwrap().as_str(), "a/+/#");
        let names = [query.conversation, query.sender, query.recipient].map(|name| name.unwrap().to_string());
        assert_eq!(names, ["a b", "ada", "x/y"]);
        assert_eq!(query.from.unwrap().to_string(), "2026-01-31T12:00:00.000000Z");
        assert_eq!(query.to.unwrap().to_string(), "2026-02-01T00:00:00.500000Z");
        assert_eq!((query.most, query.after.unwrap().0.last()), (1_000, Some(&255)));
    }

    #[test]
    fn what_can_not_be_read_is_said_and_refused() {
        let long = format!("sender={}", "x".repeat(MAX_NAME + 1));
        for (asked, said) in [
            ("id=7", "\"id\" is not an envelope's id: \"7\""),
            ("sender=", "\"sender\" has 1 to 1024 characters"),
            (&long, "\"sender\" has 1 to 1024 characters"),
            ("topic=a/%23/b", "\"topic\""),
            ("topic=", "\"topic\""),
            ("from=yesterday", "\"from\" is no time"),
            ("to=2026-13-01T00:00:00Z", "\"to\" is no time"),
            ("limit=0", "\"limit\" is no number from 1 to 1000: \"0\""),
            ("limit=1001", "\"limit\""),
            ("limit=%2B7", "\"limit\""),
            ("limit=", "\"limit\""),
            ("cursor=00", "\"cursor\""),
            ("cursor=0000000000000000000000FF", "\"cursor\""),
            ("sender=a&sender=b", "\"sender\" is there twice"),
            ("color=red", "unknown parameter"),
            ("sender=%ff", "UTF-8"),
        ] {
            let problem = format!("{:?}", parse(Some(asked)).unwrap_err());
            assert!(problem.contains(&said.replace('"', "\\\"")), "{asked}: {problem}");
        }
    }
}
