//! The search for an order in which everything could have happened one after the other (Herlihy and Wing 1990): that of Wing
//! and Gong (1993) with the memory of Lowe (2017). Of two ways to the same set of operations and the same state, the second is
//! not followed.

use std::collections::BTreeSet;

/// The most operations in one history.
pub const OPERATIONS_MAX: usize = 128;

/// When an operation is completed that was never answered.
pub(crate) const OPEN: u64 = u64::MAX;

/// When an operation was under way. Times are any numbers that grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    invoked_at: u64,
    completed_at: u64,
}

impl Span {
    /// `completed_at`: [`OPEN`] for one that may happen at any time from `invoked_at` on, or never.
    pub(crate) fn new(invoked_at: u64, completed_at: u64) -> Self {
        Self { invoked_at, completed_at }
    }
}

/// What operations do, one after the other.
pub(crate) trait Model {
    /// What there is between two operations.
    type State: Clone + Ord;

    /// The state after the operation with this index, if it is answered in `state` as it was; `None` if not.
    fn apply(&self, operation: usize, state: &Self::State) -> Option<Self::State>;

    /// Whether the operation with this index leaves every state as it is in which it is answered as it was.
    fn is_read(&self, operation: usize) -> bool;
}

/// Whether some order from `beginning` on explains all operations: at most [`OPERATIONS_MAX`].
pub(crate) fn has_order<M: Model>(model: &M, spans: &[Span], beginning: M::State) -> bool {
    assert!(spans.len() <= OPERATIONS_MAX, "a history is kept short");
    Search { model, spans, visited: BTreeSet::new() }.goes_on(0, beginning)
}

struct Search<'a, M: Model> {
    model: &'a M,
    spans: &'a [Span],
    visited: BTreeSet<(u128, M::State)>,
}

impl<M: Model> Search<'_, M> {
    /// Whether an order of what is not `done` leads on from a state.
    fn goes_on(&mut self, done: u128, state: M::State) -> bool {
        let open: Vec<usize> = (0..self.spans.len()).filter(|index| done & (1 << index) == 0).collect();
        let deadline = open.iter().map(|index| self.spans[*index].completed_at).min().unwrap_or(OPEN);
        if deadline == OPEN {
            return true;
        }
        if !self.visited.insert((done, state.clone())) {
            return false;
        }
        let mut candidates = Vec::new();
        for index in open {
            let Span { invoked_at, completed_at } = self.spans[index];
            if invoked_at > deadline {
                continue;
            }
            match self.model.apply(index, &state) {
                // It can come first at no risk.
                Some(_) if self.model.is_read(index) => return self.goes_on(done | (1 << index), state),
                Some(after) => candidates.push((completed_at, index, after)),
                None => {}
            }
        }
        candidates.sort_unstable_by_key(|(completed_at, index, _)| (*completed_at, *index));
        candidates.into_iter().any(|(_, index, after)| self.goes_on(done | (1 << index), after))
    }
}
