//! Sessions: reads at weaker levels that never go back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use difuse_api::{
    Datastore,
    files::Files,
    request::{Reply, Request, RequestError},
};
use difuse_keylog::Ballot;
use difuse_types::{Level, SlotId};

use crate::Client;

/// A client whose reads at levels lazy and leader are never older than what it has read or written before: monotonic
/// reads, and read your writes (but for writes at level lazy, which have no place yet, and those at level leader that are
/// lost with their leader).
///
/// It keeps one mark per slot, the latest that it has seen; a replica that is behind it is passed over. Clones share it.
/// Made by [`Client::reading_session`].
#[derive(Clone)]
pub struct ReadingSession {
    client: Client,
    marks: Arc<Mutex<BTreeMap<SlotId, Ballot>>>,
}

/// What a session has seen, to go on from in another one: at most one mark per slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionToken(BTreeMap<SlotId, Ballot>);

impl ReadingSession {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, marks: Arc::default() }
    }

    /// What the session has seen so far.
    pub fn token(&self) -> SessionToken {
        SessionToken(self.marks().clone())
    }

    /// Reads of this session are not older than what the other one had seen, from now on.
    pub fn resume(&self, token: &SessionToken) {
        for (slot, mark) in &token.0 {
            self.note(*slot, Some(*mark));
        }
    }

    /// Files and directories, within the session.
    pub fn files(&self) -> Files<Self> {
        Files::new(self.clone())
    }

    fn note(&self, slot: SlotId, mark: Option<Ballot>) {
        let Some(mark) = mark else { return };
        let mut marks = self.marks();
        let known = marks.entry(slot).or_insert(mark);
        *known = (*known).max(mark);
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<SlotId, Ballot>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Datastore for ReadingSession {
    async fn call(&self, mut request: Request) -> Result<Reply, RequestError> {
        let slot = self.client.slot_of(&request).await;
        if let Request::Read { level: level @ (Level::Lazy | Level::Leader), seen, .. } = &mut request {
            match slot {
                Some(slot) => *seen = (*seen).max(self.marks().get(&slot).copied()),
                // Without knowing the slot there is no telling what was seen of it.
                None => *level = Level::Quorum,
            }
        }
        let reply = self.client.call(request).await?;
        if let (Some(slot), Reply::Entry(_) | Reply::Written { .. }) = (slot, &reply) {
            let mark = match &reply {
                Reply::Entry(reading) => reading.mark,
                Reply::Written { mark, .. } => *mark,
                _ => None,
            };
            self.note(slot, mark);
        }
        Ok(reply)
    }
}
