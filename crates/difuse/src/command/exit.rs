//! How `difuse` ends, and with which exit code.

use std::io;

use difuse_api::{
    files::FileError, keylog::Checkpoint, keys::VerifyError, namespaces::SettingsError, request::RequestError,
    values::ValueError,
};
use difuse_client::ConnectError;
use difuse_types::KeyError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Anything else.
    #[error("{0}")]
    Other(String),
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// A condition does not hold, or something stands in the way.
    #[error("{0}")]
    Conflict(String),
    /// The ring cannot be reached or cannot serve now.
    #[error("{0}")]
    Unavailable(String),
    /// A write may or may not have been applied.
    #[error("{0}")]
    Unknown(String),
    /// What was read does not verify.
    #[error("{0}")]
    Corrupt(String),
    /// A disk of the ring is full, or a namespace.
    #[error("{0}")]
    Full(String),
    /// Nobody reads our output any more.
    #[error("nobody reads the output")]
    BrokenPipe,
}

impl Failure {
    /// As documented in `difuse --help`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Conflict(_) => 4,
            Self::Unavailable(_) => 5,
            Self::Unknown(_) => 6,
            Self::Corrupt(_) => 7,
            Self::Full(_) => 8,
        }
    }

    /// The same kind of failure, told of a whole tree.
    pub fn of_several(self, failed: usize, total: usize) -> Self {
        if total <= 1 {
            return self;
        }
        let text = format!("{failed} of {total} entries failed; the first: {self}");
        match self {
            Self::Other(_) => Self::Other(text),
            Self::Usage(_) => Self::Usage(text),
            Self::NotFound(_) => Self::NotFound(text),
            Self::Conflict(_) => Self::Conflict(text),
            Self::Unavailable(_) => Self::Unavailable(text),
            Self::Unknown(_) => Self::Unknown(text),
            Self::Corrupt(_) => Self::Corrupt(text),
            Self::Full(_) => Self::Full(text),
            Self::BrokenPipe => Self::BrokenPipe,
        }
    }

    /// A failure of a local file.
    pub fn local(path: &std::path::Path, error: &io::Error) -> Self {
        Self::Other(format!("{}: {error}", path.display()))
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let text = error.to_string();
        match error {
            RequestError::Conflict { .. } | RequestError::BlockReferenced { .. } => Self::Conflict(text),
            RequestError::Unavailable { .. }
            | RequestError::NotAll { .. }
            | RequestError::Busy
            | RequestError::UploadTooOld { .. }
            | RequestError::Lapsed { .. }
            | RequestError::NotServing(_) => Self::Unavailable(text),
            RequestError::Unknown { .. } | RequestError::Forgotten { .. } => Self::Unknown(text),
            RequestError::WrongHash { .. } => Self::Corrupt(text),
            RequestError::Invalid(_) | RequestError::InBlocks => Self::Usage(text),
            RequestError::Pruned(Checkpoint { height, .. }) => {
                Self::Other(format!("{text}; ask for it with --from {height}, or from a later height"))
            }
            RequestError::Full { .. } | RequestError::QuotaReached { .. } => Self::Full(text),
            RequestError::Storage(_) => Self::Other(text),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NoAddress => Self::Usage(error.to_string()),
            ConnectError::Transport(_) => Self::Other(error.to_string()),
            ConnectError::Unreachable { .. } => {
                Self::Unavailable(format!("{error}; start one with `difused`, or name another one with --node"))
            }
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Request(error) => error.into(),
            VerifyError::Broken(_) | VerifyError::NoCheckpoint { .. } | VerifyError::OtherHead { .. } => {
                Self::Corrupt(format!("the history does not verify: {error}"))
            }
        }
    }
}

impl From<ValueError> for Failure {
    fn from(error: ValueError) -> Self {
        let text = error.to_string();
        match error {
            ValueError::Request(error) => error.into(),
            ValueError::Source(_) => Self::Other(text),
            ValueError::Missing { .. } | ValueError::Damaged { .. } => Self::Corrupt(text),
            ValueError::Range { .. } | ValueError::Structure => Self::Usage(text),
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let text = error.to_string();
        match error {
            FileError::Request(error) => error.into(),
            FileError::Value(error) => error.into(),
            FileError::Path(error) => error.into(),
            FileError::NotFound { .. } => Self::NotFound(text),
            FileError::IsADirectory { .. } | FileError::NotADirectory { .. } | FileError::NotEmpty { .. } => {
                Self::Conflict(text)
            }
            FileError::Options(_) => Self::Usage(text),
            FileError::NotAFile { .. } => Self::Corrupt(text),
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Name(error) => error.into(),
            SettingsError::Request(error) => error.into(),
            SettingsError::Malformed { .. } => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Other(error.to_string()),
        }
    }
}
