//! A member's part in requests about blocks: it answers for its own disk, under the epoch that it was asked in.

use difuse_blocks::{BlockRecord, PutDecision};
use difuse_keylog::{Configuration, RegisterSummary, Store, StoreError, Ticket};
use difuse_types::{Hash, NodeId, SlotId};

use super::{BlockCommand, BlockResult, Output, Peer, scrub::ScrubPurpose};
use crate::message::{BlockAnswer, BlockMessage, BlockQuestion, Message};

/// The most commands that wait for this node's disk.
const COMMANDS_MAX: usize = 8192;

/// What a command to the disk is for.
pub(crate) enum CommandPurpose {
    /// Somebody's question.
    Answer { from: NodeId, id: u64, slot: SlotId, epoch: u64 },
    /// This node's own transfer or comparison of a slot.
    Transfer { slot: SlotId, of: Option<Hash> },
    /// Whether a slot that this node is no member of has left anything here.
    LeftOver { slot: SlotId },
    /// A page of a dump.
    Dump { request: u64, slot: SlotId, limit: u32 },
    /// A pass of scrubbing, by its number.
    Scrub { pass: u64, slot: SlotId, of: ScrubPurpose },
    /// A step of a collection of blocks in a slot.
    Collection { ticket: Ticket, slot: SlotId },
    /// Nobody waits.
    Clear,
}

impl<S: Store> Peer<S> {
    pub(super) fn handle_block_message(&mut self, from: NodeId, message: BlockMessage) -> Result<(), StoreError> {
        match message {
            BlockMessage::Answer { id, answer } => self.handle_block_answer(from, id, answer),
            BlockMessage::Ask { id, slot, epoch, question } => {
                if let Some(answer) = self.answer_at_once(slot, epoch, &question)? {
                    self.answer(from, id, answer);
                } else if self.commands.len() >= COMMANDS_MAX {
                    let reason = "the node is busy: too many block requests wait for its disk".to_string();
                    self.answer(from, id, BlockAnswer::Failed { reason });
                } else {
                    self.start_command(from, id, slot, epoch, question);
                }
                Ok(())
            }
        }
    }

    fn answer(&mut self, to: NodeId, id: u64, answer: BlockAnswer) {
        self.send(to, Message::Block(BlockMessage::Answer { id, answer }));
    }

    /// What can be answered without the disk: above all that the question is of another epoch.
    fn answer_at_once(
        &self,
        slot: SlotId,
        epoch: u64,
        question: &BlockQuestion,
    ) -> Result<Option<BlockAnswer>, StoreError> {
        let Some(configuration) = self.keylog.configuration(slot) else { return Ok(Some(BlockAnswer::NotHere)) };
        if let BlockQuestion::Configuration = question {
            let (configuration, leader) = (configuration.clone(), self.keylog.leader(slot));
            return Ok(Some(BlockAnswer::Configuration { configuration, leader }));
        }
        if let Some(mismatch) = self.mismatch(configuration, epoch) {
            return Ok(Some(mismatch));
        }
        if let BlockQuestion::Register { key } = question {
            let register = self.keylog.store().register(slot, key)?;
            let summary = |register: difuse_keylog::Register| RegisterSummary {
                ballot: register.ballot,
                height: register.head.height,
                hash: register.head.hash,
            };
            return Ok(Some(BlockAnswer::Register { register: register.map(summary) }));
        }
        Ok(None)
    }

    fn mismatch(&self, configuration: &Configuration, epoch: u64) -> Option<BlockAnswer> {
        if epoch < configuration.epoch {
            return Some(BlockAnswer::Outdated { configuration: configuration.clone() });
        }
        (epoch > configuration.epoch || !configuration.contains(&self.me)).then_some(BlockAnswer::NotHere)
    }

    fn start_command(&mut self, from: NodeId, id: u64, slot: SlotId, epoch: u64, question: BlockQuestion) {
        let command = match question {
            BlockQuestion::Put { hash, bytes, version, referenced } => {
                BlockCommand::Put { slot, hash, bytes, version, referenced }
            }
            BlockQuestion::Read { hash } => BlockCommand::Read { hash },
            BlockQuestion::Stat { hash } => BlockCommand::Stat { hash },
            BlockQuestion::Delete { hash, version } => BlockCommand::Delete { slot, hash, version },
            BlockQuestion::List { after } => BlockCommand::List { slot, after },
            BlockQuestion::Digest => BlockCommand::Digest { slot },
            BlockQuestion::Configuration | BlockQuestion::Register { .. } => return,
        };
        self.command(command, CommandPurpose::Answer { from, id, slot, epoch });
    }

    /// Gives the disk something to do.
    pub(super) fn command(&mut self, command: BlockCommand, purpose: CommandPurpose) {
        let ticket = self.next_id();
        self.commands.insert(ticket, purpose);
        self.outputs.push(Output::Block { ticket, command });
    }

    pub(super) fn handle_block_done(&mut self, ticket: u64, result: BlockResult) -> Result<(), StoreError> {
        match self.commands.remove(&ticket) {
            Some(CommandPurpose::Answer { from, id, slot, epoch }) => {
                if let BlockResult::Content { record: Some(BlockRecord { lost: true, .. }), .. } = &result {
                    self.note_loss(slot);
                }
                // The group may have moved on meanwhile: then the members-to-be may have listed this slot before the
                // block was there, and the answer must not count.
                let mismatch =
                    self.keylog.configuration(slot).and_then(|configuration| self.mismatch(configuration, epoch));
                let answer = mismatch.unwrap_or_else(|| answer_of(result));
                self.answer(from, id, answer);
            }
            Some(CommandPurpose::Transfer { slot, of }) => self.handle_transfer_command(slot, of, result)?,
            Some(CommandPurpose::Dump { request, slot, limit }) => {
                return self.continue_dump(request, slot, limit, result);
            }
            Some(CommandPurpose::Scrub { pass, slot, of }) => {
                return self.handle_scrub_command(pass, slot, of, result);
            }
            Some(CommandPurpose::Collection { ticket, slot }) => {
                return self.handle_collection_command(ticket, slot, result);
            }
            Some(CommandPurpose::LeftOver { slot }) => {
                let is_member =
                    self.keylog.configuration(slot).is_some_and(|configuration| configuration.contains(&self.me));
                if !is_member && !matches!(result, BlockResult::Digest(0)) {
                    self.clear_slot(slot)?;
                }
            }
            Some(CommandPurpose::Clear) | None => {}
        }
        Ok(())
    }
}

fn answer_of(result: BlockResult) -> BlockAnswer {
    match result {
        BlockResult::Put(PutDecision::Store) => BlockAnswer::Stored { created: true },
        BlockResult::Put(PutDecision::AlreadyThere) => BlockAnswer::Stored { created: false },
        BlockResult::Put(PutDecision::Superseded { version }) => BlockAnswer::Superseded { version },
        BlockResult::Content { record, bytes } => BlockAnswer::Content { record, bytes },
        BlockResult::Record(record) => BlockAnswer::Record { record },
        BlockResult::Done => BlockAnswer::Deleted,
        BlockResult::Superseded { version } => BlockAnswer::Superseded { version },
        BlockResult::Page { records, is_last } => BlockAnswer::Page { records, is_last },
        BlockResult::Digest(digest) => BlockAnswer::Digest { digest },
        BlockResult::Full(reason) => BlockAnswer::Full { reason },
        BlockResult::Failed(reason) => BlockAnswer::Failed { reason },
    }
}
