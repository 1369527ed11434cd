//! Who has a key or a block.

use difuse_keylog::Store;

use super::{
    Peer,
    blocks::{Answered, BlockRequest},
};
use crate::request::{BlockHolding, BlockLocated, Holding, Located, Reply, Request};

impl<S: Store> Peer<S> {
    /// What the members told so far.
    pub(super) fn located(&self, state: &BlockRequest) -> Option<Reply> {
        let configuration = state.configuration.as_ref()?;
        let members = configuration.all_members();
        let (slot, epoch) = (state.slot, configuration.epoch);
        if let Request::LocateBlock { .. } = state.request {
            let holding = |node: &_| match state.answers.get(node) {
                Some(Answered::Record(record)) => BlockHolding { node: *node, record: *record, answered: true },
                _ => BlockHolding { node: *node, record: None, answered: false },
            };
            let holdings = members.iter().map(holding).collect();
            return Some(Reply::BlockLocated(BlockLocated { slot, epoch, holdings }));
        }
        let is_member = configuration.contains(&self.me);
        let told = if is_member { self.keylog.leader(slot) } else { self.known_leaders.get(&slot).copied() };
        let holding = |node: &_| {
            let (answered, head) = match state.answers.get(node) {
                Some(Answered::Register(register)) => {
                    (true, register.as_ref().map(|register| (register.height, register.hash)))
                }
                _ => (false, None),
            };
            Holding { node: *node, head, answered }
        };
        Some(Reply::Located(Located {
            slot,
            epoch,
            leader: told.or_else(|| members.first().copied())?,
            members: configuration.members.clone(),
            joint: configuration.joint.clone(),
            holdings: members.iter().map(holding).collect(),
        }))
    }
}
