//! Negative controls: rules that safety rests on, to be broken on purpose by every node of a ring. The simulator must
//! find out each; docs/proof.md says how fast it does.

use clap::ValueEnum;
use difuse_keylog::Rule;
use difuse_protocol::BrokenRule;

/// A rule to break.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Control {
    /// A new leader reads a key from a majority before it builds on it, and newcomers copy every key.
    CopyFromMajority,
    /// No term is led twice, and so no ballot carries two values.
    FreshBallots,
    /// A quorum counts members of one epoch only.
    OneEpoch,
    /// Equal heads count as agreed only at one ballot.
    OneBallot,
    /// A leader calls a read linearizable without asking anybody only while it has a lease.
    Lease,
    /// A member that has granted a lease promises the slot to nobody else.
    GrantedLease,
    /// A tombstone is dropped only when every member has accepted it.
    HeldTombstones,
    /// Nothing of the earlier life of a key that was dropped is accepted.
    DroppedFloor,
    /// A survivor of a lost majority goes on with what it holds.
    SurvivingCopies,
    /// What is below a checkpoint is forgotten only when the checkpoint is committed.
    CommittedCheckpoint,
    /// A write that may have been applied before, and forgotten, is not applied.
    RememberedAppends,
    /// A new leader finishes the steps of the last one before it serves anything.
    FinishedSteps,
    /// That an attempt has lapsed is told only when no later leader can find it.
    SealedLapses,
    /// A successor on the ring is adopted only when it was seen alive.
    CheckedSuccessor,
    /// Values whose blocks may have been collected are taken all the same.
    UploadGeneration,
}

impl Control {
    pub(crate) fn rule(self) -> BrokenRule {
        match self {
            Self::CopyFromMajority => BrokenRule::Keylog(Rule::CopyFromMajority),
            Self::FreshBallots => BrokenRule::Keylog(Rule::FreshBallots),
            Self::OneEpoch => BrokenRule::Keylog(Rule::OneEpoch),
            Self::OneBallot => BrokenRule::Keylog(Rule::OneBallot),
            Self::Lease => BrokenRule::Keylog(Rule::Lease),
            Self::GrantedLease => BrokenRule::Keylog(Rule::GrantedLease),
            Self::HeldTombstones => BrokenRule::Keylog(Rule::HeldTombstones),
            Self::DroppedFloor => BrokenRule::Keylog(Rule::DroppedFloor),
            Self::SurvivingCopies => BrokenRule::Keylog(Rule::SurvivingCopies),
            Self::CommittedCheckpoint => BrokenRule::Keylog(Rule::CommittedCheckpoint),
            Self::UploadGeneration => BrokenRule::Keylog(Rule::UploadGeneration),
            Self::RememberedAppends => BrokenRule::Keylog(Rule::RememberedAppends),
            Self::FinishedSteps => BrokenRule::Keylog(Rule::FinishedSteps),
            Self::SealedLapses => BrokenRule::Keylog(Rule::SealedLapses),
            Self::CheckedSuccessor => BrokenRule::CheckedSuccessor,
        }
    }
}
