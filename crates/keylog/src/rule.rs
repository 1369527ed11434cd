//! Rules that a test may break on purpose, one at a time: whatever is to prove the key logs safe must notice each
//! ("negative controls"). Without the feature `controls`, which only tests enable, none can be broken: what asks is
//! compiled away.

use crate::keylog::Keylog;

/// A rule that safety rests on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rule {
    /// A new leader reads a key from a majority before it builds on it, and a newcomer copies every key before the old
    /// members are let go.
    CopyFromMajority,
    /// No ballot carries two values: a term that was led is never led again.
    FreshBallots,
    /// A quorum counts members of one epoch only.
    OneEpoch,
    /// Heads count as agreed only at one and the same ballot.
    OneBallot,
    /// A leader calls what it reads without asking anybody linearizable only while it has a lease.
    Lease,
    /// A member that has granted a lease promises the slot to nobody else until it has run out.
    GrantedLease,
    /// A tombstone is dropped only when every member has accepted it.
    HeldTombstones,
    /// A member that has dropped a key's register accepts nothing of the key's earlier life.
    DroppedFloor,
    /// A survivor of a lost majority goes on with what it holds.
    SurvivingCopies,
    /// A replica forgets what is below a checkpoint only when the checkpoint is known to be committed.
    CommittedCheckpoint,
    /// A value whose blocks were stored in a generation that is over is refused.
    UploadGeneration,
    /// What may have been applied before, and forgotten, is not applied.
    RememberedAppends,
    /// A new leader finishes the steps of the last one before it serves anything of the slot.
    FinishedSteps,
    /// That an attempt has lapsed is told only when no later leader can find it.
    SealedLapses,
}

impl<S> Keylog<S> {
    /// Whether this rule does not hold here.
    #[cfg(feature = "controls")]
    pub(crate) fn breaks(&self, rule: Rule) -> bool {
        self.options.broken == Some(rule)
    }

    /// Whether this rule does not hold here: it does.
    #[cfg(not(feature = "controls"))]
    pub(crate) const fn breaks(&self, _rule: Rule) -> bool {
        false
    }
}
