//! Commands on one key that were sent one right behind the other.

use std::collections::VecDeque;

use bytes::Bytes;
use difuse_api::{
    keys,
    request::RequestError,
    structures::{Command, Reply},
};

use super::keyed::{is_long_string, keyed, plain_set};
use crate::resp::{answer::Answer, call::Call, failure::Failure};

/// A command that follows others on the same key.
pub(in crate::resp) struct Follower {
    pub(in crate::resp) command: Command,
    pub(in crate::resp) arguments: Vec<Bytes>,
}

/// Whether a command that changes a key is one that its leader evaluates, as a rule.
pub(in crate::resp) fn takes_part(command: &Command, arguments: &[Bytes]) -> bool {
    plain_set(arguments).is_none() && !is_long_string(command, arguments)
}

/// Does a command and those that follow it, in their order; an answer for each. What the leader leaves is done by itself.
pub(in crate::resp) async fn series(first: Call, followers: Vec<Follower>) -> Result<Vec<Answer>, Failure> {
    let mut answers = Vec::with_capacity(1 + followers.len());
    let of = |follower: Follower| first.following(follower.command, follower.arguments);
    let mut calls: VecDeque<Call> = followers.into_iter().map(of).collect();
    calls.push_front(first);
    while !calls.is_empty() {
        let replies = if calls.len() > 1 { together(&calls).await } else { Ok(Vec::new()) };
        match replies {
            Ok(replies) if !replies.is_empty() => {
                calls.drain(..replies.len().min(calls.len()));
                answers.extend(replies.into_iter().map(Answer::from));
            }
            // Nothing was done: the first one is of another kind, or is refused, and is answered so.
            Ok(_) | Err(RequestError::InBlocks | RequestError::Invalid(_) | RequestError::QuotaReached { .. }) => {
                if let Some(call) = calls.pop_front() {
                    answers.push(keyed(call).await.unwrap_or_else(Answer::from));
                }
            }
            Err(error) => {
                let failure = Failure::from(error);
                answers.extend(calls.drain(..).map(|_| Answer::from(failure.clone())));
            }
        }
    }
    Ok(answers)
}

/// Lets the leader do as many of these commands as it can, one after the other.
async fn together(calls: &VecDeque<Call>) -> Result<Vec<Reply>, RequestError> {
    let Some(first) = calls.front() else { return Ok(Vec::new()) };
    let key = first.key(&first.arguments[1]).map_err(|failure| RequestError::Invalid(failure.0))?;
    let commands = calls.iter().map(|call| call.arguments.clone()).collect();
    keys::series(first.datastore(), key, commands, keys::new_operation_id(), first.levels.write).await
}
