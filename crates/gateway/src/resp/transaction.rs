//! `MULTI`: commands that are put aside, to be done as one step of the slot that their keys are in.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use difuse_api::{
    keylog::{MAX_INLINE_BYTES, STEP_COMMANDS_MAX, STEP_KEYS_MAX},
    request::{ARGUMENT_BYTES_MAX, Condition},
    structures::Command,
};
use difuse_types::Key;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Shared,
    catalogue::{AtOnce, Entry, Run, keys_of},
    failure::Failure,
};

/// The most keys that a connection can watch.
const WATCHED_MAX: usize = STEP_KEYS_MAX / 4;
/// The most keys of one transaction, each command's for itself.
const KEYS_MAX: usize = STEP_KEYS_MAX - WATCHED_MAX;
/// The most bytes of a transaction's commands: as a step they travel as one argument, and what is watched with them.
const BYTES_MAX: usize = ARGUMENT_BYTES_MAX / 4 * 3;
/// What an argument and a key cost besides their bytes.
const ARGUMENT_BYTES: usize = 16;
/// What every connection may keep for a transaction, in bytes; more is reserved of the node's memory for them.
const FREE_BYTES: usize = 32 << 10;
/// The most bytes of the names of watched keys.
const WATCHED_BYTES_MAX: usize = 32 << 10;

/// A command that was put aside.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) arguments: Vec<Bytes>,
    pub(super) kind: Kind,
}

/// Who does it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// The leader of its keys' slot.
    OnKeys {
        /// Whether it may change them.
        is_write: bool,
    },
    /// The gateway, when the step is done.
    AtOnce(AtOnce),
}

/// The commands between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) queued: Vec<Queued>,
    bytes: usize,
    keys: usize,
    reserved: Option<OwnedSemaphorePermit>,
    /// Whether a command was refused: then none is done.
    pub(super) is_aborted: bool,
}

impl Transaction {
    /// Puts a command aside, of which the connection may send so many arguments.
    pub(super) fn add(&mut self, entry: &Entry, shared: &Shared, arguments: Vec<Bytes>) -> Result<(), Failure> {
        let kind = kind_of(entry, shared, &arguments)?;
        let keys = keys_of(&shared.registry, &entry.command, &arguments);
        // Keys travel twice: as such, and as arguments.
        let all = arguments.iter().chain(keys.iter().copied());
        let bytes = self.bytes + all.map(|argument| argument.len() + ARGUMENT_BYTES).sum::<usize>();
        let keys = self.keys + keys.len();
        if self.queued.len() >= STEP_COMMANDS_MAX || keys > KEYS_MAX || bytes > BYTES_MAX {
            return Err(Failure::new(format_args!(
                "a transaction has at most {STEP_COMMANDS_MAX} commands, {KEYS_MAX} keys and {BYTES_MAX} bytes"
            )));
        }
        self.reserve(shared, bytes)?;
        (self.bytes, self.keys) = (bytes, keys);
        self.queued.push(Queued { arguments, kind });
        Ok(())
    }

    fn reserve(&mut self, shared: &Shared, bytes: usize) -> Result<(), Failure> {
        let reserved = self.reserved.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = bytes.saturating_sub(FREE_BYTES).div_ceil(1024).saturating_sub(reserved);
        if wanted == 0 {
            return Ok(());
        }
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let more = shared.transactions.clone().try_acquire_many_owned(wanted);
        let more = more.map_err(|_| Failure("TRYAGAIN the node has no memory left for transactions".into()))?;
        match &mut self.reserved {
            Some(reserved) => reserved.merge(more),
            None => self.reserved = Some(more),
        }
        Ok(())
    }
}

fn kind_of(entry: &Entry, shared: &Shared, arguments: &[Bytes]) -> Result<Kind, Failure> {
    let command = &entry.command;
    match entry.run {
        Run::AtOnce(run) | Run::InOrder(run) | Run::Told(run, _) if is_answered_once(command) => {
            return Ok(Kind::AtOnce(run));
        }
        Run::OnKey | Run::OnKeys(_) | Run::Alone(_) | Run::Waiting(_)
            if shared.registry.command(arguments).is_some() => {}
        _ => {
            let name = command.name.to_ascii_uppercase();
            return Err(Failure::new(format_args!("{name} is not allowed in a transaction: it is no part of a step")));
        }
    }
    let is_string = command.is_write() && matches!(command.group, "string" | "bitmap");
    if is_string && arguments.iter().any(|argument| argument.len() > MAX_INLINE_BYTES) {
        return Err(too_long());
    }
    Ok(Kind::OnKeys { is_write: command.is_write() })
}

/// Others answer with messages, change how an answer is written, or are not there at all.
fn is_answered_once(command: &Command) -> bool {
    !command.name.ends_with("subscribe") && command.name != "hello" && command.group != "scripting"
}

/// A string is not in the log.
pub(super) fn too_long() -> Failure {
    Failure::new(format_args!(
        "a string in a transaction has at most {MAX_INLINE_BYTES} bytes: longer ones live in blocks, which are stored \
         before the log names them"
    ))
}

/// The keys that a connection watches, each as it was then.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched(Arc<Mutex<BTreeMap<Key, Condition>>>);

impl Watched {
    /// Watches a key that was like this; one that is watched already stays as it was first.
    pub(super) fn add(&self, key: Key, was: Condition) -> Result<(), Failure> {
        let mut watched = self.lock();
        let bytes = watched.keys().map(|key| key.encoded().len()).sum::<usize>() + key.encoded().len();
        if watched.len() >= WATCHED_MAX || bytes > WATCHED_BYTES_MAX {
            return Err(Failure::new(format_args!(
                "a connection watches {WATCHED_MAX} keys of {WATCHED_BYTES_MAX} bytes at most"
            )));
        }
        watched.entry(key).or_insert(was);
        Ok(())
    }

    /// All of them; none is watched any more.
    pub(super) fn take(&self) -> BTreeMap<Key, Condition> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Condition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
