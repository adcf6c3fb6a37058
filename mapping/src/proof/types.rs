//! What is known of a value before it is there: for each kind that it may have, how far it may go.
//!
//! A type is a set of values, and always at least as large as the truth: what is not known stays possible. Formats with
//! types of their own (Avro, Protobuf, `.msg`) come in as a [`Type`] made with the constructors here; `json_schema` does
//! it for JSON Schema.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::{number::Number, text::Text};

/// A set of values: those of each kind that it may have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Type {
    pub(crate) null: bool,
    pub(crate) bools: Bools,
    pub(crate) number: Option<Number>,
    pub(crate) text: Option<Text>,
    pub(crate) list: Option<List>,
    pub(crate) object: Option<Object>,
    /// A timestamp of an expression; in JSON it is text.
    pub(crate) time: bool,
    /// A duration of an expression; in JSON it is text.
    pub(crate) duration: bool,
}

/// Which of the two it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bools {
    pub(crate) yes: bool,
    pub(crate) no: bool,
}

/// Arrays.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct List {
    /// `None`: anything.
    pub(crate) items: Option<Arc<Type>>,
    /// How many elements at least.
    pub(crate) least: usize,
    /// How many elements at most.
    pub(crate) most: usize,
}

/// Objects.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    pub(crate) fields: BTreeMap<Box<str>, Field>,
    /// What other members there may be.
    pub(crate) rest: Rest,
}

/// A member of an object that is known by name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// Nothing at all: the member is not there.
    pub(crate) of: Arc<Type>,
    pub(crate) required: bool,
}

/// Members that no field names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rest {
    /// There are none.
    Closed,
    /// Anything.
    Open,
    /// Of this type.
    Of(Arc<Type>),
}

/// The kinds of values, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

// === impl Kinds ===

impl Kinds {
    pub(crate) const NULL: Self = Self(1);
    pub(crate) const BOOL: Self = Self(1 << 1);
    pub(crate) const NUMBER: Self = Self(1 << 2);
    pub(crate) const TEXT: Self = Self(1 << 3);
    pub(crate) const LIST: Self = Self(1 << 4);
    pub(crate) const OBJECT: Self = Self(1 << 5);
    pub(crate) const TIME: Self = Self(1 << 6);
    pub(crate) const DURATION: Self = Self(1 << 7);
    pub(crate) const NONE: Self = Self(0);
    /// What can be written as text.
    pub(crate) const WRITABLE: Self = Self(1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 7);
    /// Each with its name, as people say it.
    const NAMES: [(Self, &'static str); 8] = [
        (Self::NULL, "null"),
        (Self::BOOL, "boolean"),
        (Self::NUMBER, "number"),
        (Self::TEXT, "string"),
        (Self::LIST, "array"),
        (Self::OBJECT, "object"),
        (Self::TIME, "timestamp"),
        (Self::DURATION, "duration"),
    ];

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn each(self) -> impl Iterator<Item = Self> {
        Self::NAMES.into_iter().map(|(kind, _)| kind).filter(move |kind| self.meets(*kind))
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Self::NAMES.iter().filter(|(kind, _)| self.meets(*kind)).map(|(_, name)| *name).collect();
        match names.split_last() {
            None => f.write_str("nothing"),
            Some((last, [])) => f.write_str(last),
            Some((last, before)) => write!(f, "{} or {last}", before.join(", ")),
        }
    }
}

// === impl Bools ===

impl Bools {
    pub(crate) const BOTH: Self = Self { yes: true, no: true };
    pub(crate) const NONE: Self = Self { yes: false, no: false };

    pub(crate) const fn only(value: bool) -> Self {
        Self { yes: value, no: !value }
    }

    pub(crate) const fn is_none(self) -> bool {
        !self.yes && !self.no
    }
}

// === impl Type ===

impl Type {
    /// No value at all.
    pub(crate) const NEVER: Self = Self {
        null: false,
        bools: Bools::NONE,
        number: None,
        text: None,
        list: None,
        object: None,
        time: false,
        duration: false,
    };
    /// Any JSON value.
    pub(crate) const ANY: Self = Self {
        null: true,
        bools: Bools::BOTH,
        number: Some(Number::ANY),
        text: Some(Text::ANY),
        list: Some(List::ANY),
        object: Some(Object::ANY),
        ..Self::NEVER
    };
    pub(crate) const NULL: Self = Self { null: true, ..Self::NEVER };
    pub(crate) const BOOL: Self = Self::bools(Bools::BOTH);
    pub(crate) const TEXT: Self = Self::text(Text::ANY);
    pub(crate) const TIME: Self = Self { time: true, ..Self::NEVER };
    pub(crate) const DURATION: Self = Self { duration: true, ..Self::NEVER };

    pub(crate) const fn bools(bools: Bools) -> Self {
        Self { bools, ..Self::NEVER }
    }

    pub(crate) const fn number(number: Number) -> Self {
        Self { number: Some(number), ..Self::NEVER }
    }

    pub(crate) const fn text(text: Text) -> Self {
        Self { text: Some(text), ..Self::NEVER }
    }

    pub(crate) const fn list(list: List) -> Self {
        Self { list: Some(list), ..Self::NEVER }
    }

    pub(crate) const fn object(object: Object) -> Self {
        Self { object: Some(object), ..Self::NEVER }
    }

    pub(crate) fn kinds(&self) -> Kinds {
        let all = [
            (self.null, Kinds::NULL),
            (!self.bools.is_none(), Kinds::BOOL),
            (self.number.is_some(), Kinds::NUMBER),
            (self.text.is_some(), Kinds::TEXT),
            (self.list.is_some(), Kinds::LIST),
            (self.object.is_some(), Kinds::OBJECT),
            (self.time, Kinds::TIME),
            (self.duration, Kinds::DURATION),
        ];
        all.into_iter().filter(|(there, _)| *there).fold(Kinds::NONE, |kinds, (_, kind)| kinds.and(kind))
    }

    pub(crate) fn is_never(&self) -> bool {
        self.kinds() == Kinds::NONE
    }

    /// Only the values of these kinds.
    pub(crate) fn of_kinds(&self, kinds: Kinds) -> Self {
        Self {
            null: self.null && kinds.meets(Kinds::NULL),
            bools: if kinds.meets(Kinds::BOOL) { self.bools } else { Bools::NONE },
            number: self.number.clone().filter(|_| kinds.meets(Kinds::NUMBER)),
            text: self.text.clone().filter(|_| kinds.meets(Kinds::TEXT)),
            list: self.list.clone().filter(|_| kinds.meets(Kinds::LIST)),
            object: self.object.clone().filter(|_| kinds.meets(Kinds::OBJECT)),
            time: self.time && kinds.meets(Kinds::TIME),
            duration: self.duration && kinds.meets(Kinds::DURATION),
        }
    }

    /// What is a value of one or the other.
    pub(crate) fn join(&self, other: &Self) -> Self {
        Self {
            null: self.null || other.null,
            bools: Bools { yes: self.bools.yes || other.bools.yes, no: self.bools.no || other.bools.no },
            number: either(&self.number, &other.number, Number::join),
            text: either(&self.text, &other.text, Text::join),
            list: either(&self.list, &other.list, List::join),
            object: either(&self.object, &other.object, Object::join),
            time: self.time || other.time,
            duration: self.duration || other.duration,
        }
    }

    /// Whether no value is of both, as far as so many looks tell; `left` is what is left of them. Timestamps and durations
    /// are not looked at.
    pub(crate) fn is_apart(&self, other: &Self, left: &mut usize) -> bool {
        if *left == 0 {
            return false;
        }
        *left -= 1;
        !(self.null && other.null || self.bools.yes && other.bools.yes || self.bools.no && other.bools.no)
            && both(&self.number, &other.number, Number::meet).is_none()
            && both(&self.text, &other.text, Text::meet).is_none()
            && self.list.as_ref().zip(other.list.as_ref()).is_none_or(|(a, b)| a.is_apart(b, left))
            && self.object.as_ref().zip(other.object.as_ref()).is_none_or(|(a, b)| a.is_apart(b, left))
    }

    /// What is a value of both.
    pub(crate) fn meet(&self, other: &Self) -> Self {
        if *self == Self::ANY && !other.time && !other.duration {
            return other.clone();
        }
        if *other == Self::ANY && !self.time && !self.duration {
            return self.clone();
        }
        Self {
            null: self.null && other.null,
            bools: Bools { yes: self.bools.yes && other.bools.yes, no: self.bools.no && other.bools.no },
            number: both(&self.number, &other.number, Number::meet),
            text: both(&self.text, &other.text, Text::meet),
            list: both(&self.list, &other.list, List::meet),
            object: both(&self.object, &other.object, Object::meet),
            time: self.time && other.time,
            duration: self.duration && other.duration,
        }
    }
}

fn either<T: Clone>(a: &Option<T>, b: &Option<T>, join: fn(&T, &T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(join(a, b)),
        (one, None) | (None, one) => one.clone(),
    }
}

fn both<T>(a: &Option<T>, b: &Option<T>, meet: fn(&T, &T) -> Option<T>) -> Option<T> {
    meet(a.as_ref()?, b.as_ref()?)
}

// === impl List ===

impl List {
    pub(crate) const ANY: Self = Self { items: None, least: 0, most: usize::MAX };

    pub(crate) fn of(items: Type) -> Self {
        Self { items: Some(Arc::new(items)), ..Self::ANY }
    }

    pub(crate) fn items(&self) -> Type {
        self.items.as_ref().map_or(Type::ANY, |items| Type::clone(items))
    }

    fn join(&self, other: &Self) -> Self {
        let items = match (&self.items, &other.items) {
            // an empty one says nothing of elements
            (_, items) if self.most == 0 => items.clone(),
            (items, _) if other.most == 0 => items.clone(),
            (Some(a), Some(b)) => Some(Arc::new(a.join(b))),
            (None, _) | (_, None) => None,
        };
        Self { items, least: self.least.min(other.least), most: self.most.max(other.most) }
    }

    fn is_apart(&self, other: &Self, left: &mut usize) -> bool {
        let (least, most) = (self.least.max(other.least), self.most.min(other.most));
        let elements = self.items.as_ref().zip(other.items.as_ref());
        least > most || least > 0 && elements.is_some_and(|(a, b)| a.is_apart(b, left))
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        let items = match (&self.items, &other.items) {
            (Some(a), Some(b)) => Some(Arc::new(a.meet(b))),
            (one, None) | (None, one) => one.clone(),
        };
        let empty = items.as_ref().is_some_and(|items| items.is_never());
        let most = if empty { 0 } else { self.most.min(other.most) };
        let least = self.least.max(other.least);
        (least <= most).then_some(Self { items, least, most })
    }
}

// === impl Object ===

impl Object {
    pub(crate) const ANY: Self = Self { fields: BTreeMap::new(), rest: Rest::Open };

    /// These members, each of them there, and no other.
    pub(crate) fn closed(members: impl IntoIterator<Item = (Box<str>, Type)>) -> Self {
        let field = |(name, of)| (name, Field { of: Arc::new(of), required: true });
        Self { fields: members.into_iter().map(field).collect(), rest: Rest::Closed }
    }

    /// What a member is, and whether it is always there; `None`: it is never there.
    pub(crate) fn member(&self, name: &str) -> Option<(Type, bool)> {
        match self.fields.get(name) {
            Some(field) if field.of.is_never() => None,
            Some(field) => Some((Type::clone(&field.of), field.required)),
            None => match &self.rest {
                Rest::Closed => None,
                Rest::Open => Some((Type::ANY, false)),
                Rest::Of(of) => Some((Type::clone(of), false)),
            },
        }
    }

    fn join(&self, other: &Self) -> Self {
        let rest = match (&self.rest, &other.rest) {
            (Rest::Open, _) | (_, Rest::Open) => Rest::Open,
            (Rest::Closed, rest) | (rest, Rest::Closed) => rest.clone(),
            (Rest::Of(a), Rest::Of(b)) => Rest::Of(Arc::new(a.join(b))),
        };
        let fields = self.names(other).map(|name| {
            let field = match (self.member(name), other.member(name)) {
                (Some((a, always)), Some((b, also))) => Field { of: Arc::new(a.join(&b)), required: always && also },
                (Some((of, _)), None) | (None, Some((of, _))) => Field { of: Arc::new(of), required: false },
                (None, None) => Field { of: Arc::new(Type::NEVER), required: false },
            };
            (name.clone(), field)
        });
        Self { fields: fields.collect(), rest }
    }

    /// Only a member that must be there sets two objects apart.
    fn is_apart(&self, other: &Self, left: &mut usize) -> bool {
        let all = self.fields.iter().chain(&other.fields);
        let mut needed = all.filter(|(_, field)| field.required).map(|(name, _)| name);
        needed.any(|name| match (self.member(name), other.member(name)) {
            (Some((a, _)), Some((b, _))) => a.is_apart(&b, left),
            (None, _) | (_, None) => true,
        })
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        let mut fields = BTreeMap::new();
        for name in self.names(other) {
            let required = [self, other].iter().any(|of| of.fields.get(name).is_some_and(|field| field.required));
            let of = match (self.member(name), other.member(name)) {
                (Some((a, _)), Some((b, _))) => a.meet(&b),
                (None, _) | (_, None) => Type::NEVER,
            };
            if required && of.is_never() {
                return None;
            }
            fields.insert(name.clone(), Field { of: Arc::new(of), required });
        }
        let rest = match (&self.rest, &other.rest) {
            (Rest::Closed, _) | (_, Rest::Closed) => Rest::Closed,
            (Rest::Open, rest) | (rest, Rest::Open) => rest.clone(),
            (Rest::Of(a), Rest::Of(b)) => Rest::Of(Arc::new(a.meet(b))),
        };
        Some(Self { fields, rest })
    }

    fn names<'o>(&'o self, other: &'o Self) -> impl Iterator<Item = &'o Box<str>> {
        let all: BTreeSet<_> = self.fields.keys().chain(other.fields.keys()).collect();
        all.into_iter()
    }
}
