use std::time::Duration;

use difuse_types::RingSettings;

/// Most hosts a node remembers; rows beyond it are refused.
pub const HOSTS_MAX: usize = 65_536;

/// What the ring needs to know besides the time: what all nodes share, and how patient this node is.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// What every node of the ring shares.
    pub settings: RingSettings,
    /// A host that has not answered for this long is suspect (default 1 s).
    pub suspect_after: Duration,
    /// A host that has been suspect for this long without a break is given up (default 5 min).
    pub gone_after: Duration,
    /// How often a virtual node stabilizes when nothing changes; much sooner after a change.
    pub stabilize_every: Duration,
    /// How often the host table is compared with that of a random other host.
    pub gossip_every: Duration,
    /// How often watched hosts are pinged.
    pub ping_every: Duration,
    /// How long a virtual node waits for an answer within an operation before it asks again (and, after several times,
    /// takes the asked one for dead); how long a lookup waits.
    pub operation_timeout: Duration,
    /// Breaks a rule on purpose: a successor is adopted without being seen alive.
    #[cfg(feature = "controls")]
    pub adopts_unchecked: bool,
}

impl RingConfig {
    /// Derives the intervals from the two deadlines that users set.
    pub fn new(settings: RingSettings, suspect_after: Duration, gone_after: Duration) -> Self {
        let suspect_after = suspect_after.max(Duration::from_millis(20));
        Self {
            settings,
            suspect_after,
            gone_after: gone_after.max(suspect_after),
            stabilize_every: suspect_after / 2,
            gossip_every: suspect_after,
            ping_every: suspect_after / 4,
            operation_timeout: suspect_after / 4,
            #[cfg(feature = "controls")]
            adopts_unchecked: false,
        }
    }

    /// r: how many distinct other hosts a successor list holds, when there are as many (N + 2; the paper's r).
    pub fn successor_hosts(&self) -> usize {
        usize::from(self.settings.replicas) + 2
    }

    /// How soon a virtual node stabilizes again after its pointers changed, and how soon a refused join is repeated.
    pub(crate) fn settle_every(&self) -> Duration {
        self.stabilize_every / 16
    }
}
