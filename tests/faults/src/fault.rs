//! What can be done to a ring.

use crate::network::{Cuts, Place};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// kill -9, and a restart.
    Kill,
    /// SIGSTOP, and SIGCONT.
    Pause,
    /// kill -9 and a restart, several times.
    Flap,
    /// Packets of one node to another are dropped, not those the other way.
    OneWay,
    /// Packets between two nodes are dropped.
    TwoWay,
    /// Packets between one node and all others are dropped.
    Isolate,
    /// Packets between two groups are dropped.
    Split,
    /// The same, but one node sees both groups.
    Bridge,
    /// A wall clock jumps.
    Clock,
    /// A new node joins.
    Join,
    /// A node leaves as planned.
    Leave,
    /// A host loses its disk, and a new node takes its place.
    Replace,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::Bridge,
        Self::Join,
        Self::Pause,
        Self::Split,
        Self::Replace,
        Self::OneWay,
        Self::Clock,
        Self::Leave,
        Self::Flap,
        Self::Isolate,
        Self::TwoWay,
    ];

    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Pause => "pause",
            Self::Flap => "flap",
            Self::OneWay => "one-way cut",
            Self::TwoWay => "two-way cut",
            Self::Isolate => "isolation",
            Self::Split => "split",
            Self::Bridge => "bridge",
            Self::Clock => "clock jump",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Replace => "replaced host",
        }
    }

    /// Whether cables must be there to be cut.
    pub fn needs_cables(self) -> bool {
        matches!(self, Self::OneWay | Self::TwoWay | Self::Isolate | Self::Split | Self::Bridge)
    }

    /// Whether it stops a process.
    pub fn stops_process(self) -> bool {
        matches!(self, Self::Kill | Self::Pause | Self::Flap | Self::Replace)
    }

    /// Whether it changes who is in the ring.
    pub fn changes_members(self) -> bool {
        matches!(self, Self::Join | Self::Leave | Self::Replace)
    }
}

/// Both directions between each of `left` and each of `right`.
pub fn between(left: &[Place], right: &[Place]) -> Cuts {
    let pairs = left.iter().flat_map(|from| right.iter().map(|to| (*from, *to)));
    pairs.flat_map(|(from, to)| [(from, to), (to, from)]).collect()
}

/// Places as people read them.
pub fn list(places: &[Place]) -> String {
    places.iter().map(Place::to_string).collect::<Vec<_>>().join(",")
}
