//! Whether a proposed head connects to the chain that a replica holds.

use difuse_types::{Hash, Key, NodeId, SlotId};

use super::{MESSAGE_BYTES_MAX, Proposal, Staged, accepted::may_forget_below, chain_holds, damage::ReadError};
use crate::{
    KeylogMessage, Register, TRANSACTIONS_MAX, Transaction,
    keylog::Keylog,
    store::{Store, StoreError},
};

pub(super) enum Connection {
    /// The chain up to the head is here or comes with the proposal's transactions.
    Connected {
        proposal: Proposal,
        /// What is staged of it, below the transactions.
        staged: Option<Box<Staged>>,
        beginning: Beginning,
    },
    /// The chain is wanted from this height on.
    Lacking { from_height: u64 },
    /// The transactions are not a chain that ends at the head.
    Broken,
}

/// Where the chain of a proposal begins that a replica is about to accept.
#[derive(Clone, Copy)]
pub(super) enum Beginning {
    /// Where what is stored does.
    Held,
    /// At this height, with the proposal: nothing that is stored below belongs to it, or is needed.
    At(u64),
}

impl<S: Store> Keylog<S> {
    pub(super) fn connect(
        &mut self,
        slot: SlotId,
        existing: Option<&Register>,
        mut proposal: Proposal,
    ) -> Result<Connection, StoreError> {
        let head = (proposal.height, proposal.hash);
        if proposal.transactions.is_empty() {
            return self.connect_without_transactions(slot, existing, proposal);
        }
        if !chain_holds(&proposal.key, &proposal.transactions, head) {
            return Ok(Connection::Broken);
        }
        let stored = || self.store.staged(slot, &proposal.key);
        let (staged, transactions) = self.assembly.join(slot, &proposal.key, proposal.transactions, stored)?;
        proposal.transactions = transactions;
        let (key, transactions) = (&proposal.key, &proposal.transactions);
        let lowest = &transactions[0];
        let first = (lowest.height, lowest.previous, lowest.checkpoint.is_some());
        let (first_height, previous, is_checkpoint) = staged.as_ref().map_or(first, |staged| staged.first);
        let parent = (first_height - 1, previous);
        let connected =
            |proposal, beginning| Ok(Connection::Connected { proposal, staged: staged.map(Box::new), beginning });
        if parent.0 == 0 {
            let is_first = parent.1.is_zero();
            return if is_first { connected(proposal, Beginning::At(1)) } else { Ok(Connection::Broken) };
        }
        if self.holds(slot, key, existing, parent)? {
            return connected(proposal, Beginning::Held);
        }
        // The leader has forgotten what is below, as everybody may of a checkpoint that is far enough below what is
        // committed. A part of a longer chain that begins at a later checkpoint is no such beginning.
        if is_checkpoint && may_forget_below(first_height, proposal.committed_height) {
            return connected(proposal, Beginning::At(first_height));
        }
        // Our chain has another transaction at the parent's height: ask for twice as much, until it connects.
        let further_down = || first_height.saturating_sub(2 * transactions.len().max(4) as u64).max(1);
        let from_height = self.first_lacked(slot, key, existing, first_height).unwrap_or_else(further_down);
        Ok(Connection::Lacking { from_height })
    }

    fn connect_without_transactions(
        &mut self,
        slot: SlotId,
        existing: Option<&Register>,
        proposal: Proposal,
    ) -> Result<Connection, StoreError> {
        let head = (proposal.height, proposal.hash);
        if self.holds(slot, &proposal.key, existing, head)? {
            return Ok(Connection::Connected { proposal, staged: None, beginning: Beginning::Held });
        }
        // It brings nothing, and so begins above its head.
        let from_height = self.first_lacked(slot, &proposal.key, existing, head.0.saturating_add(1)).unwrap_or(head.0);
        Ok(Connection::Lacking { from_height: from_height.max(1) })
    }

    /// The first height that is neither here nor waiting for its turn, below a proposal that begins at `first_height`; `None`
    /// if all of them are, so that they are of another chain.
    fn first_lacked(&self, slot: SlotId, key: &Key, existing: Option<&Register>, first_height: u64) -> Option<u64> {
        let above_held = existing.map_or(0, |register| register.head.height) + 1;
        let waiting = self.assembly.next_height(slot, key, first_height);
        waiting.or_else(|| (above_held < first_height).then_some(above_held))
    }

    /// Whether the transaction of this height and hash is stored; one that is damaged is not.
    pub(crate) fn holds(
        &mut self,
        slot: SlotId,
        key: &Key,
        existing: Option<&Register>,
        wanted: (u64, Hash),
    ) -> Result<bool, StoreError> {
        match existing {
            None => return Ok(false),
            Some(register) if (register.head.height, register.head.hash) == wanted => return Ok(true),
            Some(register) if register.head.height <= wanted.0 => return Ok(false),
            Some(_) => {}
        }
        match self.stored(slot, key, wanted.0) {
            Ok(stored) => Ok(stored.is_some_and(|transaction| transaction.hash() == wanted.1)),
            Err(ReadError::Damaged) => Ok(false),
            Err(ReadError::Store(error)) => Err(error),
        }
    }

    /// Reads a part of a chain from the store: at most [`TRANSACTIONS_MAX`] and half a mebibyte, up to the first one
    /// that is damaged.
    pub(crate) fn read_chain(
        &mut self,
        slot: SlotId,
        key: &Key,
        from_height: u64,
        to_height: u64,
    ) -> Result<Vec<Transaction>, ReadError> {
        let mut transactions = Vec::new();
        let mut bytes = 0;
        for height in from_height.max(1)..=to_height {
            let transaction = match self.stored(slot, key, height) {
                Ok(Some(transaction)) => transaction,
                Ok(None) => break,
                Err(ReadError::Damaged) if !transactions.is_empty() => break,
                Err(error) => return Err(error),
            };
            bytes += transaction.approximate_bytes();
            let full =
                transactions.len() >= TRANSACTIONS_MAX || (bytes > MESSAGE_BYTES_MAX && !transactions.is_empty());
            if full {
                break;
            }
            transactions.push(transaction);
        }
        Ok(transactions)
    }

    /// The same for a message to a member that lacks it.
    pub(crate) fn read_part(
        &mut self,
        slot: SlotId,
        key: &Key,
        from_height: u64,
        to_height: u64,
    ) -> Result<Vec<Transaction>, ReadError> {
        let others = (self.options.part_transactions_max as u64).saturating_sub(1);
        self.read_chain(slot, key, from_height, to_height.min(from_height.saturating_add(others)))
    }

    pub(crate) fn handle_fetch_transactions(
        &mut self,
        from: NodeId,
        slot: SlotId,
        key: Key,
        from_height: u64,
        to_height: u64,
    ) -> Result<(), StoreError> {
        if !self.slots.contains_key(&slot) {
            return Ok(());
        }
        // Whoever asks for what was forgotten gets the chain from the base on.
        let base = self.store.register(slot, &key)?.map_or(1, |register| register.base);
        let transactions = match self.read_part(slot, &key, from_height.max(base), to_height) {
            Ok(transactions) => transactions,
            // None at all: another member is asked then.
            Err(ReadError::Damaged) => Vec::new(),
            Err(ReadError::Store(error)) => return Err(error),
        };
        self.send(from, KeylogMessage::Transactions { slot, key, transactions });
        Ok(())
    }
}
