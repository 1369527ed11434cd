//! What a disk damages is found and repaired though nobody reads it.

use std::time::Duration;

use bytes::Bytes;
use difuse_keylog::{Operation, Value};
use difuse_protocol::request::{Condition, Reply, Request, ScrubReport, Since};
use difuse_sim::scenario::Scenario;
use difuse_types::{Hash, Key, Level, NodeId, OperationId};

const CONTENT: &[u8] = b"content";

fn write(ring: &mut Scenario, node: NodeId, key: &Key, id: u8) {
    let operation = Operation::Set(Value::inline(vec![id; 100]));
    let operation_id = OperationId([id; 16]);
    let (condition, level) = (Condition::None, Level::All);
    let since = Since::Now;
    let request = Request::Write { key: key.clone(), operation, condition, operation_id, level, since };
    let written = ring.ask(node, request);
    assert!(matches!(written, Ok(Reply::Written { .. })), "{written:?}");
}

fn scrub(ring: &mut Scenario, node: NodeId) -> ScrubReport {
    let mut start = true;
    loop {
        match ring.ask(node, Request::Scrub { start }) {
            Ok(Reply::Scrub(report)) if !report.is_running => return *report,
            Ok(Reply::Scrub(_)) => {}
            other => panic!("{other:?}"),
        }
        start = false;
        ring.run_for(Duration::from_millis(100));
    }
}

#[test]
fn damage_that_nobody_reads_is_found_and_repaired() {
    for seed in 0..20 {
        let mut ring = Scenario::new(3, seed);
        let [leader, victim, _] = ring.members().try_into().unwrap();
        let hash = Hash::of(CONTENT);
        let put = Request::PutBlock {
            hash,
            bytes: Bytes::from_static(CONTENT),
            referenced: true,
            generation: 0,
            level: Level::All,
        };
        assert!(matches!(ring.ask(leader, put), Ok(Reply::BlockPut { created: true })));
        let keys = [b"a", b"b"].map(|name| Key::new(name).unwrap());
        for id in 0..6 {
            write(&mut ring, leader, &keys[usize::from(id % 2)], id + 1);
        }
        ring.damage_block(victim, &hash);
        ring.damage_transaction(victim, &keys[0], 2);
        ring.damage_transaction(victim, &keys[1], 3);
        let report = scrub(&mut ring, victim);
        assert_eq!((report.damaged_keys, report.damaged_blocks), (2, 1), "seed {seed}: {report:?}");
        assert_eq!((report.repaired, report.unrepaired), (3, 0), "seed {seed}: {report:?}");
        assert!(ring.has_block(victim, &hash));
        let report = scrub(&mut ring, victim);
        assert_eq!((report.damaged_keys, report.damaged_blocks), (0, 0), "seed {seed}: {report:?}");
        assert_eq!((report.transactions, report.blocks), (6, 1), "seed {seed}: {report:?}");
    }
}

/// Both other members are out of reach: what is damaged stays so, is named, and is repaired when they are back.
#[test]
fn what_cannot_be_repaired_now_is_repaired_later() {
    let mut ring = Scenario::new(3, 1);
    let [leader, victim, third] = ring.members().try_into().unwrap();
    let hash = Hash::of(CONTENT);
    let put = Request::PutBlock {
        hash,
        bytes: Bytes::from_static(CONTENT),
        referenced: true,
        generation: 0,
        level: Level::All,
    };
    assert!(matches!(ring.ask(leader, put), Ok(Reply::BlockPut { created: true })));
    ring.cut_off(&[victim]);
    ring.run_until_suspect(victim, leader, true);
    ring.run_until_suspect(victim, third, true);
    ring.damage_block(victim, &hash);
    let report = scrub(&mut ring, victim);
    assert_eq!((report.damaged_blocks, report.repaired, report.unrepaired), (1, 0, 1), "{report:?}");
    assert_eq!(report.unrepaired_items[0].reason, "no other member of its slot can be reached");
    ring.mend();
    ring.run_until("the block is repaired", |ring| ring.has_block(victim, &hash));
}
