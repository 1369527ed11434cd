//! The leader's part in a collection of blocks that nothing names any more. Who runs a collection is no affair of the
//! peer's: the steps are safe in any order and at any time, by whoever they are asked for (see [`CollectionStep`]).

use difuse_blocks::{BlockRecord, Content, Inode};
use difuse_keylog::{
    Anchor, Condition, Job, Operation, Sealed, Store, StoreError, Submission, Ticket, Value, ValueKind,
    generation_operation,
};
use difuse_types::{Hash, Key, Level, OperationId, SlotId};

use super::{BlockCommand, BlockResult, Peer, member::CommandPurpose};
use crate::{
    message::{BlockMessage, BlockQuestion, Message, Outcome},
    request::{COLLECTED_MAX, CollectionReply, CollectionStep, Reply, Request, RequestError},
};

impl<S: Store> Peer<S> {
    /// Takes a step as the leader of the slot.
    pub(super) fn take_collection_step(
        &mut self,
        ticket: Ticket,
        slot: SlotId,
        step: CollectionStep,
    ) -> Result<(), StoreError> {
        let on_the_generation = match step {
            // Any number that was committed will do: an older one is refused the sooner.
            CollectionStep::Look => Some(Job::Read { level: Level::Leader, seen: None }),
            CollectionStep::Raise { generation } => Some(Job::Append(self.raise_to(generation))),
            _ => None,
        };
        if let Some(job) = on_the_generation {
            return self.keylog.submit(ticket, slot, Key::of_generation(), job);
        }
        if !self.keylog.is_leading(slot) {
            let leader = self.keylog.leader(slot);
            return self.end_job(ticket, Outcome::Redirect { slot, configuration: None, leader });
        }
        match step {
            CollectionStep::Look | CollectionStep::Raise { .. } => Ok(()),
            CollectionStep::Seal { generation } => {
                let (is_sealed, silent) = match self.keylog.seal(slot, generation)? {
                    Sealed::Yes => (true, Vec::new()),
                    Sealed::Waiting(silent) => (false, silent),
                    Sealed::NotRaised | Sealed::NotLeading => (false, Vec::new()),
                };
                self.end_collection_step(ticket, CollectionReply::Sealed { is_sealed, silent })
            }
            CollectionStep::List { after } => {
                self.command(BlockCommand::List { slot, after }, CommandPurpose::Collection { ticket, slot });
                Ok(())
            }
            CollectionStep::Delete { blocks } => self.delete_collected(ticket, slot, blocks),
        }
    }

    fn raise_to(&mut self, generation: u64) -> Submission {
        Submission {
            operation: generation_operation(generation),
            condition: Condition::None,
            operation_id: OperationId(self.rng.u128(..).to_le_bytes()),
            author: self.me,
            time: self.wall,
            level: Level::Quorum,
            generation: None,
            since: Some(Anchor::LATEST),
        }
    }

    /// What is answered when the slot's generation was read, or raised.
    pub(super) fn generation_outcome(&mut self, slot: SlotId, request: &Request) -> Result<Outcome, StoreError> {
        let generation = match request {
            // The slot is in the generation asked for, or in a later one.
            Request::Collection { step: CollectionStep::Raise { generation }, .. } => Some(*generation),
            _ => self.keylog.generation(slot)?,
        };
        Ok(match generation {
            Some(generation) => Outcome::Reply(Reply::Collection(CollectionReply::Generation(generation))),
            // It has just ceased to lead.
            None => Outcome::Redirect { slot, configuration: None, leader: self.keylog.leader(slot) },
        })
    }

    /// Deletes blocks here and tells the other members to. Whoever does not hear of it finds the tombstones when slots
    /// are compared.
    fn delete_collected(&mut self, ticket: Ticket, slot: SlotId, blocks: Vec<(Hash, u64)>) -> Result<(), StoreError> {
        let Some(generation) = self.keylog.generation(slot)? else {
            return self.end_job(ticket, Outcome::Error(RequestError::Busy));
        };
        let slots = self.settings.slots;
        let may_go = |(hash, version): &(Hash, u64)| {
            let record = BlockRecord { version: *version, present: true, referenced: true, lost: false, length: 0 };
            slots.of_block(hash) == slot && record.is_collectable(generation)
        };
        if blocks.len() > COLLECTED_MAX || !blocks.iter().all(may_go) {
            let reason = "these blocks are not of the slot, or were put too lately to be collected".to_string();
            return self.end_job(ticket, Outcome::Error(RequestError::Invalid(reason)));
        }
        let Some(configuration) = self.keylog.configuration(slot).cloned() else { return Ok(()) };
        if blocks.is_empty() {
            return self.end_collection_step(ticket, CollectionReply::Done);
        }
        let others: Vec<_> = self.alive(configuration.all_members()).into_iter().filter(|it| *it != self.me).collect();
        self.deleting.insert(ticket, blocks.len());
        for (hash, version) in blocks {
            let version = version.saturating_add(1);
            self.command(BlockCommand::Delete { slot, hash, version }, CommandPurpose::Collection { ticket, slot });
            for node in &others {
                // Nobody waits for the answer.
                let (id, epoch, question) =
                    (self.next_id(), configuration.epoch, BlockQuestion::Delete { hash, version });
                self.send(*node, Message::Block(BlockMessage::Ask { id, slot, epoch, question }));
            }
        }
        Ok(())
    }

    pub(super) fn handle_collection_command(
        &mut self,
        ticket: Ticket,
        slot: SlotId,
        result: BlockResult,
    ) -> Result<(), StoreError> {
        match (self.deleting.get_mut(&ticket), result) {
            (None, BlockResult::Page { records, is_last }) => {
                self.end_collection_step(ticket, CollectionReply::Blocks { records, is_last })
            }
            (None, result) => {
                let reason = format!("the blocks of the leader of slot {slot} cannot be listed: {result:?}");
                self.end_job(ticket, Outcome::Error(RequestError::Unavailable { slot, reason }))
            }
            (Some(left), _) => {
                *left -= 1;
                if *left > 0 {
                    return Ok(());
                }
                self.deleting.remove(&ticket);
                self.end_collection_step(ticket, CollectionReply::Done)
            }
        }
    }

    fn end_collection_step(&mut self, ticket: Ticket, reply: CollectionReply) -> Result<(), StoreError> {
        self.end_job(ticket, Outcome::Reply(Reply::Collection(reply)))
    }
}

/// The generation in which the blocks that an operation names were stored; `None` if it names none.
pub(super) fn generation_of(operation: &Operation) -> Option<u64> {
    let Operation::Set(Value { kind: ValueKind::Inode, bytes, .. }) = operation else { return None };
    let inode = Inode::decode(bytes).ok()?;
    matches!(inode.content, Content::Block(_) | Content::Tree(_)).then_some(inode.generation)
}
