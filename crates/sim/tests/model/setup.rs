//! What a run may contain, as a model for stateright.

use std::collections::BTreeMap;

use difuse_keylog::Rule;
use difuse_types::NodeId;
use stateright::{Model, Property};

use crate::{
    promises,
    state::{Action, State},
};

/// How often each thing may happen in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// Appends that clients ask for.
    pub writes: u8,
    /// Reads that clients ask for.
    pub reads: u8,
    /// Times that some node's clock jumps beyond all its timers.
    pub ticks: u8,
    /// Times that a node begins or ceases to suspect another.
    pub suspicions: u8,
    /// Crashes, each with a restart on what was durable.
    pub crashes: u8,
    /// Times that the ring proposes the other group.
    pub placements: u8,
}

/// The nodes at the beginning, and what may happen to them.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Who holds the slot at first.
    pub members: Vec<u8>,
    /// Who is to hold it after the reconfiguration.
    pub target: Vec<u8>,
    /// How often what may happen.
    pub limits: Limits,
    /// Whether members begin with three proposals of which none came to be decided: see [`State::first`].
    pub is_torn: bool,
    /// Whether the move is over at the beginning, and the first member, which led, has not heard of it.
    pub is_moved_without_leader: bool,
    /// Whether a batch becomes durable in a step of its own; else at once.
    pub is_flush_apart: bool,
    /// A rule that is broken on purpose.
    pub broken: Option<Rule>,
}

impl Setup {
    /// All nodes, in order.
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut names: Vec<u8> = self.members.iter().chain(&self.target).copied().collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(node).collect()
    }
}

/// The node of a name.
pub fn node(name: u8) -> NodeId {
    NodeId([name; 32])
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.possible(self, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.act(self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a ballot carries one value", |_, state: &State| !state.seen.has_two_values),
            Property::always("a parent has one child", |_, state: &State| !state.seen.has_two_children),
            Property::always("a read is not older than what was acknowledged", |_, state: &State| {
                !state.seen.has_stale_read
            }),
            Property::always("every quorum holds what was acknowledged", |_, state: &State| promises::survives(state)),
            Property::sometimes("a write is acknowledged", |_, state: &State| !state.seen.shown.is_empty()),
            Property::sometimes("all is done", |setup: &Setup, state: &State| promises::is_all_done(setup, state)),
        ]
    }
}

/// What was seen in a run so far: it decides whether a promise was broken, whatever the nodes remember.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct Seen {
    /// The value of each ballot.
    pub values: BTreeMap<difuse_keylog::Ballot, (u64, difuse_types::Hash)>,
    /// The transactions that clients were told of, by height.
    pub shown: BTreeMap<u64, difuse_types::Hash>,
    /// A second value at one ballot.
    pub has_two_values: bool,
    /// A second transaction of one height that clients were told of.
    pub has_two_children: bool,
    /// A read that missed a write acknowledged before it was asked for.
    pub has_stale_read: bool,
}

impl Seen {
    /// A value is proposed or accepted at a ballot.
    pub fn note_value(&mut self, ballot: difuse_keylog::Ballot, value: (u64, difuse_types::Hash)) {
        self.has_two_values |= *self.values.entry(ballot).or_insert(value) != value;
    }

    /// A client is told of a transaction.
    pub fn note_shown(&mut self, height: u64, hash: difuse_types::Hash) {
        self.has_two_children |= *self.shown.entry(height).or_insert(hash) != hash;
    }
}
