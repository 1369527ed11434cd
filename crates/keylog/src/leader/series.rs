//! Commands on one key that are asked for together: evaluated one after the other, each on what those before it have left,
//! and proposed together, a transaction for each that changes something.
//!
//! All of them are applied or none, so that the first transaction, which has the operation id of the series, tells of all.
//! The id of any other follows from that of the series and the place of its command.
//!
//! Where a command cannot be done, because the value lives in blocks or something grows too long, the series ends before
//! it: there are fewer replies than commands, and whoever asks goes on with that command by itself.

use bytes::Bytes;
use difuse_structures::{Outcome, Reply};
use difuse_types::{Hash, Key, NodeId, OperationId, SlotId, WallTime};

use super::{
    append::{BATCH_BYTES_MAX, Draft, transaction_after},
    evaluate::{Evaluated, context_of},
};
use crate::{
    Failure, MAX_OPERATION_BYTES, REPLY_BYTES_MAX, keylog::Keylog, replica::damage::ReadError, step::operation_id_in,
    store::Store,
};

/// What a reply takes besides the replies to the commands that are in it.
const OVERHEAD_BYTES: usize = 16;

/// The replies of a series.
#[derive(Default)]
struct Replies {
    encoded: Vec<Bytes>,
    bytes: usize,
}

impl Replies {
    /// How long the next one may be.
    fn room(&self) -> usize {
        (REPLY_BYTES_MAX - OVERHEAD_BYTES).saturating_sub(self.bytes)
    }

    fn push(&mut self, reply: Bytes) {
        self.bytes += reply.len();
        self.encoded.push(reply);
    }

    fn encode(&self) -> Bytes {
        Reply::encode_array_of(&self.encoded).into()
    }
}

/// What the command at a place of a series draws its choices from, and what its transaction is called.
fn id_of_command(series: OperationId, place: u64) -> OperationId {
    operation_id_in(series, u64::MAX - place)
}

impl<S: Store> Keylog<S> {
    /// Evaluates a series on a draft and adds its transactions: the encoded replies, and height and hash of the last one.
    #[expect(clippy::type_complexity)]
    pub(super) fn evaluate_series(
        &mut self,
        slot: SlotId,
        draft: &mut Draft,
        commands: &[&[Bytes]],
        (series, author, time): (OperationId, NodeId, WallTime),
    ) -> Result<Result<(Bytes, Option<(u64, Hash)>), Failure>, ReadError> {
        let mut replies = Replies::default();
        let mut appended = None;
        let mut bytes = 0;
        for (place, arguments) in (0..).zip(commands) {
            if bytes >= BATCH_BYTES_MAX {
                break;
            }
            let id = id_of_command(series, place);
            let Evaluated { reply, operation } =
                match self.evaluate(slot, draft, arguments, &context_of(id, time), replies.room())? {
                    Ok(evaluated) => evaluated,
                    Err(failure) if replies.encoded.is_empty() => return Ok(Err(failure)),
                    Err(_) => break,
                };
            replies.push(reply);
            let Some(operation) = operation else { continue };
            bytes += operation.value().map_or(0, |value| value.bytes.len());
            let id = if appended.is_none() { series } else { id };
            let transaction = transaction_after(draft, operation, id, author, time);
            self.append_to(slot, draft, transaction, false);
            appended = Some((draft.height, draft.hash));
            self.append_large_checkpoint(slot, draft, (id, author, time));
        }
        Ok(Ok((replies.encode(), appended)))
    }

    /// The replies of a series whose first transaction lies at a height: of as many commands as were done then.
    pub(super) fn series_again(
        &mut self,
        slot: SlotId,
        key: &Key,
        height: u64,
        commands: &[&[Bytes]],
        (series, time): (OperationId, WallTime),
    ) -> Result<Result<Bytes, Failure>, ReadError> {
        let mut draft = match self.draft_again(slot, key, height)? {
            Ok(draft) => draft,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut replies = Replies::default();
        let mut next = height;
        for (place, arguments) in (0..).zip(commands) {
            let id = id_of_command(series, place);
            let context = context_of(id, time);
            let Ok(Outcome { reply, effect }) = self.evaluate_on(&draft.content, arguments, &context) else { break };
            let reply = reply.encode();
            if reply.len() > replies.room() {
                break;
            }
            match self.operation_of(&mut draft, effect, &context, MAX_OPERATION_BYTES) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    let id = if next == height { series } else { id };
                    match self.end_of_command(slot, key, next, id)? {
                        Some(end) => next = end,
                        None => break,
                    }
                }
                Err(_) => break,
            }
            replies.push(reply.into());
        }
        Ok(Ok(replies.encode()))
    }

    /// The height after what a command has added at one, the parts of a checkpoint with it; `None` if it has added nothing
    /// there.
    fn end_of_command(
        &mut self,
        slot: SlotId,
        key: &Key,
        height: u64,
        id: OperationId,
    ) -> Result<Option<u64>, ReadError> {
        let is_at = |stored: Option<crate::Transaction>, id| stored.is_some_and(|stored| stored.operation_id == id);
        if !is_at(self.stored(slot, key, height)?, id) {
            return Ok(None);
        }
        let mut parts = 0;
        while is_at(self.stored(slot, key, height + 1 + parts)?, operation_id_in(id, parts)) {
            parts += 1;
        }
        Ok(Some(height + 1 + parts))
    }
}

/// How many transactions a command may come to, but for the parts of checkpoints.
pub(super) fn transactions_of(arguments: &[Bytes]) -> usize {
    difuse_structures::series_of(arguments).and_then(Result::ok).map_or(1, |commands| commands.len())
}
