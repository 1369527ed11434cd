//! Who must stand behind the answer to a request about a block: one member, the leader, a majority, or all.

use std::collections::BTreeSet;

use bytes::Bytes;
use difuse_blocks::BlockRecord;
use difuse_keylog::{Configuration, Store};
use difuse_types::{Level, NodeId};

use super::{Answered, AskedOf, BlockRequest, Step};
use crate::{
    message::BlockQuestion,
    peer::{Peer, RequestId},
    request::{Reply, Request, RequestError},
};

impl BlockRequest {
    /// Whether the members that told what counts are enough for the level.
    pub(super) fn is_enough(&self, configuration: &Configuration, told: &BTreeSet<NodeId>) -> bool {
        match self.level {
            Level::Lazy => !told.is_empty(),
            Level::Leader => self.primary.is_some_and(|primary| told.contains(&primary)),
            Level::Quorum => configuration.is_quorum(told),
            Level::All => configuration.all_members().iter().all(|member| told.contains(member)),
        }
    }

    /// At level lazy one copy is enough, but the word of one member is not enough to say that there is none.
    pub(super) fn must_look_further(&self) -> bool {
        let has_it = |answer: &Answered| matches!(answer, Answered::Record(Some(record)) if record.present);
        self.level == Level::Lazy && !self.answers.values().any(has_it)
    }

    /// Members that do not have the block though others do.
    pub(super) fn lacking(&self) -> Vec<NodeId> {
        let lacks = |answer: &Answered| !matches!(answer, Answered::Record(Some(record)) if record.present);
        self.answers.iter().filter(|(_, answer)| lacks(answer)).map(|(node, _)| *node).collect()
    }

    /// Members that answered with what the present step asks for.
    fn told(&self) -> BTreeSet<NodeId> {
        let counts = |answer: &Answered| match (&self.request, self.step) {
            (Request::PutBlock { .. }, _) => matches!(answer, Answered::Stored { .. }),
            (_, Step::WriteTombstone) => matches!(answer, Answered::Deleted),
            _ => matches!(answer, Answered::Record(_)),
        };
        self.answers.iter().filter(|(_, answer)| counts(answer)).map(|(node, _)| *node).collect()
    }

    fn is_write(&self) -> bool {
        matches!(self.request, Request::PutBlock { .. }) || self.step == Step::WriteTombstone
    }
}

impl<S: Store> Peer<S> {
    /// Who stands for a group at level leader: its leader as far as this node knows, else the first member in reach.
    pub(super) fn primary(&self, configuration: &Configuration) -> Option<NodeId> {
        let slot = configuration.slot;
        let known = match configuration.contains(&self.me) {
            true => self.keylog.leader(slot),
            false => self.known_leaders.get(&slot).copied(),
        };
        let alive = self.alive(configuration.all_members());
        known.filter(|leader| alive.contains(leader)).or_else(|| alive.first().copied())
    }

    /// Ends a request at level all at once if a member is known to be out of reach; says whether it did.
    pub(super) fn refuse_block_without_all(&mut self, id: RequestId) -> bool {
        let Some(state) = self.block_requests.get(&id).filter(|state| state.level == Level::All) else { return false };
        let Some(configuration) = &state.configuration else { return false };
        let members = configuration.all_members();
        let alive = self.alive(members.iter().copied());
        let silent: Vec<NodeId> = members.into_iter().filter(|member| !alive.contains(member)).collect();
        if silent.is_empty() {
            return false;
        }
        self.fail_block_without_all(id, silent, Vec::new(), false);
        true
    }

    /// Not every member has told what it should, and those who have not are not waited for any longer.
    pub(super) fn end_block_without_all(&mut self, id: RequestId) {
        let Some(state) = self.block_requests.get(&id) else { return };
        let Some(configuration) = &state.configuration else { return };
        let told = state.told();
        let silent = configuration.all_members().into_iter().filter(|member| !told.contains(member)).collect();
        let is_applied = state.is_write() && configuration.is_quorum(&told);
        self.fail_block_without_all(id, silent, Vec::new(), is_applied);
    }

    pub(super) fn fail_block_without_all(
        &mut self,
        id: RequestId,
        silent: Vec<NodeId>,
        differing: Vec<NodeId>,
        is_applied: bool,
    ) {
        let Some(slot) = self.block_requests.get(&id).map(|state| state.slot) else { return };
        let error = RequestError::NotAll { slot, silent, differing, is_applied, written: None };
        self.finish_block_request(id, Err(error));
    }

    /// One member told what it has, for a read that needs no second opinion.
    pub(super) fn decide_weak_read(&mut self, id: RequestId, record: Option<BlockRecord>, bytes: Option<Bytes>) {
        let Some(state) = self.block_requests.get(&id) else { return };
        let Request::ReadBlock { hash, .. } = state.request else { return };
        let Some(configuration) = state.configuration.clone() else { return };
        let is_deleted = record.is_some_and(|record| !record.present);
        if bytes.is_some() || is_deleted || state.level == Level::Leader {
            return self.finish_block_request(id, Ok(Reply::Block(bytes)));
        }
        let slot = state.slot;
        let is_heard_out = configuration.all_members().iter().all(|member| state.answers.contains_key(member));
        match self.reader(state, &configuration) {
            Some(node) => self.ask(node, slot, configuration.epoch, BlockQuestion::Read { hash }, AskedOf::Request(id)),
            None if is_heard_out => self.finish_block_request(id, Ok(Reply::Block(None))),
            None => self.pause_block_request(id, "no reachable member has the block, and not all could be asked"),
        }
    }
}
