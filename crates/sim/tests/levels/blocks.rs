//! GetBlock, SetBlock and DeleteBlock.

use std::time::Duration;

use bytes::Bytes;
use difuse_protocol::request::{Reply, Request, RequestError};
use difuse_sim::scenario::Scenario;
use difuse_types::{Hash, Level, NodeId};

use crate::support::{assert_unavailable, not_all};

const CONTENT: &[u8] = b"content";

fn hash() -> Hash {
    Hash::of(CONTENT)
}

fn set(level: Level) -> Request {
    Request::PutBlock { hash: hash(), bytes: Bytes::from_static(CONTENT), referenced: false, generation: 0, level }
}

fn get(level: Level) -> Request {
    Request::ReadBlock { hash: hash(), level }
}

fn delete(level: Level) -> Request {
    Request::DeleteBlock { hash: hash(), level }
}

fn ring(seed: u64) -> (Scenario, [NodeId; 3]) {
    let ring = Scenario::new(3, seed);
    let members = ring.members().try_into().unwrap();
    (ring, members)
}

/// A ring whose members all have the block.
fn ring_with_a_block(seed: u64) -> (Scenario, [NodeId; 3]) {
    let (mut ring, members) = ring(seed);
    assert_stored(ring.ask(members[0], set(Level::All)));
    (ring, members)
}

#[track_caller]
fn assert_stored(result: Result<Reply, RequestError>) {
    assert!(matches!(result, Ok(Reply::BlockPut { .. })), "{result:?}");
}

#[track_caller]
fn assert_read(result: Result<Reply, RequestError>) {
    assert_eq!(result, Ok(Reply::Block(Some(Bytes::from_static(CONTENT)))));
}

const DELETED: Result<Reply, RequestError> = Ok(Reply::BlockDeleted { existed: true });

/// Cuts a member off, and waits until the others know.
fn cut_off(ring: &mut Scenario, from: NodeId, nodes: &[NodeId]) {
    ring.cut_off(nodes);
    for node in nodes {
        ring.run_until_suspect(from, *node, true);
    }
}

#[test]
fn set_at_lazy_needs_one_member_and_spreads() {
    let (mut ring, [leader, second, third]) = ring(21);
    ring.cut_off(&[third]);
    assert_stored(ring.ask(third, set(Level::Lazy)));
    assert!(ring.has_block(third, &hash()) && !ring.has_block(leader, &hash()));
    ring.mend();
    ring.run_until("all have it", |ring| [leader, second].iter().all(|node| ring.has_block(*node, &hash())));
}

#[test]
fn set_at_leader_needs_the_leader() {
    let (mut ring, [leader, second, third]) = ring(22);
    cut_off(&mut ring, leader, &[second, third]);
    assert_stored(ring.ask(leader, set(Level::Leader)));
    assert!(ring.has_block(leader, &hash()) && !ring.has_block(second, &hash()));
    ring.mend();
    // One that does not reach the leader does not take its own copy for the leader's.
    let (mut ring, [leader, second, _]) = self::ring(23);
    ring.cut([(second, leader)].into());
    let asked = ring.submit(second, set(Level::Leader));
    ring.run_for(Duration::from_millis(100));
    assert!(ring.has_block(second, &hash()));
    assert_eq!(ring.answer(asked), None);
}

#[test]
fn set_at_quorum_goes_on_without_one_member_and_refuses_without_two() {
    let (mut ring, [leader, second, third]) = ring(24);
    ring.cut_off(&[third]);
    assert_stored(ring.ask(leader, set(Level::Quorum)));
    assert!(ring.has_block(leader, &hash()) && ring.has_block(second, &hash()));
    let (mut ring, [leader, second, third]) = self::ring(25);
    cut_off(&mut ring, leader, &[second, third]);
    assert_unavailable(ring.ask(leader, set(Level::Quorum)));
}

#[test]
fn set_at_all_names_the_member_that_is_cut_off() {
    let (mut ring, [leader, second, third]) = ring(26);
    ring.cut_off(&[third]);
    assert_eq!(not_all(ring.ask(leader, set(Level::All))), (vec![third], vec![], true));
    assert!(ring.has_block(leader, &hash()) && ring.has_block(second, &hash()));
    let (mut ring, [leader, second, third]) = self::ring(27);
    cut_off(&mut ring, leader, &[third]);
    assert_eq!(not_all(ring.ask(leader, set(Level::All))), (vec![third], vec![], false));
    assert!(!ring.has_block(leader, &hash()) && !ring.has_block(second, &hash()), "nothing was changed");
}

#[test]
fn get_at_lazy_needs_one_copy() {
    let (mut ring, [leader, second, third]) = ring_with_a_block(28);
    cut_off(&mut ring, third, &[leader, second]);
    assert_read(ring.ask(third, get(Level::Lazy)));
    assert_unavailable(ring.ask(third, get(Level::Quorum)));
    // Nor does it say that there is none while somebody may have it.
    let (mut ring, [leader, second, third]) = self::ring(29);
    cut_off(&mut ring, third, &[leader, second]);
    assert_unavailable(ring.ask(third, get(Level::Lazy)));
}

#[test]
fn get_at_leader_takes_the_leader_s_word() {
    let (mut ring, [leader, second, third]) = ring(30);
    cut_off(&mut ring, leader, &[second, third]);
    assert_stored(ring.ask(leader, set(Level::Leader)));
    assert_read(ring.ask(leader, get(Level::Leader)));
    assert_unavailable(ring.ask(leader, get(Level::Quorum)));
}

#[test]
fn get_at_quorum_goes_on_without_one_member_and_knows_of_deletes() {
    let (mut ring, [leader, second, third]) = ring_with_a_block(31);
    ring.cut_off(&[third]);
    assert_eq!(ring.ask(leader, delete(Level::Quorum)), DELETED);
    ring.mend();
    ring.cut_off(&[second]);
    // The third member has the content still, which the tombstone of the leader stands against.
    assert!(ring.has_block(third, &hash()));
    assert_eq!(ring.ask(third, get(Level::Quorum)), Ok(Reply::Block(None)));
}

#[test]
fn get_at_all_names_who_is_cut_off_and_who_lacks_the_block() {
    let (mut ring, [leader, second, third]) = ring_with_a_block(32);
    assert_read(ring.ask(second, get(Level::All)));
    ring.cut_off(&[third]);
    assert_eq!(not_all(ring.ask(leader, get(Level::All))), (vec![third], vec![], false));
    let (mut ring, [leader, _, third]) = self::ring(33);
    cut_off(&mut ring, leader, &[third]);
    assert_stored(ring.ask(leader, set(Level::Quorum)));
    ring.mend();
    ring.run_until_suspect(leader, third, false);
    assert_eq!(not_all(ring.ask(leader, get(Level::All))), (vec![], vec![third], false));
}

#[test]
fn delete_at_lazy_needs_one_member_and_spreads() {
    let (mut ring, [leader, second, third]) = ring_with_a_block(34);
    cut_off(&mut ring, third, &[leader, second]);
    assert_eq!(ring.ask(third, delete(Level::Lazy)), DELETED);
    assert!(ring.has_block(leader, &hash()));
    ring.mend();
    ring.run_until("it is gone", |ring| [leader, second, third].iter().all(|node| !ring.has_block(*node, &hash())));
}

#[test]
fn delete_at_leader_needs_the_leader() {
    let (mut ring, [leader, second, third]) = ring_with_a_block(35);
    cut_off(&mut ring, leader, &[second, third]);
    assert_eq!(ring.ask(leader, delete(Level::Leader)), DELETED);
    assert_eq!(ring.ask(leader, get(Level::Leader)), Ok(Reply::Block(None)));
    assert!(ring.has_block(second, &hash()));
}

#[test]
fn delete_at_quorum_goes_on_without_one_member_and_refuses_without_two() {
    let (mut ring, [leader, second, third]) = ring_with_a_block(36);
    cut_off(&mut ring, leader, &[second, third]);
    assert_unavailable(ring.ask(leader, delete(Level::Quorum)));
    assert!(ring.has_block(leader, &hash()), "nothing was changed");
    ring.mend();
    ring.run_until_suspect(leader, second, false);
    ring.cut_off(&[third]);
    assert_eq!(ring.ask(leader, delete(Level::Quorum)), DELETED);
}

#[test]
fn delete_at_all_names_the_member_that_is_cut_off() {
    let (mut ring, [leader, second, third]) = ring_with_a_block(37);
    cut_off(&mut ring, leader, &[third]);
    assert_eq!(not_all(ring.ask(leader, delete(Level::All))), (vec![third], vec![], false));
    assert!(ring.has_block(leader, &hash()) && ring.has_block(second, &hash()), "nothing was changed");
    ring.mend();
    ring.run_until_suspect(second, third, false);
    assert_eq!(ring.ask(second, delete(Level::All)), DELETED);
    assert!([leader, second, third].iter().all(|node| !ring.has_block(*node, &hash())));
}
