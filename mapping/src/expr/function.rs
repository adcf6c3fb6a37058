//! The functions of expressions by the names of CEL's own extensions: what each takes and gives.
//!
//! What is declared here is checked at load; `call` runs it.

use super::{check::Type, math::Math, number::Rounding, time::Field};

/// A function of expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    Trim,
    Reverse,
    CharAt,
    Substring,
    IndexOf,
    LastIndexOf,
    Replace,
    Split,
    Join,
    Sort,
    Distinct,
    Slice,
    Flatten,
    Range,
    Rounding(Rounding),
    Math(Math),
    Format,
    Quote,
    Int,
    Double,
    Text,
    Bool,
    Timestamp,
    Duration,
    Field(Field),
    Encode,
    Decode,
    Hash,
    Uuid,
    Redact,
    ParseJson,
    AsList,
}

/// How a function is written and what it takes.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) function: Function,
    /// A method's without its value, a function's with its namespace.
    pub(super) name: &'static str,
    /// `value.name(...)`: the value is the first parameter.
    pub(super) method: bool,
    /// The types each parameter may have; none: any.
    pub(super) takes: &'static [&'static [Type]],
    /// How many of the parameters must be there.
    pub(super) least: usize,
    pub(super) gives: Type,
}

/// The most parameters a function has.
pub(super) const MAX_PARAMETERS: usize = 4;

const TEXT: &[Type] = &[Type::Text];
const NUMBER: &[Type] = &[Type::Number];
const LIST: &[Type] = &[Type::List];
const TIMES: &[Type] = &[Type::Time, Type::Duration];

const fn method(function: Function, name: &'static str, takes: &'static [&'static [Type]], gives: Type) -> Signature {
    Signature { function, name, method: true, takes, least: takes.len(), gives }
}

const fn global(function: Function, name: &'static str, takes: &'static [&'static [Type]], gives: Type) -> Signature {
    Signature { function, name, method: false, takes, least: takes.len(), gives }
}

/// All of them. Names that the compiler knows by itself are in [`OTHERS`].
pub(super) const SIGNATURES: &[Signature] = &[
    method(Function::Contains, "contains", &[TEXT, TEXT], Type::Bool),
    method(Function::StartsWith, "startsWith", &[TEXT, TEXT], Type::Bool),
    method(Function::EndsWith, "endsWith", &[TEXT, TEXT], Type::Bool),
    method(Function::LowerAscii, "lowerAscii", &[TEXT], Type::Text),
    method(Function::UpperAscii, "upperAscii", &[TEXT], Type::Text),
    method(Function::Trim, "trim", &[TEXT], Type::Text),
    method(Function::Reverse, "reverse", &[&[Type::Text, Type::List]], Type::Any),
    method(Function::CharAt, "charAt", &[TEXT, NUMBER], Type::Text),
    method(Function::Substring, "substring", &[TEXT, NUMBER, NUMBER], Type::Text).least(2),
    method(Function::IndexOf, "indexOf", &[TEXT, TEXT, NUMBER], Type::Number).least(2),
    method(Function::LastIndexOf, "lastIndexOf", &[TEXT, TEXT, NUMBER], Type::Number).least(2),
    method(Function::Replace, "replace", &[TEXT, TEXT, TEXT, NUMBER], Type::Text).least(3),
    method(Function::Split, "split", &[TEXT, TEXT, NUMBER], Type::List).least(2),
    method(Function::Format, "format", &[TEXT, LIST], Type::Text),
    global(Function::Quote, "strings.quote", &[TEXT], Type::Text),
    method(Function::Join, "join", &[LIST, TEXT], Type::Text).least(1),
    method(Function::Sort, "sort", &[LIST], Type::List),
    method(Function::Distinct, "distinct", &[LIST], Type::List),
    method(Function::Slice, "slice", &[LIST, NUMBER, NUMBER], Type::List),
    method(Function::Flatten, "flatten", &[LIST, NUMBER], Type::List).least(1),
    global(Function::Range, "lists.range", &[NUMBER], Type::List),
    global(Function::Rounding(Rounding::Abs), "math.abs", &[NUMBER], Type::Number),
    global(Function::Rounding(Rounding::Ceil), "math.ceil", &[NUMBER], Type::Number),
    global(Function::Rounding(Rounding::Floor), "math.floor", &[NUMBER], Type::Number),
    global(Function::Rounding(Rounding::Round), "math.round", &[NUMBER], Type::Number),
    global(Function::Rounding(Rounding::Trunc), "math.trunc", &[NUMBER], Type::Number),
    global(Function::Rounding(Rounding::Sign), "math.sign", &[NUMBER], Type::Number),
    global(Function::Math(Math::Sqrt), "math.sqrt", &[NUMBER], Type::Number),
    global(Function::Math(Math::IsNan), "math.isNaN", &[NUMBER], Type::Bool),
    global(Function::Math(Math::IsInf), "math.isInf", &[NUMBER], Type::Bool),
    global(Function::Math(Math::IsFinite), "math.isFinite", &[NUMBER], Type::Bool),
    global(Function::Math(Math::And), "math.bitAnd", &[NUMBER, NUMBER], Type::Number),
    global(Function::Math(Math::Or), "math.bitOr", &[NUMBER, NUMBER], Type::Number),
    global(Function::Math(Math::Xor), "math.bitXor", &[NUMBER, NUMBER], Type::Number),
    global(Function::Math(Math::Not), "math.bitNot", &[NUMBER], Type::Number),
    global(Function::Math(Math::Left), "math.bitShiftLeft", &[NUMBER, NUMBER], Type::Number),
    global(Function::Math(Math::Right), "math.bitShiftRight", &[NUMBER, NUMBER], Type::Number),
    global(Function::Int, "int", &[&[Type::Number, Type::Text, Type::Time]], Type::Number),
    global(Function::Double, "double", &[&[Type::Number, Type::Text]], Type::Number),
    global(
        Function::Text,
        "string",
        &[&[Type::Text, Type::Number, Type::Bool, Type::Time, Type::Duration]],
        Type::Text,
    ),
    global(Function::Bool, "bool", &[&[Type::Bool, Type::Text]], Type::Bool),
    global(Function::Timestamp, "timestamp", &[&[Type::Text, Type::Number, Type::Time]], Type::Time),
    global(Function::Duration, "duration", &[&[Type::Text, Type::Duration]], Type::Duration),
    method(Function::Field(Field::Year), "getFullYear", &[&[Type::Time], TEXT], Type::Number).least(1),
    method(Function::Field(Field::Month), "getMonth", &[&[Type::Time], TEXT], Type::Number).least(1),
    method(Function::Field(Field::Date), "getDate", &[&[Type::Time], TEXT], Type::Number).least(1),
    method(Function::Field(Field::DayOfMonth), "getDayOfMonth", &[&[Type::Time], TEXT], Type::Number).least(1),
    method(Function::Field(Field::DayOfYear), "getDayOfYear", &[&[Type::Time], TEXT], Type::Number).least(1),
    method(Function::Field(Field::Weekday), "getDayOfWeek", &[&[Type::Time], TEXT], Type::Number).least(1),
    method(Function::Field(Field::Hours), "getHours", &[TIMES, TEXT], Type::Number).least(1),
    method(Function::Field(Field::Minutes), "getMinutes", &[TIMES, TEXT], Type::Number).least(1),
    method(Function::Field(Field::Seconds), "getSeconds", &[TIMES, TEXT], Type::Number).least(1),
    method(Function::Field(Field::Milliseconds), "getMilliseconds", &[TIMES, TEXT], Type::Number).least(1),
    global(Function::Encode, "base64.encode", &[TEXT], Type::Text),
    global(Function::Decode, "base64.decode", &[TEXT], Type::Text),
    global(Function::Hash, "hash", &[TEXT, TEXT], Type::Text),
    global(Function::Uuid, "uuid", &[TEXT], Type::Text),
    global(Function::Redact, "redact", &[TEXT, NUMBER], Type::Text).least(1),
    global(Function::AsList, "as_list", &[&[]], Type::List),
    global(Function::ParseJson, "parse_json", &[TEXT], Type::Any),
];

/// Names that are no [`Function`]: the compiler makes operations of them.
pub(super) const OTHERS: &[&str] = &[
    "has",
    "size",
    "matches",
    "table",
    "math.greatest",
    "math.least",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "sortBy",
];

/// What stands before the dot of a function that is no method.
pub(super) const NAMESPACES: &[&str] = &["math", "base64", "lists", "strings"];

// === impl Signature ===

impl Signature {
    const fn least(self, least: usize) -> Self {
        Self { least, ..self }
    }

    /// By its name and whether it stands behind a value.
    pub(super) fn find(name: &str, method: bool) -> Option<&'static Self> {
        SIGNATURES.iter().find(|signature| signature.name == name && signature.method == method)
    }

    /// What a function takes and gives.
    pub(super) fn of(function: Function) -> Option<&'static Self> {
        SIGNATURES.iter().find(|signature| signature.function == function)
    }

    /// For an error: `text.substring(number, number)`.
    pub(super) fn usage(&self) -> String {
        let names: Vec<_> = self.takes.iter().map(|types| types.first().map_or("value", |of| of.name())).collect();
        match (self.method, names.split_first()) {
            (true, Some((first, rest))) => format!("{first}.{}({})", self.name, rest.join(", ")),
            _ => format!("{}({})", self.name, names.join(", ")),
        }
    }
}

// === impl Function ===

impl Function {
    /// The type of what it gives.
    pub(super) fn gives(self) -> Type {
        Signature::of(self).map_or(Type::Any, |signature| signature.gives)
    }
}
