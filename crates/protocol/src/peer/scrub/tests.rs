use std::{collections::BTreeMap, time::Duration};

use difuse_blocks::BlockRecord;
use difuse_keylog::store::MemoryStore;
use difuse_types::{Hash, Host, Incarnation, Instant, NodeId, RingId, RingSettings, SlotId, WallTime};

use crate::{
    peer::{BlockCommand, BlockResult, Input, Output, Peer, PeerOptions, Start},
    request::{Reply, Request, ScrubReport, ScrubbedItem},
};

const MIB: u32 = 1 << 20;
const BLOCKS: u8 = 40;
const SECOND: Duration = Duration::from_secs(1);

/// A ring of one node, with blocks of a MiB on its disk.
struct Alone {
    peer: Peer<MemoryStore>,
    now: Instant,
    blocks: BTreeMap<Hash, BlockRecord>,
    verified: u64,
    report: Option<ScrubReport>,
}

impl Alone {
    fn new(scrub_rate: Option<u64>, store: MemoryStore, start: Start) -> Self {
        let settings = RingSettings::new(RingId(Hash::ZERO), 1, 2, 1).unwrap();
        let node = NodeId([1; 32]);
        let host = Host {
            node,
            incarnation: Incarnation(1),
            address: "127.0.0.1:1".into(),
            http: String::new(),
            zone: String::new(),
            label: node.to_string(),
        };
        let options = PeerOptions { scrub_rate, ..PeerOptions::default() };
        let now = Instant(1);
        let peer = Peer::new(host, settings, options, start, store, now, 1).unwrap();
        let record = BlockRecord { version: 1, present: true, referenced: true, lost: false, length: MIB };
        let blocks = (0..BLOCKS).map(|name| (Hash::of(&[name]), record)).collect();
        Self { peer, now, blocks, verified: 0, report: None }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(10);
            self.give(Input::Tick);
        }
    }

    fn give(&mut self, input: Input) {
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            self.peer.store_mut().flush_all();
            let outputs = self.peer.handle(self.now, WallTime(0), std::mem::take(&mut inputs)).unwrap();
            for output in outputs {
                match output {
                    Output::Block { ticket, command } => {
                        let result = self.perform(command);
                        inputs.push(Input::BlockDone { ticket, result });
                    }
                    Output::Reply { result: Ok(Reply::Scrub(report)), .. } => self.report = Some(*report),
                    _ => {}
                }
            }
        }
    }

    fn perform(&mut self, command: BlockCommand) -> BlockResult {
        match command {
            BlockCommand::List { slot, after } => {
                let slots = self.peer.settings().slots;
                let listed =
                    self.blocks.iter().filter(|(hash, _)| slots.of_block(hash) == slot && Some(**hash) > after);
                let mut records: Vec<_> = listed.map(|(hash, record)| (*hash, *record)).collect();
                let is_last = records.len() <= 3;
                records.truncate(3);
                BlockResult::Page { records, is_last }
            }
            BlockCommand::Verify { hash } => {
                self.verified += 1;
                BlockResult::Record(self.blocks.get(&hash).copied())
            }
            BlockCommand::Stat { hash } => BlockResult::Record(self.blocks.get(&hash).copied()),
            BlockCommand::Digest { .. } => BlockResult::Digest(0),
            _ => BlockResult::Done,
        }
    }

    fn ask(&mut self, start: bool) -> ScrubReport {
        self.give(Input::Request { id: 1, request: Request::Scrub { start } });
        self.report.take().expect("an answer")
    }
}

#[test]
fn in_the_background_it_keeps_to_its_rate_and_rests_after_a_pass() {
    let mut alone = Alone::new(Some(4 * u64::from(MIB)), MemoryStore::default(), Start::Found);
    alone.run_for(super::BEGIN_AFTER);
    assert_eq!(alone.verified, 0, "a node that has just started has other things to do");
    alone.run_for(2 * SECOND);
    assert!((7..=9).contains(&alone.verified), "4 MiB/s for two seconds: {}", alone.verified);
    alone.run_for(20 * SECOND);
    let report = alone.ask(false);
    assert_eq!((report.pass, report.is_running, report.blocks), (1, false, u64::from(BLOCKS)));
    assert_eq!((report.slots_done, report.slots_total), (2, 2));
    alone.run_for(600 * SECOND);
    assert_eq!(alone.verified, u64::from(BLOCKS), "the next pass is not due yet");
}

#[test]
fn it_is_off_unless_somebody_asks() {
    let mut alone = Alone::new(None, MemoryStore::default(), Start::Found);
    alone.run_for(super::BEGIN_AFTER * 2);
    assert_eq!(alone.ask(false), ScrubReport::default());
    let report = alone.ask(true);
    assert!(report.is_running && report.is_asked_for && report.pass == 1, "{report:?}");
    let again = alone.ask(true);
    assert_eq!(again.pass, 1, "the pass under way is joined");
    alone.run_for(SECOND);
    let report = alone.ask(false);
    assert_eq!((report.is_running, report.blocks, report.bytes), (false, 40, 40 * u64::from(MIB)));
    assert_eq!((report.damaged_blocks, report.unrepaired), (0, 0));
}

#[test]
fn what_nobody_else_has_is_named() {
    let mut alone = Alone::new(None, MemoryStore::default(), Start::Found);
    let damaged = Hash::of(&[7]);
    alone.blocks.get_mut(&damaged).unwrap().lost = true;
    alone.ask(true);
    alone.run_for(2 * SECOND);
    let report = alone.ask(false);
    assert_eq!((report.damaged_blocks, report.repaired, report.unrepaired), (1, 0, 1), "{report:?}");
    assert_eq!(report.unrepaired_items[0].item, ScrubbedItem::Block(damaged));
    assert_eq!(report.unrepaired_items[0].reason, "this node is the only member of its slot");
    assert!(!report.is_running);
}

#[test]
fn after_a_restart_it_goes_on_where_it_was() {
    let mut alone = Alone::new(Some(u64::from(MIB)), MemoryStore::default(), Start::Found);
    let slots = alone.peer.settings().slots;
    let in_first = alone.blocks.keys().filter(|hash| slots.of_block(hash) == SlotId(0)).count() as u64;
    alone.run_for(super::BEGIN_AFTER + SECOND * in_first as u32 + 3 * SECOND);
    assert!((in_first + 1..u64::from(BLOCKS)).contains(&alone.verified), "within the second slot: {}", alone.verified);
    let (hosts, store) = (alone.peer.hosts(), alone.peer.into_store());
    let mut alone = Alone::new(Some(100 * u64::from(MIB)), store, Start::Resume(hosts));
    assert_eq!(alone.peer.scrub.place, SlotId(1));
    alone.run_for(super::BEGIN_AFTER + 2 * SECOND);
    assert_eq!(alone.ask(false).blocks, u64::from(BLOCKS), "the pass goes round");
}
