//! Typed questions to any datastore: each sends one request (unless it says otherwise) and takes its reply apart.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use difuse_keylog::{
    BrokenChain, Checkpoint, MAX_INLINE_BYTES, Operation, Step, StepCommand, Transaction, Value, verify_chain,
};
use difuse_protocol::request::{
    BlockLocated, Condition, DumpCursor, DumpItem, Entry, GIVEN_UP_MAX, ListEntry, Located, OperationOutcome, PAGE_MAX,
    Reading, Recovery, Reply, Request, RequestError, RingView, Routes, ScrubReport, Since,
};
use difuse_types::{Hash, Key, KeyPrefix, Level, NodeId, OperationId, SlotId, Slots, WallTime};

use crate::{Datastore, structures};

/// How soon a first attempt must lapse to be sent anew here: earlier than anybody gives up waiting and asks elsewhere.
const SENT_ANEW_WITHIN: Duration = Duration::from_secs(1);

/// Where a write came to stand in its key's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Height of the new transaction.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
    /// Whether the key had no value before.
    pub created: bool,
}

/// What a write of any level is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Submitted {
    /// It is applied.
    Written(Written),
    /// At level lazy: a node has it durably and sees to it; [`outcome`] tells what becomes of it.
    Queued(OperationId),
}

impl Submitted {
    /// Where it came to stand, if that is known already.
    pub fn written(&self) -> Option<&Written> {
        match self {
            Self::Written(written) => Some(written),
            Self::Queued(_) => None,
        }
    }
}

/// A part of a key's history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogPage {
    /// They follow each other, oldest first.
    pub transactions: Vec<Transaction>,
    /// Height of the committed head; 0 if the key was never written.
    pub head_height: u64,
}

/// A history that was verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Height of the last transaction; 0 for a key that was never written.
    pub height: u64,
    /// Its hash; zero for a key that was never written.
    pub hash: Hash,
    /// The checkpoint that it was verified from, if what is below was pruned; else it was verified from the first
    /// transaction.
    pub checkpoint: Option<Checkpoint>,
}

/// A part of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListPage {
    /// In the order of keys; only keys with values.
    pub entries: Vec<ListEntry>,
    /// Where the next page begins; `None` if nothing follows.
    pub next: Option<Key>,
}

/// A part of what a node holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DumpPage {
    /// The items.
    pub items: Vec<DumpItem>,
    /// Where the next page begins; `None` if nothing follows.
    pub next: Option<DumpCursor>,
}

/// Why a key's history does not verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A page of the log could not be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The transactions are no chain.
    #[error(transparent)]
    Broken(#[from] BrokenChain),
    /// What is said to be the checkpoint with which a pruned history begins is none.
    #[error("the history is said to begin with a checkpoint at height {height}, but that is none")]
    NoCheckpoint {
        /// Where it should be.
        height: u64,
    },
    /// The log ends before the head, or the chain does not end in the head that the key's group agrees on.
    #[error("the log ends at height {height} in {hash}, the key's head is at height {head_height} in {head_hash}")]
    OtherHead {
        /// Where the log ends.
        height: u64,
        /// The hash of its last transaction.
        hash: Hash,
        /// The head's height.
        head_height: u64,
        /// The head's hash.
        head_hash: Hash,
    },
}

/// Names one attempt at a write: a first one, or one that repeats an earlier one whose outcome is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// The write's, in all its attempts.
    pub operation_id: OperationId,
    /// Since when it may have been sent. Never [`Since::Now`] in a repeated one.
    pub since: Since,
}

impl Attempt {
    /// The first attempt at a write of this name, which nobody has used before, and nobody uses again before it is answered.
    pub fn first(operation_id: OperationId) -> Self {
        Self { operation_id, since: Since::Now }
    }

    /// The attempt that follows an error, if the error says that the write may be repeated so.
    pub fn after(error: &RequestError) -> Option<Self> {
        match error {
            RequestError::Unknown { operation_id, since } => {
                Some(Self { operation_id: *operation_id, since: (*since).into() })
            }
            RequestError::Lapsed { operation_id, now } => {
                Some(Self { operation_id: *operation_id, since: Since::After(*now) })
            }
            _ => None,
        }
    }
}

impl From<OperationId> for Attempt {
    /// The first attempt.
    fn from(operation_id: OperationId) -> Self {
        Self::first(operation_id)
    }
}

/// A new operation id, drawn at random: no two operations of any client share one.
pub fn new_operation_id() -> OperationId {
    OperationId(rand::random())
}

/// When a value that is written now expires if it lives for `ttl`; `None` if that is less than a millisecond, or never
/// comes. Counted by this machine's clock: it expires earlier or later elsewhere by as much as clocks differ.
pub fn deadline_after(ttl: Duration) -> Option<WallTime> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let ttl = Some(ttl).filter(|ttl| ttl.as_millis() > 0)?;
    u64::try_from(now.checked_add(ttl)?.as_millis()).ok().map(WallTime)
}

/// A value as it stands in a transaction; `None` if it is longer than [`MAX_INLINE_BYTES`] (see [`crate::values`]).
pub fn inline_value(bytes: Bytes) -> Option<Value> {
    (bytes.len() <= MAX_INLINE_BYTES).then_some(Value::inline(bytes))
}

/// The head of `key`; `None` if it was never written. A deleted key has a head without a value.
pub async fn read<D: Datastore + ?Sized>(datastore: &D, key: Key, level: Level) -> Result<Option<Entry>, RequestError> {
    Ok(reading(datastore, key, level).await?.entry)
}

/// The head of `key`, with how it stands to what else was committed.
pub async fn reading<D: Datastore + ?Sized>(datastore: &D, key: Key, level: Level) -> Result<Reading, RequestError> {
    match datastore.call(Request::Read { key, level, seen: None }).await? {
        Reply::Entry(reading) => Ok(reading),
        _ => Err(unexpected_reply()),
    }
}

/// Appends `operation` to the log of `key` if `condition` holds. After [`RequestError::Unknown`], call it again with
/// [`Attempt::after`]: it is applied once, or the answer is [`RequestError::Forgotten`]. At level lazy nothing is known yet when it returns: see [`submit`].
pub async fn write<D: Datastore + ?Sized>(
    datastore: &D,
    key: Key,
    operation: Operation,
    condition: Condition,
    attempt: impl Into<Attempt>,
    level: Level,
) -> Result<Written, RequestError> {
    if level == Level::Lazy {
        let reason = "a write at level lazy has no place in the log yet: submit it, and ask for its outcome";
        return Err(RequestError::Invalid(reason.into()));
    }
    match submit(datastore, key, operation, condition, attempt, level).await? {
        Submitted::Written(written) => Ok(written),
        Submitted::Queued(_) => Err(unexpected_reply()),
    }
}

/// The same at any level: at level lazy, a node has the write durably when this returns.
pub async fn submit<D: Datastore + ?Sized>(
    datastore: &D,
    key: Key,
    operation: Operation,
    condition: Condition,
    attempt: impl Into<Attempt>,
    level: Level,
) -> Result<Submitted, RequestError> {
    let Attempt { operation_id, since } = attempt.into();
    let request = |since| Request::Write {
        key: key.clone(),
        operation: operation.clone(),
        condition,
        operation_id,
        level,
        since,
    };
    let started = Instant::now();
    let outcome = match datastore.call(request(since)).await {
        // Its sender vouches that it was not sent before, and the leader that it was not applied. If that took long, the
        // sender may have asked elsewhere by now, and been refused: then it is for him to send it again.
        Err(RequestError::Lapsed { now, .. }) if since == Since::Unsent && started.elapsed() < SENT_ANEW_WITHIN => {
            datastore.call(request(Since::After(now))).await
        }
        outcome => outcome,
    };
    match outcome? {
        Reply::Written { height, hash, created, .. } => Ok(Submitted::Written(Written { height, hash, created })),
        Reply::Queued { operation_id } => Ok(Submitted::Queued(operation_id)),
        _ => Err(unexpected_reply()),
    }
}

/// What a command on a structure came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Evaluated {
    /// The reply.
    pub reply: structures::Reply,
    /// Height and hash of the transaction that was appended to the key's log, if one was.
    pub appended: Option<(u64, Hash)>,
}

/// Evaluates a command where `key` is led: its name, the key as the client names it, and what follows.
pub async fn command<D: Datastore + ?Sized>(
    datastore: &D,
    key: Key,
    arguments: Vec<Bytes>,
    attempt: impl Into<Attempt>,
    level: Level,
) -> Result<Evaluated, RequestError> {
    let Attempt { operation_id, since } = attempt.into();
    match datastore.call(Request::Command { key, arguments, operation_id, level, since }).await? {
        Reply::Command { reply, appended, .. } => {
            let reply = structures::Reply::decode(&reply).map_err(|error| RequestError::Invalid(error.to_string()))?;
            Ok(Evaluated { reply, appended })
        }
        _ => Err(unexpected_reply()),
    }
}

/// Evaluates commands on `key` where it is led, one after the other, as one request: the replies to as many of them as were
/// done, at least one. All that were done are applied, or none. Each is as for [`command`]; there are [`structures::SERIES_MAX`]
/// at most.
///
/// # Errors
/// As for [`command`] with the first one, if that cannot be done; nothing was done then.
pub async fn series<D: Datastore + ?Sized>(
    datastore: &D,
    key: Key,
    commands: Vec<Vec<Bytes>>,
    attempt: impl Into<Attempt>,
    level: Level,
) -> Result<Vec<structures::Reply>, RequestError> {
    let count = commands.len();
    match command(datastore, key, structures::in_series(commands), attempt, level).await?.reply {
        structures::Reply::Array(replies) if (1..=count).contains(&replies.len()) => Ok(replies),
        // They were applied, and what they came to is not known any more.
        error @ structures::Reply::Error(_) => Ok(vec![error; count]),
        _ => Err(unexpected_reply()),
    }
}

/// Does commands on keys of one slot as one step, all or none of them, if what is in `unchanged` holds: the reply to each;
/// `None` if it does not hold. `slots` are the ring's.
///
/// # Errors
/// [`RequestError::InBlocks`] if one of the keys has, or would get, a value that does not live in the log: then nothing is
/// done. Errors of single commands are replies, and the others are done all the same.
pub async fn step<D: Datastore + ?Sized>(
    datastore: &D,
    slots: Slots,
    commands: Vec<StepCommand>,
    unchanged: Vec<(Key, Condition)>,
    attempt: impl Into<Attempt>,
    level: Level,
) -> Result<Option<Vec<structures::Reply>>, RequestError> {
    let step = Step { unchanged, commands };
    let mut in_slots = step.keys().map(|key| slots.of_key(key));
    let slot = in_slots.next().ok_or_else(|| RequestError::Invalid("a step names a key at least".into()))?;
    if in_slots.any(|other| other != slot) {
        return Err(RequestError::Invalid("the keys of a step lie in one slot: give them one hash tag, {…}".into()));
    }
    drop(in_slots);
    match command(datastore, Key::of_steps(slot), step.to_arguments(), attempt, level).await?.reply {
        structures::Reply::Array(replies) => Ok(Some(replies)),
        structures::Reply::Null => Ok(None),
        structures::Reply::Error(text) => Err(RequestError::Invalid(text)),
        _ => Err(unexpected_reply()),
    }
}

/// What became of a write at level lazy; `None` if no node knows of it: it was never queued, or was decided long ago.
pub async fn outcome<D: Datastore + ?Sized>(
    datastore: &D,
    operation_id: OperationId,
) -> Result<Option<OperationOutcome>, RequestError> {
    match datastore.call(Request::Operation { operation_id }).await? {
        Reply::Operation(outcome) => Ok(outcome),
        _ => Err(unexpected_reply()),
    }
}

/// Gives `key` the value `bytes`, at most [`MAX_INLINE_BYTES`] long.
pub async fn set<D: Datastore + ?Sized>(
    datastore: &D,
    key: Key,
    bytes: Bytes,
    level: Level,
) -> Result<Written, RequestError> {
    compare_and_set(datastore, key, bytes, Condition::None, level).await
}

/// Gives `key` the value `bytes`, at most [`MAX_INLINE_BYTES`] long, if `condition` holds.
pub async fn compare_and_set<D: Datastore + ?Sized>(
    datastore: &D,
    key: Key,
    bytes: Bytes,
    condition: Condition,
    level: Level,
) -> Result<Written, RequestError> {
    let length = bytes.len();
    let value = inline_value(bytes).ok_or_else(|| too_long(length))?;
    write(datastore, key, Operation::Set(value), condition, new_operation_id(), level).await
}

/// Deletes `key`: `None` if it had no value. The history stays.
pub async fn delete<D: Datastore + ?Sized>(
    datastore: &D,
    key: Key,
    level: Level,
) -> Result<Option<Written>, RequestError> {
    let written = write(datastore, key, Operation::Delete, Condition::Present, new_operation_id(), level).await;
    match written {
        Err(RequestError::Conflict { .. }) => Ok(None),
        written => written.map(Some),
    }
}

/// A part of the history of `key` from `from_height` (from 1), at most `limit` (at most [`PAGE_MAX`]) transactions.
/// [`RequestError::Pruned`] names the checkpoint with which the history begins if it is kept no further down.
pub async fn log<D: Datastore + ?Sized>(
    datastore: &D,
    key: Key,
    from_height: u64,
    limit: u32,
) -> Result<LogPage, RequestError> {
    match datastore.call(Request::Log { key, from_height, limit }).await? {
        Reply::Log { transactions, head_height } => Ok(LogPage { transactions, head_height }),
        _ => Err(unexpected_reply()),
    }
}

/// The first page of the history of `key` as far as it is kept: from the first transaction, or from a checkpoint, which
/// comes with it, if what is below was pruned.
pub async fn kept_log<D: Datastore + ?Sized>(
    datastore: &D,
    key: Key,
    limit: u32,
) -> Result<(Option<Checkpoint>, LogPage), RequestError> {
    let mut base: Option<Checkpoint> = None;
    loop {
        let from_height = base.map_or(1, |base| base.height);
        match log(datastore, key.clone(), from_height, limit).await {
            // It may have been pruned further since it was asked for.
            Err(RequestError::Pruned(checkpoint)) if checkpoint.height > from_height => base = Some(checkpoint),
            page => return page.map(|page| (base, page)),
        }
    }
}

/// Reads the history of `key` page by page as far as it is kept, recomputes every hash and compares the last one with
/// the head that the group agrees on.
pub async fn verify<D: Datastore + ?Sized>(datastore: &D, key: Key) -> Result<Verified, VerifyError> {
    let head = read(datastore, key.clone(), Level::Quorum).await?;
    let (head_height, head_hash) = head.map_or((0, Hash::ZERO), |entry| (entry.height, entry.hash));
    let (mut height, mut hash, mut checkpoint) = (0, Hash::ZERO, None);
    while height < head_height {
        let limit = u32::try_from(head_height - height).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let page = match log(datastore, key.clone(), height + 1, limit).await {
            // Pruned before this call, or under it: begin anew where the history does.
            Err(RequestError::Pruned(base)) if base.height > height + 1 => {
                (hash, checkpoint) = (verify_checkpoint(datastore, &key, base).await?, Some(base));
                height = base.height;
                continue;
            }
            page => page?,
        };
        // A page may reach beyond the head read above: what came later is not this call's business.
        let wanted: Vec<_> = page.transactions.into_iter().take_while(|one| one.height <= head_height).collect();
        if wanted.is_empty() {
            break;
        }
        hash = verify_chain(&key, (height, hash), &wanted)?;
        height += wanted.len() as u64;
    }
    // A history may have been pruned beyond the head read above: then that is not there any more.
    let has_moved_on = checkpoint.is_some_and(|checkpoint| checkpoint.height > head_height);
    if (height, hash) == (head_height, head_hash) || has_moved_on {
        Ok(Verified { height, hash, checkpoint })
    } else {
        Err(VerifyError::OtherHead { height, hash, head_height, head_hash })
    }
}

/// Checks that the history begins with the checkpoint that it is said to begin with; gives its hash.
async fn verify_checkpoint<D: Datastore + ?Sized>(
    datastore: &D,
    key: &Key,
    base: Checkpoint,
) -> Result<Hash, VerifyError> {
    let page = log(datastore, key.clone(), base.height, 1).await?;
    let first = page.transactions.first().filter(|first| first.checkpoint == Some(base.state));
    let Some(first) = first else { return Err(VerifyError::NoCheckpoint { height: base.height }) };
    let hash = verify_chain(key, (base.height - 1, first.previous), &page.transactions[..1])?;
    if hash == base.hash { Ok(hash) } else { Err(VerifyError::NoCheckpoint { height: base.height }) }
}

/// Keys with values whose encoding begins with `prefix`, after the key `after`, at most `limit` (at most
/// [`PAGE_MAX`]); `slot` where all of them live in one.
pub async fn list<D: Datastore + ?Sized>(
    datastore: &D,
    prefix: KeyPrefix,
    after: Option<Key>,
    limit: u32,
    slot: Option<SlotId>,
) -> Result<ListPage, RequestError> {
    match datastore.call(Request::List { prefix, after, limit, slot }).await? {
        Reply::List { entries, next } => Ok(ListPage { entries, next }),
        _ => Err(unexpected_reply()),
    }
}

/// Who leads the slot of `key` and what each member holds of it.
pub async fn locate<D: Datastore + ?Sized>(datastore: &D, key: Key) -> Result<Located, RequestError> {
    match datastore.call(Request::Locate { key }).await? {
        Reply::Located(located) => Ok(located),
        _ => Err(unexpected_reply()),
    }
}

/// The ring as the node that answers sees it.
pub async fn ring<D: Datastore + ?Sized>(datastore: &D) -> Result<RingView, RequestError> {
    match datastore.call(Request::Ring).await? {
        Reply::Ring(view) => Ok(*view),
        _ => Err(unexpected_reply()),
    }
}

/// Who leads each slot.
pub async fn routes<D: Datastore + ?Sized>(datastore: &D) -> Result<Routes, RequestError> {
    match datastore.call(Request::Routes).await? {
        Reply::Routes(routes) => Ok(*routes),
        _ => Err(unexpected_reply()),
    }
}

/// Plans the leave of the node that answers; done when it holds nothing more that others need.
pub async fn leave<D: Datastore + ?Sized>(datastore: &D) -> Result<(), RequestError> {
    match datastore.call(Request::Leave).await? {
        Reply::Done => Ok(()),
        _ => Err(unexpected_reply()),
    }
}

/// How the present or last pass of the node that answers over its disk stands; begins one if `start`, unless one that was
/// asked for is under way.
pub async fn scrub<D: Datastore + ?Sized>(datastore: &D, start: bool) -> Result<ScrubReport, RequestError> {
    match datastore.call(Request::Scrub { start }).await? {
        Reply::Scrub(report) => Ok(*report),
        _ => Err(unexpected_reply()),
    }
}

/// The slots of the whole ring that lost their majority for ever, as far as the node that answers can find out, and the hosts
/// that an operator has to give up besides. With `given_up`, the nodes
/// that an operator declares to be lost for ever, slots that lack no others begin anew with their survivors, and such of
/// these nodes as do not answer are given up. Several requests, one after the other.
pub async fn recover<D: Datastore + ?Sized>(
    datastore: &D,
    given_up: Option<BTreeSet<NodeId>>,
) -> Result<Recovery, RequestError> {
    if let Some(count) = given_up.as_ref().map(BTreeSet::len).filter(|count| *count > GIVEN_UP_MAX) {
        return Err(RequestError::Invalid(format!(
            "{count} nodes are given up at once, at most {GIVEN_UP_MAX} can be"
        )));
    }
    let mut all = Recovery { slots: Vec::new(), unreached: BTreeSet::new(), next: None };
    let mut first = Some(SlotId(0));
    while let Some(page) = first {
        match datastore.call(Request::Recover { first: page, given_up: given_up.clone() }).await? {
            Reply::Recovery(recovery) => {
                all.slots.extend(recovery.slots);
                all.unreached.extend(recovery.unreached);
                // Always onwards, whatever the answer says.
                first = recovery.next.filter(|next| *next > page);
            }
            _ => return Err(unexpected_reply()),
        }
    }
    Ok(all)
}

/// A part of what the node that answers holds, after `after`, at most `limit` (at most [`PAGE_MAX`]) items.
pub async fn dump<D: Datastore + ?Sized>(
    datastore: &D,
    after: Option<DumpCursor>,
    limit: u32,
) -> Result<DumpPage, RequestError> {
    match datastore.call(Request::Dump { after, limit }).await? {
        Reply::Dump { items, next } => Ok(DumpPage { items, next }),
        _ => Err(unexpected_reply()),
    }
}

/// What each member of the slot of the block `hash` holds of it.
pub async fn locate_block<D: Datastore + ?Sized>(datastore: &D, hash: Hash) -> Result<BlockLocated, RequestError> {
    match datastore.call(Request::LocateBlock { hash }).await? {
        Reply::BlockLocated(located) => Ok(located),
        _ => Err(unexpected_reply()),
    }
}

/// The error for a reply of another kind than the request asks for: the peer runs another version, or lies.
pub fn unexpected_reply() -> RequestError {
    RequestError::NotServing("it answered another question than was asked".into())
}

fn too_long(length: usize) -> RequestError {
    RequestError::Invalid(format!(
        "the value is {length} bytes long, at most {MAX_INLINE_BYTES} live in a transaction: store it as blocks"
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_protocol::request::{Condition, GIVEN_UP_MAX, Reply, Request, RequestError, Since};
    use difuse_types::{Hash, Key, Level, NodeId};
    use futures::executor::block_on;

    use super::{
        Attempt, Verified, VerifyError, compare_and_set, delete, inline_value, kept_log, log, new_operation_id, read,
        recover, set, submit, verify, write,
    };
    use crate::{
        keylog::{Anchor, Ballot, Checkpoint, Operation, Term},
        testing::FakeDatastore,
    };

    fn key() -> Key {
        Key::new(b"k").unwrap()
    }

    #[test]
    fn compare_and_set_names_the_head() {
        block_on(async {
            let datastore = FakeDatastore::new();
            let first = set(&datastore, key(), "1".into(), Level::Quorum).await.unwrap();
            assert!(first.created);
            let next = |condition| compare_and_set(&datastore, key(), "2".into(), condition, Level::Quorum);
            assert_eq!(
                next(Condition::Absent).await,
                Err(RequestError::Conflict { current: Some((1, first.hash, true)) })
            );
            let second = next(Condition::Head(first.hash)).await.unwrap();
            assert_eq!((second.height, second.created), (2, false));
            assert!(next(Condition::Head(first.hash)).await.is_err());
        });
    }

    /// A longer list would be no message that a node takes.
    #[test]
    fn more_nodes_than_one_message_names_are_not_given_up_at_once() {
        let node = |number: u64| NodeId(*Hash::of(&number.to_le_bytes()).as_bytes());
        let given_up = (0..=GIVEN_UP_MAX as u64).map(node).collect();
        let refused = block_on(recover(&FakeDatastore::new(), Some(given_up)));
        assert_eq!(refused, Err(RequestError::Invalid("8193 nodes are given up at once, at most 8192 can be".into())));
    }

    #[test]
    fn a_retry_with_the_same_operation_id_is_applied_once() {
        block_on(async {
            let datastore = FakeDatastore::new();
            let id = new_operation_id();
            let operation = Operation::Set(inline_value("v".into()).unwrap());
            let once = || write(&datastore, key(), operation.clone(), Condition::Absent, id, Level::Quorum);
            assert_eq!(once().await.unwrap(), once().await.unwrap());
            assert_eq!(log(&datastore, key(), 1, 10).await.unwrap().head_height, 1);
        });
    }

    #[test]
    fn a_deleted_key_keeps_its_history() {
        block_on(async {
            let datastore = FakeDatastore::new();
            assert_eq!(delete(&datastore, key(), Level::Quorum).await, Ok(None));
            set(&datastore, key(), "1".into(), Level::Quorum).await.unwrap();
            assert_eq!(delete(&datastore, key(), Level::Quorum).await.unwrap().unwrap().height, 2);
            assert_eq!(read(&datastore, key(), Level::Quorum).await.unwrap().unwrap().value, None);
            assert_eq!(log(&datastore, key(), 1, 10).await.unwrap().transactions.len(), 2);
        });
    }

    #[test]
    fn a_history_verifies_until_it_is_tampered_with() {
        block_on(async {
            let datastore = FakeDatastore::new();
            let nothing = Verified { height: 0, hash: Hash::ZERO, checkpoint: None };
            assert_eq!(verify(&datastore, key()).await, Ok(nothing));
            for value in 0..2500 {
                set(&datastore, key(), value.to_string().into(), Level::Quorum).await.unwrap();
            }
            assert_eq!(verify(&datastore, key()).await.unwrap().height, 2500);
            datastore.tamper_with(&key(), 1500);
            assert!(matches!(verify(&datastore, key()).await, Err(VerifyError::Broken(_))));
        });
    }

    #[test]
    fn a_pruned_history_verifies_from_its_checkpoint() {
        block_on(async {
            let datastore = FakeDatastore::new();
            for value in 0..250 {
                set(&datastore, key(), value.to_string().into(), Level::Quorum).await.unwrap();
            }
            let whole = log(&datastore, key(), 1, 1000).await.unwrap().transactions;
            datastore.prune(&key(), 200);
            let Err(RequestError::Pruned(base)) = log(&datastore, key(), 199, 10).await else { panic!("not pruned") };
            let first = &whole[199];
            let state = first.operation.state_hash().unwrap();
            assert_eq!(base, Checkpoint { height: 200, hash: first.hash(), state });
            let (found, page) = kept_log(&datastore, key(), 10).await.unwrap();
            assert_eq!((found, &page.transactions[..]), (Some(base), &whole[199..209]));
            let hash = whole[249].hash();
            let verified = verify(&datastore, key()).await;
            assert_eq!(verified, Ok(Verified { height: 250, hash, checkpoint: Some(base) }));
            datastore.tamper_with(&key(), 220);
            assert!(matches!(verify(&datastore, key()).await, Err(VerifyError::Broken(_))));
        });
    }

    /// Answers no sooner than a sender may have asked elsewhere.
    struct Late(FakeDatastore);

    #[async_trait::async_trait]
    impl crate::Datastore for Late {
        async fn call(&self, request: Request) -> Result<Reply, RequestError> {
            std::thread::sleep(super::SENT_ANEW_WITHIN);
            self.0.call(request).await
        }
    }

    #[test]
    fn a_first_attempt_that_lapses_late_is_left_to_its_sender() {
        block_on(async {
            let (operation_id, ballot) = (new_operation_id(), Ballot { term: Term::start_of(1), sequence: 3 });
            let lapsed = RequestError::Lapsed { operation_id, now: Anchor { ballot, height: 0 } };
            let attempt = Attempt { operation_id, since: Since::Unsent };
            let datastore = Late(FakeDatastore::new());
            datastore.0.fail_next(lapsed.clone());
            let set = Operation::Set(inline_value(Bytes::from_static(b"v")).unwrap());
            let late = submit(&datastore, key(), set.clone(), Condition::Absent, attempt, Level::Quorum).await;
            assert_eq!(late, Err(lapsed.clone()));
            datastore.0.fail_next(lapsed);
            let soon = submit(&datastore.0, key(), set, Condition::Absent, attempt, Level::Quorum).await;
            assert_eq!(soon.unwrap().written().map(|written| written.height), Some(1));
        });
    }

    #[test]
    fn values_that_are_too_long_are_refused() {
        block_on(async {
            let long = Bytes::from(vec![0; crate::keylog::MAX_INLINE_BYTES + 1]);
            let refused = set(&FakeDatastore::new(), key(), long, Level::Quorum).await;
            assert!(matches!(refused, Err(RequestError::Invalid(_))), "{refused:?}");
        });
    }
}
