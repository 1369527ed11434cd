//! What clients make of the answers: they go into the histories, and what they show must be true.

use difuse_keylog::Ballot;
use difuse_protocol::{
    RequestId,
    request::{Entry, ListEntry, Reading, Reply, RequestError},
};
use difuse_types::{Hash, Key, Level, NodeId};

use crate::{
    Violation,
    clients::{Aim, UnderWay},
    linearizability::{Answer, Call, Demand, NEVER_WRITTEN, WriteId},
    simulation::Simulation,
};

impl Simulation {
    pub(crate) fn handle_reply(
        &mut self,
        node: NodeId,
        id: RequestId,
        result: Result<Reply, RequestError>,
    ) -> Result<(), Violation> {
        self.trace.line(self.now, || format!("{node:?} answers request {id}: {result:?}"));
        if let Some(answer) = self.asked_by_script.get_mut(&id) {
            *answer = Some(result);
            return Ok(());
        }
        if self.asked_for_view == Some((id, node)) {
            self.asked_for_view = None;
            self.is_view_settled = matches!(result, Ok(Reply::Ring(view)) if view.settled);
            return Ok(());
        }
        if self.pairs.is_asked_by(id) {
            return self.handle_pair_reply(id, result);
        }
        if self.errands.are_asked_by(id) {
            return self.handle_errand_reply(id, result);
        }
        if let Some(write) = self.bursts.take(id) {
            return self.handle_burst_reply(write, result);
        }
        if let Some(asked) = self.disasters.take(id) {
            return self.handle_recovery(asked, result);
        }
        let Some(client) = self.clients.take_pending(id) else {
            return self.handle_leave_reply(node, result);
        };
        let Some(under_way) = self.clients.under_way(client).cloned() else { return Ok(()) };
        match result {
            Ok(reply) => {
                let is_weak = under_way.is_weak();
                self.handle_success(client, under_way.aim, under_way.invoked_at, is_weak, reply)?;
                self.finish_client(client);
            }
            Err(RequestError::Conflict { current }) => {
                self.handle_conflict(client, &under_way, current)?;
                self.finish_client(client);
            }
            Err(RequestError::NotAll { is_applied, written, .. }) => {
                self.handle_not_all(client, under_way, is_applied, written)?;
            }
            Err(RequestError::Full { .. }) => self.handle_not_all(client, under_way, false, None)?,
            // An attempt was lost, of the client's or of its node's.
            Err(RequestError::Forgotten { .. }) => {
                self.figures.forgotten += 1;
                if let Aim::Write { history, call, .. } = under_way.aim {
                    self.clients.record(client, history, call, Answer::Unknown, under_way.invoked_at, None);
                }
                self.finish_client(client);
            }
            Err(error) if error.is_transient() => {
                match (self.clients.under_way(client), &error) {
                    (Some(under_way), RequestError::Unknown { since, .. }) => under_way.open(*since),
                    (Some(under_way), RequestError::Lapsed { now, .. }) => under_way.begin_anew(*now),
                    _ => {}
                }
                self.figures.errors += 1;
                self.end_without_answer(client);
            }
            Err(error) => return Err(Violation::WrongAnswer(format!("{:?} was answered with {error:?}", under_way))),
        }
        Ok(())
    }

    fn handle_success(
        &mut self,
        client: usize,
        aim: Aim,
        invoked_at: u64,
        is_weak: bool,
        reply: Reply,
    ) -> Result<(), Violation> {
        match (aim, reply) {
            // It is not committed yet: it may be lost with the leader, or refused later.
            (Aim::Write { history, call, level: Level::Leader, .. }, Reply::Written { .. })
            | (Aim::Write { history, call, level: Level::Lazy, .. }, Reply::Queued { .. }) => {
                self.clients.record(client, history, call, Answer::Unknown, invoked_at, None);
            }
            (Aim::Write { history, operation, call, .. }, Reply::Written { height, hash, mark, .. }) => {
                let key = self.clients.histories[history].key.clone();
                let recovery = self.answered_under(&key, mark, invoked_at);
                let shown = self.show(&key, height, hash, recovery)?;
                if shown != operation {
                    let reason = format!("write {operation} was acknowledged with the hash of write {shown}");
                    return Err(Violation::WrongAnswer(reason));
                }
                self.clients.saw(client, history, hash);
                let certain = self.answered_under(&key, None, invoked_at);
                self.clients.saw_in_session(client, history, height, mark, certain);
                self.clients.record(client, history, call, Answer::Written, invoked_at, recovery);
            }
            (
                Aim::Read { history, least_height, seen_under },
                Reply::Entry(Reading { entry, is_linearizable, mark }),
            ) => {
                let key = self.clients.histories[history].key.clone();
                let certain = self.answered_under(&key, None, invoked_at);
                let recovery = self.answered_under(&key, mark, invoked_at);
                let last = self.show_entry(&key, entry.as_ref(), recovery)?;
                let height = entry.as_ref().map_or(0, |entry| entry.height);
                if height < least_height && certain == Some(seen_under) {
                    let reason =
                        format!("a session that has seen height {least_height} of {key} reads height {height}");
                    return Err(Violation::WrongAnswer(reason));
                }
                if let Some(entry) = entry {
                    self.clients.saw(client, history, entry.hash);
                    self.clients.saw_in_session(client, history, height, mark, certain);
                }
                if is_linearizable {
                    self.clients.record(client, history, Call::Read, Answer::Last(last), invoked_at, recovery);
                } else if !is_weak {
                    return Err(Violation::WrongAnswer("a read at quorum or all is not linearizable".into()));
                }
            }
            (Aim::List { mut histories }, Reply::List { entries, next }) => {
                // Of a ring with more keys than a page has, this is the first page.
                let is_on_page =
                    |history: &usize| next.as_ref().is_none_or(|next| self.clients.histories[*history].key <= *next);
                histories.retain(is_on_page);
                self.handle_list(client, &histories, invoked_at, &entries)?;
            }
            (Aim::PutBlock { hash, is_safe }, Reply::BlockPut { .. }) => {
                let slot = self.plan.settings.slots.of_block(&hash);
                if is_safe && self.recoveries.certain(slot, invoked_at).is_some() {
                    self.blocks.acknowledge(hash);
                }
            }
            (Aim::ReadBlock { hash, must_be_there }, Reply::Block(bytes)) => {
                // Since it was asked for, a recovery may have done without it; or it is another recovery that answers.
                let slot = self.plan.settings.slots.of_block(&hash);
                let is_certain = self.recoveries.certain(slot, invoked_at).is_some();
                let must_be_there = must_be_there && is_certain && self.blocks.acknowledged().contains(&hash);
                self.blocks.check_read(hash, bytes.as_ref(), must_be_there)?;
            }
            (aim, reply) => return Err(Violation::WrongAnswer(format!("{aim:?} was answered with {reply:?}"))),
        }
        Ok(())
    }

    /// Level all was asked for in vain, or a disk is full: a write is applied or not, and the answer says which.
    fn handle_not_all(
        &mut self,
        client: usize,
        under_way: UnderWay,
        is_applied: bool,
        written: Option<(u64, Hash)>,
    ) -> Result<(), Violation> {
        self.figures.errors += 1;
        if let Aim::Write { history, operation, call, .. } = under_way.aim {
            match written {
                Some((height, hash)) => {
                    let key = self.clients.histories[history].key.clone();
                    let recovery = self.answered_under(&key, None, under_way.invoked_at);
                    if self.show(&key, height, hash, recovery)? != operation {
                        return Err(Violation::WrongAnswer(format!("write {operation} is told applied as {hash:?}")));
                    }
                    self.clients.record(client, history, call, Answer::Written, under_way.invoked_at, recovery);
                }
                None if is_applied => {
                    return Err(Violation::WrongAnswer(format!(
                        "write {operation} is applied, and it is not told where"
                    )));
                }
                // An earlier attempt may be on its way.
                None if under_way.is_open => {
                    self.clients.record(client, history, call, Answer::Unknown, under_way.invoked_at, None);
                }
                None => self.end_not_done(client, history, operation, call, under_way.invoked_at),
            }
        }
        self.finish_client(client);
        Ok(())
    }

    /// The client was told that no attempt to write has done anything, or can any more. By members that go back to a
    /// recovery: it may have been done before, and seen, and be lost with that. By others: a survivor of a recovery may hold
    /// what a leader had begun, and have lost who told that it is not done.
    pub(crate) fn end_not_done(&mut self, client: usize, history: usize, operation: u64, call: Call, asked_at: u64) {
        let recovery = self.answered_under(&self.clients.histories[history].key, None, asked_at);
        self.clients.record(client, history, call, Answer::NotDone, asked_at, recovery);
        self.note_refused(history, operation, asked_at);
    }

    fn handle_conflict(
        &mut self,
        client: usize,
        under_way: &UnderWay,
        current: Option<(u64, Hash, bool)>,
    ) -> Result<(), Violation> {
        let Aim::Write { history, operation, mut call, .. } = under_way.aim else {
            return Err(Violation::WrongAnswer(format!("{under_way:?} was answered with a conflict")));
        };
        let invoked_at = under_way.invoked_at;
        let key = self.clients.histories[history].key.clone();
        let recovery = self.answered_under(&key, None, invoked_at);
        let last = match current {
            None => NEVER_WRITTEN,
            Some((height, hash, has_value)) => {
                let last = self.show(&key, height, hash, recovery)?;
                let has_put_value = match last {
                    NEVER_WRITTEN => Some(false),
                    _ => self.clients.writes.get(&last).map(|written| written.value.is_some()),
                };
                if has_put_value != Some(has_value) {
                    return Err(Violation::WrongAnswer(format!(
                        "a conflict has the head {last} but value {has_value}"
                    )));
                }
                self.clients.saw(client, history, hash);
                if self.recoveries.is_recovered(self.plan.settings.slots.of_key(&key))
                    && under_way.follows_another(hash)
                {
                    call = after_a_lost_head(call, last);
                }
                last
            }
        };
        self.note_refused(history, operation, invoked_at);
        self.clients.record(client, history, call, Answer::Conflict(last), invoked_at, recovery);
        Ok(())
    }

    /// A list is a read of each key.
    fn handle_list(
        &mut self,
        client: usize,
        histories: &[usize],
        invoked_at: u64,
        entries: &[ListEntry],
    ) -> Result<(), Violation> {
        let are_ordered = entries.is_sorted_by(|one, next| one.key < next.key);
        if !are_ordered || entries.iter().any(|entry| entry.entry.value.is_none()) {
            return Err(Violation::WrongAnswer(format!(
                "a listing is out of order, or lists deleted keys: {entries:?}"
            )));
        }
        for history in histories {
            let key = self.clients.histories[*history].key.clone();
            let recovery = self.answered_under(&key, None, invoked_at);
            let answer = match entries.iter().find(|entry| entry.key == key) {
                Some(entry) => Answer::Last(self.show_entry(&key, Some(&entry.entry), recovery)?),
                None => Answer::NoValue,
            };
            self.clients.record(client, *history, Call::Read, answer, invoked_at, recovery);
        }
        Ok(())
    }

    /// The recovery of a key's slot under which an answer with this mark was given; `None` if that is not certain.
    pub(crate) fn answered_under(&self, key: &Key, mark: Option<Ballot>, asked_at: u64) -> Option<Hash> {
        let slot = self.plan.settings.slots.of_key(key);
        // What was accepted before a recovery may be read after it, with the ballot of before: also after another one.
        let marked = || mark.and_then(|mark| self.recoveries.of_last_epoch(slot, mark.term.epoch));
        self.recoveries.certain(slot, asked_at).or_else(|| marked().filter(|recovery| *recovery != Hash::ZERO))
    }

    /// A client was told that its write changed nothing; a recovery may do without whoever told it.
    pub(crate) fn note_refused(&mut self, history: usize, operation: u64, asked_at: u64) {
        let slot = self.plan.settings.slots.of_key(&self.clients.histories[history].key);
        if self.recoveries.certain(slot, asked_at).is_some() {
            self.clients.refused.insert(operation);
        }
    }

    /// A client saw this transaction as committed, under a recovery if that is certain; gives the number of its write.
    pub(crate) fn show(
        &mut self,
        key: &Key,
        height: u64,
        hash: Hash,
        recovery: Option<Hash>,
    ) -> Result<u64, Violation> {
        if let Some(recovery) = recovery {
            self.chains.show(key, height, hash, recovery)?;
        }
        let known = self.chains.known(&hash).filter(|known| known.height == height);
        known.map(|known| known.operation).ok_or_else(|| Violation::Unheard { key: key.clone(), height, hash })
    }

    fn show_entry(&mut self, key: &Key, entry: Option<&Entry>, recovery: Option<Hash>) -> Result<u64, Violation> {
        let Some(entry) = entry else { return Ok(NEVER_WRITTEN) };
        let operation = self.show(key, entry.height, entry.hash, recovery)?;
        if operation == NEVER_WRITTEN && entry.value.is_none() {
            return Ok(operation);
        }
        let written = self.clients.writes.get(&operation);
        let value = entry.value.as_ref().map(|value| &value.bytes);
        if written.is_none_or(|written| written.key != *key || written.value.as_ref() != value) {
            return Err(Violation::WrongAnswer(format!("{key} was read as {entry:?}, write {operation} put another")));
        }
        Ok(operation)
    }
}

/// A write that was refused for a head that this other write made, and that is not the one that it was to follow. If the same
/// write had made that, a recovery has lost it, and it was done again: the condition cannot come true any more.
fn after_a_lost_head(call: Call, last: WriteId) -> Call {
    match call {
        Call::Write { id, demand: Demand::Last(before), has_value } if before == last => {
            Call::Write { id, demand: Demand::Never, has_value }
        }
        call => call,
    }
}

#[cfg(test)]
mod tests {
    use super::after_a_lost_head;
    use crate::linearizability::{Answer, Call, Demand, Operation, is_linearizable};

    #[test]
    fn a_write_after_a_head_that_was_lost_is_refused_though_its_write_was_done_again() {
        let check = |call: Call| {
            let first = Call::Write { id: 1, demand: Demand::None, has_value: true };
            let history = [(first, Answer::Written, 0, 1), (call, Answer::Conflict(1), 2, 3)];
            let operation = |(call, answer, invoked_at, completed_at)| Operation {
                client: 0,
                call,
                answer,
                invoked_at,
                completed_at,
            };
            is_linearizable(&history.map(operation), false)
        };
        let second = Call::Write { id: 2, demand: Demand::Last(1), has_value: true };
        assert!(!check(second));
        assert!(check(after_a_lost_head(second, 1)));
        assert_eq!(after_a_lost_head(second, 3), second);
    }
}
