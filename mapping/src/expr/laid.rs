//! Values as text templates take them: owned, and with numbers that can be compared. One that has a fraction is a double
//! there; `string()` under `let` keeps its spelling.

use std::collections::BTreeMap;

use envelope::json::{Node, View};
use minijinja::Value as Laid;

use super::{
    Expr,
    frame::Frame,
    number::Number,
    value::{Fault, Scope, Value},
};

/// What the expression is about, as an object of the attributes that are there.
pub(crate) fn about_to_laid(scope: &Scope<'_>) -> Laid {
    scope.about.all().map(|(name, value)| (name, laid(&value))).collect::<BTreeMap<_, _>>().into()
}

// === impl Expr ===

impl Expr {
    /// The value as a text template takes it.
    pub(crate) fn to_laid(&self, scope: &Scope<'_>) -> Result<Laid, Box<Fault>> {
        Frame::run(scope, |frame| self.root.eval(frame)).map(|value| laid(&value))
    }
}

/// Depth is bounded: by the parser of the payload, and by what an expression nests.
fn laid(value: &Value<'_>) -> Laid {
    match value {
        Value::Null => Laid::from(()),
        Value::Bool(value) => Laid::from(*value),
        Value::Number(Number::Int(value)) => Laid::from(*value),
        Value::Number(Number::Double(value)) => Laid::from(*value),
        Value::Source(text) => number(text),
        Value::Text(text) => Laid::from(&**text),
        Value::Time(time) => Laid::from(time.to_string()),
        Value::Duration(duration) => Laid::from(duration.to_string()),
        Value::Container(node) => node_laid(*node),
        Value::List(items) => items.iter().map(laid).collect::<Vec<_>>().into(),
        Value::Map(members) => {
            members.iter().map(|(key, value)| (key.to_string(), laid(value))).collect::<BTreeMap<_, _>>().into()
        }
    }
}

fn node_laid(node: Node<'_>) -> Laid {
    match node.view() {
        View::Null => Laid::from(()),
        View::Bool(value) => Laid::from(value),
        View::Number(text) => number(text),
        View::String(text) => Laid::from(text),
        View::Array(items) => items.map(node_laid).collect::<Vec<_>>().into(),
        View::Object(members) => {
            members.map(|(key, value)| (key.to_owned(), node_laid(value))).collect::<BTreeMap<_, _>>().into()
        }
    }
}

/// A whole number past 128 bits is text: nothing of it may be lost.
fn number(text: &str) -> Laid {
    if !text.contains(['.', 'e', 'E']) {
        return text.parse::<i128>().map_or_else(|_| Laid::from(text), Laid::from);
    }
    text.parse::<f64>().map_or_else(|_| Laid::from(text), Laid::from)
}
