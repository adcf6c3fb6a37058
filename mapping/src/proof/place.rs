//! What a place of a message takes beside a value: which characters, which status, which shape a format can say.

use std::ops::RangeInclusive;

use envelope::EnvelopeId;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::codec::{Charset, Codec};

use super::{Held, Kinds, Rest, Text, Type};

/// Where a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A part of an address.
    Address,
    /// A header's value.
    Header,
    /// An attribute or a name that messages are kept in order by: never empty.
    Key,
    /// A part of a mesh topic: one segment or a piece of one, never empty.
    Topic,
    /// A mesh topic of one segment, or a whole one that answers are sent to.
    Answer,
    /// An attribute that is left out if it is empty or `null`.
    Optional,
    /// The same, and the id of an envelope.
    Id,
    /// The same, and several if it is an array.
    Names,
}

/// What an attribute of an envelope is known to be: not empty, without control characters.
pub(crate) const ATTRIBUTE: &str = "attribute";

// === impl Place ===

impl Place {
    /// Characters that it refuses.
    fn refuses(self, c: char) -> bool {
        match self {
            Self::Address => crate::egress::is_special(c),
            Self::Topic => crate::plan::is_shape(c),
            Self::Answer => c != '/' && crate::plan::is_shape(c),
            Self::Header | Self::Key | Self::Optional | Self::Id | Self::Names => c.is_control(),
        }
    }

    /// The kinds of values that it takes; `whole`: there is nothing else in it.
    pub(super) const fn kinds(self, whole: bool) -> Kinds {
        match self {
            Self::Optional | Self::Id if whole => Kinds::WRITABLE.and(Kinds::NULL),
            Self::Names if whole => Kinds::WRITABLE.and(Kinds::NULL).and(Kinds::LIST),
            _ => Kinds::WRITABLE,
        }
    }

    fn takes(self, text: &str, around: bool) -> bool {
        let sound = !text.chars().any(|c| self.refuses(c));
        sound
            && match self {
                Self::Address => !["", ".", ".."].contains(&text),
                Self::Header | Self::Optional | Self::Names => true,
                Self::Key => around || !text.is_empty(),
                Self::Topic | Self::Answer => !text.is_empty(),
                Self::Id => around || text.is_empty() || EnvelopeId::parse(text).is_some(),
            }
    }
}

/// Why a value may be refused by its place. `around`: there is text beside it.
pub(super) fn unfit(of: &Type, place: Place, around: bool) -> Option<String> {
    if place == Place::Address && of.time {
        return Some("a timestamp has ':', which is not allowed in what is put into an address".to_owned());
    }
    let spelt = |held| matches!(held, Held::Source | Held::Mixed);
    let name = match place {
        Place::Address => "an address",
        Place::Topic | Place::Answer => "a topic",
        Place::Header | Place::Key | Place::Optional | Place::Id | Place::Names => "",
    };
    if !name.is_empty() && of.number.as_ref().is_some_and(|number| spelt(number.held)) {
        return Some(format!("a number may be spelt with '+', as 1e+2: not allowed in {name}"));
    }
    if place == Place::Names
        && let Some(list) = &of.list
    {
        let items = list.items();
        let other = items.kinds().without(Kinds::WRITABLE);
        if other != Kinds::NONE {
            return Some(format!("an element may be {other}"));
        }
        if let Some(why) = unfit(&items, Place::Optional, around) {
            return Some(format!("an element {why}"));
        }
    }
    let text = of.text.as_ref()?;
    match &text.only {
        Some(only) => {
            let refused = only.iter().find(|text| !place.takes(text, around))?;
            let shown: String = refused.chars().take(64).collect();
            Some(format!("may be {shown:?}, which is not allowed there"))
        }
        None if text.facts.iter().any(|fact| known(fact, text, place, around)) => None,
        None => Some(match place {
            Place::Address => "may have characters that are not allowed in what is put into an address".to_owned(),
            Place::Topic if may_be_empty(text) => {
                "may be empty, or have characters that are not allowed in what is put into a topic".to_owned()
            }
            Place::Topic => "may have characters that are not allowed in what is put into a topic".to_owned(),
            Place::Key if may_be_empty(text) && !around => "may be empty or have control characters".to_owned(),
            Place::Answer => {
                "may be no topic that answers are sent to, and have characters that are not allowed in what is \
                              put into a topic"
                    .to_owned()
            }
            Place::Id => "may be no id of an envelope".to_owned(),
            Place::Header | Place::Key | Place::Optional | Place::Names => "may have control characters".to_owned(),
        }),
    }
}

/// Whether one of them may be empty.
pub(super) fn may_be_empty(text: &Text) -> bool {
    let filled = |fact: &str| match fact.strip_prefix("pattern:") {
        Some(pattern) => regex_syntax::parse(pattern).is_ok_and(|hir| hir.properties().minimum_len() > Some(0)),
        None => matches!(
            fact,
            ATTRIBUTE | "format:uuid" | "format:date" | "format:date-time" | "format:ipv4" | "format:ipv6"
        ),
    };
    match &text.only {
        Some(only) => only.iter().any(|text| text.is_empty()),
        None => text.least == 0 && !text.facts.iter().any(|fact| filled(fact)),
    }
}

/// Why a value never fits its place.
pub(super) fn never(of: &Type, place: Place, around: bool) -> Option<String> {
    let only = of.text.as_ref()?.only.as_ref()?;
    let refused = of.kinds() == Kinds::TEXT && !only.iter().any(|text| place.takes(text, around));
    let first: String = only.first().filter(|_| refused)?.chars().take(64).collect();
    Some(format!("this is {first:?}, which is not allowed there"))
}

/// Why a value that a topic begins with may make it one of the gateway's own.
pub(super) fn reserved(of: &Type, place: Place) -> Option<String> {
    let text = of.text.as_ref().filter(|_| place == Place::Topic)?;
    let may = match &text.only {
        Some(only) => only.iter().any(|text| text.starts_with('$')),
        None => !text.facts.iter().any(|fact| match fact.strip_prefix("pattern:").map(regex_syntax::parse) {
            Some(Ok(hir)) => hir.properties().look_set_prefix().contains(Look::Start) && plain(&hir, &|c| c == '$'),
            Some(Err(_)) => false,
            None => matches!(&**fact, "format:uuid" | "format:date" | "format:ipv4" | "format:ipv6"),
        }),
    };
    may.then(|| "may begin with '$', which is reserved at the beginning of a topic".to_owned())
}

/// Whether a fact of a text is enough for its place.
fn known(fact: &str, text: &Text, place: Place, around: bool) -> bool {
    match fact {
        // only the message shows whether it is one
        _ if place == Place::Id => return false,
        "format:uuid" | "format:date" | "format:ipv4" => return true,
        // an offset has a '+'
        ATTRIBUTE | "format:date-time" => return !matches!(place, Place::Address | Place::Topic | Place::Answer),
        "format:ipv6" => return place != Place::Address,
        _ => {}
    }
    let Some(hir) = fact.strip_prefix("pattern:").and_then(|pattern| regex_syntax::parse(pattern).ok()) else {
        return false;
    };
    let properties = hir.properties();
    let whole = properties.look_set_prefix().contains(Look::Start) && properties.look_set_suffix().contains(Look::End);
    let least = properties.minimum_len().unwrap_or(0).max(text.least);
    let long_enough = match place {
        Place::Address => least > 2 || least > 0 && plain(&hir, &|c| c == '.'),
        Place::Header | Place::Optional | Place::Id | Place::Names => true,
        Place::Key => around || least > 0,
        Place::Topic | Place::Answer => least > 0,
    };
    whole && long_enough && plain(&hir, &|c| place.refuses(c))
}

/// Whether no character that a pattern takes is refused.
fn plain(hir: &Hir, refused: &dyn Fn(char) -> bool) -> bool {
    /// A class of more is looked at no further.
    const MAX_CLASS: u32 = 4_096;
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => !String::from_utf8_lossy(&literal.0).chars().any(refused),
        HirKind::Class(Class::Unicode(class)) => {
            let size: u32 =
                class.ranges().iter().map(|range| u32::from(range.end()) - u32::from(range.start()) + 1).sum();
            size <= MAX_CLASS && !class.ranges().iter().flat_map(|range| range.start()..=range.end()).any(refused)
        }
        HirKind::Class(Class::Bytes(_)) => false,
        HirKind::Repetition(repetition) => plain(&repetition.sub, refused),
        HirKind::Capture(capture) => plain(&capture.sub, refused),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(|part| plain(part, refused)),
    }
}

/// Why a value may be no status of the range; the error is why it never is one.
pub(super) fn status(of: &Type, range: &RangeInclusive<u16>) -> Result<Option<String>, String> {
    let (low, high) = (f64::from(*range.start()), f64::from(*range.end()));
    let law = format!("a status is a whole number from {low} to {high}");
    let fits = |text: &str| text.parse().is_ok_and(|status| range.contains(&status));
    let (mut ever, mut always) = (false, true);
    if let Some(number) = &of.number {
        ever |= number.low <= high && number.high >= low;
        // what the payload spells 200.0 or 2e2 is none
        always &= number.whole && number.low >= low && number.high <= high && number.held == Held::Int;
    }
    if let Some(text) = &of.text {
        ever |= text.only.as_ref().is_none_or(|only| only.iter().any(|text| fits(text)));
        always &= text.only.as_ref().is_some_and(|only| only.iter().all(|text| fits(text)));
    }
    match (ever, always) {
        // it has no value, or one of another kind: said already
        (false, _) if of.number.is_none() && of.text.is_none() => Ok(None),
        (false, _) => Err(format!("{law}, and this never is one")),
        (true, true) => Ok(None),
        (true, false) => Ok(Some(format!("may be out of range: {law}"))),
    }
}

/// Why a format may not be able to say a value; the error is why it never is.
pub(super) fn format(of: &Type, codec: Codec) -> Result<Option<String>, String> {
    const SCALAR: Kinds = Kinds::WRITABLE.and(Kinds::NULL);
    let only = |of: &Type, wanted: Kinds| of.kinds().without(wanted) == Kinds::NONE;
    let (law, wanted) = match codec {
        Codec::Json | Codec::Cbor | Codec::MsgPack => return Ok(None),
        Codec::Xml(_) => ("xml is made of an object with one member", Kinds::OBJECT),
        Codec::Csv(..) => ("csv is made of an array of objects", Kinds::LIST),
        Codec::UrlEncoded(_) => ("form data is made of an object", Kinds::OBJECT),
        Codec::Text(_) => ("text is made of one value", SCALAR),
        Codec::Bytes => ("bytes are given as a text in base64", Kinds::TEXT),
    };
    if of.is_never() {
        return Ok(None);
    }
    if !of.kinds().meets(wanted) {
        return Err(format!("{law}, and this is always {}", of.kinds()));
    }
    let whole = only(of, wanted)
        && match codec {
            Codec::Json | Codec::Cbor | Codec::MsgPack | Codec::Text(_) => true,
            // names and characters that XML has not, and bytes that are none, only the message shows
            Codec::Xml(_) | Codec::Bytes => false,
            Codec::Csv(..) => of.list.as_ref().is_some_and(|list| {
                let items = list.items();
                let row = items.object.as_ref();
                let cells = row.is_some_and(|row| {
                    let mut fields = row.fields.values();
                    row.rest == Rest::Closed
                        && !row.fields.is_empty()
                        && fields.all(|field| field.required && only(&field.of, SCALAR))
                });
                list.least > 0 && only(&items, Kinds::OBJECT) && cells
            }),
            Codec::UrlEncoded(_) => of.object.as_ref().is_some_and(|object| {
                let pair = |of: &Type| {
                    let items = of.list.as_ref().is_none_or(|list| only(&list.items(), SCALAR));
                    items && only(of, SCALAR.and(Kinds::LIST))
                };
                let rest = match &object.rest {
                    Rest::Closed => true,
                    Rest::Open => false,
                    Rest::Of(of) => pair(of),
                };
                rest && object.fields.values().all(|field| pair(&field.of))
            }),
        };
    let charset = codec.charset().filter(|charset| *charset != Charset::Utf8 && !charset.is_utf16());
    Ok(match (whole, charset) {
        (false, _) => Some(format!("{} may not be able to say it: {law}", codec.name())),
        (true, Some(charset)) => Some(format!("{charset} may not have all of its characters")),
        (true, None) => None,
    })
}
