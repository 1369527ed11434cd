//! Replies as they go out, in the protocol that the client speaks.

use bytes::{BufMut, BytesMut};
use difuse_api::structures::{Reply, format_double};

/// Which version of the protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Protocol {
    /// What it speaks until it says otherwise.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// Its number in `HELLO`.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// Appends `reply` to `output`.
pub(super) fn encode(output: &mut BytesMut, reply: &Reply, protocol: Protocol) {
    let is_new = protocol == Protocol::Resp3;
    match reply {
        Reply::Status(text) => line(output, b'+', text),
        Reply::Error(text) => line(output, b'-', text),
        Reply::Integer(number) => header(output, b':', *number),
        Reply::Bulk(bytes) => bulk(output, b'$', bytes),
        Reply::Null | Reply::NullArray if is_new => output.put_slice(b"_\r\n"),
        Reply::Null => output.put_slice(b"$-1\r\n"),
        Reply::NullArray => output.put_slice(b"*-1\r\n"),
        Reply::Array(items) => list(output, b'*', items, protocol),
        Reply::Set(items) => list(output, if is_new { b'~' } else { b'*' }, items, protocol),
        Reply::Map(pairs) | Reply::PairsByName(pairs) if is_new => {
            length(output, b'%', pairs.len());
            encode_pairs(output, pairs, protocol);
        }
        Reply::Map(pairs) | Reply::Pairs(pairs) if !is_new => {
            length(output, b'*', 2 * pairs.len());
            encode_pairs(output, pairs, protocol);
        }
        Reply::Map(pairs) | Reply::Pairs(pairs) | Reply::PairsByName(pairs) => {
            length(output, b'*', pairs.len());
            for pair in pairs {
                length(output, b'*', 2);
                encode_pairs(output, std::slice::from_ref(pair), protocol);
            }
        }
        Reply::Double(number) if is_new => line(output, b',', &format_double(*number)),
        Reply::Double(number) => bulk(output, b'$', format_double(*number).as_bytes()),
        Reply::Boolean(truth) if is_new => output.put_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" }),
        Reply::Boolean(truth) => header(output, b':', i64::from(*truth)),
        Reply::Verbatim(format, text) if is_new => bulk(output, b'=', format!("{format}:{text}").as_bytes()),
        Reply::Verbatim(_, text) => bulk(output, b'$', text.as_bytes()),
    }
}

/// Appends something that nobody asked for: a message of a channel. To a client of version 2 it is a list.
pub(super) fn encode_push(output: &mut BytesMut, items: &[Reply], protocol: Protocol) {
    let sign = if protocol == Protocol::Resp3 { b'>' } else { b'*' };
    list(output, sign, items, protocol);
}

/// Appends what stands before a string of `size` bytes; the string follows, and [`END`].
pub(super) fn begin_bulk(output: &mut BytesMut, size: u64) {
    header(output, b'$', i64::try_from(size).unwrap_or(i64::MAX));
}

/// What ends a string.
pub(super) const END: &[u8] = b"\r\n";

fn encode_pairs(output: &mut BytesMut, pairs: &[(Reply, Reply)], protocol: Protocol) {
    for (first, second) in pairs {
        encode(output, first, protocol);
        encode(output, second, protocol);
    }
}

fn list(output: &mut BytesMut, sign: u8, items: &[Reply], protocol: Protocol) {
    length(output, sign, items.len());
    for item in items {
        encode(output, item, protocol);
    }
}

/// Text on one line: line ends within it would be taken for its own.
fn line(output: &mut BytesMut, sign: u8, text: &str) {
    output.put_u8(sign);
    output.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    output.put_slice(END);
}

fn bulk(output: &mut BytesMut, sign: u8, bytes: &[u8]) {
    length(output, sign, bytes.len());
    output.reserve(bytes.len() + END.len());
    output.put_slice(bytes);
    output.put_slice(END);
}

fn length(output: &mut BytesMut, sign: u8, length: usize) {
    header(output, sign, i64::try_from(length).unwrap_or(i64::MAX));
}

fn header(output: &mut BytesMut, sign: u8, number: i64) {
    output.put_u8(sign);
    if (0..10).contains(&number) {
        output.put_u8(b'0' + u8::try_from(number).unwrap_or_default());
    } else {
        output.put_slice(number.to_string().as_bytes());
    }
    output.put_slice(END);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use difuse_api::structures::Reply;

    use super::{Protocol, encode, encode_push};

    #[test]
    fn every_kind_of_reply_has_its_form_in_both_protocols() {
        let pair = || vec![(Reply::bulk("a"), Reply::Double(1.5))];
        for (reply, old, new) in [
            (Reply::ok(), "+OK\r\n", "+OK\r\n"),
            (Reply::Error("ERR a\r\nb".into()), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (Reply::Integer(-12), ":-12\r\n", ":-12\r\n"),
            (Reply::bulk("ab"), "$2\r\nab\r\n", "$2\r\nab\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::NullArray, "*-1\r\n", "_\r\n"),
            (Reply::Array(vec![Reply::Integer(1), Reply::Null]), "*2\r\n:1\r\n$-1\r\n", "*2\r\n:1\r\n_\r\n"),
            (Reply::Set(vec![Reply::Integer(1)]), "*1\r\n:1\r\n", "~1\r\n:1\r\n"),
            (Reply::Map(pair()), "*2\r\n$1\r\na\r\n$3\r\n1.5\r\n", "%1\r\n$1\r\na\r\n,1.5\r\n"),
            (Reply::Pairs(pair()), "*2\r\n$1\r\na\r\n$3\r\n1.5\r\n", "*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n"),
            (Reply::PairsByName(pair()), "*1\r\n*2\r\n$1\r\na\r\n$3\r\n1.5\r\n", "%1\r\n$1\r\na\r\n,1.5\r\n"),
            (Reply::Boolean(true), ":1\r\n", "#t\r\n"),
            (Reply::Verbatim("txt".into(), "a".into()), "$1\r\na\r\n", "=5\r\ntxt:a\r\n"),
        ] {
            for (protocol, expected) in [(Protocol::Resp2, old), (Protocol::Resp3, new)] {
                let mut output = BytesMut::new();
                encode(&mut output, &reply, protocol);
                assert_eq!(String::from_utf8_lossy(&output), expected);
            }
        }
        let mut output = BytesMut::new();
        encode_push(&mut output, &[Reply::Integer(1)], Protocol::Resp3);
        assert_eq!(&output[..], b">1\r\n:1\r\n");
    }
}
