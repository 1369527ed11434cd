/// Why a command was not done; the text is Redis's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The key holds another kind of value.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The arguments make no sense.
    #[error("ERR syntax error")]
    Syntax,
    /// An argument or a value is no integer.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// An argument or a value is no number.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// A sum does not fit into 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// A moment to expire at that cannot be.
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(String),
    /// The number of arguments is wrong.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    /// The value lives in blocks: whoever asks has to read it and to write it anew.
    #[error("ERR the value is too long to be changed in place")]
    InBlocks,
    /// Anything else, code and text.
    #[error("{0}")]
    Other(String),
}

impl CommandError {
    /// An error `ERR text`.
    pub fn new(text: impl std::fmt::Display) -> Self {
        Self::Other(format!("ERR {text}"))
    }
}
