use difuse_api::{
    keys::VerifyError,
    request::RequestError,
    structures::{CommandError, Reply},
    values::ValueError,
};
use difuse_types::KeyError;

use super::answer::Answer;

/// Why a command was not done: code and text, as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure(pub(super) String);

/// What a command comes to.
pub(super) type Outcome = Result<Answer, Failure>;

impl Failure {
    /// An error `ERR text`.
    pub(super) fn new(text: impl std::fmt::Display) -> Self {
        Self(format!("ERR {text}"))
    }

    /// The number of arguments is wrong; `command` in lower case.
    pub(super) fn arity(command: &str) -> Self {
        CommandError::Arity(command.into()).into()
    }

    /// The arguments make no sense.
    pub(super) fn syntax() -> Self {
        CommandError::Syntax.into()
    }

    /// Keys of one command are not of one slot.
    pub(super) fn cross_slot() -> Self {
        Self("CROSSSLOT Keys in request don't hash to the same slot".into())
    }

    /// Others were faster, again and again.
    pub(super) fn contended() -> Self {
        Self("TRYAGAIN the key was changed by others again and again meanwhile; nothing was changed".into())
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self::Reply(Reply::Error(failure.0))
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self(error.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(error)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        if matches!(error, RequestError::QuotaReached { .. }) {
            // In Redis's words, which clients know, and then ours.
            return Self(format!("OOM command not allowed: {error}"));
        }
        let code = match &error {
            RequestError::Conflict { .. } => "CONFLICT",
            RequestError::Unavailable { .. } => "CLUSTERDOWN",
            RequestError::NotServing(_) => "LOADING",
            RequestError::NotAll { .. } => "NOREPLICAS",
            RequestError::Unknown { .. } | RequestError::Forgotten { .. } => "UNKNOWN",
            RequestError::Busy | RequestError::UploadTooOld { .. } | RequestError::Lapsed { .. } => "TRYAGAIN",
            RequestError::Full { .. } => "MISCONF",
            RequestError::Storage(_) => "IOERR",
            RequestError::Pruned(_) => "PRUNED",
            RequestError::InBlocks
            | RequestError::WrongHash { .. }
            | RequestError::Invalid(_)
            | RequestError::QuotaReached { .. }
            | RequestError::BlockReferenced { .. } => "ERR",
        };
        Self(format!("{code} {error}"))
    }
}

impl From<ValueError> for Failure {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::Request(error) => error.into(),
            ValueError::Missing { .. } | ValueError::Damaged { .. } => Self(format!("IOERR {error}")),
            ValueError::Structure | ValueError::Source(_) | ValueError::Range { .. } => Self::new(error),
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Request(error) => error.into(),
            broken => Self(format!("BROKEN {broken}")),
        }
    }
}
