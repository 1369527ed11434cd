//! Chains that are too long to wait in memory: a part that has come is staged until the rest is there.

use std::ops::Range;

use difuse_keylog::{Anchor, Condition, Job, Store, Submission, store::MemoryStore};
use difuse_types::Key;

use super::{Group, SLOT, key, node, submission};

impl Group {
    fn staged(&self, name: u8, key: &Key) -> Option<Range<u64>> {
        self.replicas[&node(name)].store().staged(SLOT, key).unwrap()
    }
}

fn append() -> Job {
    Job::Append(Submission { since: Some(Anchor::LATEST), ..submission(200, Condition::Present) })
}

/// Nobody is shown what is staged; it is of no use to a node that begins again, and does it no harm.
#[test]
fn a_newcomer_stages_a_long_chain() {
    for kills in 0..3 {
        let group = &mut Group::joined(&[1, 2], 12);
        let key = key("k");
        group.append_many(1, &key, 120);
        group.start(node(3), MemoryStore::default());
        group.place(&[1, 2, 3]);
        for _ in 0..kills {
            group.run_until(|group| group.staged(3, &key).is_some_and(|heights| heights.end > 60));
            assert_eq!(group.accepted_height(3, &key), 0, "what is staged is not accepted");
            let store = group.replicas.get_mut(&node(3)).unwrap().store_mut();
            store.flush_all();
            group.kill(3);
            group.restart(3);
            assert!(group.staged(3, &key).is_some());
            group.append_many(1, &key, 1);
        }
        group.run_until(|group| group.is_settled_with(&[1, 2, 3]) && group.heads(&key).len() == 1);
        assert_eq!(group.staged(3, &key), None);
        group.check_kept(3, &key);
        group.kill(1);
        assert_eq!(group.head(3, &key).unwrap().1.height, 120 + kills);
    }
}

/// The same where the head is known to be committed only when it has been proposed again.
#[test]
fn a_leader_that_is_behind_stages_a_long_chain() {
    let group = &mut Group::joined(&[1, 2, 3], 14);
    let key = key("k");
    group.append_many(1, &key, 10);
    group.kill(1);
    group.append_many(2, &key, 120);
    // The first member, which leads when it is there, comes back to the only one that has the rest.
    group.kill(3);
    group.restart(1);
    group.run_until(|group| group.replicas[&node(1)].is_leading(SLOT));
    let job = append();
    group.replicas.get_mut(&node(1)).unwrap().submit(u64::MAX - 1, SLOT, key.clone(), job).unwrap();
    group.run_until(|group| group.staged(1, &key).is_some_and(|heights| heights.start == 11 && heights.end > 60));
    group.run_until(|group| group.accepted_height(1, &key) == 131);
    assert_eq!(group.staged(1, &key), None);
    group.check_kept(1, &key);
}

/// What a member accepted of another chain is not staged over: the chain waits in memory then.
#[test]
fn a_member_with_a_chain_of_its_own_is_given_the_one_that_stands() {
    let group = &mut Group::joined(&[1, 2, 3], 16);
    let key = key("k");
    group.append_many(1, &key, 10);
    group.run_until(|group| group.heads(&key).len() == 1);
    group.begin_alone(1, &key, append());
    group.append_many(2, &key, 50);
    group.restart(1);
    group.run_until(|group| group.is_settled_with(&[1, 2, 3]) && group.heads(&key).len() == 1);
    group.check_kept(1, &key);
    assert_eq!(group.head(1, &key).unwrap().1.height, 60);
}
