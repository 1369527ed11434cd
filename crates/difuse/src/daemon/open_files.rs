//! How many files and connections the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the node keeps for its own files and for connections to other nodes.
const OWN: u64 = 1024;

/// Raises the limit as far as the operating system lets it, and returns how many connections of clients it leaves room
/// for; `None`: as many as come.
pub fn raise_limit() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files cannot be raised");
            limit.current
        }
    };
    let left = |files: u64| usize::try_from(files.saturating_sub(OWN).max(files / 2)).unwrap_or(usize::MAX);
    current.map(left)
}
