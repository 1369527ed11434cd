use crate::VERSION;

/// Why a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The sender speaks another version.
    #[error("the peer speaks version {theirs} of the protocol, this node speaks {VERSION}")]
    Version {
        /// The version that it speaks.
        theirs: u16,
    },
    /// The bytes are no frame of this version.
    #[error("malformed frame: {0}")]
    Malformed(String),
    /// A value is out of its bounds.
    #[error("malformed frame: {field} is out of bounds")]
    OutOfBounds {
        /// The field.
        field: &'static str,
    },
}

impl WireError {
    pub(crate) fn malformed(what: &str) -> Self {
        Self::Malformed(what.into())
    }

    /// The verifier's error, cut short: it can name a whole path of tables.
    pub(crate) fn unverified(error: &flatbuffers::InvalidFlatbuffer) -> Self {
        Self::Malformed(error.to_string().chars().take(300).collect())
    }
}

/// The value of an optional field that must be there, such as the variant that a union's type names.
pub(crate) fn present<T>(value: Option<T>, what: &'static str) -> Result<T, WireError> {
    value.ok_or_else(|| WireError::malformed(what))
}

/// Refuses a field that does not hold what it must.
pub(crate) fn check(holds: bool, field: &'static str) -> Result<(), WireError> {
    if holds { Ok(()) } else { Err(WireError::OutOfBounds { field }) }
}
