//! Values that policies compare: attributes of principals, fields of data, limits that the policy file names. Each has a
//! declared type, so that a policy is checked against it at load.

use std::{collections::BTreeMap, sync::Arc};

use envelope::{Attribute, json};
use yaml::{Kind, Node, Problems, nearest};

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValueType {
    /// `true` or `false`.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// A number of at most four digits behind the point.
    Decimal,
    /// A text.
    Text,
    /// A list of texts.
    List,
}

/// What of principals a policy file declares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// The attributes, by name.
    pub(crate) types: BTreeMap<Arc<str>, ValueType>,
    /// The roles, beside [`OWN_ROLES`]; `None`: any there may be.
    pub(crate) roles: Option<Vec<Arc<str>>>,
}

/// The roles of the shipped policies, which need no declaration.
const OWN_ROLES: [&str; 2] = ["viewer", "operator"];

/// The words of the file.
pub(crate) const TYPES: &[(&str, ValueType)] = &[
    ("boolean", ValueType::Boolean),
    ("integer", ValueType::Integer),
    ("decimal", ValueType::Decimal),
    ("text", ValueType::Text),
    ("list", ValueType::List),
];
/// Digits of a decimal behind the point.
pub(crate) const DECIMAL_DIGITS: u32 = 4;
/// The most items of a list.
const MAX_ITEMS: usize = 256;
/// The longest text, in bytes.
const MAX_TEXT: usize = 1_024;

// === impl ValueType ===

impl ValueType {
    /// A value of the policy or users file.
    pub(crate) fn read(self, node: &Node, problems: &Problems) -> Option<Attribute> {
        let value = match (self, &node.kind) {
            (Self::Boolean, Kind::Bool(value)) => Some(Attribute::Boolean(*value)),
            (Self::Integer, Kind::Integer(value, _)) => Some(Attribute::Integer(*value)),
            (Self::Decimal, Kind::Integer(_, text) | Kind::Float(_, text)) => {
                scaled(text, DECIMAL_DIGITS).map(Attribute::Decimal)
            }
            (Self::Text, Kind::String(text)) => text_of(&text.value).map(Attribute::Text),
            (Self::List, Kind::List(items)) if items.len() <= MAX_ITEMS => {
                let texts: Option<_> = items.iter().map(|item| text_of(item.as_str()?)).collect();
                texts.map(Attribute::List)
            }
            _ => None,
        };
        match value {
            Some(value) => Some(value),
            None => node.mismatch(self.expected(), problems),
        }
    }

    /// A value of a JSON document; `None` if it is of another type, or not exactly one of this type.
    pub(crate) fn of_json(self, node: json::Node<'_>) -> Option<Attribute> {
        match self {
            Self::Boolean => node.as_bool().map(Attribute::Boolean),
            Self::Integer => scaled(node.as_number()?, 0).map(Attribute::Integer),
            Self::Decimal => scaled(node.as_number()?, DECIMAL_DIGITS).map(Attribute::Decimal),
            Self::Text => text_of(node.as_str()?).map(Attribute::Text),
            Self::List => {
                let texts: Option<Vec<_>> =
                    node.as_array()?.take(MAX_ITEMS + 1).map(|item| text_of(item.as_str()?)).collect();
                texts.filter(|texts| texts.len() <= MAX_ITEMS).map(Attribute::List)
            }
        }
    }

    /// As an error says it.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Integer => "an integer of 64 bits",
            Self::Decimal => "a number of at most four digits behind the point",
            Self::Text => "a text of at most 1024 bytes",
            Self::List => "a list of at most 256 texts",
        }
    }
}

// === impl Attributes ===

impl Attributes {
    /// Reads a map of attributes to their values; those that are not declared are errors.
    pub(crate) fn read(&self, node: &Node, problems: &Problems) -> Option<BTreeMap<Arc<str>, Attribute>> {
        let mut values = BTreeMap::new();
        let mut sound = true;
        for (key, node) in node.map(problems)? {
            let Some((name, kind)) = self.types.get_key_value(key.name.as_str()) else {
                let help = "attributes are declared in policy.yaml, under access.attributes";
                let message = format!("attribute {:?} is not declared", key.name.chars().take(64).collect::<String>());
                problems.report_with_help(key.span, "unknown-key", message, help);
                sound = false;
                continue;
            };
            match kind.read(node, problems) {
                Some(value) => _ = values.insert(name.clone(), value),
                None => sound = false,
            }
        }
        sound.then_some(values)
    }

    /// Why a role is none of those that are declared, and the one that may be meant; `None`: it is.
    pub(crate) fn unknown_role(&self, role: &str) -> Option<(String, Option<String>)> {
        let declared = self.roles.as_ref()?;
        let known: Vec<_> = declared.iter().map(|role| &**role).chain(OWN_ROLES).collect();
        if known.contains(&role) {
            return None;
        }
        let shown: String = role.chars().take(64).collect();
        let message = format!("there is no role {shown:?} under access.roles of policy.yaml");
        Some((message, nearest(role, &known).map(|near| format!("did you mean {near:?}?"))))
    }
}

fn text_of(text: &str) -> Option<Arc<str>> {
    (text.len() <= MAX_TEXT).then(|| text.into())
}

/// A JSON number times ten to the power of `digits`; `None` if that is no whole number of 64 bits.
pub(crate) fn scaled(number: &str, digits: u32) -> Option<i64> {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    // zeros at both ends say nothing but how large the rest is
    let trailing = i32::try_from(all().rev().take_while(|byte| *byte == b'0').count()).ok()?;
    let length = i32::try_from(whole.len() + fraction.len()).ok()?;
    let mut value: i128 = 0;
    for byte in all().take(usize::try_from(length - trailing).ok()?) {
        value = value.checked_mul(10)?.checked_add(i128::from(byte.checked_sub(b'0')?))?;
    }
    if value == 0 {
        return Some(0);
    }
    let shift = exponent
        .checked_add(trailing)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?
        .checked_add(i32::try_from(digits).ok()?)?;
    let value = value.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?;
    i64::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_taken_exactly_or_not_at_all() {
        for (text, whole, decimal) in [
            ("0", Some(0), Some(0)),
            ("-0.0", Some(0), Some(0)),
            ("12.10", None, Some(121_000)),
            ("5.0", Some(5), Some(50_000)),
            ("1e3", Some(1_000), Some(10_000_000)),
            ("1200e-2", Some(12), Some(120_000)),
            ("-1.5e1", Some(-15), Some(-150_000)),
            ("0.00001", None, None),
            ("0.0001", None, Some(1)),
            ("9223372036854775807", Some(i64::MAX), None),
            ("9223372036854775808", None, None),
            ("-9223372036854775808", Some(i64::MIN), None),
            ("1e400", None, None),
            ("0e999999999", Some(0), Some(0)),
            ("1e99999999999", None, None),
            ("1e-400", None, None),
        ] {
            assert_eq!((scaled(text, 0), scaled(text, DECIMAL_DIGITS)), (whole, decimal), "{text}");
        }
    }

    proptest! {
        #[test]
        fn however_a_number_is_written_it_is_the_same(value in any::<i32>(), zeros in 0..6_usize, exponent in 0..6_u32) {
            let value = i64::from(value);
            let times = 10_i64.pow(exponent);
            let plain = format!("{value}.{}", "0".repeat(zeros + 1));
            prop_assert_eq!(scaled(&plain, 0), Some(value));
            prop_assert_eq!(scaled(&format!("{value}e{exponent}"), 0), Some(value * times));
            prop_assert_eq!(scaled(&format!("{}e-{exponent}", value * times), 0), Some(value));
        }
    }
}
