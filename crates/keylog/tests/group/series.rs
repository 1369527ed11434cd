//! Commands on one key that are asked for together.

use bytes::Bytes;
use difuse_keylog::{Anchor, Answer, Failure, Invocation, Job, MAX_INLINE_BYTES};
use difuse_structures::{Reply, SERIES_MAX, in_series};
use difuse_types::{Key, Level, OperationId};

use super::{EVERY, Group, key, node};

fn words(command: &str) -> Vec<Bytes> {
    command.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

impl Group {
    fn series(&mut self, via: u8, key: &Key, id: u128, commands: &[&str]) -> Result<Vec<Reply>, Failure> {
        let invocation = Invocation {
            arguments: in_series(commands.iter().map(|command| words(command)).collect()),
            operation_id: OperationId(id.to_le_bytes()),
            author: node(9),
            time: self.wall,
            level: Level::Quorum,
            since: Some(Anchor::LATEST),
        };
        match self.ask(via, key, Job::Evaluate(invocation))? {
            Answer::Evaluated { reply, .. } => match Reply::decode(&reply).unwrap() {
                Reply::Array(replies) => Ok(replies),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn last_height(&mut self, via: u8, key: &Key) -> u64 {
        self.head(via, key).map_or(0, |(_, head)| head.height)
    }
}

#[test]
fn each_command_sees_what_those_before_it_did() {
    let group = &mut Group::joined(&[1, 2, 3], 1);
    let key = key("l");
    let commands = ["rpush l a b", "rpush l c", "lrange l 0 -1", "lpop l", "set l", "del l", "rpush l d", "incr l"];
    let replies = group.series(2, &key, 1, &commands).unwrap();
    let wrong = Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into());
    let arity = Reply::Error("ERR wrong number of arguments for 'set' command".into());
    let all = Reply::bulks(["a", "b", "c"].map(Bytes::from));
    let [two, three, one] = [2, 3, 1].map(Reply::Integer);
    assert_eq!(replies, [two, three, all, Reply::bulk("a"), arity, one.clone(), one, wrong]);
    assert_eq!(group.last_height(1, &key), 5, "a transaction for each that changes something");
}

/// Also where the first commands change nothing, and so are not in the log.
#[test]
fn a_series_that_is_asked_twice_is_applied_once_and_answered_alike() {
    let group = &mut Group::joined(&[1, 2, 3], 2);
    let key = key("s");
    let commands = ["srem s x", "sadd s a", "sadd s a", "spop s", "sadd s b c d e", "spop s", "scard s"];
    let replies = group.series(1, &key, 1, &commands).unwrap();
    assert_eq!(replies.len(), commands.len());
    let nothing = group.series(1, &key, 2, &["srem s x", "srem s y"]).unwrap();
    group.series(3, &key, 3, &["sadd s f"]).unwrap();
    let height = group.last_height(1, &key);
    group.kill(1);
    assert_eq!(group.series(2, &key, 1, &commands), Ok(replies));
    assert_eq!(group.series(2, &key, 2, &["srem s x", "srem s y"]), Ok(nothing));
    assert_eq!(group.last_height(2, &key), height);
}

#[test]
fn a_series_ends_before_what_cannot_be_done_and_is_refused_if_that_is_the_first() {
    let group = &mut Group::joined(&[1, 2, 3], 3);
    let key = key("k");
    let long = format!("append k {}", "v".repeat(MAX_INLINE_BYTES));
    let commands = ["append k a", "append k b", &long, "append k c"];
    let done = vec![Reply::Integer(1), Reply::Integer(2)];
    assert_eq!(group.series(1, &key, 1, &commands), Ok(done.clone()));
    assert_eq!(group.series(1, &key, 2, &commands[2..]), Err(Failure::InBlocks));
    group.kill(1);
    assert_eq!(group.series(2, &key, 1, &commands), Ok(done), "as far as it was done");
    assert_eq!(group.last_height(2, &key), 2);
    let many = vec!["append k x"; SERIES_MAX + 1];
    assert!(matches!(group.series(2, &key, 3, &many), Err(Failure::Invalid(_))));
    assert!(matches!(group.series(2, &key, 3, &[]), Err(Failure::Invalid(_))));
}

/// Checkpoints may lie within a series: what was applied is found again all the same.
#[test]
fn a_long_history_of_series_is_checkpointed_and_told_again() {
    let group = &mut Group::joined(&[1, 2, 3], 4);
    let key = key("h");
    let commands: Vec<String> = (0..SERIES_MAX).map(|number| format!("hincrby h f{} 1", number % 7)).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let rounds = 4 * u128::from(EVERY) / SERIES_MAX as u128;
    let mut last = Vec::new();
    for id in 1..=rounds {
        last = group.series(1, &key, id, &commands).unwrap();
    }
    let height = group.last_height(1, &key);
    assert_eq!(height, rounds as u64 * SERIES_MAX as u64);
    group.kill(1);
    assert_eq!(group.series(2, &key, rounds, &commands), Ok(last));
    assert_eq!(group.last_height(2, &key), height);
}
