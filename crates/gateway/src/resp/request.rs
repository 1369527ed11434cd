//! Requests as they come in: arrays of strings, or lines of words.
//!
//! Clients send nothing else, so this is a parser of its own, bounded as Redis's is: a general decoder reads a frame of
//! any kind from its first byte each time that more of it has arrived, nests, and believes lengths before the bytes are
//! there.

use bytes::{Buf, Bytes, BytesMut};

/// The longest inline request, and the longest line with a count, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
/// The most arguments of one request.
const ARGUMENTS_MAX: i64 = 1 << 20;
/// The longest argument, in bytes: what `CONFIG GET proto-max-bulk-len` tells.
pub(super) const BULK_BYTES_MAX: usize = 64 << 20;
/// The most bytes of one request, with what its arguments cost in memory.
const REQUEST_BYTES_MAX: usize = 128 << 20;
/// What an argument costs besides its bytes.
const ARGUMENT_BYTES: usize = 64;
/// Arguments from this length on are not copied out of the input.
const LONG_ARGUMENT_BYTES: usize = 32 << 10;
/// The same bounds before a client has authenticated, as in Redis.
const STRANGER_ARGUMENTS_MAX: i64 = 10;
const STRANGER_BULK_BYTES_MAX: usize = 16 << 10;

/// Why a connection is ended; the text is Redis's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolError {
    #[error("Protocol error: too big inline request")]
    LongLine,
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    #[error("Protocol error: too big mbulk count string")]
    LongCount,
    #[error("Protocol error: invalid multibulk length")]
    Count,
    #[error("Protocol error: unauthenticated multibulk length")]
    StrangerCount,
    #[error("Protocol error: too big bulk count string")]
    LongLength,
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    NoBulk(u8),
    #[error("Protocol error: invalid bulk length")]
    Length,
    #[error("Protocol error: unauthenticated bulk length")]
    StrangerLength,
    #[error("Protocol error: the request is longer than {REQUEST_BYTES_MAX} bytes")]
    LongRequest,
}

/// Turns what a client sends into requests, wherever it is cut.
#[derive(Default)]
pub(super) struct RequestReader {
    /// What has arrived and is not read yet.
    pub(super) input: BytesMut,
    /// The request of which a part was read.
    begun: Option<Begun>,
    /// How far `input` was searched for the end of a line.
    searched: usize,
    /// Whether the client has authenticated, or need not.
    pub(super) is_known: bool,
}

struct Begun {
    /// How many arguments are to come.
    missing: i64,
    arguments: Vec<Bytes>,
    /// The length of the next one, if it was read.
    length: Option<usize>,
    /// What those that have arrived cost.
    bytes: usize,
}

impl RequestReader {
    /// The next request, name first, if all of it has arrived; never an empty one.
    pub(super) fn next_request(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.begun.is_some() {
                return self.next_arguments();
            }
            let Some(first) = self.input.first() else { return Ok(None) };
            if *first != b'*' {
                match self.next_line()? {
                    Some(words) if words.is_empty() => {}
                    words => return Ok(words),
                }
            } else if !self.begin()? {
                return Ok(None);
            }
        }
    }

    /// How many bytes are kept for requests that are not complete.
    pub(super) fn held(&self) -> usize {
        self.input.len() + self.begun.as_ref().map_or(0, |begun| begun.bytes)
    }

    /// How many bytes must still arrive before anything more can be read, as far as that is known.
    pub(super) fn wanted(&self) -> usize {
        let length = self.begun.as_ref().and_then(|begun| begun.length).unwrap_or_default();
        (length + 2).saturating_sub(self.input.len())
    }

    /// Reads the line with the number of arguments; `false` if it has not arrived.
    fn begin(&mut self) -> Result<bool, ProtocolError> {
        let Some(line) = self.take_count(ProtocolError::LongCount)? else { return Ok(false) };
        let count = parse_integer(&line[1..]).filter(|count| *count <= ARGUMENTS_MAX).ok_or(ProtocolError::Count)?;
        if !self.is_known && count > STRANGER_ARGUMENTS_MAX {
            return Err(ProtocolError::StrangerCount);
        }
        if count > 0 {
            let expected = usize::try_from(count).unwrap_or_default().min(16);
            let arguments = Vec::with_capacity(expected);
            self.begun = Some(Begun { missing: count, arguments, length: None, bytes: 0 });
        }
        Ok(true)
    }

    /// Reads arguments of the request that was begun.
    fn next_arguments(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let Some(mut begun) = self.begun.take() else { return Ok(None) };
        while begun.missing > 0 {
            let argument = match self.next_argument(&mut begun) {
                Ok(Some(argument)) => argument,
                Ok(None) => {
                    self.begun = Some(begun);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            begun.arguments.push(argument);
            begun.missing -= 1;
        }
        Ok(Some(begun.arguments))
    }

    fn next_argument(&mut self, begun: &mut Begun) -> Result<Option<Bytes>, ProtocolError> {
        let length = match begun.length {
            Some(length) => length,
            None => {
                let Some(length) = self.next_length()? else { return Ok(None) };
                if begun.bytes + length + ARGUMENT_BYTES > REQUEST_BYTES_MAX {
                    return Err(ProtocolError::LongRequest);
                }
                length
            }
        };
        if self.input.len() < length + 2 {
            begun.length = Some(length);
            return Ok(None);
        }
        begun.length = None;
        begun.bytes += length + ARGUMENT_BYTES;
        let argument = if length >= LONG_ARGUMENT_BYTES {
            self.input.split_to(length).freeze()
        } else {
            // A slice would keep all that came in with it for as long as the value is kept.
            let copy = Bytes::copy_from_slice(&self.input[..length]);
            self.input.advance(length);
            copy
        };
        self.input.advance(2);
        Ok(Some(argument))
    }

    fn next_length(&mut self) -> Result<Option<usize>, ProtocolError> {
        if let Some(other) = self.input.first().filter(|first| **first != b'$') {
            return Err(ProtocolError::NoBulk(*other));
        }
        let Some(line) = self.take_count(ProtocolError::LongLength)? else { return Ok(None) };
        let length = parse_integer(&line[1..]).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= BULK_BYTES_MAX).ok_or(ProtocolError::Length)?;
        if !self.is_known && length > STRANGER_BULK_BYTES_MAX {
            return Err(ProtocolError::StrangerLength);
        }
        Ok(Some(length))
    }

    /// The line in front without its end, which is any byte after a carriage return, as for Redis.
    fn take_count(&mut self, too_long: ProtocolError) -> Result<Option<BytesMut>, ProtocolError> {
        let Some(end) = self.find(b'\r') else {
            return if self.input.len() > LINE_BYTES_MAX { Err(too_long) } else { Ok(None) };
        };
        if self.input.len() < end + 2 {
            return Ok(None);
        }
        self.searched = 0;
        let line = self.input.split_to(end);
        self.input.advance(2);
        Ok(Some(line))
    }

    /// The words of the line in front.
    fn next_line(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let Some(end) = self.find(b'\n').filter(|end| *end <= LINE_BYTES_MAX) else {
            return if self.input.len() > LINE_BYTES_MAX { Err(ProtocolError::LongLine) } else { Ok(None) };
        };
        self.searched = 0;
        let line = self.input.split_to(end + 1);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        split_words(line.strip_suffix(b"\r").unwrap_or(line)).map(Some).ok_or(ProtocolError::Quotes)
    }

    /// Where `end` is in the input; what was searched before is not searched again.
    fn find(&mut self, end: u8) -> Option<usize> {
        let searched = self.searched.min(self.input.len());
        let found = self.input[searched..].iter().position(|byte| *byte == end).map(|index| searched + index);
        self.searched = found.unwrap_or(self.input.len());
        found
    }
}

/// An integer as Redis takes it: a minus or no sign, no zero in front, no blanks.
pub(super) fn parse_integer(digits: &[u8]) -> Option<i64> {
    let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
    let is_canonical = match unsigned {
        [b'0'] => unsigned.len() == digits.len(),
        [b'1'..=b'9', ..] => unsigned.len() <= 19,
        _ => false,
    };
    if is_canonical { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// The words of a line as Redis splits it: quotes, and escapes within double ones; `None` if quotes do not match.
fn split_words(mut line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    loop {
        line = line.trim_ascii_start();
        if line.is_empty() {
            return Some(words);
        }
        let (word, rest) = take_word(line)?;
        words.push(word.into());
        line = rest;
    }
}

fn take_word(mut line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match line {
            [] => return Some((word, line)),
            [b'"', rest @ ..] => return take_quoted(word, rest, b'"'),
            [b'\'', rest @ ..] => return take_quoted(word, rest, b'\''),
            [byte, ..] if byte.is_ascii_whitespace() || *byte == 0 => return Some((word, &line[1..])),
            [byte, rest @ ..] => {
                word.push(*byte);
                line = rest;
            }
        }
    }
}

/// The rest of a word after a quote was opened; a blank or the end must follow the closing one.
fn take_quoted(mut word: Vec<u8>, mut line: &[u8], quote: u8) -> Option<(Vec<u8>, &[u8])> {
    loop {
        match line {
            [] => return None,
            [byte, rest @ ..] if *byte == quote => {
                let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
                return ends.then_some((word, rest));
            }
            [b'\\', b'\'', rest @ ..] if quote == b'\'' => {
                word.push(b'\'');
                line = rest;
            }
            [b'\\', b'x', high, low, rest @ ..] if quote == b'"' && is_hex(*high) && is_hex(*low) => {
                word.push(hex_digit(*high) * 16 + hex_digit(*low));
                line = rest;
            }
            [b'\\', escaped, rest @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                line = rest;
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                line = rest;
            }
        }
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn hex_digit(byte: u8) -> u8 {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{ProtocolError, RequestReader, parse_integer};

    /// All requests in `input`, however it is cut.
    fn read(input: &[u8], part: usize) -> Result<Vec<Vec<String>>, ProtocolError> {
        let mut reader = RequestReader { is_known: true, ..RequestReader::default() };
        let mut requests = Vec::new();
        for part in input.chunks(part) {
            reader.input.extend_from_slice(part);
            while let Some(request) = reader.next_request()? {
                requests.push(request.iter().map(|word| word.escape_ascii().to_string()).collect());
            }
        }
        Ok(requests)
    }

    #[test]
    fn requests_are_read_wherever_they_are_cut() {
        let input = b"*2\r\n$3\r\nGET\r\n$0\r\n\r\nPING\r\n\r\n*0\r\n*-1\r\nSET \"a\\x41\\n\" 'b\\'c' d\n*1\r\n$4\r\n\r\n\r\n\r\n";
        let expected = [vec!["GET", ""], vec!["PING"], vec!["SET", "aA\\n", "b\\'c", "d"], vec!["\\r\\n\\r\\n"]];
        for part in 1..input.len() {
            assert_eq!(read(input, part).unwrap(), expected, "{part}");
        }
    }

    #[test]
    fn rubbish_is_refused_with_the_words_of_redis() {
        let long = [b'a'; (64 << 10) + 1];
        let long_count = [&b"*1"[..], &[b'1'; 64 << 10]].concat();
        let long_length = [&b"*1\r\n$1"[..], &[b'1'; 64 << 10]].concat();
        for (input, expected) in [
            (&long[..], "too big inline request"),
            (&long_count, "too big mbulk count string"),
            (&long_length, "too big bulk count string"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*1x\r\n", "invalid multibulk length"),
            (b"*99999999999999999999\r\n", "invalid multibulk length"),
            (b"*1\r\n+OK\r\n", "expected '$', got '+'"),
            (b"*1\r\n*1\r\n", "expected '$', got '*'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$67108865\r\n", "invalid bulk length"),
            (b"*1\r\n$\r\n", "invalid bulk length"),
            (b"SET \"a b\n", "unbalanced quotes in request"),
            (b"SET 'a'b\n", "unbalanced quotes in request"),
        ] {
            let error = read(input, 1000).unwrap_err().to_string();
            assert_eq!(error, format!("Protocol error: {expected}"), "{}", input[..input.len().min(20)].escape_ascii());
        }
    }

    #[test]
    fn a_stranger_may_send_little() {
        for (input, expected) in
            [(&b"*11\r\n"[..], ProtocolError::StrangerCount), (b"*2\r\n$16385\r\n", ProtocolError::StrangerLength)]
        {
            let mut reader = RequestReader::default();
            reader.input.extend_from_slice(input);
            assert_eq!(reader.next_request(), Err(expected));
        }
    }

    #[test]
    fn a_length_that_is_told_costs_nothing_before_it_arrives() {
        let mut reader = RequestReader { is_known: true, ..RequestReader::default() };
        reader.input.extend_from_slice(b"*1048576\r\n$67108864\r\nabc");
        assert_eq!(reader.next_request(), Ok(None));
        assert!(reader.input.capacity() < 1000 && reader.held() == 3);
        assert_eq!(reader.wanted(), (64 << 20) + 2 - 3);
    }

    #[test]
    fn many_long_arguments_are_too_many() {
        let mut reader = RequestReader { is_known: true, ..RequestReader::default() };
        reader.input.extend_from_slice(b"*3\r\n");
        for _ in 0..2 {
            reader.input.extend_from_slice(b"$50000000\r\n");
            reader.input.resize(reader.input.len() + 50_000_000, b'x');
            reader.input.extend_from_slice(b"\r\n");
        }
        assert_eq!(reader.next_request(), Ok(None));
        reader.input.extend_from_slice(b"$50000000\r\n");
        assert_eq!(reader.next_request(), Err(ProtocolError::LongRequest));
    }

    #[test]
    fn integers_are_canonical() {
        for (text, number) in [("0", Some(0)), ("-1", Some(-1)), ("9223372036854775807", Some(i64::MAX)), ("-0", None)]
        {
            assert_eq!(parse_integer(text.as_bytes()), number, "{text}");
        }
        for text in ["", "-", "+1", "01", "1 ", "9223372036854775808", "0x1"] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
        }
    }
}
