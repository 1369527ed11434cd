use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The answer to a command, in the types of RESP3; a gateway writes them as each connection's protocol has them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
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
    /// A list of pairs; a flat list in RESP2.
    Pairs(Vec<(Reply, Reply)>),
    /// A floating-point number; a string in RESP2.
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

    /// As it travels between nodes.
    pub fn encode(&self) -> Vec<u8> {
        crate::structure::encode(self)
    }

    /// Reads a reply that came from a node.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedReply> {
        postcard::from_bytes(bytes).map_err(|_| MalformedReply)
    }
}
