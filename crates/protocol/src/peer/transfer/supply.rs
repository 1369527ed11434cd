//! How long blocks are on their way from each node. Over a slow line a block comes behind all that were asked for before
//! it, by whomever: to ask again for what is late would make the line slower yet, until nothing else is sent over it.

use std::{collections::BTreeMap, time::Duration};

use difuse_types::NodeId;

/// How many times the usual patience the first block from a node may take.
const UNKNOWN_TIMES: u32 = 8;
/// How many times as long as the slowest block of late another one may take.
const TIMES: u32 = 2;
/// Whatever a node did before, it is not waited for longer than this many times the usual patience.
const USUAL_TIMES_MAX: u32 = 20;
/// A block that takes longer than the usual patience over this was asked for too early: it waited behind others.
const EARLY_SHARE: u32 = 2;

/// What is known of the nodes that blocks were read from.
#[derive(Default)]
pub(crate) struct Supplies(BTreeMap<NodeId, Supply>);

#[derive(Clone, Copy, Default)]
struct Supply {
    /// How long the slowest block of late took from when it was asked for.
    slowest: Duration,
    /// How many blocks are asked for at once, besides the first.
    more: usize,
}

impl Supplies {
    /// A block came that was asked for so long ago; `usual` is enough for one over a fast line.
    pub(crate) fn note(&mut self, from: NodeId, took: Duration, usual: Duration) {
        let supply = self.0.entry(from).or_default();
        // What was slow once is forgotten after some dozen that were not.
        supply.slowest = took.max(supply.slowest - supply.slowest / 8);
        supply.more = match took < usual / EARLY_SHARE {
            true => supply.more.saturating_add(1),
            false => supply.more.saturating_sub(1),
        };
    }

    /// How long the next block from a node may take.
    pub(crate) fn patience(&self, node: &NodeId, usual: Duration) -> Duration {
        match self.0.get(node) {
            Some(supply) => supply.slowest.saturating_mul(TIMES).clamp(usual, usual * USUAL_TIMES_MAX),
            None => usual * UNKNOWN_TIMES,
        }
    }

    /// How many blocks may be on their way from a node at once.
    pub(crate) fn window(&self, node: &NodeId) -> usize {
        self.0.get(node).map_or(0, |supply| supply.more).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use difuse_types::NodeId;

    use super::Supplies;

    const USUAL: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_slow_is_waited_for_until_it_is_fast_again() {
        let mut supplies = Supplies::default();
        let (slow, fast) = (NodeId([1; 32]), NodeId([2; 32]));
        assert_eq!(supplies.patience(&slow, USUAL), Duration::from_secs(8), "nothing is known of its line");
        supplies.note(slow, Duration::from_secs(4), USUAL);
        supplies.note(fast, Duration::from_millis(1), USUAL);
        assert_eq!(supplies.patience(&slow, USUAL), Duration::from_secs(8));
        assert_eq!(supplies.patience(&fast, USUAL), USUAL);
        supplies.note(slow, Duration::from_secs(3600), USUAL);
        assert_eq!(supplies.patience(&slow, USUAL), Duration::from_secs(20), "but not for ever");
        for _ in 0..100 {
            supplies.note(slow, Duration::from_millis(1), USUAL);
        }
        assert_eq!(supplies.patience(&slow, USUAL), USUAL);
    }

    #[test]
    fn no_more_is_asked_for_than_comes_in_time() {
        let mut supplies = Supplies::default();
        let node = NodeId([1; 32]);
        assert_eq!(supplies.window(&node), 1);
        for count in 2..20 {
            supplies.note(node, Duration::from_millis(499), USUAL);
            assert_eq!(supplies.window(&node), count);
        }
        for count in (1..19).rev().chain([1, 1]) {
            supplies.note(node, Duration::from_millis(500), USUAL);
            assert_eq!(supplies.window(&node), count);
        }
    }
}
