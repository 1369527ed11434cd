//! Publish and subscribe.

use std::sync::Arc;

use bytes::Bytes;
use difuse_api::structures::{
    Flag::{Fast, Loading, PubSub},
    Reply,
};

use super::{expect_words, help, subcommand, unknown_subcommand};
use crate::resp::{
    Shared,
    answer::Answer,
    catalogue::{AtOnce, Entry, Run},
    failure::{Failure, Outcome},
    hub::{SUBSCRIPTIONS_MAX, Subscription},
    session::Session,
};

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let entry = |name, arity, summary, run: AtOnce| {
        let entry = Entry::new(name, arity, &[PubSub, Loading], "pubsub", "2.0.0", summary, Run::InOrder(run));
        entry.costing("O(N) where N is the number of names")
    };
    let publish = Entry::new(
        "publish",
        3,
        &[PubSub, Loading, Fast],
        "pubsub",
        "2.0.0",
        "Sends a message to a channel; counts this node's subscribers",
        Run::InOrder(publish),
    );
    vec![
        entry("subscribe", -2, "Listens to channels", |session, shared, names| add(session, shared, names, false)),
        entry("psubscribe", -2, "Listens to channels by patterns", |session, shared, names| {
            add(session, shared, names, true)
        }),
        entry("unsubscribe", -1, "Listens no more to channels", |session, _, names| Ok(remove(session, names, false))),
        entry("punsubscribe", -1, "Listens no more by patterns", |session, _, names| Ok(remove(session, names, true))),
        entry("pubsub", -2, "Tells of channels", inspect),
        publish.costing("O(N) where N is the number of subscribers and of patterns"),
    ]
}

fn add(session: &mut Session, shared: &Arc<Shared>, arguments: &[Bytes], is_pattern: bool) -> Outcome {
    let id = session.client.id;
    let subscription = session.subscription.get_or_insert_with(|| Subscription::new(shared.clone(), id));
    if subscription.count() + arguments.len() > SUBSCRIPTIONS_MAX {
        return Err(Failure::new(format_args!(
            "a connection can have {SUBSCRIPTIONS_MAX} channels and patterns at most"
        )));
    }
    let kind = if is_pattern { "psubscribe" } else { "subscribe" };
    let mut pushes = Vec::new();
    for name in &arguments[1..] {
        // A slice would keep the whole request.
        subscription.add(Bytes::copy_from_slice(name), is_pattern);
        pushes.push(vec![Reply::bulk(kind), Reply::Bulk(name.clone()), Reply::count(subscription.count())]);
    }
    tell(session);
    Ok(Answer::Pushes(pushes))
}

fn remove(session: &mut Session, arguments: &[Bytes], is_pattern: bool) -> Answer {
    let kind = if is_pattern { "punsubscribe" } else { "unsubscribe" };
    let names = match (&session.subscription, &arguments[1..]) {
        (Some(subscription), []) => subscription.names(is_pattern),
        (_, names) => names.to_vec(),
    };
    let mut pushes = Vec::new();
    for name in &names {
        if let Some(subscription) = &mut session.subscription {
            subscription.remove(name, is_pattern);
        }
        pushes.push(vec![Reply::bulk(kind), Reply::Bulk(name.clone()), Reply::count(count(session))]);
    }
    if pushes.is_empty() {
        pushes.push(vec![Reply::bulk(kind), Reply::Null, Reply::count(count(session))]);
    }
    tell(session);
    Answer::Pushes(pushes)
}

fn count(session: &Session) -> usize {
    session.subscription.as_ref().map_or(0, Subscription::count)
}

/// Lets others see how many there are.
fn tell(session: &Session) {
    let (channels, patterns) = session.subscription.as_ref().map(Subscription::counts).unwrap_or_default();
    session.client.edit(|details| (details.channels, details.patterns) = (channels, patterns));
}

fn publish(_: &mut Session, shared: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    Ok(Reply::count(shared.hub.publish(&arguments[1], &arguments[2])).into())
}

fn inspect(_: &mut Session, shared: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    match &*subcommand(arguments) {
        "CHANNELS" => {
            expect_words(arguments, |count| count <= 3)?;
            let names = shared.hub.channels(arguments.get(2).map(|pattern| &**pattern));
            Ok(Reply::Array(names.into_iter().map(Reply::Bulk).collect()).into())
        }
        "NUMSUB" => {
            let count = |name: &Bytes| [Reply::Bulk(name.clone()), Reply::count(shared.hub.subscribers(name))];
            Ok(Reply::Array(arguments[2..].iter().flat_map(count).collect()).into())
        }
        "NUMPAT" => {
            expect_words(arguments, |count| count == 2)?;
            Ok(Reply::count(shared.hub.pattern_count()).into())
        }
        "HELP" => help(
            "PUBSUB",
            &[
                "CHANNELS [<pattern>]",
                "    Return the currently active channels matching a <pattern> (default: '*').",
                "NUMPAT",
                "    Return number of subscriptions to patterns.",
                "NUMSUB [<channel> ...]",
                "    Return the number of subscribers for the specified channels, excluding",
                "    pattern subscriptions(default: no channels).",
            ],
        ),
        _ => Err(unknown_subcommand(arguments)),
    }
}
