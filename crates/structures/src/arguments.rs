use bytes::Bytes;

use crate::{
    CommandError,
    number::{parse_float, parse_integer},
};

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

    /// The next one as an integer of 64 bits; `error` if it is none.
    pub fn integer_or(&mut self, error: &str) -> Result<i64, CommandError> {
        parse_integer(self.next_bytes()?).ok_or_else(|| CommandError::new(error))
    }

    /// The next one as an integer from 0 on; `error` if it is none.
    pub fn count_or(&mut self, error: &str) -> Result<usize, CommandError> {
        let count = self.integer_or(error)?;
        usize::try_from(count).map_err(|_| CommandError::new(error))
    }

    /// The next one as an integer from 0 on.
    pub fn count(&mut self) -> Result<usize, CommandError> {
        self.count_or("value is out of range, must be positive")
    }

    /// The next one as a number.
    pub fn float(&mut self) -> Result<f64, CommandError> {
        parse_float(self.next_bytes()?).ok_or(CommandError::NotFloat)
    }

    /// The next one, which stays.
    pub fn peek(&self) -> Option<&'a Bytes> {
        self.rest.first()
    }

    /// Takes the next one if it is this word, in any case.
    pub fn take_word(&mut self, word: &str) -> bool {
        self.take_option(word, 0)
    }

    /// Takes the next one if it is this word, in any case, and so many more follow it.
    pub fn take_option(&mut self, word: &str, values: usize) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if first.eq_ignore_ascii_case(word.as_bytes()) && rest.len() >= values => {
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
