//! Coordinating requests about blocks: the members of the block's slot are asked, under the epoch of the configuration
//! that this node believes in; a member that knows better says so, and the request begins anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use difuse_blocks::{BlockRecord, StillReferenced, next_delete, version_in_generation};
use difuse_keylog::{Configuration, RegisterSummary, Store, StoreError};
use difuse_types::{Hash, Instant, Level, NodeId, SlotId};

use super::{Peer, RequestId};
use crate::{
    message::{BlockAnswer, BlockMessage, BlockQuestion, Message},
    request::{Reply, Request, RequestError},
};

/// For how long a request at level all waits for the last members.
const ALL_PATIENCE: Duration = Duration::from_secs(1);
/// For how long a request that wants to hear every member waits for the last ones.
const LOCATE_PATIENCE: Duration = Duration::from_millis(500);

mod levels;

/// A request about a block, until it is answered.
pub(crate) struct BlockRequest {
    pub(super) request: Request,
    pub(super) slot: SlotId,
    /// Who must stand behind the answer.
    level: Level,
    /// Who stands for all at level leader.
    primary: Option<NodeId>,
    deadline: Instant,
    tries: u32,
    version: u64,
    pub(super) configuration: Option<Configuration>,
    step: Step,
    /// Questions under way and whom they were put to.
    asked: BTreeMap<u64, NodeId>,
    pub(super) answers: BTreeMap<NodeId, Answered>,
    /// The content that was read, while it is being checked that it was not deleted.
    content: Option<Bytes>,
    /// Members that were asked for the content.
    read_from: BTreeSet<NodeId>,
    started_at: Instant,
    resume_at: Option<Instant>,
    last_failure: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Asking a successor of the slot who its members are.
    FindConfiguration,
    /// Asking the members what was asked for.
    Ask,
    /// A block was read: asking whether it was deleted.
    CheckRead,
    /// A delete is known to be needed: writing the tombstone.
    WriteTombstone,
}

/// What a member answered, as far as a decision needs it.
pub(super) enum Answered {
    Stored {
        created: bool,
    },
    Record(Option<BlockRecord>),
    Deleted,
    Register(Option<RegisterSummary>),
    /// Its disk is full.
    Full,
    /// It did not answer, or could not.
    Nothing,
}

/// A question to a member.
pub(crate) struct Asked {
    pub(super) node: NodeId,
    pub(super) of: AskedOf,
    at: Instant,
}

/// What a question is for.
#[derive(Clone, Copy)]
pub(super) enum AskedOf {
    Request(RequestId),
    Transfer(SlotId),
}

impl<S: Store> Peer<S> {
    pub(super) fn coordinate_block(&mut self, id: RequestId, request: Request) {
        let (slot, level) = match &request {
            Request::PutBlock { hash, level, .. }
            | Request::ReadBlock { hash, level }
            | Request::DeleteBlock { hash, level } => (self.settings.slots.of_block(hash), *level),
            Request::StatBlock { hash } | Request::LocateBlock { hash } => {
                (self.settings.slots.of_block(hash), Level::Quorum)
            }
            Request::Locate { key } => (self.settings.slots.of_key(key), Level::Quorum),
            _ => return,
        };
        let version = match &request {
            Request::PutBlock { generation, .. } => version_in_generation(*generation),
            _ => 1,
        };
        let state = BlockRequest {
            request,
            slot,
            level,
            primary: None,
            deadline: self.now + self.options.request_timeout,
            tries: 0,
            version,
            configuration: None,
            step: Step::Ask,
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            content: None,
            read_from: BTreeSet::new(),
            started_at: self.now,
            resume_at: None,
            last_failure: "no member answered".into(),
        };
        self.block_requests.insert(id, state);
        self.begin_block_request(id);
    }

    /// Begins, or begins anew, with the newest configuration known here.
    fn begin_block_request(&mut self, id: RequestId) {
        let Some(state) = self.block_requests.get(&id) else { return };
        // Members that are all out of reach may have been replaced long ago: somebody else has to say by whom.
        let (slot, tries) = (state.slot, state.tries);
        let known = self.known_configuration(slot);
        let configuration = known.filter(|known| self.has_reachable_member(known));
        let primary = configuration.as_ref().and_then(|configuration| self.primary(configuration));
        if configuration.is_none() {
            self.look_up_when_lost(slot, tries);
        }
        let now = self.now;
        let Some(state) = self.block_requests.get_mut(&id) else { return };
        for question in std::mem::take(&mut state.asked).into_keys() {
            self.questions.remove(&question);
        }
        state.tries += 1;
        state.answers.clear();
        state.content = None;
        state.read_from.clear();
        state.started_at = now;
        state.resume_at = None;
        state.configuration = configuration;
        state.primary = primary;
        state.step = if state.configuration.is_some() { Step::Ask } else { Step::FindConfiguration };
        if !self.refuse_block_without_all(id) {
            self.ask_for_step(id);
        }
    }

    /// The newest configuration of a slot that this node knows, if it can be relied on.
    fn known_configuration(&self, slot: SlotId) -> Option<Configuration> {
        let own = self.keylog.configuration(slot);
        let told = self.known_configurations.get(&slot);
        own.into_iter().chain(told).max_by_key(|configuration| configuration.epoch).cloned()
    }

    fn has_reachable_member(&self, configuration: &Configuration) -> bool {
        !self.alive(configuration.all_members()).is_empty()
    }

    fn ask_for_step(&mut self, id: RequestId) {
        let Some(state) = self.block_requests.get(&id) else { return };
        let (slot, tries) = (state.slot, state.tries);
        let epoch = state.configuration.as_ref().map_or(0, |configuration| configuration.epoch);
        let (receivers, question) = match (state.step, &state.configuration) {
            (Step::FindConfiguration, _) | (_, None) => {
                (self.guess(slot, tries).into_iter().collect(), BlockQuestion::Configuration)
            }
            (Step::Ask, Some(configuration)) => self.first_question(state, configuration),
            (Step::CheckRead, Some(configuration)) => {
                let Request::ReadBlock { hash, .. } = state.request else { return };
                let unheard = configuration.all_members().into_iter().filter(|node| !state.answers.contains_key(node));
                (self.alive(unheard), BlockQuestion::Stat { hash })
            }
            (Step::WriteTombstone, Some(configuration)) => {
                let Request::DeleteBlock { hash, .. } = state.request else { return };
                let version = state.version;
                (self.alive(configuration.all_members()), BlockQuestion::Delete { hash, version })
            }
        };
        if receivers.is_empty() {
            self.pause_block_request(id, "no member is reachable");
        }
        for node in receivers {
            self.ask(node, slot, epoch, question.clone(), AskedOf::Request(id));
        }
    }

    fn first_question(&self, state: &BlockRequest, configuration: &Configuration) -> (Vec<NodeId>, BlockQuestion) {
        let everyone = || self.alive(configuration.all_members());
        match &state.request {
            Request::PutBlock { hash, bytes, referenced, .. } => {
                let (hash, bytes, referenced) = (*hash, bytes.clone(), *referenced);
                (everyone(), BlockQuestion::Put { hash, bytes, version: state.version, referenced })
            }
            Request::ReadBlock { hash, .. } => {
                (self.reader(state, configuration).into_iter().collect(), BlockQuestion::Read { hash: *hash })
            }
            Request::DeleteBlock { hash, level: Level::Leader } => {
                (state.primary.into_iter().collect(), BlockQuestion::Stat { hash: *hash })
            }
            Request::StatBlock { hash } | Request::DeleteBlock { hash, .. } | Request::LocateBlock { hash } => {
                (everyone(), BlockQuestion::Stat { hash: *hash })
            }
            Request::Locate { key } => (everyone(), BlockQuestion::Register { key: key.clone() }),
            _ => (Vec::new(), BlockQuestion::Configuration),
        }
    }

    pub(super) fn alive(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
        nodes.into_iter().filter(|node| *node == self.me || !self.ring.is_suspect(node)).collect()
    }

    /// Whom to read from: this node itself if it is a member, else the others in an order that spreads the load.
    fn reader(&self, state: &BlockRequest, configuration: &Configuration) -> Option<NodeId> {
        if state.level == Level::Leader {
            return state.primary.filter(|primary| !state.read_from.contains(primary));
        }
        let candidates = self.alive(configuration.all_members());
        let unread: Vec<_> = candidates.into_iter().filter(|node| !state.read_from.contains(node)).collect();
        if unread.contains(&self.me) {
            return Some(self.me);
        }
        let turn = self.now.0 as usize / 1024 + state.tries as usize;
        unread.get(turn % unread.len().max(1)).copied()
    }

    /// Tries the requests about a slot again that pause because they know no member of it: somebody was found to ask.
    pub(super) fn resume_block_requests(&mut self, slot: SlotId) {
        let waits = |state: &BlockRequest| state.slot == slot && state.configuration.is_none();
        let waiting = self.block_requests.iter().filter(|(_, state)| waits(state) && state.resume_at.is_some());
        let waiting: Vec<RequestId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.begin_block_request(id);
        }
    }

    /// Puts a question to a member; the answer comes to whom it is for.
    pub(super) fn ask(&mut self, node: NodeId, slot: SlotId, epoch: u64, question: BlockQuestion, of: AskedOf) {
        let id = self.next_id();
        self.questions.insert(id, Asked { node, of, at: self.now });
        if let AskedOf::Request(request) = of
            && let Some(state) = self.block_requests.get_mut(&request)
        {
            state.asked.insert(id, node);
            if matches!(question, BlockQuestion::Read { .. }) {
                state.read_from.insert(node);
            }
        }
        self.send(node, Message::Block(BlockMessage::Ask { id, slot, epoch, question }));
    }

    pub(super) fn handle_block_answer(&mut self, from: NodeId, id: u64, answer: BlockAnswer) -> Result<(), StoreError> {
        if self.questions.get(&id).is_none_or(|asked| asked.node != from) {
            return Ok(());
        }
        let Some(asked) = self.questions.remove(&id) else { return Ok(()) };
        match asked.of {
            AskedOf::Request(request) => {
                self.handle_answer_to_request(request, id, from, answer);
                Ok(())
            }
            AskedOf::Transfer(slot) => self.handle_answer_to_transfer(slot, from, self.now.since(asked.at), answer),
        }
    }

    fn handle_answer_to_request(&mut self, request: RequestId, question: u64, from: NodeId, answer: BlockAnswer) {
        let Some(state) = self.block_requests.get_mut(&request) else { return };
        if state.asked.remove(&question).is_none() {
            return;
        }
        let slot = state.slot;
        match answer {
            BlockAnswer::Outdated { configuration } | BlockAnswer::Configuration { configuration, .. } => {
                let is_valid = configuration.is_well_formed() && configuration.slot == slot;
                let known = self.known_configuration(slot).map_or(0, |known| known.epoch);
                if is_valid && configuration.epoch >= known {
                    let is_usable = self.has_reachable_member(&configuration);
                    self.known_configurations.insert(slot, configuration);
                    if is_usable {
                        self.begin_block_request(request);
                    } else {
                        self.pause_block_request(request, "no member is reachable");
                    }
                } else {
                    self.pause_block_request(request, "the members disagree about the configuration");
                }
                return;
            }
            BlockAnswer::NotHere => {
                self.known_configurations.remove(&slot);
                state.answers.insert(from, Answered::Nothing);
                state.last_failure = "a member has not entered the configuration yet".into();
            }
            BlockAnswer::Failed { reason } => {
                state.answers.insert(from, Answered::Nothing);
                state.last_failure = reason;
                if matches!(state.request, Request::ReadBlock { .. }) && state.step == Step::Ask {
                    // Others may have what the first one asked could not give.
                    state.step = Step::CheckRead;
                    self.ask_for_step(request);
                }
            }
            BlockAnswer::Full { reason } => {
                state.answers.insert(from, Answered::Full);
                state.last_failure = reason;
                if self.is_too_full(request) {
                    self.finish_full(request);
                    return;
                }
            }
            BlockAnswer::Superseded { version } => {
                state.version = version.saturating_add(1);
                self.begin_block_request(request);
                return;
            }
            BlockAnswer::Stored { created } => drop(state.answers.insert(from, Answered::Stored { created })),
            BlockAnswer::Record { record } => drop(state.answers.insert(from, Answered::Record(record))),
            BlockAnswer::Deleted => drop(state.answers.insert(from, Answered::Deleted)),
            BlockAnswer::Register { register } => drop(state.answers.insert(from, Answered::Register(register))),
            BlockAnswer::Content { record, bytes } => {
                self.handle_content(request, from, record, bytes);
                return;
            }
            BlockAnswer::Page { .. } | BlockAnswer::Digest { .. } => {}
        }
        self.decide_block_request(request);
    }

    /// Whether the members that are not full are too few.
    fn is_too_full(&self, id: RequestId) -> bool {
        let Some(state) = self.block_requests.get(&id) else { return false };
        let Some(configuration) = &state.configuration else { return false };
        let is_full = |node: &NodeId| matches!(state.answers.get(node), Some(Answered::Full));
        let others = configuration.all_members().into_iter().filter(|node| !is_full(node)).collect();
        !configuration.is_quorum(&others)
    }

    fn finish_full(&mut self, id: RequestId) {
        let Some(state) = self.block_requests.get(&id) else { return };
        let reason = state.last_failure.clone();
        self.finish_block_request(id, Err(RequestError::Full { reason }));
    }

    fn handle_content(&mut self, id: RequestId, from: NodeId, record: Option<BlockRecord>, bytes: Option<Bytes>) {
        let Some(state) = self.block_requests.get_mut(&id) else { return };
        if matches!(state.level, Level::Lazy | Level::Leader) {
            state.answers.insert(from, Answered::Record(record));
            return self.decide_weak_read(id, record, bytes);
        }
        let is_kept_by_file =
            state.level != Level::All && record.is_some_and(|record| record.present && record.referenced);
        if is_kept_by_file && bytes.is_some() {
            // What a file refers to cannot have been deleted: one copy is enough.
            self.finish_block_request(id, Ok(Reply::Block(bytes)));
            return;
        }
        state.answers.insert(from, Answered::Record(record));
        if bytes.is_some() {
            state.content = bytes;
        }
        if state.step == Step::Ask {
            state.step = Step::CheckRead;
            self.ask_for_step(id);
        }
        self.decide_block_request(id);
    }

    /// Whether what the members answered is enough, and for what.
    fn decide_block_request(&mut self, id: RequestId) {
        let Some(state) = self.block_requests.get(&id) else { return };
        let Some(configuration) = &state.configuration else {
            self.pause_block_request(id, "no member is known");
            return;
        };
        let told = |counts: fn(&Answered) -> bool| -> BTreeSet<NodeId> {
            state.answers.iter().filter(|(_, answer)| counts(answer)).map(|(node, _)| *node).collect()
        };
        let stored = told(|answer| matches!(answer, Answered::Stored { .. }));
        let recorded = told(|answer| matches!(answer, Answered::Record(_)));
        let deleted = told(|answer| matches!(answer, Answered::Deleted));
        let is_heard_out = state.asked.is_empty();
        match (&state.request, state.step) {
            (Request::PutBlock { .. }, _) if state.is_enough(configuration, &stored) => {
                let created =
                    state.answers.values().all(|answer| !matches!(answer, Answered::Stored { created: false }));
                self.finish_block_request(id, Ok(Reply::BlockPut { created }));
            }
            (Request::DeleteBlock { .. }, Step::WriteTombstone) if state.is_enough(configuration, &deleted) => {
                self.finish_block_request(id, Ok(Reply::BlockDeleted { existed: true }));
            }
            (Request::ReadBlock { .. } | Request::StatBlock { .. } | Request::DeleteBlock { .. }, step)
                if step != Step::WriteTombstone
                    && state.is_enough(configuration, &recorded)
                    && (is_heard_out || !state.must_look_further()) =>
            {
                self.decide_by_record(id);
            }
            (Request::LocateBlock { .. } | Request::Locate { .. }, _) if is_heard_out => self.finish_locate(id),
            _ if is_heard_out && state.level == Level::All => self.end_block_without_all(id),
            _ if is_heard_out => {
                let reason = state.last_failure.clone();
                self.pause_block_request(id, &reason);
            }
            _ => {}
        }
    }

    /// As many members as the level asks for have told their record of the block: the best one decides.
    fn decide_by_record(&mut self, id: RequestId) {
        let Some(state) = self.block_requests.get_mut(&id) else { return };
        let records = state.answers.values().filter_map(|answer| match answer {
            Answered::Record(record) => *record,
            _ => None,
        });
        let best = BlockRecord::merge_all(records).filter(|record| record.present);
        if best.is_some() && state.level == Level::All && !matches!(state.request, Request::DeleteBlock { .. }) {
            let lacking = state.lacking();
            if !lacking.is_empty() {
                return self.fail_block_without_all(id, Vec::new(), lacking, false);
            }
        }
        match (&state.request, best) {
            (Request::StatBlock { .. }, best) => self.finish_block_request(id, Ok(Reply::BlockStat(best))),
            (Request::ReadBlock { .. }, None) => self.finish_block_request(id, Ok(Reply::Block(None))),
            (Request::ReadBlock { hash, .. }, Some(_)) => {
                let hash = *hash;
                match state.content.take() {
                    Some(bytes) => self.finish_block_request(id, Ok(Reply::Block(Some(bytes)))),
                    None => self.read_from_next(id, hash),
                }
            }
            (Request::DeleteBlock { hash, .. }, best) => {
                let hash = *hash;
                let tombstone = match next_delete(best) {
                    Ok(Some(tombstone)) => tombstone,
                    Ok(None) => return self.finish_block_request(id, Ok(Reply::BlockDeleted { existed: false })),
                    Err(StillReferenced) => {
                        return self.finish_block_request(id, Err(RequestError::BlockReferenced { hash }));
                    }
                };
                state.version = tombstone.version;
                state.step = Step::WriteTombstone;
                state.answers.clear();
                for question in std::mem::take(&mut state.asked).into_keys() {
                    self.questions.remove(&question);
                }
                self.ask_for_step(id);
            }
            _ => {}
        }
    }

    /// The block exists, but the member asked does not have it: ask one that was not asked yet.
    fn read_from_next(&mut self, id: RequestId, hash: Hash) {
        let Some(state) = self.block_requests.get(&id) else { return };
        let is_reading = state.asked.values().any(|node| state.read_from.contains(node));
        let Some(configuration) = state.configuration.clone() else { return };
        if is_reading {
            return;
        }
        let slot = state.slot;
        match self.reader(state, &configuration) {
            Some(node) => {
                self.ask(node, slot, configuration.epoch, BlockQuestion::Read { hash }, AskedOf::Request(id));
            }
            None => self.pause_block_request(id, "no reachable member has the block's content"),
        }
    }

    fn pause_block_request(&mut self, id: RequestId, reason: &str) {
        let now = self.now;
        let jitter = self.rng.u32(500..1000);
        let Some(state) = self.block_requests.get_mut(&id) else { return };
        state.last_failure = reason.to_string();
        let pause = super::retry_pause(state.tries, jitter);
        state.resume_at.get_or_insert(now + pause);
    }

    fn finish_block_request(&mut self, id: RequestId, result: Result<Reply, RequestError>) {
        if let Some(state) = self.block_requests.remove(&id) {
            for question in state.asked.into_keys() {
                self.questions.remove(&question);
            }
        }
        self.reply(id, result);
    }

    fn finish_locate(&mut self, id: RequestId) {
        let Some(state) = self.block_requests.get(&id) else { return };
        if let Some(reply) = self.located(state) {
            self.finish_block_request(id, Ok(reply));
        }
    }

    /// A node is gone or suspect: whoever waits for it goes on without it.
    pub(super) fn retry_block_questions(&mut self, node: NodeId) -> Result<(), StoreError> {
        let lost: Vec<u64> = self.questions.iter().filter(|(_, asked)| asked.node == node).map(|(id, _)| *id).collect();
        for question in lost {
            let reason = "the node asked did not answer".to_string();
            self.handle_block_answer(node, question, BlockAnswer::Failed { reason })?;
        }
        Ok(())
    }

    pub(super) fn sweep_blocks(&mut self) {
        let now = self.now;
        let patience = self.options.attempt_timeout;
        let mut overdue = Vec::new();
        let mut due = Vec::new();
        let mut incomplete = Vec::new();
        for (id, state) in &self.block_requests {
            let waited = now.since(state.started_at);
            let is_all = state.level == Level::All && waited >= ALL_PATIENCE && state.configuration.is_some();
            let is_locate = matches!(state.request, Request::Locate { .. } | Request::LocateBlock { .. });
            if state.deadline <= now {
                overdue.push(*id);
            } else if is_all && state.resume_at.is_none() {
                incomplete.push(*id);
            } else if state.resume_at.map_or(waited >= patience, |at| at <= now) {
                due.push((*id, false));
            } else if is_locate && state.step == Step::Ask && waited >= LOCATE_PATIENCE {
                due.push((*id, true));
            }
        }
        for id in overdue {
            let Some(state) = self.block_requests.get(&id) else { continue };
            let error = RequestError::Unavailable { slot: state.slot, reason: state.last_failure.clone() };
            self.finish_block_request(id, Err(error));
        }
        for id in incomplete {
            self.end_block_without_all(id);
        }
        for (id, is_located) in due {
            if is_located {
                self.finish_locate(id);
            } else {
                self.begin_block_request(id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
