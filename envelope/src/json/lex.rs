//! Bytes to tokens (RFC 8259, sections 2, 6 and 7). Knows nothing of nesting.

/// Reads one token after the other. A method that fails leaves the place behind what it could read.
pub(super) struct Lexer<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
}

const LOW: u64 = u64::from_le_bytes([0x01; 8]);
const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

// === impl Lexer ===

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space.
    #[inline]
    pub(super) fn token(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
        }
    }

    /// The rest of a string behind its opening quote, with the closing one. False if it is not as its source text;
    /// then the next byte is the first that is not plain.
    #[inline]
    pub(super) fn plain_string(&mut self) -> bool {
        self.plain();
        let plain = self.bytes.get(self.at) == Some(&b'"');
        self.at += usize::from(plain);
        plain
    }

    /// The rest of a number behind its first byte. `Ok(true)`: with an exponent.
    #[inline]
    pub(super) fn number(&mut self, first: u8) -> Result<bool, ()> {
        let first = if first == b'-' { self.next() } else { Some(first) };
        match first {
            Some(b'0') => {}
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(()),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if !matches!(self.peek(), Some(b'e' | b'E')) {
            return Ok(false);
        }
        self.at += 1;
        if matches!(self.peek(), Some(b'+' | b'-')) {
            self.at += 1;
        }
        self.digits()?;
        Ok(true)
    }

    /// The rest of a literal behind its first byte.
    pub(super) fn literal(&mut self, rest: &str) -> bool {
        let found = self.bytes[self.at..].starts_with(rest.as_bytes());
        self.at += if found { rest.len() } else { 0 };
        found
    }

    /// To the next quote, backslash or control character, or to the end. Eight bytes at a time, by the borrow that
    /// runs through a word; only the lowest bit that it sets is certain, and only that one is used.
    #[inline]
    fn plain(&mut self) {
        let zero = |word: u64| word.wrapping_sub(LOW) & !word;
        while let Some(chunk) = self.bytes[self.at..].first_chunk() {
            let word = u64::from_le_bytes(*chunk);
            let control = word.wrapping_sub(LOW * 0x20) & !word;
            let quote = zero(word ^ (LOW * u64::from(b'"')));
            let backslash = zero(word ^ (LOW * u64::from(b'\\')));
            let stops = (control | quote | backslash) & HIGH;
            if stops != 0 {
                self.at += stops.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    /// The string that begins at `start` and is plain up to here: what it stands for, or `None` if it is none.
    pub(super) fn unescape(&mut self, start: usize) -> Option<Box<str>> {
        let mut unescaped = String::new();
        let mut plain = start;
        loop {
            unescaped.push_str(&self.text[plain..self.at]);
            match self.next()? {
                b'"' => return Some(unescaped.into()),
                b'\\' => unescaped.push(self.escape()?),
                _ => return None,
            }
            plain = self.at;
            self.plain();
        }
    }

    /// Behind the backslash.
    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            plain @ (b'"' | b'\\' | b'/') => char::from(plain),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code_point(),
            _ => return None,
        })
    }

    /// Behind `\u`; a character beyond the basic plane is two of them.
    fn code_point(&mut self) -> Option<char> {
        let unit = self.hex()?;
        if !(0xd800..0xdc00).contains(&unit) {
            return char::from_u32(unit);
        }
        if !self.bytes[self.at..].starts_with(b"\\u") {
            return None;
        }
        self.at += 2;
        let low = self.hex()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low)
    }

    fn hex(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |unit, _| Some(unit << 4 | char::from(self.next()?).to_digit(16)?))
    }

    fn digits(&mut self) -> Result<(), ()> {
        let start = self.at;
        self.skip_digits();
        if self.at > start { Ok(()) } else { Err(()) }
    }

    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}
