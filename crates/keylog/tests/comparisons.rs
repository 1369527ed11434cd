//! A member that was away comes back to a ring with many slots: its leader compares them a few at a time, and all of them
//! in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use difuse_keylog::{
    Condition, Job, Keylog, KeylogMessage, KeylogOptions, Operation, Output, Store, Submission, Value,
    store::MemoryStore,
};
use difuse_types::{Instant, Key, Level, NodeId, OperationId, SlotId, Slots, WallTime};

/// More than are compared at the same time.
const SLOTS: u32 = 128;
/// How many slots a leader compares at the same time.
const COMPARED_MAX: usize = 16;

struct Members {
    now: Instant,
    replicas: BTreeMap<NodeId, Keylog<MemoryStore>>,
    /// Whose messages are lost.
    away: Option<NodeId>,
    /// The most slots that one round of messages asked to list.
    scanned_at_once: usize,
    appended: usize,
}

impl Members {
    fn new() -> Self {
        let names = [1, 2, 3].map(|name| NodeId([name; 32]));
        let slots = Slots::with_count(SLOTS).unwrap();
        let start = |name: NodeId| {
            let options = KeylogOptions::new(slots);
            (name, Keylog::new(name, options, MemoryStore::default(), Instant(0), 1).unwrap())
        };
        let mut members = Self {
            now: Instant(0),
            replicas: names.into_iter().map(start).collect(),
            away: None,
            scanned_at_once: 0,
            appended: 0,
        };
        members.replicas.get_mut(&names[0]).unwrap().found().unwrap();
        for replica in members.replicas.values_mut() {
            names.iter().for_each(|name| replica.handle_connected(*name));
            slots.iter().for_each(|slot| replica.handle_placement(slot, names.to_vec()));
        }
        members.run_until(Self::is_settled);
        members
    }

    fn leader(&mut self) -> &mut Keylog<MemoryStore> {
        self.replicas.get_mut(&NodeId([1; 32])).unwrap()
    }

    fn round(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        let mut sent = Vec::new();
        for (name, replica) in &mut self.replicas {
            replica.set_time(self.now);
            replica.handle_tick().unwrap();
            let sequence = replica.store_mut().flush_all();
            replica.handle_durable(sequence).unwrap();
            replica.finish_batch().unwrap();
            for output in replica.take_outputs() {
                match output {
                    Output::Send { to, message } => sent.push((*name, to, message)),
                    Output::Entered { configuration, .. } if configuration.collectors().contains(name) => {
                        replica.handle_blocks_fetched(configuration.slot, configuration.epoch).unwrap();
                    }
                    Output::Entered { .. } => {}
                    Output::Done { result, .. } => self.appended += usize::from(result.is_ok()),
                }
            }
        }
        let scanned: BTreeSet<SlotId> = sent.iter().filter_map(|(.., message)| scanned_slot(message)).collect();
        self.scanned_at_once = self.scanned_at_once.max(scanned.len());
        for (from, to, message) in sent {
            if self.away != Some(from) && self.away != Some(to) {
                self.replicas.get_mut(&to).unwrap().handle_message(from, message).unwrap();
            }
        }
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..60_000 {
            if done(self) {
                return;
            }
            self.round();
        }
        panic!("not reached within a minute of virtual time");
    }

    fn is_settled(&self) -> bool {
        let leader = &self.replicas[&NodeId([1; 32])];
        leader.summaries().filter(|summary| summary.is_settled && summary.members == 3).count() == SLOTS as usize
    }

    fn are_equal(&self) -> bool {
        (0..SLOTS).map(SlotId).all(|slot| {
            let held: Vec<_> = self.replicas.values().map(|replica| replica.store().digest(slot).unwrap()).collect();
            held.windows(2).all(|pair| pair[0] == pair[1])
        })
    }
}

fn scanned_slot(message: &KeylogMessage) -> Option<SlotId> {
    match message {
        KeylogMessage::Scan { slot, .. } => Some(*slot),
        _ => None,
    }
}

#[test]
fn a_member_that_missed_writes_of_every_slot_is_repaired_a_few_slots_at_a_time() {
    let mut members = Members::new();
    let absent = NodeId([3; 32]);
    members.away = Some(absent);
    for slot in 0..SLOTS {
        let submission = Submission {
            operation: Operation::Set(Value::inline(vec![1])),
            condition: Condition::None,
            operation_id: OperationId(u128::from(slot).to_be_bytes()),
            author: absent,
            time: WallTime(0),
            level: Level::Quorum,
            generation: None,
            since: None,
        };
        let key = Key::new(format!("key {slot}").as_bytes()).unwrap();
        members.leader().submit(u64::from(slot), SlotId(slot), key, Job::Append(submission)).unwrap();
    }
    members.run_until(|members| members.appended == SLOTS as usize);
    assert!(!members.are_equal(), "the absent member has missed nothing");
    members.leader().handle_suspicion(absent, true).unwrap();
    members.scanned_at_once = 0;

    members.away = None;
    members.leader().handle_suspicion(absent, false).unwrap();
    members.run_until(Members::are_equal);
    assert!((1..=COMPARED_MAX).contains(&members.scanned_at_once), "{} slots at once", members.scanned_at_once);
}

#[test]
fn a_member_that_was_out_of_sight_and_missed_nothing_is_not_listed() {
    let mut members = Members::new();
    let absent = NodeId([3; 32]);
    members.scanned_at_once = 0;
    members.leader().handle_suspicion(absent, true).unwrap();
    assert!(!members.is_settled());
    members.leader().handle_suspicion(absent, false).unwrap();
    members.run_until(Members::is_settled);
    assert_eq!(members.scanned_at_once, 0, "digests would have told");
}
