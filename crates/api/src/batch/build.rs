//! Making a structure by the commands that it was exported as.

use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use difuse_keylog::StepCommand;
use difuse_protocol::request::RequestError;
use difuse_structures::{Registry, Reply};
use difuse_types::{Key, Level, Slots, WallTime};

use crate::{Datastore, keys};

/// Commands of so many bytes in all are one step: what a step changes has 256 KiB at most.
const STEP_BYTES_MAX: usize = 96 << 10;
/// The most commands of one step.
const STEP_COMMANDS_MAX: usize = 64;

/// Where the keys of commands stand.
static COMMANDS: LazyLock<Registry> = LazyLock::new(Registry::builtin);

/// About how many bytes commands take.
pub(super) fn bytes_of(commands: &[Vec<Bytes>]) -> usize {
    commands.iter().flatten().map(|word| word.len() + size_of::<Bytes>()).sum()
}

/// Lets a key hold what the commands make, whatever it held, until `deadline`. The ring's slots are asked for once.
pub(super) async fn run<D: Datastore + ?Sized>(
    datastore: &D,
    key: Key,
    commands: Vec<Vec<Bytes>>,
    deadline: Option<WallTime>,
    level: Level,
    known_slots: &OnceLock<Slots>,
) -> Result<(), RequestError> {
    let level = if level == Level::Lazy { Level::Leader } else { level };
    let name = key.encoded().slice_ref(key.name());
    let expire = deadline.map(|deadline| vec!["pexpireat".into(), deadline.0.to_string().into()]);
    let all = [vec![Bytes::from_static(b"del")]].into_iter().chain(commands).chain(expire);
    let mut rest = all.map(|command| with_key(command, &name)).peekable();
    let slots = match known_slots.get() {
        Some(slots) => *slots,
        None => {
            let slots = keys::routes(datastore).await?.settings.slots;
            *known_slots.get_or_init(|| slots)
        }
    };
    while rest.peek().is_some() {
        let (mut step, mut bytes) = (Vec::new(), 0);
        let is_full = |step: &[StepCommand], bytes| step.len() >= STEP_COMMANDS_MAX || bytes > STEP_BYTES_MAX;
        while let Some(command) = rest.next_if(|next| step.is_empty() || !is_full(&step, bytes + command_bytes(next))) {
            bytes += command_bytes(&command);
            step.push(StepCommand { keys: vec![key.clone()], arguments: command });
        }
        let replies = keys::step(datastore, slots, step, Vec::new(), keys::new_operation_id(), level).await?;
        replies.unwrap_or_default().into_iter().try_for_each(check)?;
    }
    Ok(())
}

fn command_bytes(command: &[Bytes]) -> usize {
    command.iter().map(Bytes::len).sum()
}

fn with_key(mut command: Vec<Bytes>, name: &Bytes) -> Vec<Bytes> {
    let position = COMMANDS.command(&command).and_then(|found| usize::try_from(found.keys.first).ok()).unwrap_or(1);
    command.insert(position.clamp(1, command.len().max(1)).min(command.len()), name.clone());
    command
}

fn check(reply: Reply) -> Result<(), RequestError> {
    match reply {
        Reply::Error(text) => Err(RequestError::Invalid(text)),
        _ => Ok(()),
    }
}
