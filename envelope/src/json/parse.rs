//! Text to tree: an iterative walk over the tokens, with an explicit stack bounded by [`MAX_DEPTH`].
//!
//! No library's tree is used: they recurse without a bound, keep duplicate keys and forget where a value stood.

use std::collections::HashSet;

use super::{
    JsonError, MAX_BYTES, MAX_DEPTH, Problem,
    lex::Lexer,
    slot::{Kind, Slot, signature},
};

/// Objects with more members look for duplicates by hash.
const FEW_MEMBERS: u32 = 16;

/// A slot for so many bytes of text at first: a reading has about seven a value.
const BYTES_A_SLOT: usize = 6;

/// Room is made for so many slots at once; a tree that needs more grows.
const FIRST_SLOTS: usize = 4_096;

/// Slots that may stay unused: giving a few back costs more than they are worth.
const MAX_UNUSED: usize = 128;

type Tree = (Vec<Slot>, Vec<Box<str>>);

pub(super) fn parse(text: &str) -> Result<Tree, JsonError> {
    if text.len() > MAX_BYTES {
        return Err(JsonError::new(text.as_bytes(), 0, Problem::TooLong));
    }
    let mut build = Build::new(text);
    build.run().map_err(|(offset, problem)| JsonError::new(text.as_bytes(), offset, problem))?;
    let Build { mut slots, unescaped, .. } = build;
    if slots.capacity() - slots.len() > MAX_UNUSED {
        slots.shrink_to_fit();
    }
    Ok((slots, unescaped))
}

struct Build<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    slots: Vec<Slot>,
    unescaped: Vec<Box<str>>,
    /// The innermost open container.
    open: Open,
    /// Of the open container at each depth, which marks its keys have left: one of 64, by signature.
    seen: [u64; MAX_DEPTH + 1],
}

/// An open container. The one around it is kept in its slot: `next` is where that stands, and what that has counted so
/// far is in that one's own `count`.
#[derive(Clone, Copy)]
struct Open {
    /// Its slot.
    at: u32,
    /// Members or elements so far.
    count: u32,
    /// Levels; 0 is around the whole text.
    depth: u32,
    object: bool,
}

type Step<T = ()> = Result<T, (usize, Problem)>;

// === impl Build ===

impl<'t> Build<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            lexer: Lexer::new(text),
            slots: Vec::with_capacity((text.len() / BYTES_A_SLOT + 2).min(FIRST_SLOTS)),
            unescaped: Vec::new(),
            open: Open { at: 0, count: 0, depth: 0, object: false },
            seen: [0; MAX_DEPTH + 1],
        }
    }

    fn run(&mut self) -> Step {
        let mut first = self.byte("a value")?;
        loop {
            self.value(first)?;
            if self.open.depth == 0 {
                break;
            }
            first = self.follow()?;
            if self.open.depth == 0 {
                break;
            }
        }
        match self.lexer.token() {
            None => Ok(()),
            Some(_) => self.wrong("characters after the end"),
        }
    }

    /// Behind a value or an opening bracket: closes what ends there, reads the key of the next member, and gives the
    /// first byte of the next value.
    #[inline]
    fn follow(&mut self) -> Step<u8> {
        loop {
            let next = self.byte("',' or the end of a container")?;
            let first = match next {
                b',' if self.open.count > 0 => self.byte("a value after ','")?,
                b'}' if self.open.object => {
                    self.close()?;
                    if self.open.depth == 0 {
                        return Ok(0);
                    }
                    continue;
                }
                b']' if !self.open.object => {
                    self.close()?;
                    if self.open.depth == 0 {
                        return Ok(0);
                    }
                    continue;
                }
                // the first entry has no comma before it
                first if self.open.count == 0 => first,
                _ => return self.wrong("expected ',' or the end of a container"),
            };
            self.open.count += 1;
            return if self.open.object { self.key_then(first) } else { Ok(first) };
        }
    }

    /// A key, of which `first` is the first byte, and the colon: gives the first byte of the value.
    #[inline]
    fn key_then(&mut self, first: u8) -> Step<u8> {
        if first != b'"' {
            return self.wrong("expected a key in double quotes");
        }
        self.string()?;
        self.key()?;
        if self.byte("':'")? != b':' {
            return self.wrong("expected ':'");
        }
        self.byte("a value after ':'")
    }

    /// The key just read gets its signature: keys that are equal have the same. Few keys are compared as they come, and
    /// only those of whose signature the mark is there; many when the object ends.
    #[inline]
    fn key(&mut self) -> Step {
        let at = self.slots.len() - 1;
        let signature = signature(self.text_of(at).as_bytes());
        self.slots[at].count = signature;
        let mark = 1 << (signature % u64::BITS);
        let seen = &mut self.seen[self.open.depth as usize];
        if *seen & mark == 0 {
            *seen |= mark;
            return Ok(());
        }
        if self.open.count > FEW_MEMBERS { Ok(()) } else { self.not_again(at) }
    }

    /// That key is not among those before it.
    fn not_again(&self, at: usize) -> Step {
        let key = self.text_of(at);
        let same = |other: &usize| self.slots[*other].count == self.slots[at].count && self.text_of(*other) == key;
        let mut before = self.keys(self.open.at).take_while(|other| *other < at);
        if before.any(|other| same(&other)) { self.duplicate(at) } else { Ok(()) }
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
        if self.lexer.plain_string() {
            let end = self.lexer.offset();
            self.push(Slot::new(Kind::String, start, end));
            return Ok(());
        }
        self.escaped(start)
    }

    /// The rest of a string that is not as its source text, or no string. The lexer stands at what is not plain.
    #[cold]
    #[inline(never)]
    fn escaped(&mut self, start: usize) -> Step {
        let Some(unescaped) = self.lexer.unescape(start + 1) else {
            return Err((start, Problem::Syntax("string that does not end, or with a bad escape")));
        };
        self.unescaped.push(unescaped);
        let place = self.unescaped.len() as u32 - 1;
        let end = self.lexer.offset();
        self.push(Slot { next: place, ..Slot::new(Kind::Escaped, start, end) });
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
        self.push(Slot::new(Kind::Number, start, end));
        Ok(())
    }

    fn literal(&mut self, kind: Kind, rest: &str) -> Step {
        let start = self.lexer.offset() - 1;
        if !self.lexer.literal(rest) {
            return Err((start, Problem::Syntax("expected true, false or null")));
        }
        let end = self.lexer.offset();
        self.push(Slot::new(kind, start, end));
        Ok(())
    }

    #[inline]
    fn container(&mut self, kind: Kind) -> Step {
        let start = self.lexer.offset() - 1;
        let Open { at: around, count, depth, .. } = self.open;
        if depth as usize == MAX_DEPTH {
            return Err((start, Problem::TooDeep));
        }
        if depth > 0 {
            self.slots[around as usize].count = count;
        }
        self.open = Open { at: self.slots.len() as u32, count: 0, depth: depth + 1, object: kind == Kind::Object };
        self.seen[depth as usize + 1] = 0;
        self.push(Slot { next: around, ..Slot::new(kind, start, 0) });
        Ok(())
    }

    #[inline]
    fn close(&mut self) -> Step {
        let next = self.slots.len() as u32;
        let Open { at, count, depth, object } = self.open;
        let slot = &mut self.slots[at as usize];
        let around = std::mem::replace(&mut slot.next, next);
        slot.end = self.lexer.offset() as u32;
        slot.count = count;
        if object && count > FEW_MEMBERS {
            self.no_duplicates(at, count)?;
        }
        let outer = self.slots[around as usize];
        self.open = Open { at: around, count: outer.count, depth: depth - 1, object: outer.kind() == Kind::Object };
        Ok(())
    }

    /// Keys compare unescaped: `"\u0061"` is `"a"`.
    fn no_duplicates(&self, container: u32, count: u32) -> Step {
        let mut seen = HashSet::with_capacity(count as usize);
        match self.keys(container).find(|at| !seen.insert(self.text_of(*at))) {
            Some(at) => self.duplicate(at),
            None => Ok(()),
        }
    }

    fn duplicate(&self, at: usize) -> Step {
        let key: String = self.text_of(at).chars().take(64).collect();
        Err((self.slots[at].start(), Problem::DuplicateKey(key)))
    }

    /// Slots of the keys of an object as far as it is read.
    fn keys(&self, container: u32) -> impl Iterator<Item = usize> {
        let mut at = container + 1;
        std::iter::from_fn(move || {
            let key = at;
            at = self.slots.get(key as usize + 1)?.after(key + 1);
            Some(key as usize)
        })
    }

    /// What a string stands for.
    #[inline]
    fn text_of(&self, at: usize) -> &str {
        let slot = &self.slots[at];
        match slot.kind() {
            Kind::Escaped => &self.unescaped[slot.next as usize],
            _ => &self.text[slot.start() + 1..slot.end as usize - 1],
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
