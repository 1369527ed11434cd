mod codec;

use bytes::Bytes;

/// The answer to a command, in the types of RESP3; a gateway writes them as each connection's protocol has them.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// A status such as `OK`.
    Status(String),
    /// An error: code and text, without the sign in front.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A string of bytes.
    Bulk(Bytes),
    /// No value (`$-1` in RESP2).
    Null,
    /// No list of values (`*-1` in RESP2, the same as [`Reply::Null`] in RESP3).
    NullArray,
    /// A list.
    Array(Vec<Reply>),
    /// Pairs by name; a flat list in RESP2.
    Map(Vec<(Reply, Reply)>),
    /// An unordered collection; a list in RESP2.
    Set(Vec<Reply>),
    /// A list of pairs: a list of lists of two in RESP3, a flat list in RESP2.
    Pairs(Vec<(Reply, Reply)>),
    /// Lists by name: a map in RESP3, a list of lists of two in RESP2.
    PairsByName(Vec<(Reply, Reply)>),
    /// A floating-point number, written by [`crate::format_double`]; a string in RESP2.
    Double(f64),
    /// A yes or no; 1 or 0 in RESP2.
    Boolean(bool),
    /// Text with its format of three letters (`txt`); a string in RESP2.
    Verbatim(String, String),
}

/// Bytes that are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no reply to a command")]
pub struct MalformedReply;

impl Reply {
    /// How deep lists lie within lists at most. Those of Redis's commands lie five deep.
    pub const DEPTH_MAX: usize = 32;

    /// `+OK`.
    pub fn ok() -> Self {
        Self::Status("OK".into())
    }

    /// A string of bytes.
    pub fn bulk(bytes: impl Into<Bytes>) -> Self {
        Self::Bulk(bytes.into())
    }

    /// A count.
    pub fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// A string of bytes, or none.
    pub fn bulk_or_null(bytes: Option<impl Into<Bytes>>) -> Self {
        bytes.map_or(Self::Null, Self::bulk)
    }

    /// No elements.
    pub fn empty() -> Self {
        Self::Array(Vec::new())
    }

    /// 1 or 0.
    pub fn one_if(is_true: bool) -> Self {
        Self::Integer(i64::from(is_true))
    }

    /// A list of strings of bytes.
    pub fn bulks(items: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Array(items.into_iter().map(Self::Bulk).collect())
    }

    /// As it travels between nodes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::write(self, &mut bytes);
        bytes
    }

    /// An array of replies that are encoded already, as it travels between nodes.
    pub fn encode_array_of(encoded: &[Bytes]) -> Vec<u8> {
        codec::write_array_of(encoded)
    }

    /// Reads a reply that came from a node. It may be anything: lists within lists are read to a depth of
    /// [`Reply::DEPTH_MAX`] only, and no more memory is taken than in proportion to the bytes that are there.
    ///
    /// # Errors
    /// If the bytes are no reply, or more than one.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedReply> {
        codec::read(bytes)
    }
}
