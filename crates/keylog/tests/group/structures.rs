//! Commands on structures: what clients of the group see of them.

use bytes::Bytes;
use difuse_keylog::{
    Anchor, Answer, Condition, Failure, Invocation, Job, MAX_INLINE_BYTES, Operation, Store, Value, ValueKind,
};
use difuse_structures::Reply;
use difuse_types::{Key, Level, OperationId, WallTime};

use super::{EVERY, Group, SLOT, key, node, submission};

/// A command as text, its words apart by blanks.
fn invocation(id: u8, command: &str) -> Invocation {
    let arguments = command.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
    Invocation {
        arguments,
        operation_id: OperationId([id; 16]),
        author: node(9),
        time: WallTime(0),
        level: Level::Quorum,
        since: Some(Anchor::LATEST),
    }
}

impl Group {
    fn command(&mut self, via: u8, key: &Key, id: u8, command: &str) -> Reply {
        let invocation = Invocation { time: self.wall, ..invocation(id, command) };
        match self.ask(via, key, Job::Evaluate(invocation)).unwrap() {
            Answer::Evaluated { reply, .. } => Reply::decode(&reply).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn height(&mut self, via: u8, key: &Key) -> u64 {
        self.head(via, key).map_or(0, |(_, head)| head.height)
    }
}

#[test]
fn commands_fold_into_a_state_that_every_leader_comes_to() {
    let group = &mut Group::joined(&[1, 2, 3], 1);
    let key = key("h");
    assert_eq!(group.command(1, &key, 1, "hset h a 1 b 2"), Reply::Integer(2));
    assert_eq!(group.command(2, &key, 2, "hset h b 3 c 4"), Reply::Integer(1));
    assert_eq!(group.command(3, &key, 3, "hget h b"), Reply::bulk("3"));
    group.kill(1);
    assert_eq!(group.command(2, &key, 4, "hget h a"), Reply::bulk("1"));
    assert_eq!(group.command(2, &key, 5, "hset h a 5"), Reply::Integer(0));
    group.restart(1);
    group.run_until(|group| group.is_settled_with(&[1, 2, 3]));
    assert_eq!(group.command(3, &key, 6, "hget h a"), Reply::bulk("5"));
    assert_eq!(group.command(3, &key, 7, "hget h nothing"), Reply::Null);
    assert_eq!(group.height(1, &key), 3, "reads add nothing to the log");
}

#[test]
fn a_command_that_is_asked_twice_is_applied_once_and_answered_alike() {
    let group = &mut Group::joined(&[1, 2, 3], 2);
    let key = key("h");
    assert_eq!(group.command(1, &key, 1, "hset h a 1"), Reply::Integer(1));
    assert_eq!(group.command(1, &key, 2, "hset h a 2 b 2"), Reply::Integer(1));
    group.kill(1);
    assert_eq!(group.command(2, &key, 1, "hset h a 1"), Reply::Integer(1));
    assert_eq!(group.command(2, &key, 2, "hset h a 2 b 2"), Reply::Integer(1));
    assert_eq!(group.command(2, &key, 3, "hget h a"), Reply::bulk("2"));
    assert_eq!(group.height(2, &key), 2);
}

/// So many others followed that its id is not remembered any more.
#[test]
fn a_command_that_comes_again_too_late_is_refused_and_not_applied_twice() {
    let group = &mut Group::joined(&[1, 2, 3], 9);
    let key = key("h");
    let since = group.replicas[&node(1)].known_anchor(SLOT);
    let first = Invocation { since, ..invocation(1, "hset h first 1") };
    group.ask(1, &key, Job::Evaluate(first.clone())).unwrap();
    for id in 2..=200 {
        group.command(1, &key, id, &format!("hset h f{id} 1"));
    }
    group.kill(1);
    let again = group.ask(2, &key, Job::Evaluate(first.clone()));
    assert!(matches!(again, Err(Failure::Forgotten { .. })), "{again:?}");
    let read = Invocation { since: None, ..invocation(201, "hget h first") };
    assert!(matches!(group.ask(2, &key, Job::Evaluate(read)), Ok(Answer::Evaluated { appended: None, .. })));
    assert_eq!(group.height(2, &key), 200);
}

#[test]
fn a_key_of_another_kind_is_refused_and_a_plain_value_replaces_a_structure() {
    let group = &mut Group::joined(&[1, 2, 3], 3);
    let key = key("k");
    let wrong = Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into());
    group.append(1, &key, 1, Condition::None);
    assert_eq!(group.command(1, &key, 2, "hset k a 1"), wrong);
    let delete =
        Job::Append(difuse_keylog::Submission { operation: Operation::Delete, ..submission(3, Condition::None) });
    group.ask(1, &key, delete).unwrap();
    assert_eq!(group.command(1, &key, 4, "hset k a 1"), Reply::Integer(1));
    group.append(1, &key, 5, Condition::Present);
    assert_eq!(group.command(1, &key, 6, "hget k a"), wrong);
}

#[test]
fn an_expired_structure_is_gone_and_the_next_one_begins_anew() {
    let group = &mut Group::joined(&[1, 2, 3], 4);
    let key = key("h");
    assert_eq!(group.command(1, &key, 1, "hset h a 1"), Reply::Integer(1));
    group.wall = WallTime(1_000);
    let until = Value::new(ValueKind::Operation, vec![1]).until(Some(WallTime(2_000)));
    let expire = difuse_keylog::Submission { operation: Operation::Set(until), ..submission(2, Condition::None) };
    group.ask(1, &key, Job::Append(expire)).unwrap();
    assert_eq!(group.command(1, &key, 3, "hget h a"), Reply::bulk("1"));
    group.wall = WallTime(2_000);
    assert_eq!(group.command(1, &key, 4, "hget h a"), Reply::Null);
    assert_eq!(group.command(1, &key, 5, "hset h b 1"), Reply::Integer(1));
    group.kill(1);
    assert_eq!(group.command(2, &key, 6, "hget h a"), Reply::Null, "what expired does not come back");
    assert_eq!(group.command(2, &key, 7, "hget h b"), Reply::bulk("1"));
}

#[test]
fn a_small_structure_is_checkpointed_and_its_history_forgotten() {
    let group = &mut Group::joined(&[1, 2, 3], 5);
    let key = key("h");
    for number in 0..EVERY * 3 {
        let mut invocation = invocation(0, &format!("hset h f{} {number}", number % 10));
        invocation.operation_id = OperationId(u128::from(number).to_le_bytes());
        group.ask(1, &key, Job::Evaluate(invocation)).unwrap();
    }
    let register = group.replicas[&node(1)].store().register(SLOT, &key).unwrap().unwrap();
    assert!(register.base > EVERY, "{register:?}");
    let base = group.log_from(1, &key, register.base).remove(0);
    assert_eq!(base.value().map(|value| value.kind), Some(ValueKind::State));
    assert_eq!(base.checkpoint, base.operation.state_hash());
    group.kill(1);
    let last = EVERY * 3 - 1;
    assert_eq!(group.command(2, &key, 1, &format!("hget h f{}", last % 10)), Reply::bulk(last.to_string()));
    assert_eq!(group.command(2, &key, 2, "hget h f0").encode(), Reply::bulk((last / 10 * 10).to_string()).encode());
}

/// Its state has grown too long for a checkpoint, so that a leader that takes over has the whole log to fold: it does so in parts,
/// and meanwhile serves other keys.
#[test]
fn a_long_log_is_folded_in_parts() {
    let group = &mut Group::joined(&[1, 2, 3], 8);
    let key = key("h");
    let value = "v".repeat(400);
    let count = 2_500_u64;
    for number in 0..count {
        let mut invocation = invocation(0, &format!("hset h f{number} {value}{number}"));
        invocation.operation_id = OperationId(u128::from(number).to_le_bytes());
        group.ask(1, &key, Job::Evaluate(invocation)).unwrap();
    }
    let register = group.replicas[&node(1)].store().register(SLOT, &key).unwrap().unwrap();
    assert!(register.head.checkpoint + 1_500 < count, "{register:?}");
    group.kill(1);
    let other = super::key("other");
    assert_eq!(group.command(2, &other, 1, "hset other a 1"), Reply::Integer(1));
    assert_eq!(group.command(2, &key, 2, "hget h f0"), Reply::bulk(format!("{value}0")));
    // What was applied last is found, and answered as it was.
    let mut again = invocation(0, &format!("hset h f{} {value}{}", count - 1, count - 1));
    again.operation_id = OperationId(u128::from(count - 1).to_le_bytes());
    let answer = group.ask(2, &key, Job::Evaluate(again)).unwrap();
    assert!(matches!(answer, Answer::Evaluated { appended: Some((height, _)), .. } if height == count), "{answer:?}");
    group.append(3, &key, 3, Condition::Present);
    assert_eq!(group.height(3, &key), count + 1);
}

/// However long a chain is: a node that lacks it is sent no more of it at a time than there is room for between the two, and
/// gets all of it while others go on writing.
#[test]
fn a_chain_longer_than_what_fits_between_two_nodes_reaches_a_newcomer() {
    let group = &mut Group::new(&[1, 2, 3], 11);
    group.place(&[1, 2]);
    group.run_until(|group| group.is_settled_with(&[1, 2]));
    group.parts_max = 2;
    let key = key("l");
    let item = "v".repeat(20_000);
    for number in 0..150 {
        group.command(1, &key, number, &format!("rpush l {item}"));
    }
    group.place(&[1, 2, 3]);
    for number in 150..170 {
        group.command(1, &key, number, "rpush l short");
        group.run_for(20);
    }
    group.run_until(|group| group.is_settled_with(&[1, 2, 3]));
    group.check_kept(3, &key);
    group.kill(1);
    assert_eq!(group.command(3, &key, 200, "llen l"), Reply::Integer(170));
}

/// The state is checkpointed in parts, and what is below forgotten; newcomers and new leaders begin there.
#[test]
fn a_large_structure_is_checkpointed_in_parts() {
    let group = &mut Group::new(&[1, 2, 3], 10);
    group.place(&[1, 2]);
    group.run_until(|group| group.is_settled_with(&[1, 2]));
    let key = key("l");
    let item = "v".repeat(20_000);
    let mut count = 0;
    let mut push = |group: &mut Group, command: &str| {
        count += 1;
        let invocation = Invocation {
            operation_id: OperationId(u128::MAX.wrapping_sub(count).to_le_bytes()),
            ..invocation(0, command)
        };
        group.ask(1, &key, Job::Evaluate(invocation)).unwrap()
    };
    for _ in 0..30 {
        push(group, &format!("rpush l {item}"));
    }
    for number in 0..2_800 {
        push(group, &format!("lset l {} short{number}", number % 5));
    }
    let register = |group: &Group, name: u8| group.replicas[&node(name)].store().register(SLOT, &key).unwrap().unwrap();
    let base = register(group, 1).base;
    assert!(base > 1_000, "{:?}", register(group, 1));
    let parts = group.log_from(1, &key, base);
    let indexes: Vec<_> =
        parts.iter().map_while(|part| part.value()?.part()).map(|(index, count, _)| (index, count)).collect();
    assert!(indexes.len() >= 2, "{indexes:?}");
    assert!(indexes.iter().zip(0..).all(|(part, index)| *part == (index, indexes.len() as u16)), "{indexes:?}");
    group.place(&[1, 2, 3]);
    group.run_until(|group| group.is_settled_with(&[1, 2, 3]));
    group.check_kept(3, &key);
    assert_eq!(register(group, 3).base, base);
    group.kill(1);
    assert_eq!(group.command(3, &key, 2, "lindex l 4"), Reply::bulk("short2799"));
    assert_eq!(group.command(3, &key, 3, "lindex l 29"), Reply::bulk(item));
    assert_eq!(group.command(2, &key, 4, "llen l"), Reply::Integer(30));
    // A deadline stays with it, and the parts are forgotten with everything else that is below the next one.
    assert_eq!(group.command(2, &key, 5, "type l"), Reply::Status("list".into()));
    assert_eq!(group.command(2, &key, 6, "expire l 100"), Reply::Integer(1));
    assert_eq!(group.command(2, &key, 7, "ttl l"), Reply::Integer(100));
}

#[test]
fn what_does_not_fit_into_the_log_is_refused() {
    let group = &mut Group::joined(&[1, 2, 3], 6);
    let key = key("h");
    let long = "x".repeat(300_000);
    let refused = group.ask(1, &key, Job::Evaluate(invocation(1, &format!("hset h f {long}"))));
    assert!(matches!(refused, Err(Failure::Invalid(_))), "{refused:?}");
    assert_eq!(group.height(1, &key), 0);
    let fits = "x".repeat(MAX_INLINE_BYTES * 4);
    assert_eq!(group.command(1, &key, 2, &format!("hset h f {fits}")), Reply::Integer(1));
    assert_eq!(group.command(1, &key, 3, "hget h f"), Reply::bulk(fits));
}

#[test]
fn what_has_expired_is_deleted_by_the_leader_and_what_was_written_anew_is_not() {
    let group = &mut Group::joined(&[1, 2, 3], 7);
    group.wall = WallTime(1_000);
    let set = |id: u8, deadline: Option<u64>| {
        let value = Value::inline(vec![id]).until(deadline.map(WallTime));
        Job::Append(difuse_keylog::Submission { operation: Operation::Set(value), ..submission(id, Condition::None) })
    };
    let keys = [key("gone"), key("rewritten"), key("later"), key("plain")];
    for (key, deadline) in keys.iter().zip([Some(2_000), Some(2_000), Some(9_000), None]) {
        group.ask(1, key, set(1, deadline)).unwrap();
    }
    let expiring = |group: &Group| group.replicas[&node(1)].store().size(SLOT).unwrap().expiring;
    assert_eq!(expiring(group), 3);
    group.ask(2, &keys[1], set(2, None)).unwrap();
    group.wall = WallTime(2_000);
    group.run_until(|group| expiring(group) == 1);
    let values: Vec<_> = keys.iter().map(|key| group.head(1, key).unwrap().1.value().cloned()).collect();
    assert_eq!(values[0], None);
    assert_eq!(group.log(1, &keys[0]).len(), 2, "what became of it is in its history");
    assert!(values[1..].iter().all(Option::is_some), "{values:?}");
    group.kill(1);
    group.wall = WallTime(9_000);
    group.run_until(|group| group.replicas.values().all(|replica| replica.store().size(SLOT).unwrap().expiring == 0));
    assert_eq!(group.head(2, &keys[2]).unwrap().1.value(), None, "a leader that took over goes on with it");
}
