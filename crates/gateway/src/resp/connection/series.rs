//! Commands on one key that a client has sent one right behind the other: they are done together, as one request to the
//! leader of the key's slot, instead of each waiting for the one before it.

use bytes::Bytes;
use difuse_api::structures::{Command, KeyPositions, SERIES_MAX};
use futures::FutureExt;
use tokio::time::Instant;

use super::{Connection, begin::may_add};
use crate::resp::{
    answer::Answer,
    catalogue::{Entry, Run, keys_of},
    commands::{Follower, series, takes_part},
    failure::Failure,
    input::Arrived,
    pipeline::{Ticket, UsedKey},
};

/// The most bytes of arguments of a series; its first command may exceed it.
const SERIES_BYTES_MAX: usize = 128 << 10;

/// Whether a command may be done together with others on its key.
pub(super) fn may_lead(command: &Command, arguments: &[Bytes]) -> bool {
    command.is_write() && command.keys == KeyPositions::ONE && takes_part(command, arguments)
}

impl Connection {
    /// Begins a command on a key, whose arguments are `arguments`, together with those that have arrived right behind it and
    /// are on the same key.
    pub(super) fn begin_series(&mut self, entry: &Entry, first: Ticket, arguments: Vec<Bytes>) {
        let Some(key) = first.keys.first().cloned() else { return };
        let (tickets, followers) = self.take_followers(first, &key);
        let ticket = Ticket {
            keys: vec![key],
            is_write: true,
            commands: tickets.len(),
            bytes: tickets.iter().map(|ticket| ticket.bytes).sum(),
            ..Ticket::default()
        };
        let task = self.with_levels(entry, arguments, move |call| series(call, followers).boxed());
        self.pipeline.push(ticket, async move {
            let answers = task.await;
            let mut answers = answers.map(Vec::into_iter);
            let mut next = || match &mut answers {
                Ok(answers) => answers.next().unwrap_or_else(|| Failure::contended().into()),
                Err(failure) => failure.clone().into(),
            };
            Answer::Series(tickets.into_iter().map(|ticket| (ticket, next())).collect())
        });
    }

    /// Takes the requests that follow and are on this key: the tickets of all, and what is to be done besides the first.
    fn take_followers(&mut self, first: Ticket, key: &UsedKey) -> (Vec<Ticket>, Vec<Follower>) {
        let mut bytes = first.bytes;
        let (mut tickets, mut followers) = (vec![first], Vec::new());
        while tickets.len() < SERIES_MAX && bytes < SERIES_BYTES_MAX {
            let arrived = match self.input.next_request() {
                Ok(Some(arrived)) => arrived,
                Ok(None) => break,
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            };
            match self.follower(arrived, key) {
                Ok((ticket, follower)) => {
                    bytes += ticket.bytes;
                    tickets.push(ticket);
                    followers.push(follower);
                }
                Err(other) => {
                    self.waiting = Some(other);
                    break;
                }
            }
        }
        (tickets, followers)
    }

    /// A request as one that follows others on a key; gives it back if it is none.
    fn follower(&mut self, (arguments, reserved): Arrived, key: &UsedKey) -> Result<(Ticket, Follower), Arrived> {
        let shared = self.shared.clone();
        let is_follower = |entry: &Entry| {
            let keys = keys_of(&shared.registry, &entry.command, &arguments);
            let is_on_key = key.0 == self.session.database && keys == [&key.1];
            let is_allowed = self.check(entry, arguments.len()).is_ok();
            matches!(entry.run, Run::OnKey) && may_lead(&entry.command, &arguments) && is_on_key && is_allowed
        };
        let found = shared.catalogue.find_command(&arguments).filter(|(_, entry)| is_follower(entry));
        let Some((index, entry)) = found else { return Err((arguments, reserved)) };
        self.note_command(entry);
        let ticket = Ticket {
            keys: vec![key.clone()],
            is_write: true,
            may_add: may_add(&entry.command),
            started: Some(Instant::now()),
            bytes: arguments.iter().map(Bytes::len).sum(),
            reserved,
            ..self.ticket(Some(index))
        };
        Ok((ticket, Follower { command: entry.command, arguments }))
    }
}
