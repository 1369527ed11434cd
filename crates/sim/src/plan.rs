//! What a seed draws: the size of the ring, the faults that it meets and how hard, and the work of its clients. Each
//! seed uses only some kinds of faults ("swarm testing", Groce et al., ISSTA 2012): a fault that is always there hides
//! what goes wrong without it.

use std::{ops::Range, time::Duration};

use difuse_keylog::TRANSACTIONS_MAX;
use difuse_types::{Hash, RingId, RingSettings};

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// A process dies, its unflushed writes are lost, and it restarts later.
    Crash,
    /// All processes die at once.
    CrashAll,
    /// A process dies and restarts so soon that nobody else may notice.
    Blink,
    /// One direction of one link is cut.
    CutOneWay,
    /// One link is cut.
    CutLink,
    /// A node is cut off from all others.
    Isolate,
    /// The ring is cut into two parts.
    Split,
    /// The ring is cut into two parts, but one node reaches both.
    Bridge,
    /// A connection breaks and comes back.
    Reset,
    /// A process does nothing for a while.
    Pause,
    /// A disk becomes slow for a while.
    SlowDisk,
    /// A write to a disk fails, and the process stops.
    DiskError,
    /// A disk is full for a while: it refuses writes.
    DiskFull,
    /// The clock on a machine's wall jumps.
    ClockJump,
    /// A new node joins.
    Join,
    /// A node leaves as planned.
    Leave,
    /// A node loses its disk and comes back under a new identity.
    Amnesia,
    /// A disk loses a block, and a transaction, of which others have copies.
    Rot,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 18] = [
        Self::Crash,
        Self::CrashAll,
        Self::Blink,
        Self::CutOneWay,
        Self::CutLink,
        Self::Isolate,
        Self::Split,
        Self::Bridge,
        Self::Reset,
        Self::Pause,
        Self::SlowDisk,
        Self::DiskError,
        Self::DiskFull,
        Self::ClockJump,
        Self::Join,
        Self::Leave,
        Self::Amnesia,
        Self::Rot,
    ];
}

/// How one seed is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the ring is founded with.
    pub settings: RingSettings,
    /// How many nodes form it, the founder among them.
    pub nodes: usize,
    /// After how long a suspect node is replaced.
    pub gone_after: Duration,
    /// For how long a peer tries a request.
    pub request_timeout: Duration,
    /// Whether faults begin only when the ring has formed.
    pub is_calm_start: bool,
    /// For how long there are faults.
    pub faults_for: Duration,
    /// How long it is from one fault to the next at most.
    pub fault_every_max: Duration,
    /// After how many milliseconds connections are given up over which nothing comes.
    pub given_up_after_ms: Range<u64>,
    /// The kinds of faults, each as often as it is more likely than the others.
    pub faults: Vec<Fault>,
    /// Messages lost, of a thousand.
    pub loss_per_mille: u32,
    /// Messages that arrive twice, of a thousand.
    pub duplicates_per_mille: u32,
    /// Messages that arrive very late, of a thousand.
    pub stragglers_per_mille: u32,
    /// The longest delay of the others.
    pub delay_max: Duration,
    /// How long a node lets inputs wait at most, to deal with them together.
    pub service_max: Duration,
    /// The longest time that a flush takes.
    pub flush_max: Duration,
    /// By how many millionths a machine's monotonic clock is fast or slow at most: two of them run apart by twice that,
    /// and leases presuppose less than 10,000.
    pub drift_ppm_max: u32,
    /// How many clients there are.
    pub clients: usize,
    /// How many keys they use at one time.
    pub keys: usize,
    /// The longest pause of a client between two requests.
    pub pause_max: Duration,
    /// How many bursts of writes one key gets, which make its history long.
    pub bursts: u32,
    /// How many operations there are on pairs of keys that change together.
    pub pairs: u32,
    /// How many operations there are on lists and streams to whose end items are added.
    pub sequences: u32,
    /// How many requests there are with commands of all kinds on keys of one slot.
    pub commands: u32,
    /// How many disasters there are: the majority of a slot is lost for ever, and operators recover what is left.
    pub disasters: u32,
    /// How far checkpoints are apart at least.
    pub checkpoint_every: u64,
    /// For how long tombstones are kept; `None`: for ever. If not, nothing is written at level lazy, and clocks on walls agree.
    pub tombstones_kept: Option<Duration>,
    /// How many bytes may be on their way from one node to another: what is sent beyond that is lost, as with queues that overflow.
    pub link_bytes_max: usize,
    /// How many transactions of a chain one message brings at most.
    pub part_transactions_max: usize,
    /// How many bytes of a chain that comes in parts wait in memory before they are staged.
    pub waiting_bytes_max: usize,
    /// Whether every message is encoded and decoded.
    pub is_through_wire: bool,
    /// Whether disks say that writes are durable though they are not: a control, which must be caught.
    pub do_disks_lie: bool,
    /// A rule that every node breaks: a control, which must be caught.
    #[cfg(feature = "controls")]
    pub broken: Option<crate::Control>,
}

impl Plan {
    /// Lets nothing happen by itself: no faults, no lost messages, no clients, for as long as the caller likes.
    pub(crate) fn keep_calm(&mut self) {
        self.is_calm_start = true;
        self.faults_for = Duration::from_secs(1_000_000);
        self.faults.clear();
        (self.loss_per_mille, self.duplicates_per_mille, self.stragglers_per_mille) = (0, 0, 0);
        (self.clients, self.bursts, self.pairs) = (0, 0, 0);
        (self.sequences, self.commands, self.disasters) = (0, 0, 0);
    }

    /// The plan of a seed.
    pub fn draw(seed: u64, rng: &mut fastrand::Rng) -> Self {
        let slots = [1, 4, 8][rng.usize(..3)];
        let id = RingId(Hash::of(&seed.to_le_bytes()));
        let settings = RingSettings::new(id, 3, slots, rng.u16(2..=4));
        let share = rng.u32(1..=5);
        let kinds: Vec<Fault> = Fault::ALL.into_iter().filter(|_| rng.u32(..10) < share).collect();
        let drops = seed % 4 == 2;
        let has_disasters = seed % 5 == 4;
        let is_in_parts = seed / 3 % 2 == 1;
        let is_drawn = |fault: &Fault| match fault {
            Fault::ClockJump => !drops,
            // One more copy that is lost could be the last.
            Fault::Amnesia | Fault::Rot => !has_disasters,
            _ => true,
        };
        let kinds = kinds.into_iter().filter(is_drawn);
        let faults: Vec<Fault> = kinds.flat_map(|fault| std::iter::repeat_n(fault, rng.usize(1..=4))).collect();
        // A group whose other members are given up goes on with one that may have rotted and does not know it yet.
        let gone_after_min = Duration::from_secs(if faults.contains(&Fault::Rot) { 300 } else { 0 });
        Self {
            // The numbers above are within their ranges.
            settings: settings.unwrap_or_else(|error| unreachable!("{error}")),
            nodes: rng.usize(3..=5),
            gone_after: Duration::from_secs(if rng.bool() { rng.u64(4..15) } else { 300 })
                .min(Duration::from_secs(if has_disasters { 15 } else { 300 }))
                .max(gone_after_min),
            request_timeout: Duration::from_secs(if drops { rng.u64(3..=10).min(2) } else { rng.u64(3..=10) }),
            is_calm_start: rng.u32(..4) > 0,
            faults_for: Duration::from_secs(if drops { rng.u64(15..=40).max(40) } else { rng.u64(15..=40) }),
            fault_every_max: Duration::from_millis([500, 2000, 6000][rng.usize(..3)]),
            given_up_after_ms: 500..20_000,
            faults,
            loss_per_mille: [0, 0, 5, 30, 100][rng.usize(..5)],
            duplicates_per_mille: [0, 0, 5, 50][rng.usize(..4)],
            stragglers_per_mille: [0, 0, 2, 20][rng.usize(..4)],
            delay_max: Duration::from_micros([300, 1500, 5000][rng.usize(..3)]),
            service_max: Duration::from_micros([1, 50, 500][rng.usize(..3)]),
            flush_max: Duration::from_micros([200, 2000, 20_000][rng.usize(..3)]),
            drift_ppm_max: [0, 100, 4_000][rng.usize(..3)],
            clients: rng.usize(2..=6),
            keys: rng.usize(1..=4),
            pause_max: Duration::from_millis([5, 50, 400][rng.usize(..3)]),
            bursts: if seed.is_multiple_of(3) { 12 } else { 0 },
            pairs: if seed % 2 == 1 { 150 } else { 0 },
            sequences: if seed.is_multiple_of(2) { 120 } else { 0 },
            commands: if matches!(seed % 4, 1 | 2) { 120 } else { 0 },
            disasters: if has_disasters { 1 + (seed / 5 % 2) as u32 } else { 0 },
            checkpoint_every: 256,
            tombstones_kept: drops.then(|| Duration::from_secs(12)),
            link_bytes_max: if is_in_parts { 12 << 10 } else { 8 << 20 },
            part_transactions_max: if is_in_parts { 1 + (seed / 6 % 8) as usize } else { TRANSACTIONS_MAX },
            waiting_bytes_max: if is_in_parts { 0 } else { 4 << 20 },
            is_through_wire: rng.u32(..4) == 0,
            do_disks_lie: false,
            #[cfg(feature = "controls")]
            broken: None,
        }
    }

    /// Whether what the ring's invariants presuppose holds: that nodes fail only by stopping, that whoever does not
    /// answer has stopped, and that never many stop at once.
    pub fn is_fail_stop(&self) -> bool {
        use Fault::{Amnesia, Blink, ClockJump, Crash, DiskError, DiskFull, Join, SlowDisk};
        let is_stop = |fault: &Fault| {
            matches!(fault, Amnesia | Blink | ClockJump | Crash | DiskError | DiskFull | Join | SlowDisk)
        };
        self.disasters == 0
            && self.faults.iter().all(is_stop)
            && self.loss_per_mille == 0
            && self.stragglers_per_mille == 0
    }
}
