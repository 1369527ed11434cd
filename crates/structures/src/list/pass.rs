//! Commands that take items from one list and give them to another, or from the first of several that has any.

use bytes::Bytes;

use super::{DenyOom, Flag, List, ListOperation, Write};
use crate::{Arguments, Command, CommandError, Effect, KeyPositions, Keys, KeysCommand, KeysOutcome, Reply};

pub(super) fn commands() -> Vec<KeysCommand> {
    const MOVES: &[Flag] = &[Write, DenyOom];
    let both = KeyPositions { first: 1, last: 2, step: 1 };
    let lmove = Command { keys: both, ..Command::on_key("lmove", 5, MOVES) };
    vec![KeysCommand::new(
        lmove.documented("list", "6.2.0", "O(1)", "Takes an item from an end of a list and puts it to one of another"),
        |keys, arguments, _| {
            let (from, to) = (End::read(arguments)?, End::read(arguments)?);
            pass(keys, from, to)
        },
    )]
}

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

impl End {
    fn read(arguments: &mut Arguments<'_>) -> Result<Self, CommandError> {
        if arguments.take_word("left") {
            Ok(Self::Front)
        } else if arguments.take_word("right") {
            Ok(Self::Back)
        } else {
            Err(CommandError::Syntax)
        }
    }

    fn push(self, item: Bytes) -> Effect {
        Effect::apply::<List>(&match self {
            Self::Front => ListOperation::PushFront(vec![item]),
            Self::Back => ListOperation::PushBack(vec![item]),
        })
    }

    /// Takes one of `length` items.
    fn pop(self, length: usize) -> Effect {
        let position = match self {
            Self::Front => 0,
            Self::Back => length.saturating_sub(1),
        };
        Effect::apply::<List>(&ListOperation::Remove(position as u64, 1))
    }

    fn item(self, list: &List) -> Option<&Bytes> {
        match self {
            Self::Front => list.items.front(),
            Self::Back => list.items.back(),
        }
    }
}

/// From the first key to the second one.
fn pass(keys: &Keys<'_>, from: End, to: End) -> Result<KeysOutcome, CommandError> {
    let Some(list) = keys.find::<List>(0)? else { return Ok(KeysOutcome::reply(Reply::Null)) };
    keys.find::<List>(1)?;
    let Some(item) = from.item(list) else { return Ok(KeysOutcome::reply(Reply::Null)) };
    let reply = Reply::Bulk(item.clone());
    if !keys.is_same(0, 1) {
        let effects = vec![(0, from.pop(list.items.len())), (1, to.push(item.clone()))];
        return Ok(KeysOutcome::new(reply, effects));
    }
    if from == to {
        return Ok(KeysOutcome::reply(reply));
    }
    // Pushed first: a list of one item must not end, and lose its deadline, in between.
    let effects = vec![(0, to.push(item.clone())), (0, from.pop(list.items.len() + 1))];
    Ok(KeysOutcome::new(reply, effects))
}
