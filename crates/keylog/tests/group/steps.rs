//! Steps: what clients of the group see of commands on several keys at once.

use bytes::Bytes;
use difuse_keylog::{
    Anchor, Answer, Condition, Failure, Invocation, Job, KeylogMessage, Step, StepCommand, Store, verify_chain,
};
use difuse_structures::Reply;
use difuse_types::{Hash, Key, Level, NodeId, OperationId, WallTime};

use super::{Group, SLOT, dropping, key, node, retries::present};

fn words(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

/// A step of commands, each with its keys before a colon: `a b: lmove a b left left`.
fn step_of(commands: &[&str]) -> Step {
    let command = |line: &&str| {
        let (keys, words_of) = line.split_once(": ").unwrap();
        StepCommand { keys: keys.split(' ').map(key).collect(), arguments: words(words_of) }
    };
    Step { unchanged: Vec::new(), commands: commands.iter().map(command).collect() }
}

fn job(id: u128, step: &Step) -> Job {
    Job::Evaluate(Invocation {
        arguments: step.to_arguments(),
        operation_id: OperationId(id.to_le_bytes()),
        author: node(9),
        time: WallTime(0),
        level: Level::Quorum,
        since: Some(Anchor::LATEST),
    })
}

/// A command on one key.
fn plain_job(id: u128, command: &str) -> Job {
    Job::Evaluate(Invocation { arguments: words(command), ..invocation_of(job(id, &Step::default())) })
}

impl Group {
    fn step_result(&mut self, via: u8, id: u128, step: &Step) -> Result<Reply, Failure> {
        let answer = self.ask(via, &Key::of_steps(SLOT), job(id, step))?;
        let Answer::Evaluated { reply, .. } = answer else { panic!("{answer:?}") };
        Ok(Reply::decode(&reply).unwrap())
    }

    /// The replies to the commands of a step.
    fn do_step(&mut self, via: u8, id: u128, commands: &[&str]) -> Vec<Reply> {
        match self.step_result(via, id, &step_of(commands)).unwrap() {
            Reply::Array(replies) => replies,
            other => panic!("{other:?}"),
        }
    }

    fn number(&mut self, via: u8, name: &str) -> u64 {
        let head = self.head(via, &key(name)).and_then(|(_, head)| head.value().map(|value| value.bytes.clone()));
        head.map_or(0, |bytes| String::from_utf8(bytes.to_vec()).unwrap().parse().unwrap())
    }
}

#[test]
fn commands_on_several_keys_are_one_step_and_each_key_has_its_own_history() {
    let group = &mut Group::joined(&[1, 2, 3], 1);
    let replies = group.do_step(1, 1, &["a: incrby a 5", "b: set b 7", "l: rpush l x y", "a: incr a", "a: get a"]);
    let expected = [Reply::Integer(5), Reply::ok(), Reply::Integer(2), Reply::Integer(6), Reply::bulk("6")];
    assert_eq!(replies, expected);
    assert_eq!(group.do_step(2, 2, &["l m: lmove l m left left", "m: lrange m 0 -1"])[0], Reply::bulk("x"));
    // Another leader comes to the same.
    group.kill(1);
    assert_eq!(group.do_step(2, 3, &["m: lrange m 0 -1", "l: llen l"])[1], Reply::Integer(1));
    assert_eq!(group.number(3, "a"), 6);
    for (name, height) in [("a", 2), ("b", 1), ("l", 2), ("m", 1)] {
        let log = group.log(3, &key(name));
        assert_eq!(log.len(), height, "{name}");
        assert!(verify_chain(&key(name), (0, Hash::ZERO), &log).is_ok());
    }
}

#[test]
fn a_step_that_is_asked_twice_is_done_once_and_answered_alike() {
    let group = &mut Group::joined(&[1, 2, 3], 2);
    let commands = ["a: incr a", "b: incr b"];
    let first = group.do_step(1, 1, &commands);
    group.do_step(1, 2, &commands);
    group.kill(1);
    assert_eq!(group.do_step(3, 1, &commands), first);
    assert_eq!((group.number(3, "a"), group.number(3, "b")), (2, 2));
}

#[test]
fn a_step_that_rests_on_what_has_changed_does_nothing() {
    let group = &mut Group::joined(&[1, 2, 3], 3);
    let mut step = step_of(&["b: set b 1"]);
    step.unchanged = vec![(key("a"), Condition::Absent)];
    group.append(1, &key("a"), 1, Condition::None);
    assert_eq!(group.step_result(1, 1, &step), Ok(Reply::Null));
    assert_eq!(group.head(1, &key("b")), None);
    let head = group.head(1, &key("a")).unwrap().0;
    step.unchanged = vec![(key("a"), Condition::Head(head))];
    assert_eq!(group.step_result(1, 2, &step), Ok(Reply::Array(vec![Reply::ok()])));
    // Whoever asks for the first one again is told the same.
    assert_eq!(group.step_result(1, 1, &step), Ok(Reply::Null));
}

#[test]
fn a_command_that_fails_leaves_the_others_and_a_step_that_cannot_be_written_down_changes_nothing() {
    let group = &mut Group::joined(&[1, 2, 3], 4);
    let replies = group.do_step(1, 1, &["a: set a text", "a: incr a", "b: set b 1"]);
    assert!(matches!(&replies[1], Reply::Error(text) if text.contains("not an integer")), "{replies:?}");
    assert_eq!(group.number(1, "b"), 1);
    let long = format!("a: set a {}", "x".repeat(5000));
    let refused = group.step_result(1, 2, &step_of(&["b: incr b", "l: rpush l 1", &long]));
    assert_eq!(refused, Err(Failure::InBlocks));
    let pushes = "x".repeat(100_000);
    let much: Vec<String> = (0..4).map(|list| format!("l{list}: rpush l{list} {pushes}")).collect();
    let much: Vec<&str> = std::iter::once("b: incr b").chain(much.iter().map(String::as_str)).collect();
    assert!(matches!(group.step_result(1, 3, &step_of(&much)), Err(Failure::Invalid(_))));
    assert_eq!(
        group.do_step(1, 4, &["b: get b", "l: llen l", "b: incr b"])[..2],
        [Reply::bulk("1"), Reply::Integer(0)]
    );
    assert_eq!(group.log(1, &key("b")).len(), 2);
}

#[test]
fn what_is_no_step_of_the_slot_is_refused() {
    let group = &mut Group::joined(&[1], 5);
    let strange = [
        Step::default(),
        step_of(&["a b: get a"]),
        Step { unchanged: vec![(Key::of_generation(), Condition::Absent)], commands: Vec::new() },
    ];
    for (id, step) in (1..).zip(&strange) {
        assert!(matches!(group.step_result(1, id, step), Err(Failure::Invalid(_))), "{step:?}");
    }
    let plain = Job::Evaluate(Invocation { arguments: words("set k 1"), ..invocation_of(job(9, &Step::default())) });
    for key in [Key::of_steps(SLOT), Key::of_generation()] {
        assert!(matches!(group.ask(1, &key, plain.clone()), Err(Failure::Invalid(_))), "{key}");
    }
}

fn invocation_of(job: Job) -> Invocation {
    match job {
        Job::Evaluate(invocation) => invocation,
        other => panic!("{other:?}"),
    }
}

/// The leader dies when the step is committed and nobody has heard of any of its keys.
#[test]
fn a_new_leader_finishes_the_step_of_the_last_one_before_anybody_sees_a_part_of_it() {
    for seed in 0..40 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        group.do_step(1, 1, &["a: set a 1", "b: set b 1"]);
        assert_eq!((group.number(1, "a"), group.number(1, "b")), (1, 1));
        let step = step_of(&["a: set a 2", "b: set b 2", "c: set c 2"]);
        let ticket = u64::MAX - 1;
        let leader = group.replicas.get_mut(&node(1)).unwrap();
        leader.submit(ticket, SLOT, Key::of_steps(SLOT), job(2, &step)).unwrap();
        let is_of_key = |message: &KeylogMessage| matches!(message, KeylogMessage::Accept { proposal, .. } if proposal.key.steps_of().is_none());
        // One member may get a part of it.
        let lets_through = seed % 4;
        for _ in 0..1000 {
            group.step();
            if group.results.contains_key(&ticket) {
                break;
            }
            group.wire.retain(|(_, _, to, message)| {
                !is_of_key(message)
                    || matches!(message, KeylogMessage::Accept { proposal, .. }
                        if *to == node(2) && (lets_through == 1 && proposal.key == key("a") || lets_through == 2 && proposal.key == key("c")))
            });
        }
        assert!(matches!(group.results.remove(&ticket), Some(Ok(Answer::Evaluated { .. }))));
        group.wire.retain(|(_, _, _, message)| !is_of_key(message) || lets_through == 3);
        group.kill(1);
        let first = ["a", "b", "c"][seed as usize % 3];
        let via = 2 + (seed % 2) as u8;
        assert_eq!(group.number(via, first), 2, "seed {seed}");
        for name in ["a", "b", "c"] {
            assert_eq!(group.number(3, name), 2, "seed {seed}, {name}");
        }
        assert_eq!(group.do_step(3, 3, &["a: incr a", "b: incr b"]), [Reply::Integer(3), Reply::Integer(3)]);
    }
}

/// Seed 442: a step changed its keys in another order than theirs, and to a new leader what it gave them was something else than
/// what the next step was to follow. Nothing could be done in the slot any more.
#[test]
fn a_step_is_the_same_to_a_new_leader_in_whatever_order_it_changes_its_keys() {
    let mut group = Group::joined(&[1, 2, 3], 50);
    group.do_step(1, 1, &["b: set b 1", "a: set a 1"]);
    group.run_for(100);
    // The second and the third are decided together, while the first is done.
    let steps = [&["c: set c 1"][..], &["b: incr b", "a: incr a", "b: incr b"], &["a: incr a", "b: incr b"]];
    for (ticket, commands) in (1 << 50..).zip(steps) {
        let leader = group.replicas.get_mut(&node(1)).unwrap();
        leader.submit(ticket, SLOT, Key::of_steps(SLOT), job(ticket.into(), &step_of(commands))).unwrap();
    }
    let is_of = |message: &KeylogMessage, name: &str| matches!(message, KeylogMessage::Accept { proposal, .. } if proposal.key == key(name));
    for _ in 0..1000 {
        group.step();
        group.wire.retain(|(_, _, _, message)| !is_of(message, "a") && !is_of(message, "b"));
    }
    assert_eq!(group.results.len(), 3, "all are committed, though two of the keys have had none of them");
    group.kill(1);
    assert_eq!([group.number(2, "a"), group.number(2, "b")], [3, 4]);
}

/// A leader is cut off before anybody else has a step that it began to propose, and its successor is told that there is none. When the
/// step is asked for again, what the first one holds must not be taken for a step that was done.
#[test]
fn a_step_that_its_leader_alone_holds_is_not_taken_for_done() {
    for seed in 0..20 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        // What the successor and the other member hold differs, so that keys are looked at one by one.
        group.cut = [(node(1), node(3))].into();
        group.append(1, &key("x"), 10, Condition::None);
        let steps = Key::of_steps(SLOT);
        group.begin_alone(1, &steps, job(1, &step_of(&["a: set a 1", "b: set b 1"])));
        let leads = |group: &Group, name: u8| group.replicas.get(&node(name)).is_some_and(|it| it.is_leading(SLOT));
        group.run_until(|group| leads(group, 2) || leads(group, 3));
        let (via, other) = if leads(&group, 2) { (2, 3) } else { (3, 2) };
        group.cut = [(node(via), node(other)), (node(other), node(via)), (node(other), node(1))].into();
        group.restart(1);
        assert_eq!(group.accepted_height(1, &steps), 1, "seed {seed}: it was lost");
        assert_eq!(group.do_step(via, 1, &["a: set a 1", "b: set b 1"]), [Reply::ok(), Reply::ok()]);
        assert_eq!((group.number(via, "a"), group.number(via, "b")), (1, 1), "seed {seed}");
    }
}

/// A leader alone has a step that it began to propose. Its successor changes one of the step's keys and is gone as well, before the
/// first one comes back: whoever leads then must not do the rest of the step.
#[test]
fn a_step_whose_keys_have_changed_since_is_not_taken_up() {
    for seed in 0..20 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let has_steps_before = seed % 2 == 0;
        if has_steps_before {
            group.do_step(1, 1, &["a: set a 7", "b: set b 7"]);
        } else {
            group.append(1, &key("x"), 10, Condition::None);
        }
        group.begin_alone(1, &Key::of_steps(SLOT), job(2, &step_of(&["a: set a 1", "b: set b 1"])));
        group.ask(2, &key("a"), plain_job(3, "set a 5")).unwrap();
        let leads = |group: &Group, name: u8| group.replicas.get(&node(name)).is_some_and(|it| it.is_leading(SLOT));
        let successor = if leads(&group, 2) { 2 } else { 3 };
        group.kill(successor);
        group.restart(1);
        let expected = (5, if has_steps_before { 7 } else { 0 });
        assert_eq!((group.number(1, "a"), group.number(1, "b")), expected, "seed {seed}");
        // Asked for again it is done, and wholly.
        group.do_step(1, 2, &["a: set a 1", "b: set b 1"]);
        assert_eq!((group.number(1, "a"), group.number(1, "b")), (1, 1), "seed {seed}");
        group.restart(successor);
        group.run_until(|group| group.is_settled_with(&[1, 2, 3]));
        assert_eq!((group.number(successor, "a"), group.number(successor, "b")), (1, 1), "seed {seed}");
    }
}

/// The same, and the successor alone has begun a step of its own, when the first one leads again with its promise: it is told that
/// there are steps, and reads them from the other member, which has none.
#[test]
fn a_step_whose_keys_have_changed_since_is_not_taken_up_though_there_is_a_later_one() {
    for seed in 0..20 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        group.append(1, &key("x"), 10, Condition::None);
        group.begin_alone(1, &Key::of_steps(SLOT), job(2, &step_of(&["a: set a 1", "b: set b 1"])));
        group.ask(2, &key("a"), plain_job(3, "set a 5")).unwrap();
        let leads = |group: &Group, name: u8| group.replicas.get(&node(name)).is_some_and(|it| it.is_leading(SLOT));
        // In its own term, so that a step can build on it.
        group.ask(2, &key("c"), plain_job(4, "set c 0")).unwrap();
        let (successor, other) = if leads(&group, 2) { (2, 3) } else { (3, 2) };
        group.begin_alone(successor, &Key::of_steps(SLOT), job(5, &step_of(&["c: set c 1"])));

        group.restart(1);
        group.restart(successor);
        group.wire.clear();
        let is_from = |message: &(_, NodeId, NodeId, KeylogMessage), name: u8| message.1 == node(name);
        for _ in 0..5_000 {
            group.step();
            // The successor's promise and the other member's register are all that the first one hears.
            group.wire.retain(|message| match &message.3 {
                KeylogMessage::Prepare { .. } => is_from(message, 1),
                KeylogMessage::Promise { .. } => !is_from(message, other),
                KeylogMessage::RegisterRead { .. } | KeylogMessage::Scanned { .. } => !is_from(message, successor),
                _ => true,
            });
            if leads(&group, 1) && group.replicas[&node(1)].summaries().any(|summary| summary.is_settled) {
                break;
            }
        }
        assert_eq!((group.number(1, "a"), group.number(1, "b")), (5, 0), "seed {seed}");
        group.run_until(|group| group.is_settled_with(&[1, 2, 3]));
        // Asked for again it is done, and wholly.
        group.do_step(1, 2, &["a: set a 1", "b: set b 1"]);
        for name in [1, 2, 3] {
            assert_eq!((group.number(name, "a"), group.number(name, "b")), (1, 1), "seed {seed}");
        }
    }
}

/// Seed 236772: a leader that was cut off alone held a write of one key. Its successor had a step of that key and another accepted,
/// and was cut off before it could give the keys what they were to get. The first one led again, found its write, which no
/// proposal of its successor stood above, and did the step for the other key only.
#[test]
fn a_step_is_not_done_in_part_where_an_earlier_leader_had_begun_a_write() {
    for seed in 0..20 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let has_values_before = seed % 2 == 0;
        if has_values_before {
            group.do_step(1, 1, &["a: set a 7", "b: set b 7"]);
        }
        let steps = Key::of_steps(SLOT);
        group.begin_alone(1, &key("a"), plain_job(3, "set a 5"));
        group.head(2, &key("x"));
        let (leader, other) = if group.replicas[&node(2)].is_leading(SLOT) { (2, 3) } else { (3, 2) };
        let before = group.accepted_height(other, &steps);
        let step = step_of(&["a: set a 1", "b: set b 1"]);
        group.replicas.get_mut(&node(leader)).unwrap().submit(1 << 51, SLOT, steps.clone(), job(2, &step)).unwrap();
        group.run_until(|group| [other, leader].iter().all(|name| group.accepted_height(*name, &steps) > before));
        group.kill(leader);
        group.restart(1);
        assert_eq!((group.number(1, "a"), group.number(1, "b")), (1, 1), "seed {seed}");
        group.restart(leader);
        group.run_until(|group| group.is_settled_with(&[1, 2, 3]));
        assert_eq!((group.number(leader, "a"), group.number(leader, "b")), (1, 1), "seed {seed}");
    }
}

/// The only survivor has what a step gave its keys, and not the step: asked for again it must not be done twice.
#[test]
fn a_step_that_a_recovery_has_lost_is_not_done_again() {
    for seed in 0..10 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let step = step_of(&["a: incr a", "b: incr b"]);
        let ticket = u64::MAX - 1;
        let leader = group.replicas.get_mut(&node(1)).unwrap();
        leader.submit(ticket, SLOT, Key::of_steps(SLOT), job(1, &step)).unwrap();
        let is_step = |message: &KeylogMessage| matches!(message, KeylogMessage::Accept { proposal, .. } if proposal.key.steps_of().is_some());
        for _ in 0..1000 {
            group.step();
            group.wire.retain(|(_, _, to, message)| *to != node(3) || !is_step(message));
            let has = |name: &str| group.replicas[&node(3)].store().register(SLOT, &key(name)).unwrap().is_some();
            if has("a") && has("b") {
                break;
            }
        }
        // Until that is on its disk.
        group.run_for(20);
        group.kill(1);
        group.kill(2);
        assert_eq!(group.recover(&[3], 7), [true]);
        let again = group.step_result(3, 1, &step);
        assert!(matches!(again, Err(Failure::Forgotten { .. })), "seed {seed}: {again:?}");
        assert_eq!((group.number(3, "a"), group.number(3, "b")), (1, 1), "seed {seed}");
    }
}

/// A leader stops when it alone has a step that it began to propose; the next one says that it has lapsed, and stops as well: the
/// first one, which leads again, must not find it.
#[test]
fn a_step_that_has_lapsed_is_not_found_by_a_later_leader() {
    for seed in 0..10 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        group.do_step(1, 1, &["a: set a 1", "b: set b 1"]);
        let steps = Key::of_steps(SLOT);
        let since = Some(present(&group, 1, &steps));
        let step = step_of(&["a: set a 2", "b: set b 2"]);
        let attempt = Job::Evaluate(Invocation { since, ..invocation_of(job(2, &step)) });
        group.begin_alone_and_let_lapse(&steps, attempt);
        assert_eq!((group.number(1, "a"), group.number(1, "b")), (1, 1), "seed {seed}");
        group.restart(2);
    }
}

/// The same of the first step of all: the key of steps holds nothing.
#[test]
fn a_first_step_that_has_lapsed_is_not_found_by_a_later_leader() {
    for seed in 0..10 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let steps = Key::of_steps(SLOT);
        let since = group.replicas[&node(1)].known_anchor(SLOT);
        let step = step_of(&["a: set a 2", "b: set b 2"]);
        let attempt = Job::Evaluate(Invocation { since, ..invocation_of(job(2, &step)) });
        group.begin_alone_and_let_lapse(&steps, attempt);
        assert_eq!((group.number(1, "a"), group.number(1, "b")), (0, 0), "seed {seed}");
        // Steps go on, under this leader and the next.
        group.do_step(1, 3, &["a: set a 3", "b: set b 3"]);
        group.restart(2);
        group.kill(1);
        assert_eq!((group.number(2, "a"), group.number(2, "b")), (3, 3), "seed {seed}");
    }
}

/// Steps that write one number to two keys, while leaders die and messages are lost: who has seen a number under one key
/// never sees a smaller one under the other.
#[test]
fn nobody_sees_a_part_of_a_step_while_leaders_die() {
    for seed in 0..12 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        group.loss_percent = 5;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut down = None;
        for number in 1..=30u64 {
            let step = step_of(&[&format!("a: set a {number}"), &format!("b: set b {number}")]);
            let up: Vec<u8> = [1, 2, 3].into_iter().filter(|name| down != Some(*name)).collect();
            let via = up[rng.usize(..up.len())];
            let ticket = (1 << 50) + number;
            let replica = group.replicas.get_mut(&node(via)).unwrap();
            replica.submit(ticket, SLOT, Key::of_steps(SLOT), job(u128::from(number), &step)).unwrap();
            // It may be anywhere between asked for and done when the leader dies.
            group.run_for(rng.u32(..12));
            match down {
                Some(name) => {
                    group.restart(name);
                    down = None;
                }
                None if rng.bool() => {
                    let name = rng.u8(1..=3);
                    group.kill(name);
                    down = Some(name);
                }
                None => {}
            }
            let names = if rng.bool() { ["a", "b"] } else { ["b", "a"] };
            let via = group.replicas.keys().next().unwrap().0[0];
            let first = group.number(via, names[0]);
            let second = group.number(via, names[1]);
            assert!(first <= second, "seed {seed}, step {number}: {names:?} are {first} and {second}");
            let both = group.do_step(via, u128::MAX - u128::from(number), &["a: get a", "b: get b"]);
            assert_eq!(both[0], both[1], "seed {seed}, step {number}");
        }
        group.loss_percent = 0;
        if let Some(name) = down {
            group.restart(name);
        }
        group.run_until(|group| group.is_settled_with(&[1, 2, 3]));
        let (a, b) = (group.number(1, "a"), group.number(1, "b"));
        assert_eq!(a, b, "seed {seed}");
        assert!(a > 0, "seed {seed}: no step was done");
    }
}

/// Were the tombstone dropped, a new leader would take the key for one that has not had the step.
#[test]
fn a_key_that_a_step_deleted_stays_deleted_when_the_leader_changes() {
    let group = &mut Group::joined(&[1, 2, 3], 6);
    group.do_step(1, 1, &["a: set a 1", "b: set b 1"]);
    group.do_step(1, 2, &["a: del a", "b: incr b"]);
    group.wall = WallTime(10 * dropping::KEPT.as_millis() as u64);
    group.run_for(3000);
    let holds = |group: &Group, name: &str| {
        group.replicas.values().filter(|replica| replica.store().register(SLOT, &key(name)).unwrap().is_some()).count()
    };
    assert_eq!(holds(group, "a"), 3, "the tombstone tells that the key has had the step");
    group.kill(1);
    assert_eq!(group.head(2, &key("a")).and_then(|(_, head)| head.value().cloned()), None);
    assert_eq!(group.number(2, "b"), 2);
    group.restart(1);
    group.run_until(|group| group.is_settled_with(&[1, 2, 3]));
    // Another step comes: then nobody asks for the height of the key any more.
    group.do_step(1, 3, &["b: incr b", "c: set c 1"]);
    group.run_until(|group| holds(group, "a") == 0);
    assert_eq!(group.number(1, "b"), 3);
}

/// Commands on one key wait while steps have it, and come in between none.
#[test]
fn steps_and_commands_on_their_keys_take_turns() {
    let group = &mut Group::joined(&[1, 2, 3], 7);
    let counter = key("a");
    let mut tickets = Vec::new();
    for id in 0..200u64 {
        let ticket = (1 << 50) + id;
        tickets.push(ticket);
        let (key, job) = if id % 2 == 0 {
            (Key::of_steps(SLOT), job(u128::from(id) + 1, &step_of(&["a: incr a", "b: incr b"])))
        } else {
            (counter.clone(), plain_job(u128::from(id) + 1, "incr a"))
        };
        group.replicas.get_mut(&node(1)).unwrap().submit(ticket, SLOT, key, job).unwrap();
    }
    group.run_until(|group| tickets.iter().all(|ticket| group.results.contains_key(ticket)));
    for ticket in tickets {
        let result = group.results.remove(&ticket);
        assert!(matches!(result, Some(Ok(Answer::Evaluated { .. }))), "{result:?}");
    }
    assert_eq!((group.number(1, "a"), group.number(1, "b")), (200, 100));
    group.run_until(|group| group.replicas.values().all(|replica| replica.next_wakeup() >= group.now));
}
