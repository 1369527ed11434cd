//! Getting a slot's blocks from its other members: as one who is to hold all of them before the slot moves, and as a member
//! that was away or lost some. Digests are compared first; what differs is listed, and what is missing is read and stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use difuse_blocks::BlockRecord;
use difuse_keylog::{Configuration, KeylogMessage, Store, StoreError};
use difuse_types::{Hash, Instant, NodeId, SlotId};

use self::supply::Supplies;
use super::{BlockCommand, BlockResult, Peer, blocks::AskedOf, member::CommandPurpose};
use crate::message::{BlockAnswer, BlockQuestion};

mod supply;
#[cfg(test)]
mod tests;

/// How long a node with a full disk waits before it tries to fetch anything again.
const PAUSE_WHEN_FULL: Duration = Duration::from_secs(5);

/// One slot's transfer.
pub(crate) struct Transfer {
    epoch: u64,
    /// Whether the slot moves, and waits for this node: then it must hear a majority of the old members.
    is_collector: bool,
    step: Step,
    /// What each source holds, as far as it was listed.
    sources: BTreeMap<NodeId, Source>,
    own: BTreeMap<Hash, BlockRecord>,
    own_digest: Option<u128>,
    is_own_listed: bool,
    /// What is to be fetched, and from whom it can be had.
    wanted: BTreeMap<Hash, (BlockRecord, Vec<NodeId>)>,
    fetching: BTreeMap<Hash, Fetch>,
    /// Something could not be had: begin anew.
    has_failed: bool,
    bytes_done: u64,
    bytes_total: u64,
    active_at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Compare,
    List,
    Fetch,
}

/// A block on its way to this node's disk.
struct Fetch {
    record: BlockRecord,
    from: FetchedFrom,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FetchedFrom {
    /// A member that was asked for it.
    Member(NodeId),
    /// Nobody any more: this node's own disk has yet to answer.
    Here,
}

#[derive(Default)]
struct Source {
    digest: Option<u128>,
    records: BTreeMap<Hash, BlockRecord>,
    is_listed: bool,
    /// It does not answer.
    is_lost: bool,
}

/// Which slots this node has to compare with the other members.
#[derive(Default)]
pub(crate) struct Repair {
    /// Slots that it has not compared since it started, or since it lost sight of a member.
    pub(crate) behind: BTreeSet<SlotId>,
    next_slot: SlotId,
    next_at: Instant,
    /// This node's disk is full: nothing is fetched before this.
    paused_until: Instant,
    /// When it is looked next whether a slot waits for its blocks that nobody fetches.
    next_look: Instant,
    supplies: Supplies,
}

/// How often that is: it means to look at every slot.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Transfer {
    /// Whether nothing comes any more of what it waits for. Not so while it waits for its turn, or for this node's own
    /// disk.
    fn is_stuck(&self, now: Instant, usual: Duration, supplies: &Supplies) -> bool {
        let waited = now.since(self.active_at);
        if self.step != Step::Fetch {
            return waited >= usual;
        }
        if self.fetching.is_empty() {
            return self.has_failed && waited >= usual / 8;
        }
        let may_come = |fetch: &Fetch| match fetch.from {
            FetchedFrom::Here => true,
            FetchedFrom::Member(node) => waited < supplies.patience(&node, usual),
        };
        !self.fetching.values().any(may_come)
    }

    /// How many blocks are on their way from each node.
    fn count_by_member(&self, counts: &mut BTreeMap<NodeId, usize>) {
        for fetch in self.fetching.values() {
            if let FetchedFrom::Member(node) = fetch.from {
                *counts.entry(node).or_default() += 1;
            }
        }
    }
}

impl<S: Store> Peer<S> {
    /// This node is to hold all blocks of the slot before it moves.
    pub(super) fn start_transfer(&mut self, configuration: &Configuration) {
        let sources: Vec<NodeId> = configuration.members.iter().filter(|node| **node != self.me).copied().collect();
        self.begin_transfer(configuration, sources, true);
    }

    fn begin_transfer(&mut self, configuration: &Configuration, sources: Vec<NodeId>, is_collector: bool) {
        let (slot, epoch) = (configuration.slot, configuration.epoch);
        let step = if is_collector { Step::List } else { Step::Compare };
        let transfer = Transfer {
            epoch,
            is_collector,
            step,
            sources: sources.iter().map(|node| (*node, self.source(*node))).collect(),
            own: BTreeMap::new(),
            own_digest: None,
            is_own_listed: false,
            wanted: BTreeMap::new(),
            fetching: BTreeMap::new(),
            has_failed: false,
            bytes_done: 0,
            bytes_total: 0,
            active_at: self.now,
        };
        self.transfers.insert(slot, transfer);
        if is_collector {
            self.ask_for_lists(slot);
        } else {
            self.command(BlockCommand::Digest { slot }, CommandPurpose::Transfer { slot, of: None });
            for node in sources {
                self.ask(node, slot, epoch, BlockQuestion::Digest, AskedOf::Transfer(slot));
            }
        }
    }

    /// A source that is suspect is not waited for.
    fn source(&self, node: NodeId) -> Source {
        Source { is_lost: self.ring.is_suspect(&node), ..Source::default() }
    }

    fn ask_for_lists(&mut self, slot: SlotId) {
        let Some(transfer) = self.transfers.get_mut(&slot) else { return };
        transfer.step = Step::List;
        let epoch = transfer.epoch;
        let sources: Vec<NodeId> =
            transfer.sources.iter().filter(|(_, source)| !source.is_lost).map(|(node, _)| *node).collect();
        self.command(BlockCommand::List { slot, after: None }, CommandPurpose::Transfer { slot, of: None });
        for node in sources {
            self.ask(node, slot, epoch, BlockQuestion::List { after: None }, AskedOf::Transfer(slot));
        }
    }

    pub(super) fn handle_answer_to_transfer(
        &mut self,
        slot: SlotId,
        from: NodeId,
        took: Duration,
        answer: BlockAnswer,
    ) -> Result<(), StoreError> {
        if let BlockAnswer::Content { bytes: Some(_), .. } = answer {
            self.repair.supplies.note(from, took, self.options.attempt_timeout);
        }
        if let BlockAnswer::Outdated { configuration } = answer {
            self.transfers.remove(&slot);
            return self.keylog.handle_message(from, KeylogMessage::Outdated { configuration });
        }
        self.take_answer_to_transfer(slot, from, answer);
        Ok(())
    }

    fn take_answer_to_transfer(&mut self, slot: SlotId, from: NodeId, answer: BlockAnswer) {
        let now = self.now;
        let Some(transfer) = self.transfers.get_mut(&slot) else { return };
        transfer.active_at = now;
        let epoch = transfer.epoch;
        let Some(source) = transfer.sources.get_mut(&from) else { return };
        match answer {
            BlockAnswer::Digest { digest } => source.digest = Some(digest),
            BlockAnswer::Page { records, is_last } => {
                let last = records.last().map(|(hash, _)| *hash);
                source.records.extend(records);
                source.is_listed = is_last || last.is_none();
                if !source.is_listed {
                    self.ask(from, slot, epoch, BlockQuestion::List { after: last }, AskedOf::Transfer(slot));
                }
            }
            BlockAnswer::Content { record, bytes } => {
                self.handle_fetched(slot, from, record, bytes);
                return;
            }
            // It has not entered the epoch yet, or cannot answer: asked again when the transfer begins anew.
            _ => {
                source.is_lost = true;
                transfer.has_failed |= transfer.step == Step::Fetch;
                transfer.fetching.retain(|_, fetch| fetch.from != FetchedFrom::Member(from));
            }
        }
        self.advance_transfer(slot);
    }

    pub(super) fn handle_transfer_command(
        &mut self,
        slot: SlotId,
        of: Option<Hash>,
        result: BlockResult,
    ) -> Result<(), StoreError> {
        let now = self.now;
        let Some(transfer) = self.transfers.get_mut(&slot) else { return Ok(()) };
        transfer.active_at = now;
        match (of, result) {
            (Some(hash), result) => {
                if let Some(fetch) = transfer.fetching.remove(&hash) {
                    transfer.bytes_done += u64::from(fetch.record.length);
                }
                transfer.has_failed |= matches!(result, BlockResult::Failed(_) | BlockResult::Full(_));
                if let BlockResult::Full(_) = result {
                    self.repair.paused_until = now + PAUSE_WHEN_FULL;
                }
            }
            (None, BlockResult::Digest(digest)) => transfer.own_digest = Some(digest),
            (None, BlockResult::Page { records, is_last }) => {
                let last = records.last().map(|(hash, _)| *hash);
                transfer.own.extend(records);
                transfer.is_own_listed = is_last || last.is_none();
                if !transfer.is_own_listed {
                    let purpose = CommandPurpose::Transfer { slot, of: None };
                    self.command(BlockCommand::List { slot, after: last }, purpose);
                }
            }
            (None, _) => transfer.has_failed = true,
        }
        self.advance_transfer(slot);
        Ok(())
    }

    fn advance_transfer(&mut self, slot: SlotId) {
        let Some(transfer) = self.transfers.get(&slot) else { return };
        match transfer.step {
            Step::Compare => self.finish_compare(slot),
            Step::List => self.finish_lists(slot),
            Step::Fetch => self.fetch_blocks(slot),
        }
    }

    fn finish_compare(&mut self, slot: SlotId) {
        let Some(transfer) = self.transfers.get(&slot) else { return };
        let is_heard_out = transfer.own_digest.is_some()
            && transfer.sources.values().all(|source| source.digest.is_some() || source.is_lost);
        if !is_heard_out {
            return;
        }
        let heard: Vec<_> = transfer.sources.values().filter_map(|source| source.digest).collect();
        if heard.is_empty() {
            // Nobody to compare with: it stays on the list.
            self.transfers.remove(&slot);
        } else if heard.iter().all(|digest| Some(*digest) == transfer.own_digest) {
            self.transfers.remove(&slot);
            self.repair.behind.remove(&slot);
        } else {
            self.repair.behind.insert(slot);
            self.ask_for_lists(slot);
        }
    }

    /// When enough lists are here: find what this node lacks.
    fn finish_lists(&mut self, slot: SlotId) {
        let Some(configuration) = self.keylog.configuration(slot).cloned() else { return };
        let Some(transfer) = self.transfers.get_mut(&slot) else { return };
        let is_heard_out =
            transfer.is_own_listed && transfer.sources.values().all(|source| source.is_listed || source.is_lost);
        if !is_heard_out {
            return;
        }
        let mut listed: BTreeSet<NodeId> =
            transfer.sources.iter().filter(|(_, source)| source.is_listed).map(|(node, _)| *node).collect();
        let is_enough = if transfer.is_collector {
            // Whatever was stored by a majority of the old members is with one of any majority of them. This node may be one.
            let old = Configuration { joint: Vec::new(), ..configuration };
            listed.insert(self.me);
            old.is_quorum(&listed)
        } else {
            !listed.is_empty()
        };
        if !is_enough {
            transfer.has_failed = true;
            return;
        }
        let mut best: BTreeMap<Hash, (BlockRecord, Vec<NodeId>)> = BTreeMap::new();
        for (node, source) in &mut transfer.sources {
            for (hash, record) in std::mem::take(&mut source.records) {
                let known = best.entry(hash).or_insert((record, Vec::new()));
                known.0 = known.0.merge(record);
                if record.has_content() {
                    known.1.push(*node);
                }
            }
        }
        let own = std::mem::take(&mut transfer.own);
        best.retain(|hash, (record, holders)| match own.get(hash) {
            // Content is the same in every version.
            Some(mine) if mine.lost && !holders.is_empty() => {
                *record = mine.merge(*record);
                true
            }
            mine => mine.is_none_or(|mine| mine.merge(*record) != *mine),
        });
        for (hash, (record, _)) in &mut best {
            // The first reference to a block takes a version of its own: see `decide_put`.
            let is_first = |mine: &&BlockRecord| mine.version == record.version && mine.present && !mine.referenced;
            if record.referenced && own.get(hash).as_ref().is_some_and(is_first) {
                record.version = record.version.saturating_add(1);
            }
        }
        transfer.bytes_total = best.values().map(|(record, _)| u64::from(record.length)).sum();
        transfer.wanted = best;
        transfer.step = Step::Fetch;
        self.fetch_blocks(slot);
    }

    /// Reads the next blocks that this node lacks, within the bound on all transfers.
    fn fetch_blocks(&mut self, slot: SlotId) {
        let under_way: usize = self.transfers.values().map(|transfer| transfer.fetching.len()).sum();
        let mut room = self.options.fetches_max.saturating_sub(under_way);
        let mut asked = BTreeMap::new();
        self.transfers.values().for_each(|transfer| transfer.count_by_member(&mut asked));
        let is_everybody_heard = self.is_everybody_heard(slot);
        let Some(transfer) = self.transfers.get_mut(&slot) else { return };
        let epoch = transfer.epoch;
        let mut reads = Vec::new();
        let mut tombstones = Vec::new();
        let mut losses = Vec::new();
        while room > 0
            && let Some((hash, (record, holders))) = transfer.wanted.pop_first()
        {
            room -= 1;
            let here = Fetch { record, from: FetchedFrom::Here };
            if !record.present {
                tombstones.push((hash, record));
                transfer.fetching.insert(hash, here);
                continue;
            }
            if record.lost && holders.is_empty() && (is_everybody_heard || !transfer.is_collector) {
                // Nobody has it: that must hold up no move, and stay known. Whoever comes back with it repairs it.
                losses.push((hash, record));
                transfer.fetching.insert(hash, here);
                continue;
            }
            if holders.is_empty() {
                transfer.has_failed = true;
                continue;
            }
            // Spread over the holders.
            let first = usize::from(hash.0[31]) % holders.len();
            let mut in_turn = holders[first..].iter().chain(&holders[..first]);
            let supplies = &self.repair.supplies;
            let has_room = |node: &&NodeId| asked.get(node).is_none_or(|asked| *asked < supplies.window(node));
            let Some(holder) = in_turn.find(has_room).copied() else {
                transfer.wanted.insert(hash, (record, holders));
                break;
            };
            *asked.entry(holder).or_default() += 1;
            transfer.active_at = self.now;
            reads.push((holder, hash));
            transfer.fetching.insert(hash, Fetch { record, from: FetchedFrom::Member(holder) });
        }
        let is_complete = transfer.wanted.is_empty() && transfer.fetching.is_empty();
        for (holder, hash) in reads {
            self.ask(holder, slot, epoch, BlockQuestion::Read { hash }, AskedOf::Transfer(slot));
        }
        for (hash, record) in tombstones {
            let command = BlockCommand::Delete { slot, hash, version: record.version };
            self.command(command, CommandPurpose::Transfer { slot, of: Some(hash) });
        }
        for (hash, record) in losses {
            let command = BlockCommand::NoteLost { slot, hash, record };
            self.command(command, CommandPurpose::Transfer { slot, of: Some(hash) });
        }
        if is_complete {
            self.finish_transfer(slot);
        }
    }

    /// Whether every source has told what it holds, but those that will never come back.
    fn is_everybody_heard(&self, slot: SlotId) -> bool {
        let Some(transfer) = self.transfers.get(&slot) else { return false };
        let is_away = |node| self.ring.host(node).is_none_or(|entry| entry.state.is_away());
        transfer.sources.iter().all(|(node, source)| source.is_listed || is_away(node))
    }

    fn handle_fetched(&mut self, slot: SlotId, from: NodeId, record: Option<BlockRecord>, bytes: Option<bytes::Bytes>) {
        let Some(transfer) = self.transfers.get_mut(&slot) else { return };
        let Some((_, bytes)) = record.zip(bytes) else {
            // Deleted since it was listed, or lost there: what was asked of this holder is looked for anew.
            transfer.has_failed = true;
            transfer.fetching.retain(|_, fetch| fetch.from != FetchedFrom::Member(from));
            self.advance_transfer(slot);
            return;
        };
        let hash = Hash::of(&bytes);
        let Some(fetch) = transfer.fetching.get_mut(&hash) else { return };
        if std::mem::replace(&mut fetch.from, FetchedFrom::Here) == FetchedFrom::Here {
            return;
        }
        let record = fetch.record;
        let command = BlockCommand::Put { slot, hash, bytes, version: record.version, referenced: record.referenced };
        self.command(command, CommandPurpose::Transfer { slot, of: Some(hash) });
    }

    fn finish_transfer(&mut self, slot: SlotId) {
        let Some(transfer) = self.transfers.get(&slot) else { return };
        if transfer.has_failed {
            // Begun anew by the sweep.
            return;
        }
        let (epoch, is_collector) = (transfer.epoch, transfer.is_collector);
        self.transfers.remove(&slot);
        self.repair.behind.remove(&slot);
        if is_collector && self.keylog.handle_blocks_fetched(slot, epoch).is_err() {
            self.repair.behind.insert(slot);
        }
    }

    /// This node has lost a block of the slot: what it lacks is fetched from the others.
    pub(super) fn note_loss(&mut self, slot: SlotId) {
        self.repair.behind.insert(slot);
    }

    /// Lost sight of a member: what both hold is compared again.
    pub(super) fn compare_with(&mut self, node: NodeId) {
        let me = self.me;
        let shared = self.settings.slots.iter().filter(|slot| {
            let configuration = self.keylog.configuration(*slot);
            configuration.is_some_and(|known| known.contains(&me) && known.contains(&node))
        });
        self.repair.behind.extend(shared);
    }

    pub(super) fn sweep_transfers(&mut self) {
        let (now, patience) = (self.now, self.options.attempt_timeout);
        let stuck: Vec<SlotId> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| transfer.is_stuck(now, patience, &self.repair.supplies))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in stuck {
            self.give_up_sources(slot);
        }
        if now < self.repair.paused_until {
            return;
        }
        if self.repair.next_look <= now {
            self.repair.next_look = now + LOOK_EVERY;
            for configuration in self.keylog.waiting_for_blocks() {
                if !self.transfers.contains_key(&configuration.slot) {
                    self.start_transfer(&configuration);
                }
            }
        }
        let waiting: Vec<SlotId> =
            self.transfers.iter().filter(|(_, transfer)| transfer.step == Step::Fetch).map(|(slot, _)| *slot).collect();
        for slot in waiting {
            self.fetch_blocks(slot);
        }
        self.start_comparisons();
    }

    /// Goes on without the sources that do not answer, if the others are enough; else the transfer is begun anew.
    fn give_up_sources(&mut self, slot: SlotId) {
        let now = self.now;
        let Some(transfer) = self.transfers.get_mut(&slot) else { return };
        if transfer.step == Step::List && !transfer.has_failed {
            transfer.active_at = now;
            for source in transfer.sources.values_mut().filter(|source| !source.is_listed) {
                source.is_lost = true;
            }
            self.finish_lists(slot);
            if self.transfers.get(&slot).is_none_or(|transfer| transfer.step == Step::Fetch) {
                return;
            }
        }
        self.transfers.remove(&slot);
    }

    fn start_comparisons(&mut self) {
        if self.repair.next_at <= self.now {
            self.repair.next_at = self.now + self.options.compare_every;
            let next = (self.repair.next_slot.0 + 1) % self.settings.slots.count();
            self.repair.next_slot = SlotId(next);
            self.compare(SlotId(next));
        }
        let behind: Vec<SlotId> = self.repair.behind.iter().copied().collect();
        for slot in behind {
            if self.transfers.len() >= self.options.transfers_max {
                return;
            }
            if !self.transfers.contains_key(&slot) {
                self.compare(slot);
            }
        }
    }

    fn compare(&mut self, slot: SlotId) {
        let configuration = self.keylog.configuration(slot).cloned();
        if !configuration.as_ref().is_some_and(|known| known.contains(&self.me)) {
            // A block that was being stored while the slot was cleared may have stayed, as may those that were flushed when
            // this node died and the record of the slot was not.
            self.command(BlockCommand::Digest { slot }, CommandPurpose::LeftOver { slot });
        }
        let Some(configuration) = configuration else { return };
        if self.transfers.contains_key(&slot) {
            return;
        }
        if !configuration.members.contains(&self.me) {
            self.repair.behind.remove(&slot);
            return;
        }
        let others: Vec<NodeId> = configuration.members.iter().filter(|node| **node != self.me).copied().collect();
        if others.is_empty() {
            self.repair.behind.remove(&slot);
            return;
        }
        let alive: Vec<NodeId> = others.into_iter().filter(|node| !self.ring.is_suspect(node)).collect();
        if !alive.is_empty() {
            self.begin_transfer(&configuration, alive, false);
        }
    }

    /// Bytes that this node has taken over and has to, of the slots that move and wait for it.
    pub(super) fn transfer_bytes(&self) -> (u64, u64) {
        let collected = self.transfers.values().filter(|transfer| transfer.is_collector);
        collected.fold((0, 0), |(done, total), transfer| (done + transfer.bytes_done, total + transfer.bytes_total))
    }
}
