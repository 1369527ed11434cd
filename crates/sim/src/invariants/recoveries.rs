//! Which recovery of a slot stands. Where none was, nothing that was acknowledged is lost; where one was, nothing that was
//! acknowledged since. Members who have not heard of it may still serve what it does without: to whom an answer belongs is
//! told by its ballot, or by nobody else being there to give it.

use std::collections::{BTreeMap, BTreeSet};

use difuse_keylog::{Configuration, WriteSequence};
use difuse_types::{Hash, Key, NodeId, SlotId};

/// The recoveries of all slots. Each is named by the hash that its configurations carry; before the first it is zero.
#[derive(Default)]
pub(crate) struct Recoveries {
    /// What the epochs of recovered slots go back to.
    names: BTreeMap<(SlotId, u64), Hash>,
    /// Slots that were recovered.
    slots: BTreeMap<SlotId, Standing>,
    /// Those that were decided, by hash.
    configurations: BTreeMap<Hash, Configuration>,
    /// What each node was last seen to hold.
    held: BTreeMap<(NodeId, SlotId), Held>,
    /// Who has entered which recovery.
    entered: BTreeSet<(NodeId, Hash)>,
    /// What survivors brought along, and is not durable with the recovery yet.
    brought: Vec<Brought>,
}

/// What a node holds of a slot.
#[derive(Default)]
struct Held {
    configuration: Option<Hash>,
    heads: BTreeMap<Key, Hash>,
}

/// Something that clients had been told is committed before a recovery, as a survivor holds it when it enters that.
pub(crate) struct Brought {
    pub(crate) by: NodeId,
    /// When this batch is durable, it stays.
    pub(crate) sequence: WriteSequence,
    pub(crate) recovery: Hash,
    pub(crate) key: Key,
    pub(crate) height: u64,
    pub(crate) hash: Hash,
}

#[derive(Default)]
struct Standing {
    recovery: Hash,
    /// Whether some member, running or not, goes back to another one.
    is_in_doubt: bool,
    /// When no member did any more, by the clients' clock.
    certain_since: u64,
}

impl Recoveries {
    /// A node takes this configuration for decided.
    pub(crate) fn observe(&mut self, configuration: &Configuration) {
        if configuration.recovery != Hash::ZERO {
            self.names.insert((configuration.slot, configuration.epoch), configuration.recovery);
            self.slots.entry(configuration.slot).or_default();
        }
    }

    /// The recovery that an epoch goes back to.
    pub(crate) fn of_epoch(&self, slot: SlotId, epoch: u64) -> Option<Hash> {
        match Configuration::recoveries_of(epoch) {
            0 => Some(Hash::ZERO),
            _ => self.names.get(&(slot, epoch)).copied(),
        }
    }

    /// The recovery that an epoch goes back to, if none is known that may have come after it.
    pub(crate) fn of_last_epoch(&self, slot: SlotId, epoch: u64) -> Option<Hash> {
        let recovery = self.of_epoch(slot, epoch)?;
        let mut later = self.names.range((slot, epoch)..=(slot, u64::MAX));
        later.all(|(_, other)| *other == recovery).then_some(recovery)
    }

    /// A node holds this head of a key.
    pub(crate) fn hold(&mut self, node: NodeId, slot: SlotId, key: &Key, head: Hash) {
        self.held.entry((node, slot)).or_default().heads.insert(key.clone(), head);
    }

    /// A node takes this for decided: if it is a survivor that enters a recovery, the one that this one follows, and the heads
    /// that it held before. Of one that was to be a newcomer, and had not heard of it, nothing is expected.
    pub(crate) fn enter(&mut self, node: NodeId, configuration: &Configuration) -> Option<(Hash, Vec<(Key, Hash)>)> {
        let hash = configuration.hash();
        self.configurations.entry(hash).or_insert_with(|| configuration.clone());
        let held = self.held.entry((node, configuration.slot)).or_default();
        let before = held.configuration.replace(hash);
        let is_emptied = configuration.newcomers().contains(&node) || !configuration.contains(&node);
        if before != Some(hash) && (is_emptied || !configuration.is_recovery() && configuration.recoveries() > 0) {
            held.heads.clear();
        }
        let is_survivor = configuration.is_recovery() && configuration.contains(&node);
        if !is_survivor || !self.entered.insert((node, configuration.recovery)) {
            return None;
        }
        let lost = self.configurations.get(&configuration.previous)?;
        let is_stale = before != Some(lost.hash()) && lost.newcomers().contains(&node);
        let heads = held.heads.iter().map(|(key, head)| (key.clone(), *head));
        (lost.contains(&node) && !is_stale).then(|| (lost.recovery, heads.collect()))
    }

    /// A survivor entered a recovery with this.
    pub(crate) fn bring(&mut self, brought: Brought) {
        self.brought.push(brought);
    }

    /// Batches of a node are durable: what it brought along with them must stay.
    pub(crate) fn take_durable(&mut self, node: NodeId, sequence: WriteSequence) -> Vec<Brought> {
        let is_durable = |brought: &mut Brought| brought.by == node && brought.sequence <= sequence;
        self.brought.extract_if(.., is_durable).collect()
    }

    /// A node has lost what was not durable.
    pub(crate) fn crash(&mut self, node: NodeId) {
        self.held.retain(|(of, _), _| *of != node);
        for undone in self.brought.extract_if(.., |brought| brought.by == node) {
            self.entered.remove(&(node, undone.recovery));
        }
    }

    /// The recovery that stands.
    pub(crate) fn standing(&self, slot: SlotId) -> Hash {
        self.slots.get(&slot).map_or(Hash::ZERO, |standing| standing.recovery)
    }

    /// Slots that were recovered.
    pub(crate) fn slots(&self) -> Vec<SlotId> {
        self.slots.keys().copied().collect()
    }

    pub(crate) fn is_recovered(&self, slot: SlotId) -> bool {
        self.slots.contains_key(&slot)
    }

    /// The recovery under which everything is answered now that was asked for at `asked_at`; `None` if there may be two.
    pub(crate) fn certain(&self, slot: SlotId, asked_at: u64) -> Option<Hash> {
        match self.slots.get(&slot) {
            None => Some(Hash::ZERO),
            Some(standing) => {
                let is_certain = !standing.is_in_doubt && asked_at > standing.certain_since;
                is_certain.then_some(standing.recovery)
            }
        }
    }

    /// What the members of a slot know has changed: `newest` is its newest configuration, and they go back to `recoveries`.
    /// Says whether another recovery stands now.
    pub(crate) fn update(
        &mut self,
        slot: SlotId,
        newest: &Configuration,
        recoveries: &BTreeSet<Hash>,
        clock: u64,
    ) -> bool {
        let Some(standing) = self.slots.get_mut(&slot) else { return false };
        let is_another = standing.recovery != newest.recovery;
        let is_in_doubt = recoveries.iter().any(|recovery| *recovery != newest.recovery);
        if is_another || (standing.is_in_doubt && !is_in_doubt) {
            standing.certain_since = clock;
        }
        (standing.recovery, standing.is_in_doubt) = (newest.recovery, is_in_doubt);
        is_another
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use difuse_keylog::Configuration;
    use difuse_types::{Hash, NodeId, SlotId};

    use super::Recoveries;

    #[test]
    fn an_answer_is_certain_when_nobody_goes_back_to_another_recovery() {
        let slot = SlotId(3);
        let before = Configuration::first(slot, vec![NodeId([1; 32]), NodeId([2; 32])]);
        let after = before.recovered(vec![NodeId([1; 32])], 7).unwrap();
        let mut recoveries = Recoveries::default();
        recoveries.observe(&before);
        assert_eq!((recoveries.certain(slot, 1), recoveries.slots()), (Some(Hash::ZERO), vec![]));

        recoveries.observe(&after);
        let (old, new) = (before.recovery, after.recovery);
        assert!(recoveries.update(slot, &after, &BTreeSet::from([old, new]), 5));
        assert_eq!((recoveries.certain(slot, 6), recoveries.standing(slot)), (None, new));
        assert!(!recoveries.update(slot, &after, &BTreeSet::from([new]), 8));
        assert_eq!((recoveries.certain(slot, 8), recoveries.certain(slot, 9)), (None, Some(new)));
        assert_eq!((recoveries.of_epoch(slot, 1), recoveries.of_epoch(slot, after.epoch)), (Some(old), Some(new)));
        let of_last = [1, after.epoch].map(|epoch| recoveries.of_last_epoch(slot, epoch));
        assert_eq!(of_last, [None, Some(new)]);
    }
}
