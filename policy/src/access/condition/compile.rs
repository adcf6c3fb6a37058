//! From Cedar's JSON notation to what is evaluated here; whatever is not known here is left to Cedar.

use envelope::Attribute;
use serde_json::Value as Json;

use super::{Clause, Condition, Entity, Named, Order, Sum, Term};
use crate::config::{AccessConfig, DECIMAL_DIGITS, scaled};

/// How deep a condition may be to be compiled: a bound of the stack.
pub(super) const MAX_DEPTH: usize = 64;

// === impl Condition ===

impl Condition {
    /// Of a policy in Cedar's JSON notation; `None` if some of it is left to Cedar.
    pub(in crate::access) fn compile(policy: &Json, config: &AccessConfig) -> Option<Self> {
        let clause = |condition: &Json| {
            let holds = match condition["kind"].as_str()? {
                "when" => true,
                "unless" => false,
                _ => return None,
            };
            Some(Clause { holds, body: Term::compile(condition.get("body")?, config, MAX_DEPTH)? })
        };
        policy["conditions"].as_array()?.iter().map(clause).collect::<Option<_>>().map(Self)
    }
}

// === impl Term ===

impl Term {
    fn compile(json: &Json, config: &AccessConfig, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let (name, body) = json.as_object().filter(|object| object.len() == 1)?.iter().next()?;
        let term = |json: &Json| Self::compile(json, config, depth);
        let two = |body: &Json| Some(Box::new([term(body.get("left")?)?, term(body.get("right")?)?]));
        // a function's arguments are in a list
        let called = |body: &Json| match body.as_array()?.as_slice() {
            [left, right] => Some(Box::new([term(left)?, term(right)?])),
            _ => None,
        };
        let turned = |mut terms: Box<[Self; 2]>| {
            terms.reverse();
            terms
        };
        Some(match name.as_str() {
            "Value" => Self::value(body)?,
            "decimal" => match body.as_array()?.as_slice() {
                [text] => Self::Value(Attribute::Decimal(scaled(text["Value"].as_str()?, DECIMAL_DIGITS)?)),
                _ => return None,
            },
            "Var" => Self::Named(Named::of(json)?),
            "." => Self::member(body, config)?,
            "has" => Self::has(body, config)?,
            "!" => Self::Not(Box::new(term(body.get("arg")?)?)),
            "&&" => Self::And(two(body)?),
            "||" => Self::Or(two(body)?),
            "if-then-else" => {
                let part = |name: &str| term(body.get(name)?);
                Self::If(Box::new([part("if")?, part("then")?, part("else")?]))
            }
            "==" => Self::Equal(two(body)?),
            "!=" => Self::Not(Box::new(Self::Equal(two(body)?))),
            "<" => Self::Compare(Order::Less, two(body)?),
            "<=" => Self::Compare(Order::LessOrEqual, two(body)?),
            ">" => Self::Compare(Order::Less, turned(two(body)?)),
            ">=" => Self::Compare(Order::LessOrEqual, turned(two(body)?)),
            "lessThan" => Self::Decimals(Order::Less, called(body)?),
            "lessThanOrEqual" => Self::Decimals(Order::LessOrEqual, called(body)?),
            "greaterThan" => Self::Decimals(Order::Less, turned(called(body)?)),
            "greaterThanOrEqual" => Self::Decimals(Order::LessOrEqual, turned(called(body)?)),
            "+" => Self::Sum(Sum::Add, two(body)?),
            "-" => Self::Sum(Sum::Subtract, two(body)?),
            "*" => Self::Sum(Sum::Multiply, two(body)?),
            "contains" => Self::Contains(two(body)?),
            "like" => Self::Like(Box::new(term(body.get("left")?)?), pattern(body.get("pattern")?)?),
            "in" => Self::In(Named::of(body.get("left")?)?, Entity::all(body.get("right")?)?),
            "Set" => Self::Value(Attribute::List(
                body.as_array()?.iter().map(|item| Some(item.get("Value")?.as_str()?.into())).collect::<Option<_>>()?,
            )),
            _ => return None,
        })
    }

    fn value(json: &Json) -> Option<Self> {
        Some(match json {
            Json::Bool(value) => Self::Value(Attribute::Boolean(*value)),
            Json::Number(value) => Self::Value(Attribute::Integer(value.as_i64()?)),
            Json::String(text) => Self::Value(Attribute::Text(text.as_str().into())),
            Json::Object(_) => Self::Entity(Entity::of(json)?),
            Json::Null | Json::Array(_) => return None,
        })
    }

    /// `principal.x`, `resource.name`, `context.x`, `context.data.x`
    fn member(body: &Json, config: &AccessConfig) -> Option<Self> {
        let (left, name) = (body.get("left")?, body["attr"].as_str()?);
        match left["Var"].as_str() {
            Some("principal") => Some(Self::Attribute(name.into())),
            Some("resource") => (name == "name").then_some(Self::Topic),
            Some("context") => match name {
                "schema" => Some(Self::Named(Named::Schema)),
                "performative" => Some(Self::Named(Named::Performative)),
                "bridge" => Some(Self::Named(Named::Bridge)),
                _ => config.values.get(name).map(|(_, value)| Self::Value(value.clone())),
            },
            Some(_) => None,
            None => is_data(left).then(|| field(name, config).map(Self::Field)).flatten(),
        }
    }

    fn has(body: &Json, config: &AccessConfig) -> Option<Self> {
        let (left, name) = (body.get("left")?, body["attr"].as_str()?);
        match left["Var"].as_str() {
            Some("principal") => Some(Self::HasAttribute(name.into())),
            Some(_) => None,
            None => is_data(left).then(|| field(name, config).map(Self::HasField)).flatten(),
        }
    }
}

// === impl Named ===

impl Named {
    fn of(json: &Json) -> Option<Self> {
        if let Some(variable) = json["Var"].as_str() {
            return match variable {
                "principal" => Some(Self::Principal),
                "action" => Some(Self::Action),
                "resource" => Some(Self::Resource),
                _ => None,
            };
        }
        let member = json.get(".")?;
        match (member["left"]["Var"].as_str()?, member["attr"].as_str()?) {
            ("context", "schema") => Some(Self::Schema),
            ("context", "performative") => Some(Self::Performative),
            ("context", "bridge") => Some(Self::Bridge),
            _ => None,
        }
    }
}

// === impl Entity ===

impl Entity {
    fn of(json: &Json) -> Option<Self> {
        let entity = json.get("__entity")?;
        Some(Self { kind: entity["type"].as_str()?.into(), id: entity["id"].as_str()?.into() })
    }

    /// One, or a set of them.
    fn all(json: &Json) -> Option<Vec<Self>> {
        match json.get("Set") {
            Some(set) => set.as_array()?.iter().map(|item| Self::of(item.get("Value")?)).collect(),
            None => Some(vec![Self::of(json.get("Value")?)?]),
        }
    }
}

fn is_data(json: &Json) -> bool {
    let member = &json["."];
    member["left"]["Var"] == "context" && member["attr"] == "data"
}

fn field(name: &str, config: &AccessConfig) -> Option<usize> {
    config.data.keys().position(|own| **own == *name)
}

/// `None` stands for any text.
fn pattern(json: &Json) -> Option<Vec<Option<char>>> {
    let mut pattern = Vec::new();
    for element in json.as_array()? {
        match element {
            Json::String(word) if word == "Wildcard" => pattern.push(None),
            _ => pattern.extend(element["Literal"].as_str()?.chars().map(Some)),
        }
    }
    Some(pattern)
}
