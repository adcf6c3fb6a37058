//! Strings: which ones, how long, and what they are known to be written like.

use std::collections::BTreeSet;

/// A set of strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// Exactly these.
    pub(crate) only: Option<BTreeSet<Box<str>>>,
    /// How many characters at least.
    pub(crate) least: usize,
    /// How many characters at most.
    pub(crate) most: usize,
    /// What all of them hold: `format:date-time`, `pattern:^a`.
    pub(crate) facts: BTreeSet<Box<str>>,
}

/// The most strings that are known one by one.
const MAX_KNOWN: usize = 256;

// === impl Text ===

impl Text {
    pub(crate) const ANY: Self = Self { only: None, least: 0, most: usize::MAX, facts: BTreeSet::new() };
    /// At least one character.
    pub(crate) const SOME: Self = Self { only: None, least: 1, most: usize::MAX, facts: BTreeSet::new() };

    /// One of these; `None` of none.
    pub(crate) fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Option<Self> {
        Self::any_of(texts.into_iter().map(Box::from).collect())
    }

    fn any_of(only: BTreeSet<Box<str>>) -> Option<Self> {
        let lengths = only.iter().map(|text| text.chars().count());
        let (least, most) = (lengths.clone().min()?, lengths.max()?);
        let only = Some(only).filter(|only| only.len() <= MAX_KNOWN);
        Some(Self { only, least, most, facts: BTreeSet::new() })
    }

    pub(crate) fn one(text: &str) -> Self {
        let length = text.chars().count();
        Self { only: Some([Box::from(text)].into()), least: length, most: length, facts: BTreeSet::new() }
    }

    /// The string, if there is only one.
    pub(crate) fn constant(&self) -> Option<&str> {
        match &self.only {
            Some(only) if only.len() == 1 => only.first().map(|text| &**text),
            _ => None,
        }
    }

    /// Without one string, where the rest is known.
    pub(crate) fn without(&self, text: &str) -> Option<Self> {
        let Some(only) = &self.only else { return Some(self.clone()) };
        let rest = Self::any_of(only.iter().filter(|known| ***known != *text).cloned().collect())?;
        Some(Self { facts: self.facts.clone(), ..rest })
    }

    pub(crate) fn join(&self, other: &Self) -> Self {
        let only = match (&self.only, &other.only) {
            (Some(a), Some(b)) => Some(a | b).filter(|only| only.len() <= MAX_KNOWN),
            _ => None,
        };
        let facts = &self.facts & &other.facts;
        Self { only, least: self.least.min(other.least), most: self.most.max(other.most), facts }
    }

    pub(crate) fn meet(&self, other: &Self) -> Option<Self> {
        let facts = &self.facts | &other.facts;
        let (least, most) = (self.least.max(other.least), self.most.min(other.most));
        let only = match (&self.only, &other.only) {
            (Some(a), Some(b)) => Some(a & b),
            (one, None) | (None, one) => one.clone(),
        };
        match only {
            Some(only) => {
                let fits = |text: &str| (least..=most).contains(&text.chars().count());
                let rest = Self::any_of(only.into_iter().filter(|text| fits(text)).collect())?;
                Some(Self { facts, ..rest })
            }
            None => (least <= most).then_some(Self { only, least, most, facts }),
        }
    }

    /// One behind the other.
    pub(crate) fn then(&self, other: &Self) -> Self {
        if let (Some(a), Some(b)) = (&self.only, &other.only)
            && a.len() * b.len() <= MAX_KNOWN
        {
            let all = a.iter().flat_map(|a| b.iter().map(move |b| format!("{a}{b}").into())).collect();
            return Self::any_of(all).unwrap_or(Self::ANY);
        }
        let (least, most) = (self.least.saturating_add(other.least), self.most.saturating_add(other.most));
        Self { only: None, least, most, facts: BTreeSet::new() }
    }
}
