//! Generations: uploads that collections have overtaken, and slots that are sealed.

use difuse_keylog::{Answer, Condition, Failure, Job, Operation, Sealed, Submission, generation_operation};
use difuse_types::Key;

use super::{Group, SLOT, height_of, key, node, submission};

impl Group {
    pub(crate) fn raise(&mut self, via: u8, generation: u64, id: u8) {
        let operation = generation_operation(generation);
        let job = Job::Append(Submission { operation, ..submission(id, Condition::None) });
        height_of(&self.ask(via, &Key::of_generation(), job).unwrap());
    }

    /// Writes a value whose blocks were stored in a generation.
    pub(crate) fn upload(&mut self, via: u8, generation: u64, id: u8) -> Result<Answer, Failure> {
        let generation = Some(generation);
        self.ask(via, &key("file"), Job::Append(Submission { generation, ..submission(id, Condition::None) }))
    }

    fn seal(&mut self, via: u8, generation: u64) -> Sealed {
        self.replicas.get_mut(&node(via)).unwrap().seal(SLOT, generation).unwrap()
    }

    fn run_until_sealed(&mut self, via: u8, generation: u64) {
        for _ in 0..10_000 {
            if self.seal(via, generation) == Sealed::Yes {
                return;
            }
            self.step();
        }
        panic!("not sealed: {:?}", self.seal(via, generation));
    }
}

#[test]
fn an_upload_is_refused_when_two_collections_have_overtaken_it() {
    for seed in 0..10 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        group.raise(1, 3, 1);
        assert_eq!(group.upload(1, 1, 2), Err(Failure::TooOld { generation: 3 }));
        height_of(&group.upload(1, 2, 3).unwrap());
        // The next leader has to find the generation before it can tell, and refuses nothing for that.
        group.kill(1);
        height_of(&group.upload(2, 3, 4).unwrap());
        assert_eq!(group.upload(2, 1, 5), Err(Failure::TooOld { generation: 3 }), "seed {seed}");
        assert_eq!(
            height_of(&group.upload(2, 2, 3).unwrap()),
            1,
            "what was applied is not refused when it is repeated"
        );
    }
}

#[test]
fn a_slot_is_sealed_by_all_of_its_members_and_by_nobody_else() {
    let mut group = Group::joined(&[1, 2, 3], 7);
    assert_eq!(group.seal(1, 1), Sealed::NotRaised);
    group.raise(1, 1, 1);
    group.run_until_sealed(1, 1);
    group.kill(3);
    group.raise(1, 2, 2);
    for _ in 0..3000 {
        group.step();
        assert_eq!(group.seal(1, 2), Sealed::Waiting(vec![node(3)]));
    }
    group.restart(3);
    group.run_until_sealed(1, 2);
    assert_eq!(group.seal(2, 2), Sealed::NotLeading);
}

/// Deletes and collections give room back: they go into what is kept free, even on members that are full.
#[test]
fn a_full_group_goes_on_deleting_and_is_sealed() {
    let mut group = Group::joined(&[1, 2, 3], 7);
    let (kept, gone) = (key("kept"), key("gone"));
    group.append(1, &kept, 1, Condition::None);
    group.append(1, &gone, 2, Condition::None);
    for replica in group.replicas.values_mut() {
        replica.store_mut().set_full(true);
    }
    let full = Err(Failure::Full("injected".into()));
    assert_eq!(group.ask(1, &kept, Job::Append(submission(3, Condition::None))), full);
    let delete = Submission { operation: Operation::Delete, ..submission(4, Condition::None) };
    assert_eq!(height_of(&group.ask(1, &gone, Job::Append(delete)).unwrap()), 2);
    assert_eq!(group.upload(1, 0, 5), full);
    group.raise(1, 1, 6);
    group.run_until_sealed(1, 1);
    assert_eq!(group.heads(&gone).len(), 1, "all members have the tombstone");
}
