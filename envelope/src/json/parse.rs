//! Text to tree: an iterative walk over the tokens, with an explicit stack bounded by [`MAX_DEPTH`].
//!
//! No library's tree is used: they recurse without a bound, keep duplicate keys and forget where a value stood.

use std::collections::HashSet;

use super::{
    JsonError, MAX_BYTES, MAX_DEPTH, Problem,
    lex::Lexer,
    tree::{Kind, Slot},
};

/// Objects with more members look for duplicates by hash.
const FEW_MEMBERS: usize = 16;

/// Room is made for so many slots at once; a tree that needs more grows.
const FIRST_SLOTS: usize = 4_096;

type Tree = (Box<[Slot]>, Box<[Box<str>]>);

pub(super) fn parse(text: &str) -> Result<Tree, JsonError> {
    if text.len() > MAX_BYTES {
        return Err(JsonError::new(text.as_bytes(), 0, Problem::TooLong));
    }
    let mut build = Build::new(text);
    build.run().map_err(|(offset, problem)| JsonError::new(text.as_bytes(), offset, problem))?;
    Ok((build.slots.into_boxed_slice(), build.unescaped.into_boxed_slice()))
}

struct Build<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    slots: Vec<Slot>,
    unescaped: Vec<Box<str>>,
    /// Indexes of the open containers' slots.
    open: Vec<u32>,
}

type Step<T = ()> = Result<T, (usize, Problem)>;

// === impl Build ===

impl<'t> Build<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            lexer: Lexer::new(text),
            slots: Vec::with_capacity((text.len() / 4 + 1).min(FIRST_SLOTS)),
            unescaped: Vec::new(),
            open: Vec::with_capacity(8),
        }
    }

    fn run(&mut self) -> Step {
        let first = self.byte("a value")?;
        self.value(first)?;
        while let Some(&container) = self.open.last() {
            let kind = self.slots[container as usize].kind;
            let next = self.byte("',' or the end of a container")?;
            match (kind, next) {
                (Kind::Object, b'}') | (Kind::Array, b']') => self.close(container)?,
                (_, b',') if self.slots[container as usize].count > 0 => self.entry(kind, None)?,
                // the first entry has no comma before it
                (_, first) if self.slots[container as usize].count == 0 => self.entry(kind, Some(first))?,
                _ => return self.wrong("expected ',' or the end of a container"),
            }
        }
        match self.lexer.token() {
            None => Ok(()),
            Some(_) => self.wrong("characters after the end"),
        }
    }

    /// One member or element; `first` is its first byte if it is already read.
    #[inline]
    fn entry(&mut self, kind: Kind, first: Option<u8>) -> Step {
        if let Some(&container) = self.open.last() {
            self.slots[container as usize].count += 1;
        }
        let mut first = match first {
            Some(first) => first,
            None => self.byte("a value after ','")?,
        };
        if kind == Kind::Object {
            if first != b'"' {
                return self.wrong("expected a key in double quotes");
            }
            self.string()?;
            self.sign();
            if self.byte("':'")? != b':' {
                return self.wrong("expected ':'");
            }
            first = self.byte("a value after ':'")?;
        }
        self.value(first)
    }

    /// The key just read gets its signature: keys that are equal have the same.
    #[inline]
    fn sign(&mut self) {
        let at = self.slots.len() - 1;
        let Slot { kind, start, end, .. } = self.slots[at];
        let key = match kind {
            Kind::Escaped => self.key(at as u32).as_bytes(),
            _ => &self.text.as_bytes()[start as usize + 1..end as usize - 1],
        };
        let word = |bytes: Option<&[u8; 8]>| bytes.map(|bytes| u64::from_le_bytes(*bytes));
        let mixed = match (word(key.first_chunk()), word(key.last_chunk())) {
            (Some(first), Some(last)) => first.rotate_left(29) ^ last,
            _ => key.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        let spread = (mixed ^ key.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.slots[at].count = (spread >> 32) as u32;
    }

    #[inline]
    fn value(&mut self, first: u8) -> Step {
        match first {
            b'"' => self.string(),
            b'{' => self.container(Kind::Object),
            b'[' => self.container(Kind::Array),
            b't' => self.literal(Kind::True, "rue"),
            b'f' => self.literal(Kind::False, "alse"),
            b'n' => self.literal(Kind::Null, "ull"),
            b'-' | b'0'..=b'9' => self.number(first),
            _ => self.wrong("expected a value"),
        }
    }

    #[inline]
    fn string(&mut self) -> Step {
        let start = self.lexer.offset() - 1;
        let (kind, place) = match self.lexer.string() {
            Ok(None) => (Kind::String, 0),
            Ok(Some(unescaped)) => {
                self.unescaped.push(unescaped);
                (Kind::Escaped, self.unescaped.len() as u32 - 1)
            }
            Err(()) => return Err((start, Problem::Syntax("string that does not end, or with a bad escape"))),
        };
        let end = self.lexer.offset();
        self.push(Slot { kind, start: start as u32, end: end as u32, next: place, count: 0 });
        Ok(())
    }

    fn number(&mut self, first: u8) -> Step {
        let start = self.lexer.offset() - 1;
        let Ok(exponent) = self.lexer.number(first) else {
            return Err((start, Problem::Syntax("malformed number")));
        };
        let end = self.lexer.offset();
        // only these can overflow; parsing every number here would cost more than the rest of the walk
        let suspect = exponent || end - start > 300;
        if suspect && !self.text[start..end].parse::<f64>().is_ok_and(f64::is_finite) {
            return Err((start, Problem::NumberRange));
        }
        self.push(Slot { kind: Kind::Number, start: start as u32, end: end as u32, next: 0, count: 0 });
        Ok(())
    }

    fn literal(&mut self, kind: Kind, rest: &str) -> Step {
        let start = self.lexer.offset() - 1;
        if !self.lexer.literal(rest) {
            return Err((start, Problem::Syntax("expected true, false or null")));
        }
        let end = self.lexer.offset();
        self.push(Slot { kind, start: start as u32, end: end as u32, next: 0, count: 0 });
        Ok(())
    }

    fn container(&mut self, kind: Kind) -> Step {
        let start = self.lexer.offset() - 1;
        if self.open.len() == MAX_DEPTH {
            return Err((start, Problem::TooDeep));
        }
        self.open.push(self.slots.len() as u32);
        self.push(Slot { kind, start: start as u32, end: 0, next: 0, count: 0 });
        Ok(())
    }

    fn close(&mut self, container: u32) -> Step {
        let next = self.slots.len() as u32;
        let slot = &mut self.slots[container as usize];
        slot.end = self.lexer.offset() as u32;
        slot.next = next;
        let (kind, count) = (slot.kind, slot.count as usize);
        self.open.pop();
        if kind == Kind::Object && count > 1 { self.no_duplicates(container, count) } else { Ok(()) }
    }

    /// Keys compare unescaped: `"\u0061"` is `"a"`.
    fn no_duplicates(&self, container: u32, count: usize) -> Step {
        if count <= FEW_MEMBERS {
            let mut seen = 0_u128;
            for (n, at) in self.keys(container).enumerate() {
                let bit = 1 << (self.slots[at as usize].count % u128::BITS);
                if seen & bit != 0 && self.keys(container).take(n).any(|other| self.same_key(other, at)) {
                    return self.duplicate(at);
                }
                seen |= bit;
            }
            return Ok(());
        }
        let mut seen = HashSet::with_capacity(count);
        match self.keys(container).find(|at| !seen.insert(self.key(*at))) {
            Some(at) => self.duplicate(at),
            None => Ok(()),
        }
    }

    fn same_key(&self, a: u32, b: u32) -> bool {
        self.slots[a as usize].count == self.slots[b as usize].count && self.key(a) == self.key(b)
    }

    fn duplicate(&self, at: u32) -> Step {
        let key: String = self.key(at).chars().take(64).collect();
        Err((self.slots[at as usize].start as usize, Problem::DuplicateKey(key)))
    }

    /// Slots of the keys of a closed object.
    fn keys(&self, container: u32) -> impl Iterator<Item = u32> {
        let (mut at, end) = (container + 1, self.slots[container as usize].next);
        std::iter::from_fn(move || {
            let key = (at < end).then_some(at)?;
            at = self.slots[key as usize + 1].after(key + 1);
            Some(key)
        })
    }

    fn key(&self, at: u32) -> &str {
        let slot = &self.slots[at as usize];
        match slot.kind {
            Kind::Escaped => &self.unescaped[slot.next as usize],
            _ => &self.text[slot.start as usize + 1..slot.end as usize - 1],
        }
    }

    #[inline]
    fn push(&mut self, slot: Slot) {
        self.slots.push(slot);
    }

    /// The next byte that is not white space.
    #[inline]
    fn byte(&mut self, expected: &'static str) -> Step<u8> {
        match self.lexer.token() {
            Some(byte) => Ok(byte),
            None => Err((self.text.len(), Problem::Syntax(at_the_end(expected)))),
        }
    }

    /// The byte just read is not what the grammar has here.
    fn wrong<T>(&self, problem: &'static str) -> Step<T> {
        Err((self.lexer.offset().saturating_sub(1), Problem::Syntax(problem)))
    }
}

fn at_the_end(expected: &'static str) -> &'static str {
    match expected {
        "':'" => "ends where ':' is expected",
        "',' or the end of a container" => "ends inside an object or array",
        _ => "ends where a value is expected",
    }
}
