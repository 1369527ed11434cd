//! What clients make of the answers: they go into the histories, and what they show must be true.

use difuse_protocol::{
    RequestId,
    request::{Entry, ListEntry, Reply, RequestError},
};
use difuse_types::{Hash, Key, NodeId};

use crate::{
    Violation,
    clients::Aim,
    linearizability::{Answer, Call, NEVER_WRITTEN},
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
        if self.asked_for_view == Some((id, node)) {
            self.asked_for_view = None;
            self.is_view_settled = matches!(result, Ok(Reply::Ring(view)) if view.settled);
            return Ok(());
        }
        let Some(client) = self.clients.take_pending(id) else {
            return self.handle_leave_reply(node, result);
        };
        let Some(under_way) = self.clients.under_way(client).cloned() else { return Ok(()) };
        match result {
            Ok(reply) => {
                self.handle_success(client, under_way.aim, under_way.invoked_at, reply)?;
                self.finish_client(client);
            }
            Err(RequestError::Conflict { current }) => {
                self.handle_conflict(client, under_way.aim, under_way.invoked_at, current)?;
                self.finish_client(client);
            }
            Err(error) if error.is_transient() => {
                if let Some(under_way) = self.clients.under_way(client) {
                    under_way.is_open |= matches!(error, RequestError::Unknown { .. });
                }
                self.figures.errors += 1;
                self.end_without_answer(client);
            }
            Err(error) => return Err(Violation::WrongAnswer(format!("{:?} was answered with {error:?}", under_way))),
        }
        Ok(())
    }

    fn handle_success(&mut self, client: usize, aim: Aim, invoked_at: u64, reply: Reply) -> Result<(), Violation> {
        match (aim, reply) {
            (Aim::Write { history, operation, call }, Reply::Written { height, hash, .. }) => {
                let key = self.clients.histories[history].key.clone();
                let shown = self.show(&key, height, hash)?;
                if shown != operation {
                    let reason = format!("write {operation} was acknowledged with the hash of write {shown}");
                    return Err(Violation::WrongAnswer(reason));
                }
                self.clients.saw(client, history, hash);
                self.clients.record(client, history, call, Answer::Written, invoked_at);
            }
            (Aim::Read { history }, Reply::Entry(entry)) => {
                let key = self.clients.histories[history].key.clone();
                let last = self.show_entry(&key, entry.as_ref())?;
                if let Some(entry) = entry {
                    self.clients.saw(client, history, entry.hash);
                }
                self.clients.record(client, history, Call::Read, Answer::Last(last), invoked_at);
            }
            (Aim::List { histories }, Reply::List { entries, next: None }) => {
                self.handle_list(client, &histories, invoked_at, &entries)?;
            }
            (Aim::PutBlock { hash }, Reply::BlockPut { .. }) => self.blocks.acknowledge(hash),
            (Aim::ReadBlock { hash, must_be_there }, Reply::Block(bytes)) => {
                self.blocks.check_read(hash, bytes.as_ref(), must_be_there)?;
            }
            (aim, reply) => return Err(Violation::WrongAnswer(format!("{aim:?} was answered with {reply:?}"))),
        }
        Ok(())
    }

    fn handle_conflict(
        &mut self,
        client: usize,
        aim: Aim,
        invoked_at: u64,
        current: Option<(u64, Hash, bool)>,
    ) -> Result<(), Violation> {
        let Aim::Write { history, operation, call } = aim else {
            return Err(Violation::WrongAnswer(format!("{aim:?} was answered with a conflict")));
        };
        let key = self.clients.histories[history].key.clone();
        let last = match current {
            None => NEVER_WRITTEN,
            Some((height, hash, has_value)) => {
                let last = self.show(&key, height, hash)?;
                let written = self.clients.writes.get(&last);
                if written.is_none_or(|written| written.value.is_some() != has_value) {
                    return Err(Violation::WrongAnswer(format!(
                        "a conflict has the head {last} but value {has_value}"
                    )));
                }
                self.clients.saw(client, history, hash);
                last
            }
        };
        self.clients.refused.insert(operation);
        self.clients.record(client, history, call, Answer::Conflict(last), invoked_at);
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
            let answer = match entries.iter().find(|entry| entry.key == key) {
                Some(entry) => Answer::Last(self.show_entry(&key, Some(&entry.entry))?),
                None => Answer::NoValue,
            };
            self.clients.record(client, *history, Call::Read, answer, invoked_at);
        }
        Ok(())
    }

    /// A client saw this transaction as committed; gives the number of its write.
    fn show(&mut self, key: &Key, height: u64, hash: Hash) -> Result<u64, Violation> {
        self.chains.show(key, height, hash)?;
        let known = self.chains.known(&hash).filter(|known| known.height == height);
        known.map(|known| known.operation).ok_or_else(|| Violation::Unheard { key: key.clone(), height, hash })
    }

    fn show_entry(&mut self, key: &Key, entry: Option<&Entry>) -> Result<u64, Violation> {
        let Some(entry) = entry else { return Ok(NEVER_WRITTEN) };
        let operation = self.show(key, entry.height, entry.hash)?;
        let written = self.clients.writes.get(&operation);
        let value = entry.value.as_ref().map(|value| &value.bytes);
        if written.is_none_or(|written| written.key != *key || written.value.as_ref() != value) {
            return Err(Violation::WrongAnswer(format!("{key} was read as {entry:?}, write {operation} put another")));
        }
        Ok(operation)
    }
}
