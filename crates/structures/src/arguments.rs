use bytes::Bytes;

use crate::CommandError;

/// What is left of a command's arguments, read from the front.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    rest: &'a [Bytes],
    command: &'a str,
}

impl<'a> Arguments<'a> {
    /// The arguments of `command`.
    pub fn new(command: &'a str, rest: &'a [Bytes]) -> Self {
        Self { rest, command }
    }

    /// The command's name.
    pub fn command(&self) -> &'a str {
        self.command
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next one; a syntax error if there is none.
    pub fn next_bytes(&mut self) -> Result<&'a Bytes, CommandError> {
        let (first, rest) = self.rest.split_first().ok_or(CommandError::Syntax)?;
        self.rest = rest;
        Ok(first)
    }

    /// The next one as an integer of 64 bits.
    pub fn integer(&mut self) -> Result<i64, CommandError> {
        parse_integer(self.next_bytes()?).ok_or(CommandError::NotInteger)
    }

    /// The next one as a number.
    pub fn float(&mut self) -> Result<f64, CommandError> {
        parse_float(self.next_bytes()?).ok_or(CommandError::NotFloat)
    }

    /// Takes the next one if it is this word, in any case.
    pub fn take_word(&mut self, word: &str) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if first.eq_ignore_ascii_case(word.as_bytes()) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// All that are left.
    pub fn take_rest(&mut self) -> &'a [Bytes] {
        std::mem::take(&mut self.rest)
    }

    /// All that are left, as pairs; an error about the number of arguments if one is left over.
    pub fn take_pairs(
        &mut self,
    ) -> Result<impl ExactSizeIterator<Item = (&'a Bytes, &'a Bytes)> + Clone, CommandError> {
        let rest = self.take_rest();
        if rest.is_empty() || !rest.len().is_multiple_of(2) {
            return Err(CommandError::Arity(self.command.to_string()));
        }
        Ok(rest.chunks_exact(2).map(|pair| (&pair[0], &pair[1])))
    }

    /// A syntax error unless none is left.
    pub fn finish(&self) -> Result<(), CommandError> {
        if self.is_empty() { Ok(()) } else { Err(CommandError::Syntax) }
    }
}

/// An integer as Redis takes it: no sign in front but a minus, no zero in front, no blanks.
pub(crate) fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let is_canonical = match digits {
        [b'0'] => digits.len() == bytes.len(),
        [b'1'..=b'9', ..] => digits.len() <= 19,
        _ => false,
    };
    if is_canonical { std::str::from_utf8(bytes).ok()?.parse().ok() } else { None }
}

/// A number as Redis takes it: decimal, with an exponent, or an infinity; no blanks, not `nan`.
pub(crate) fn parse_float(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number: f64 = text.parse().ok()?;
    (!number.is_nan()).then_some(number)
}
