//! A decision as Cedar is asked for it: entities, and the context of a message.

use std::sync::LazyLock;

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use envelope::{Attribute, Data, Principal, Timestamp, json};

use super::{Action, Question, scope::Resource};
use crate::config::{AccessConfig, DataField};

/// Why a request can't be made of a message. Said to the peer: names the field, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    #[error("field {field:?} of the data is not {expected}, and a policy reads it")]
    Field { field: String, expected: &'static str },
    #[error("the data is not JSON, and a policy reads it")]
    NotJson,
    #[error("it can't be asked")]
    Entities,
}

/// Names of entity types, parsed once.
struct Types {
    principal: EntityTypeName,
    role: EntityTypeName,
    domain: EntityTypeName,
    topic: EntityTypeName,
    schema: EntityTypeName,
    performative: EntityTypeName,
    bridge: EntityTypeName,
    gateway: EntityTypeName,
    action: EntityTypeName,
}

#[expect(clippy::expect_used, reason = "they are names: a test makes all of them")]
static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let name = |name: &str| name.parse().expect("a name");
    Types {
        principal: name("Principal"),
        role: name("Role"),
        domain: name("Domain"),
        topic: name("Topic"),
        schema: name("Schema"),
        performative: name("Performative"),
        bridge: name("Bridge"),
        gateway: name("Gateway"),
        action: name("Action"),
    }
});

/// What Cedar is told of everything that is the same for all messages with the same names.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) principal: EntityUid,
    pub(super) action: EntityUid,
    pub(super) resource: EntityUid,
    pub(super) entities: Entities,
    context: Vec<(String, RestrictedExpression)>,
}

// === impl Subject ===

impl Subject {
    pub(super) fn of(question: &Question<'_>, config: &AccessConfig) -> Result<Self, RequestError> {
        let types = &*TYPES;
        let action = uid(&types.action, question.action.word());
        let group: Vec<_> = question.action.sends().then(|| uid(&types.action, Action::GROUP)).into_iter().collect();
        let principal = uid(&types.principal, &question.principal.id);
        let (resource, about) = resource(question.resource)?;
        let schema = question.schema.map(|name| (uid(&types.schema, name), name));
        let mut entities = vec![
            Entity::new_no_attrs(action.clone(), group.into_iter().collect()),
            principal_entity(principal.clone(), question.principal)?,
            about,
        ];
        let mut context = vec![];
        if let Some((schema, name)) = schema {
            let above = above_schema(name).map(|name| uid(&types.schema, name)).collect();
            entities.push(Entity::new_no_attrs(schema.clone(), above));
            context.push(("schema".to_owned(), RestrictedExpression::new_entity_uid(schema)));
        }
        for (name, kind, value) in
            [("performative", &types.performative, question.performative), ("bridge", &types.bridge, question.bridge)]
        {
            if let Some(value) = value {
                context.push((name.to_owned(), RestrictedExpression::new_entity_uid(uid(kind, value))));
            }
        }
        context.extend(config.values.iter().map(|(name, (_, value))| (name.to_string(), expression(value))));
        let entities = Entities::from_entities(entities, None).map_err(|_| RequestError::Entities)?;
        Ok(Self { principal, action, resource, entities, context })
    }

    /// The context of one message.
    pub(super) fn context(
        &self,
        time: Option<Timestamp>,
        data: Option<RestrictedExpression>,
    ) -> Result<Context, RequestError> {
        let time = time.map(|time| ("time".to_owned(), RestrictedExpression::new_datetime(milliseconds(time))));
        let data = data.map(|data| ("data".to_owned(), data));
        let pairs = self.context.iter().cloned().chain(time).chain(data);
        Context::from_pairs(pairs).map_err(|_| RequestError::Entities)
    }
}

/// The declared fields, in their order, where the data has them. One that is of another type refuses it: a policy that
/// forbids must not be passed by being misunderstood.
pub(super) fn fields(data: &Data, config: &AccessConfig) -> Result<Vec<Option<Attribute>>, RequestError> {
    let json = data.json().map_err(|_| RequestError::NotJson)?;
    let read = |field: &DataField| {
        let mut node: Option<json::Node<'_>> = Some(json.root());
        for member in &field.path {
            node = node.and_then(|node| node.get(member));
        }
        let Some(node) = node else { return Ok(None) };
        let wrong = || RequestError::Field { field: field.path.join("."), expected: field.kind.expected() };
        field.kind.of_json(node).ok_or_else(wrong).map(Some)
    };
    config.data.values().map(read).collect()
}

/// Those fields as `context.data`.
pub(super) fn record(
    fields: &[Option<Attribute>],
    config: &AccessConfig,
) -> Result<RestrictedExpression, RequestError> {
    let named = config.data.keys().zip(fields);
    let there = named.filter_map(|(name, value)| Some((name.to_string(), expression(value.as_ref()?))));
    RestrictedExpression::new_record(there).map_err(|_| RequestError::Entities)
}

fn principal_entity(own: EntityUid, principal: &Principal) -> Result<Entity, RequestError> {
    let types = &*TYPES;
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let mut attributes = vec![
        ("domain".to_owned(), text(&principal.domain)),
        ("proof".to_owned(), text(principal.proof.word())),
        ("trust".to_owned(), RestrictedExpression::new_long(principal.trust.into())),
    ];
    attributes.extend(principal.jurisdiction.as_deref().map(|label| ("jurisdiction".to_owned(), text(label))));
    attributes.extend(principal.attributes.iter().map(|(name, value)| (name.to_string(), expression(value))));
    let roles = principal.roles.iter().map(|role| uid(&types.role, role));
    let above = roles.chain([uid(&types.domain, &principal.domain)]).collect();
    Entity::new(own, attributes.into_iter().collect(), above).map_err(|_| RequestError::Entities)
}

fn resource(resource: Resource<'_>) -> Result<(EntityUid, Entity), RequestError> {
    let types = &*TYPES;
    match resource {
        Resource::Gateway(domain) => {
            let gateway = uid(&types.gateway, domain);
            Ok((gateway.clone(), Entity::with_uid(gateway)))
        }
        Resource::Topic(topic) => {
            let own = uid(&types.topic, topic);
            let name = ("name".to_owned(), RestrictedExpression::new_string(topic.to_owned()));
            let above = topic.match_indices('/').map(|(at, _)| uid(&types.topic, &topic[..at])).collect();
            let entity = Entity::new(own.clone(), [name].into(), above).map_err(|_| RequestError::Entities)?;
            Ok((own, entity))
        }
    }
}

/// `market/rfp@v1.0.0` is in `market/rfp`, which is in `market`.
pub(super) fn above_schema(name: &str) -> impl Iterator<Item = &str> {
    let plain = name.split_once('@').map_or(name, |(plain, _)| plain);
    let itself = (plain != name).then_some(plain);
    itself.into_iter().chain(plain.match_indices('/').map(move |(at, _)| &plain[..at]))
}

fn expression(value: &Attribute) -> RestrictedExpression {
    match value {
        Attribute::Boolean(value) => RestrictedExpression::new_bool(*value),
        Attribute::Integer(value) => RestrictedExpression::new_long(*value),
        Attribute::Decimal(value) => RestrictedExpression::new_decimal(decimal(*value)),
        Attribute::Text(text) => RestrictedExpression::new_string(text.to_string()),
        Attribute::List(texts) => {
            RestrictedExpression::new_set(texts.iter().map(|text| RestrictedExpression::new_string(text.to_string())))
        }
    }
}

/// Of ten-thousandths.
fn decimal(value: i64) -> String {
    let (sign, value) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    format!("{sign}{}.{:04}", value / 10_000, value % 10_000)
}

/// As Cedar reads a time.
fn milliseconds(time: Timestamp) -> String {
    let time = Timestamp::from_micros(time.as_micros() / 1_000 * 1_000).to_string();
    // 2026-01-01T00:00:00.000000Z: three digits too many
    match time.strip_suffix("000Z") {
        Some(short) => format!("{short}Z"),
        None => time,
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
