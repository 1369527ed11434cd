//! What this node itself holds: all keys by slot, then all blocks by slot.

use difuse_keylog::{Store, StoreError};
use difuse_types::{Hash, Key, SlotId};

use super::{BlockCommand, BlockResult, Peer, RequestId, member::CommandPurpose};
use crate::request::{DumpCursor, DumpItem, PAGE_MAX, Reply, RequestError};

impl<S: Store> Peer<S> {
    pub(super) fn dump(&mut self, id: RequestId, after: Option<DumpCursor>, limit: u32) -> Result<(), StoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        match after {
            Some(DumpCursor::Block(slot, after)) => self.dump_blocks(id, slot, after, limit),
            Some(DumpCursor::Key(slot, key)) => return self.dump_keys(id, slot, Some(key), limit),
            None => return self.dump_keys(id, SlotId(0), None, limit),
        }
        Ok(())
    }

    fn dump_keys(
        &mut self,
        id: RequestId,
        first: SlotId,
        mut after: Option<Key>,
        limit: u32,
    ) -> Result<(), StoreError> {
        let mut items = Vec::new();
        for slot in self.settings.slots.iter().filter(|slot| *slot >= first) {
            let room = limit as usize - items.len();
            let page = self.keylog.store().scan(slot, &bytes::Bytes::new(), after.take().as_ref(), room)?;
            let last = page.last().map(|(key, _)| key.clone());
            items.extend(page.into_iter().map(|(key, register)| DumpItem::Key {
                slot,
                key,
                height: register.head.height,
                hash: register.head.hash,
            }));
            if items.len() >= limit as usize
                && let Some(last) = last
            {
                self.reply(id, Ok(Reply::Dump { items, next: Some(DumpCursor::Key(slot, last)) }));
                return Ok(());
            }
        }
        self.reply(id, Ok(Reply::Dump { items, next: Some(DumpCursor::Block(SlotId(0), None)) }));
        Ok(())
    }

    fn dump_blocks(&mut self, id: RequestId, slot: SlotId, after: Option<Hash>, limit: u32) {
        if slot.0 >= self.settings.slots.count() {
            self.reply(id, Ok(Reply::Dump { items: Vec::new(), next: None }));
            return;
        }
        let purpose = CommandPurpose::Dump { request: id, slot, limit };
        self.command(BlockCommand::List { slot, after }, purpose);
    }

    pub(super) fn continue_dump(
        &mut self,
        id: RequestId,
        slot: SlotId,
        limit: u32,
        result: BlockResult,
    ) -> Result<(), StoreError> {
        let BlockResult::Page { mut records, is_last } = result else {
            self.reply(id, Err(RequestError::Storage("the blocks of this node cannot be listed".into())));
            return Ok(());
        };
        let is_cut = records.len() > limit as usize;
        records.truncate(limit as usize);
        let next_slot = SlotId(slot.0 + 1);
        let is_slot_done = is_last && !is_cut;
        if records.is_empty() && is_slot_done {
            self.dump_blocks(id, next_slot, None, limit);
            return Ok(());
        }
        let next = if is_slot_done {
            DumpCursor::Block(next_slot, None)
        } else {
            DumpCursor::Block(slot, records.last().map(|(hash, _)| *hash))
        };
        let items = records.into_iter().map(|(hash, record)| DumpItem::Block { slot, hash, record }).collect();
        self.reply(id, Ok(Reply::Dump { items, next: Some(next) }));
        Ok(())
    }
}
