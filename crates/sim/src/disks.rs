//! What disks do in their own time: flushes, and whatever is asked of the blocks.

use difuse_keylog::WriteSequence;
use difuse_protocol::{BlockCommand, Input};
use difuse_types::NodeId;

use crate::{
    Violation,
    simulation::{Event, Simulation},
};

impl Simulation {
    pub(crate) fn begin_flush(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (life, sequence) = (node.life, node.written());
        let delay = node.flush_delay(&mut self.rng);
        let Some(process) = &mut node.process else { return };
        let is_dirty = process.flushed < sequence || process.hosts_changed;
        if is_dirty && !process.is_flushing {
            process.is_flushing = true;
            self.queue.push(self.now + delay, Event::Flushed { node: id, life, sequence });
        }
    }

    pub(crate) fn finish_flush(&mut self, id: NodeId, life: u64, sequence: WriteSequence) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life == life) else { return Ok(()) };
        let Some(process) = &mut node.process else { return Ok(()) };
        process.is_flushing = false;
        process.flushed = sequence;
        if !self.plan.do_disks_lie {
            process.peer.store_mut().flush_through(sequence);
        }
        if std::mem::take(&mut process.hosts_changed) {
            node.known_hosts = process.peer.hosts();
        }
        for brought in self.recoveries.take_durable(id, sequence) {
            self.chains.bring(brought.key, brought.recovery, brought.height, brought.hash);
        }
        self.give(id, Input::Durable(sequence));
        self.begin_flush(id);
        Ok(())
    }

    pub(crate) fn perform_block_command(&mut self, id: NodeId, ticket: u64, command: BlockCommand) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let is_write = matches!(
            command,
            BlockCommand::Put { .. }
                | BlockCommand::Delete { .. }
                | BlockCommand::NoteLost { .. }
                | BlockCommand::Clear { .. }
        );
        let result = node.blocks.perform(command);
        if !is_write {
            return self.give(id, Input::BlockDone { ticket, result });
        }
        let sequence = node.blocks.written();
        if let Some(process) = &mut node.process {
            process.block_writes.push((sequence, ticket, result));
        }
        self.begin_block_flush(id);
    }

    pub(crate) fn begin_block_flush(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (life, sequence) = (node.life, node.blocks.written());
        let delay = node.flush_delay(&mut self.rng);
        let Some(process) = &mut node.process else { return };
        if !process.block_writes.is_empty() && !process.are_blocks_flushing {
            process.are_blocks_flushing = true;
            self.queue.push(self.now + delay, Event::BlocksFlushed { node: id, life, sequence });
        }
    }

    pub(crate) fn finish_block_flush(&mut self, id: NodeId, life: u64, sequence: u64) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life == life) else { return };
        let Some(process) = &mut node.process else { return };
        process.are_blocks_flushing = false;
        node.blocks.flush_through(sequence);
        let writes = std::mem::take(&mut process.block_writes);
        let (done, waiting): (Vec<_>, Vec<_>) = writes.into_iter().partition(|(write, ..)| *write <= sequence);
        process.block_writes = waiting;
        for (_, ticket, result) in done {
            self.give(id, Input::BlockDone { ticket, result });
        }
        self.begin_block_flush(id);
    }
}
