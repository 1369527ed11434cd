//! Replies between nodes: a tag, then a length or a number as postcard writes it, then what it is the length of.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{MalformedReply, Reply};

const STATUS: u8 = 0;
const ERROR: u8 = 1;
const INTEGER: u8 = 2;
const BULK: u8 = 3;
const NULL: u8 = 4;
const NULL_ARRAY: u8 = 5;
const ARRAY: u8 = 6;
const MAP: u8 = 7;
const SET: u8 = 8;
const PAIRS: u8 = 9;
const DOUBLE: u8 = 10;
const BOOLEAN: u8 = 11;
const VERBATIM: u8 = 12;
const PAIRS_BY_NAME: u8 = 13;

/// Appends a reply.
pub(super) fn write(reply: &Reply, bytes: &mut Vec<u8>) {
    match reply {
        Reply::Status(text) => write_value(bytes, STATUS, text),
        Reply::Error(text) => write_value(bytes, ERROR, text),
        Reply::Integer(number) => write_value(bytes, INTEGER, number),
        Reply::Bulk(text) => write_value(bytes, BULK, text),
        Reply::Null => bytes.push(NULL),
        Reply::NullArray => bytes.push(NULL_ARRAY),
        Reply::Array(items) => write_list(bytes, ARRAY, items),
        Reply::Map(pairs) => write_pairs(bytes, MAP, pairs),
        Reply::Set(items) => write_list(bytes, SET, items),
        Reply::Pairs(pairs) => write_pairs(bytes, PAIRS, pairs),
        Reply::PairsByName(pairs) => write_pairs(bytes, PAIRS_BY_NAME, pairs),
        Reply::Double(number) => write_value(bytes, DOUBLE, number),
        Reply::Boolean(is_true) => write_value(bytes, BOOLEAN, is_true),
        Reply::Verbatim(format, text) => write_value(bytes, VERBATIM, &(format, text)),
    }
}

/// An array of encoded replies.
pub(super) fn write_array_of(encoded: &[Bytes]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + encoded.iter().map(Bytes::len).sum::<usize>());
    write_value(&mut bytes, ARRAY, &encoded.len());
    encoded.iter().for_each(|reply| bytes.extend_from_slice(reply));
    bytes
}

fn write_value(bytes: &mut Vec<u8>, tag: u8, value: &impl Serialize) {
    bytes.push(tag);
    bytes.extend(crate::structure::encode(value));
}

fn write_list(bytes: &mut Vec<u8>, tag: u8, items: &[Reply]) {
    write_value(bytes, tag, &items.len());
    items.iter().for_each(|item| write(item, bytes));
}

fn write_pairs(bytes: &mut Vec<u8>, tag: u8, pairs: &[(Reply, Reply)]) {
    write_value(bytes, tag, &pairs.len());
    for (first, second) in pairs {
        write(first, bytes);
        write(second, bytes);
    }
}

/// Reads the one reply that the bytes are.
pub(super) fn read(bytes: &[u8]) -> Result<Reply, MalformedReply> {
    let mut reader = Reader { rest: bytes };
    let reply = reader.reply(Reply::DEPTH_MAX)?;
    if reader.rest.is_empty() { Ok(reply) } else { Err(MalformedReply) }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn reply(&mut self, depth: usize) -> Result<Reply, MalformedReply> {
        let (tag, rest) = self.rest.split_first().ok_or(MalformedReply)?;
        self.rest = rest;
        Ok(match *tag {
            STATUS => Reply::Status(self.value()?),
            ERROR => Reply::Error(self.value()?),
            INTEGER => Reply::Integer(self.value()?),
            BULK => Reply::Bulk(self.value::<Bytes>()?),
            NULL => Reply::Null,
            NULL_ARRAY => Reply::NullArray,
            ARRAY => Reply::Array(self.list(depth)?),
            MAP => Reply::Map(self.pairs(depth)?),
            SET => Reply::Set(self.list(depth)?),
            PAIRS => Reply::Pairs(self.pairs(depth)?),
            PAIRS_BY_NAME => Reply::PairsByName(self.pairs(depth)?),
            DOUBLE => Reply::Double(self.value()?),
            BOOLEAN => Reply::Boolean(self.value()?),
            VERBATIM => {
                let (format, text) = self.value()?;
                Reply::Verbatim(format, text)
            }
            _ => return Err(MalformedReply),
        })
    }

    fn value<T: DeserializeOwned>(&mut self) -> Result<T, MalformedReply> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(|_| MalformedReply)?;
        self.rest = rest;
        Ok(value)
    }

    /// A count of things that each take `size` bytes at least.
    fn count(&mut self, size: usize) -> Result<usize, MalformedReply> {
        let count: usize = self.value()?;
        if count <= self.rest.len() / size { Ok(count) } else { Err(MalformedReply) }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Reply>, MalformedReply> {
        let depth = depth.checked_sub(1).ok_or(MalformedReply)?;
        (0..self.count(1)?).map(|_| self.reply(depth)).collect()
    }

    fn pairs(&mut self, depth: usize) -> Result<Vec<(Reply, Reply)>, MalformedReply> {
        let depth = depth.checked_sub(1).ok_or(MalformedReply)?;
        (0..self.count(2)?).map(|_| Ok((self.reply(depth)?, self.reply(depth)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf() -> impl Strategy<Value = Reply> {
        prop_oneof![
            ".{0,8}".prop_map(Reply::Status),
            ".{0,8}".prop_map(Reply::Error),
            any::<i64>().prop_map(Reply::Integer),
            proptest::collection::vec(any::<u8>(), 0..8).prop_map(Reply::bulk),
            Just(Reply::Null),
            Just(Reply::NullArray),
            any::<f64>().prop_filter("compared by value", |number| !number.is_nan()).prop_map(Reply::Double),
            any::<bool>().prop_map(Reply::Boolean),
            ("[a-z]{3}", ".{0,8}").prop_map(|(format, text)| Reply::Verbatim(format, text)),
        ]
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        leaf().prop_recursive(5, 64, 6, |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..6);
            let pairs = proptest::collection::vec((inner.clone(), inner), 0..4);
            prop_oneof![
                list.clone().prop_map(Reply::Array),
                list.prop_map(Reply::Set),
                pairs.clone().prop_map(Reply::Map),
                pairs.clone().prop_map(Reply::Pairs),
                pairs.prop_map(Reply::PairsByName),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(reply in any_reply()) {
            prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }

        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(0_u8..14, 0..300)) {
            if let Ok(reply) = Reply::decode(&bytes) {
                prop_assert_eq!(Reply::decode(&reply.encode()).is_ok(), true);
            }
        }

        #[test]
        fn a_reply_that_is_cut_off_is_refused(reply in any_reply(), cut in 1_usize..20) {
            let bytes = reply.encode();
            let kept = bytes.len().saturating_sub(cut);
            prop_assert_eq!(Reply::decode(&bytes[..kept]), Err(MalformedReply));
        }
    }

    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = [ARRAY, 1].repeat(depth);
        bytes.push(NULL);
        bytes
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(Reply::decode(&nested(Reply::DEPTH_MAX)).is_ok());
        assert_eq!(Reply::decode(&nested(Reply::DEPTH_MAX + 1)), Err(MalformedReply));
        assert_eq!(Reply::decode(&nested(10_000_000)), Err(MalformedReply));
    }

    #[test]
    fn a_count_of_more_than_there_is_takes_no_memory() {
        let mut bytes = vec![ARRAY];
        bytes.extend(crate::structure::encode(&(u64::MAX >> 1)));
        assert_eq!(Reply::decode(&bytes), Err(MalformedReply));
    }
}
