//! Commands that take items from lists and sorted sets, or read streams, and wait where there is nothing.

use std::time::Duration;

use difuse_api::{
    notice::Notice,
    structures::{Reply, read_timeout},
};
use difuse_types::Key;
use futures::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep_until};

use super::{is_word, stepped, streams};
use crate::resp::{
    Shared,
    call::Call,
    failure::{Failure, Outcome},
    waiting::Purpose,
};

/// The pauses between attempts while nobody tells of anything.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// For how many keys attempts are made so often; where there are more, they are made more rarely.
const LINES: usize = 32;

/// Does a command of the registry, again and again until it finds something or its time is over.
pub(in crate::resp) fn blocking(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        if ["xread", "xreadgroup"].contains(&call.command.name) {
            return streams::read(call).await;
        }
        let keys = stepped::keys_of(&call.shared, call.database, &call.arguments)?;
        let sources = sources(&call, &keys);
        // Whoever came before is served before.
        if !call.shared.waiting.is_waited_for(sources) {
            let reply = attempt(&call, &keys).await?;
            if !is_nothing(&reply) {
                return Ok(reply.into());
            }
        }
        // A time that never comes is as good as none.
        let deadline = patience(&call)?.and_then(|patience| Instant::now().checked_add(patience));
        Ok(wait(&call, &keys, sources, Purpose::Take, deadline).await?.into())
    };
    task.boxed()
}

/// The keys that items are taken from.
fn sources<'a>(call: &Call, keys: &'a [Key]) -> &'a [Key] {
    let has_destination = ["blmove", "brpoplpush"].contains(&call.command.name);
    if has_destination { &keys[..keys.len().min(1)] } else { keys }
}

/// How long the client waits; `None`: for ever.
fn patience(call: &Call) -> Result<Option<Duration>, Failure> {
    let is_in_front = ["blmpop", "bzmpop"].iter().any(|name| is_word(&call.arguments[0], name));
    let text = if is_in_front { call.arguments.get(1) } else { call.arguments.last() };
    Ok(read_timeout(text.ok_or_else(Failure::syntax)?)?)
}

pub(super) fn is_nothing(reply: &Reply) -> bool {
    matches!(reply, Reply::Null | Reply::NullArray)
}

pub(super) async fn attempt(call: &Call, keys: &[Key]) -> Result<Reply, Failure> {
    stepped::step(call, keys.to_vec()).await?.ok_or_else(Failure::contended)
}

/// An attempt is never given up when the time is over: what it takes must come to the client.
pub(super) async fn wait(
    call: &Call,
    keys: &[Key],
    sources: &[Key],
    purpose: Purpose,
    deadline: Option<Instant>,
) -> Result<Reply, Failure> {
    let place = call.shared.waiting.enter(sources, purpose);
    let mut unblocked = call.client.wait();
    let mut pause = PAUSE.0;
    loop {
        let mut until = deadline;
        if place.is_served_next() {
            for key in place.to_be_said() {
                call.shared.hub.tell_all(Notice::Waiting { key });
            }
            let reply = attempt(call, keys).await?;
            if !is_nothing(&reply) {
                return Ok(reply);
            }
            let next = Instant::now() + pause;
            until = Some(deadline.map_or(next, |deadline| deadline.min(next)));
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(Reply::NullArray);
        }
        tokio::select! {
            () = place.woken() => pause = PAUSE.0,
            with_error = unblocked.unblocked() => return match with_error {
                true => Err(Failure("UNBLOCKED client unblocked via CLIENT UNBLOCK".into())),
                false => Ok(Reply::NullArray),
            },
            () = reached(until) => pause = (pause * 2).min(longest_pause(call.shared.waiting.lines())),
        }
    }
}

/// So that a node makes no more than so many attempts in a second, however many clients wait.
fn longest_pause(lines: usize) -> Duration {
    PAUSE.1 * u32::try_from(lines.div_ceil(LINES).max(1)).unwrap_or(u32::MAX)
}

/// Resolves at a moment; `None`: never.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Something may have been added to a key: whoever waits for that hears of it, here and at other nodes.
pub(in crate::resp) fn tell_of(shared: &Shared, key: &Key) {
    if !shared.waiting.is_any() {
        return;
    }
    shared.waiting.wake(key);
    for node in shared.waiting.nodes_waiting(key) {
        shared.hub.tell(node, Notice::Added { key: key.clone() });
    }
}
