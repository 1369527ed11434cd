use difuse_keylog::Anchor;

/// Since when a write may have been sent, and so applied: what a leader that does not find its operation id goes by. A
/// repeated write must never say that it is the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Since {
    /// Nobody has sent it before, nor does before this attempt is answered. Only within one process, of an operation id that
    /// was drawn there: it would not be true any more of a message that comes late, or that its sender has ceased to wait for.
    Now,
    /// The sender has sent it before only if it is sure that those attempts changed nothing; but this one may come late, and
    /// others after it.
    Unsent,
    /// It was first sent after this.
    After(Anchor),
    /// At any time.
    #[default]
    Unknown,
}

impl Since {
    /// The anchor, if there is one.
    pub fn anchor(self) -> Option<Anchor> {
        match self {
            Self::After(anchor) => Some(anchor),
            Self::Now | Self::Unsent | Self::Unknown => None,
        }
    }
}

impl From<Option<Anchor>> for Since {
    fn from(anchor: Option<Anchor>) -> Self {
        anchor.map_or(Self::Unknown, Self::After)
    }
}
