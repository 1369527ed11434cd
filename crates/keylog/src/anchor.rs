use std::{fmt, str::FromStr};

use difuse_types::NodeId;

use crate::{Ballot, Configuration, Term};

/// A point in the history of a slot and of one key in it that the sender of a write had been told of **before it first
/// sent the write**: if the write was ever applied, then after that point. By it a leader that does not find the operation
/// id of a write can tell whether it was never applied, or may have been applied and forgotten: a head remembers only the
/// last [`RECENT_OPERATIONS_MAX`](crate::store::RECENT_OPERATIONS_MAX) ids, and a dropped tombstone none.
///
/// Text form: the ballot's epoch, number, node and sequence, and the height, with points between them.
///
/// No clock is needed for it, and it may be as old as it likes: an older one only excludes less. Ordered by the ballot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Anchor {
    /// Everything that was committed at this ballot of the slot or below came before.
    pub ballot: Ballot,
    /// The key's height then, or less; 0 if the key had no transactions, or nothing is known.
    pub height: u64,
}

impl Anchor {
    /// After everything: for an append whose operation id was drawn where it is submitted, once, and nowhere else.
    pub const LATEST: Self = {
        let term = Term { epoch: u64::MAX, number: u64::MAX, node: NodeId([u8::MAX; 32]) };
        Self { ballot: Ballot { term, sequence: u64::MAX }, height: u64::MAX }
    };

    /// The epoch of the recovery under which this was told; 0 if it was before any. Under different ones anchors cannot be
    /// compared: two recoveries may not know of each other.
    pub fn recovered_at(&self) -> u64 {
        Configuration::recovery_epoch(self.ballot.term.epoch)
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ballot: Ballot { term: Term { epoch, number, node }, sequence }, height } = self;
        write!(f, "{epoch}.{number}.{node}.{sequence}.{height}")
    }
}

/// The text is no anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no point in a key's history: expected one as it was told in an answer")]
pub struct ParseAnchorError;

impl FromStr for Anchor {
    type Err = ParseAnchorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.splitn(6, '.').collect();
        let [epoch, number, node, sequence, height] = parts[..] else { return Err(ParseAnchorError) };
        let count = |digits: &str| digits.parse().map_err(|_| ParseAnchorError);
        let node = node.parse().map_err(|_| ParseAnchorError)?;
        let term = Term { epoch: count(epoch)?, number: count(number)?, node };
        Ok(Self { ballot: Ballot { term, sequence: count(sequence)? }, height: count(height)? })
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::NodeId;

    use super::{Anchor, ParseAnchorError};
    use crate::{Ballot, Term};

    #[test]
    fn its_text_leads_back_to_it() {
        let term = Term { epoch: 1, number: 2, node: NodeId([0xab; 32]) };
        let anchor = Anchor { ballot: Ballot { term, sequence: 3 }, height: u64::MAX };
        let text = anchor.to_string();
        assert_eq!(text, format!("1.2.{}.3.{}", term.node, u64::MAX));
        assert_eq!(text.parse(), Ok(anchor));
        for wrong in ["", "now", "1.2.3.4.5", &text[2..], &format!("{text}.1")] {
            assert_eq!(wrong.parse::<Anchor>(), Err(ParseAnchorError), "{wrong}");
        }
    }
}
