//! Folding a long log, a part at a time: everything else that the node has to do goes on in between, and only what is
//! asked of the key waits.

use std::collections::BTreeMap;

use difuse_types::{Hash, Key, SlotId};

use super::{Append, evaluate::Content};
use crate::{
    Failure, Transaction,
    keylog::Keylog,
    replica::damage::{ReadError, outcome},
    store::{Store, StoreError},
};

/// The most transactions that are folded at once.
const FOLDED_AT_ONCE: u64 = 1024;

/// Folds under way, by key.
#[derive(Debug, Default)]
pub(crate) struct Folds(BTreeMap<(SlotId, Key), Fold>);

#[derive(Debug)]
struct Fold {
    /// The head when it began: if it is another one when the fold is done, it was for nothing.
    head: (u64, Hash),
    next: u64,
    content: Content,
}

/// A copy of a node's part begins without them: they begin again.
impl Clone for Folds {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Folds {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: Store> Keylog<S> {
    /// Whether what waits for a settled key must wait until its log is folded: begins that.
    pub(super) fn must_fold_first(&mut self, slot: SlotId, key: &Key) -> Result<bool, ReadError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(false) };
        let is_evaluated = leadership.steps.holds(key)
            || leadership.keys.get(key).is_some_and(|state| state.appends.iter().any(Append::is_command));
        if !is_evaluated {
            return Ok(false);
        }
        let Some(register) = self.store.register(slot, key)? else { return Ok(false) };
        let (height, hash) = (register.head.height, register.head.hash);
        let first = register.head.checkpoint.max(register.base).max(1);
        if height < first + FOLDED_AT_ONCE || self.states.holds(slot, key, hash) {
            return Ok(false);
        }
        let head = self.stored(slot, key, height)?;
        if !head.as_ref().and_then(Transaction::value).is_some_and(|value| value.kind.is_structure()) {
            return Ok(false);
        }
        let begun = Fold { head: (height, hash), next: first, content: Content::default() };
        let fold = self.folds.0.entry((slot, key.clone())).or_insert(begun);
        if fold.head != (height, hash) {
            *fold = Fold { head: (height, hash), next: first, content: Content::default() };
        }
        Ok(true)
    }

    /// Goes on with one of the folds.
    pub(crate) fn continue_folds(&mut self) -> Result<(), StoreError> {
        let Some(((slot, key), mut fold)) = self.folds.0.pop_first() else { return Ok(()) };
        let is_wanted = self.leadership(slot).is_some_and(|leadership| {
            let has_appends = leadership.keys.get(&key).is_some_and(|state| !state.appends.is_empty());
            has_appends || leadership.steps.holds(&key)
        });
        if !is_wanted {
            return Ok(());
        }
        match outcome(self.fold_on(slot, &key, &mut fold))? {
            Ok(Ok(())) if fold.next <= fold.head.0 => {
                self.folds.0.insert((slot, key), fold);
                Ok(())
            }
            Ok(Ok(())) => {
                if let Some(state) = fold.content.state {
                    self.states.put(slot, &key, fold.head.1, state, self.options.states_bytes_max);
                }
                self.advance(slot, &key)
            }
            Ok(Err(failure)) | Err(failure) => {
                self.fail_appends(slot, &key, &failure);
                Ok(())
            }
        }
    }

    fn fold_on(&mut self, slot: SlotId, key: &Key, fold: &mut Fold) -> Result<Result<(), Failure>, ReadError> {
        let last = fold.head.0.min(fold.next + FOLDED_AT_ONCE - 1);
        while fold.next <= last {
            let Some(transaction) = self.stored(slot, key, fold.next)? else {
                self.note_damage(slot, key, fold.next);
                return Err(ReadError::Damaged);
            };
            if let Err(failure) = self.fold_one(&mut fold.content, transaction.operation) {
                return Ok(Err(failure));
            }
            fold.next += 1;
        }
        Ok(Ok(()))
    }
}
