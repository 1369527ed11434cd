//! What clients ask of a peer, and what it answers: the same on a node, between nodes and from an SDK.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use difuse_blocks::BlockRecord;
pub use difuse_keylog::{Anchor, Condition};
use difuse_keylog::{Ballot, Checkpoint, Configuration, Operation, Transaction, Value};
use difuse_ring::HostState;
use difuse_types::{Hash, Host, Key, KeyPrefix, Level, NodeId, OperationId, RingSettings, SlotId, WallTime};

mod recovery;
mod since;
mod usage;

pub use recovery::{GIVEN_UP_MAX, LostSlot, RECOVERY_PAGE, Recovery, SlotSurvey, Survivor};
pub use since::Since;
pub use usage::{NamespaceUsage, Quota, Usage, UsagePage};

/// The most entries in one page of a listing, a log or a dump.
pub const PAGE_MAX: u32 = 1000;

/// The most arguments of a command.
pub const ARGUMENTS_MAX: usize = 16_384;
/// The most bytes of a command's arguments in all.
pub const ARGUMENT_BYTES_MAX: usize = 1 << 20;

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// The head of a key. Answer: [`Reply::Entry`].
    Read {
        /// The key.
        key: Key,
        /// Who stands behind the answer.
        level: Level,
        /// At weaker levels: the mark of an earlier answer about the key's slot; the answer is not older than that one.
        seen: Option<Ballot>,
    },
    /// Appends to a key's log. Answer: [`Reply::Written`], or [`Reply::Queued`] at level lazy; [`RequestError::Conflict`] if the
    /// condition fails; [`RequestError::Forgotten`] if nobody can tell any more whether it was applied before.
    Write {
        /// The key.
        key: Key,
        /// What to do.
        operation: Operation,
        /// What must hold.
        condition: Condition,
        /// Names the write, so that a retry is applied once.
        operation_id: OperationId,
        /// Who stands behind the answer.
        level: Level,
        /// Since when it may have been sent.
        since: Since,
    },
    /// Evaluates a command on what a key holds, where the key is led, and appends what it comes to. Answer:
    /// [`Reply::Command`]; [`RequestError::InBlocks`] if the value does not live in the log.
    Command {
        /// The key.
        key: Key,
        /// The command's name, the key as the client names it, and what follows: at most [`ARGUMENTS_MAX`], of
        /// [`ARGUMENT_BYTES_MAX`] in all.
        arguments: Vec<Bytes>,
        /// Names the command, so that a retry is applied once; decides its random choices.
        operation_id: OperationId,
        /// Who stands behind the answer. Level lazy is served like leader: there is no answer before there is a place in
        /// the log.
        level: Level,
        /// Since when it may have been sent.
        since: Since,
    },
    /// What became of a write at level lazy. Answer: [`Reply::Operation`].
    Operation {
        /// The write's.
        operation_id: OperationId,
    },
    /// A part of a key's history, oldest first. Answer: [`Reply::Log`]; [`RequestError::Pruned`] if it is not kept from
    /// that height on.
    Log {
        /// The key.
        key: Key,
        /// First height wanted, from 1.
        from_height: u64,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },
    /// Keys with values, in order. Answer: [`Reply::List`].
    List {
        /// The encoded keys begin with this.
        prefix: KeyPrefix,
        /// The page begins after this key.
        after: Option<Key>,
        /// At most [`PAGE_MAX`].
        limit: u32,
        /// The slot to look in, when the caller knows that there is but one (a directory's); else all.
        slot: Option<SlotId>,
    },
    /// The part of a listing that lies in the slots that the asked node leads. Answer: [`Reply::ListLed`].
    ListLed {
        /// The encoded keys begin with this.
        prefix: KeyPrefix,
        /// The page begins after this key.
        after: Option<Key>,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },
    /// What the flat keys of each namespace come to, in the whole ring: a page of those that have any. Answer:
    /// [`Reply::Usage`].
    Usage {
        /// The page begins with this namespace, or the first one after it; the default one, `""`, is the first of all.
        from: String,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },
    /// The same in the slots that the asked node leads. Answer: [`Reply::UsageLed`].
    UsageLed {
        /// The page begins with this namespace, or the first one after it; the default one, `""`, is the first of all.
        from: String,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },
    /// Who leads a key's slot and what each member holds of the key. Answer: [`Reply::Located`].
    Locate {
        /// The key.
        key: Key,
    },
    /// Stores a block. Answer: [`Reply::BlockPut`].
    PutBlock {
        /// The content's hash; other content is refused.
        hash: Hash,
        /// The content.
        bytes: Bytes,
        /// Whether a file refers to it: then deleting it by its hash is refused.
        referenced: bool,
        /// The generation in which the upload that it belongs to began ([`Request::Generation`]); 0 if it belongs to none.
        generation: u64,
        /// Who stands behind the answer.
        level: Level,
    },
    /// Reads a block. Answer: [`Reply::Block`], verified.
    ReadBlock {
        /// Its hash.
        hash: Hash,
        /// Who stands behind the answer.
        level: Level,
    },
    /// Whether a block is there. Answer: [`Reply::BlockStat`].
    StatBlock {
        /// Its hash.
        hash: Hash,
    },
    /// Deletes a block. Answer: [`Reply::BlockDeleted`].
    DeleteBlock {
        /// Its hash.
        hash: Hash,
        /// Who stands behind the answer.
        level: Level,
    },
    /// What each member of a block's slot holds of it. Answer: [`Reply::BlockLocated`].
    LocateBlock {
        /// Its hash.
        hash: Hash,
    },
    /// The ring as this node sees it. Answer: [`Reply::Ring`].
    Ring,
    /// How this node's own slots stand; from these, a node makes its [`RingView`]. Answer: [`Reply::Status`].
    Status,
    /// Who leads each slot, for clients that go straight to the leader. Answer: [`Reply::Routes`].
    Routes,
    /// Plans this node's leave. Answer: [`Reply::Done`] when it holds nothing more that others need.
    Leave,
    /// What this node itself holds, by slot: registers, then blocks. Answer: [`Reply::Dump`].
    Dump {
        /// Where the page begins: the cursor of the page before.
        after: Option<DumpCursor>,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },
    /// The generation that the slot of a key is in, or was in a moment ago: asked for before the first block of a value is
    /// stored. Answer: [`CollectionReply::Generation`].
    Generation {
        /// Where the value is to be.
        key: Key,
    },
    /// A step of a collection of blocks that nothing names any more; the slot's leader takes it. Answer:
    /// [`Reply::Collection`].
    Collection {
        /// The slot.
        slot: SlotId,
        /// What to do.
        step: CollectionStep,
    },
    /// Reads what the asked node has on its disk again, checks it, and repairs it from other members. Answer, at once:
    /// [`Reply::Scrub`], which tells how far it is.
    Scrub {
        /// Whether to begin now, as fast as the disk allows, unless such a pass is under way; else nothing is begun.
        start: bool,
    },
    /// Looks at [`RECOVERY_PAGE`] slots for those that lost their majority for ever, or begins anew with their survivors.
    /// Answer: [`Reply::Recovery`].
    Recover {
        /// The first slot to look at.
        first: SlotId,
        /// The nodes that an operator declares to be lost for ever: slots that lack no others are recovered. `None`:
        /// nothing is to be done yet. At most [`GIVEN_UP_MAX`].
        given_up: Option<BTreeSet<NodeId>>,
    },
    /// What the asked node knows and holds of the slots of a [`Request::Recover`]. Answer: [`Reply::Survey`].
    Survey {
        /// The first slot.
        first: SlotId,
    },
    /// Tells a survivor to begin anew without the others: for each slot the configuration that lost its majority, and
    /// the one that its survivors are to enter. Answer: [`Reply::EpochsBegun`].
    BeginEpochs {
        /// At most [`RECOVERY_PAGE`].
        recoveries: Vec<(Configuration, Configuration)>,
    },
}

/// The most blocks that one step of a collection deletes.
pub const COLLECTED_MAX: usize = 1000;

/// A step of a collection in one slot. A collection has a number, above those of all before it: its generation. It raises
/// every slot to its generation, seals every slot, finds out what all values name, and deletes what nothing names and was
/// last put two generations ago or earlier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CollectionStep {
    /// Only the slot's generation. Answer: [`CollectionReply::Generation`].
    Look,
    /// Raises the slot to a generation, unless it is there already. From then on a value whose blocks were stored two
    /// generations before, or earlier, is refused ([`RequestError::UploadTooOld`]). Answer: [`CollectionReply::Generation`].
    Raise {
        /// The collection's.
        generation: u64,
    },
    /// Whether nothing can be committed any more that was decided before the slot was raised to a generation. Ask again
    /// until it is so. Answer: [`CollectionReply::Sealed`].
    Seal {
        /// The collection's.
        generation: u64,
    },
    /// A page of the slot's records of blocks, in the order of hashes, as the leader has them. Answer:
    /// [`CollectionReply::Blocks`].
    List {
        /// The page begins after this hash.
        after: Option<Hash>,
    },
    /// Deletes blocks that nothing names. Those that were put since are left alone. Answer: [`CollectionReply::Done`].
    Delete {
        /// Hash and recorded version, at most [`COLLECTED_MAX`].
        blocks: Vec<(Hash, u64)>,
    },
}

/// The answer to a step of a collection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CollectionReply {
    /// The slot's generation.
    Generation(u64),
    /// Whether the slot is sealed.
    Sealed {
        /// It is.
        is_sealed: bool,
        /// If not: members that do not answer.
        silent: Vec<NodeId>,
    },
    /// A page of records.
    Blocks {
        /// Hash and record, in the order of hashes; at most [`PAGE_MAX`].
        records: Vec<(Hash, BlockRecord)>,
        /// Whether nothing follows.
        is_last: bool,
    },
    /// The blocks are marked as deleted on the leader's disk, and the other members are told.
    Done,
}

/// Where a page of a dump begins: after this item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DumpCursor {
    /// After this key of the slot.
    Key(SlotId, Key),
    /// After this block of the slot; `None`: before its first.
    Block(SlotId, Option<Hash>),
}

/// The head of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Height of the last transaction.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
    /// When it was written.
    pub time: WallTime,
    /// The node through which it came in.
    pub author: NodeId,
    /// The value; `None` after a delete.
    pub value: Option<Value>,
}

/// The answer to a read of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// The head; `None` if the key was never written.
    pub entry: Option<Entry>,
    /// Whether nothing later was committed when the read came in. Always so at levels quorum and all.
    pub is_linearizable: bool,
    /// Up to where whoever sees this has seen the key's slot; `None` if the key was never written.
    pub mark: Option<Ballot>,
}

/// What became of a write at level lazy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperationOutcome {
    /// The key.
    pub key: Key,
    /// How far it has come.
    pub state: OperationState,
}

/// How far a write at level lazy has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OperationState {
    /// It waits for its place in the key's log.
    Queued,
    /// It is committed.
    Applied {
        /// Its height.
        height: u64,
        /// Its hash.
        hash: Hash,
    },
    /// It is not applied, and will not be.
    Refused {
        /// Why, for people.
        reason: String,
        /// If its condition does not hold: the key's head then, with its height, hash, and whether it has a value.
        current: Option<(u64, Hash, bool)>,
    },
    /// Nobody can tell whether it is applied: its node was restarted before it had an answer, and the key was written too
    /// often, or forgotten, since.
    Forgotten,
}

/// One key of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListEntry {
    /// The key.
    pub key: Key,
    /// Its head.
    pub entry: Entry,
}

/// What one member holds of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    /// The member.
    pub node: NodeId,
    /// Height and hash of the head it has accepted; `None` if none, or if it did not answer.
    pub head: Option<(u64, Hash)>,
    /// Whether it answered.
    pub answered: bool,
}

/// Who has a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located {
    /// The key's slot.
    pub slot: SlotId,
    /// The configuration's epoch.
    pub epoch: u64,
    /// The leader.
    pub leader: NodeId,
    /// The members.
    pub members: Vec<NodeId>,
    /// The members-to-be while the group is moving.
    pub joint: Vec<NodeId>,
    /// What each of them holds.
    pub holdings: Vec<Holding>,
}

impl Located {
    /// How often the slot was recovered after it had lost its majority: writes before that may be missing.
    pub fn recoveries(&self) -> u64 {
        Configuration::recoveries_of(self.epoch)
    }
}

/// Who has a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockLocated {
    /// The block's slot.
    pub slot: SlotId,
    /// The configuration's epoch.
    pub epoch: u64,
    /// What each member holds of it.
    pub holdings: Vec<BlockHolding>,
}

/// What one member holds of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockHolding {
    /// The member.
    pub node: NodeId,
    /// Its record; `None` if it has none, or did not answer.
    pub record: Option<BlockRecord>,
    /// Whether it answered.
    pub answered: bool,
}

/// How far the moves are that this node knows of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moving {
    /// Slots on the move.
    pub slots: u64,
    /// Bytes that newcomers have taken over.
    pub bytes_done: u64,
    /// Bytes that they have to take over.
    pub bytes_total: u64,
}

/// How one node's slots stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeStatus {
    /// Slots that it leads.
    pub slots_led: u64,
    /// Of those, the ones whose members are the slot's successors and all hold what they should.
    pub slots_settled: u64,
    /// Of those, the ones with fewer members than the ring's number of replicas.
    pub slots_short: u64,
    /// Slots of which it has not compared the blocks with other members since it started, or lacks some.
    pub slots_behind: u64,
    /// Slots that it still holds though it is no member (any more).
    pub slots_left_over: u64,
    /// Keys with transactions that it cannot read, and is fetching from other members.
    pub keys_damaged: u64,
    /// Whether its disk is so full that it takes over no more slots.
    pub is_short_of_room: bool,
    /// Deleted keys whose tombstones are kept, in the slots that it leads.
    pub tombstones: u64,
    /// The moves that it leads or takes part in as a newcomer.
    pub moving: Moving,
}

/// The ring as one node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingView {
    /// The node that answers.
    pub node: NodeId,
    /// What the ring was founded with.
    pub settings: RingSettings,
    /// Whether every slot's members are its successors and all hold what they should, as far as all nodes report.
    pub settled: bool,
    /// Slots whose group is smaller than the number of replicas, for want of hosts.
    pub slots_short: u64,
    /// Copies of keys with transactions that their nodes cannot read, and are fetching from other members.
    pub keys_damaged: u64,
    /// The moves under way.
    pub moving: Moving,
    /// Nodes whose disks are so full that they take over no more slots.
    pub short_of_room: Vec<NodeId>,
    /// Deleted keys whose tombstones are kept.
    pub tombstones: u64,
    /// Every host.
    pub hosts: Vec<(Host, HostState)>,
}

/// Who leads each slot, as far as one node knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Routes {
    /// What the ring was founded with.
    pub settings: RingSettings,
    /// Every host with its state.
    pub hosts: Vec<(Host, HostState)>,
    /// The leader of each slot, by slot: an index into `hosts`; `u32::MAX` where unknown.
    pub leaders: Vec<u32>,
}

/// One thing that a node holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DumpItem {
    /// A key, as accepted here (it may not be committed).
    Key {
        /// Its slot.
        slot: SlotId,
        /// The key.
        key: Key,
        /// Height of the head.
        height: u64,
        /// Hash of the head.
        hash: Hash,
    },
    /// A block.
    Block {
        /// Its slot.
        slot: SlotId,
        /// Its hash.
        hash: Hash,
        /// What is recorded of it.
        record: BlockRecord,
    },
}

/// The most things in a [`ScrubReport`] that could not be repaired.
pub const UNREPAIRED_LISTED_MAX: usize = 100;

/// How a node's present pass over its disk stands, or the last one if there is none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScrubReport {
    /// Counts passes since the node started, from 1; 0: there was none.
    pub pass: u64,
    /// Whether it is still under way.
    pub is_running: bool,
    /// Whether somebody asked for it; else it goes on in the background, at a bounded rate.
    pub is_asked_for: bool,
    /// Slots that are read.
    pub slots_done: u32,
    /// Slots that the node held when it began.
    pub slots_total: u32,
    /// Transactions checked.
    pub transactions: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Bytes read of both.
    pub bytes: u64,
    /// Keys with transactions that were damaged or missing.
    pub damaged_keys: u64,
    /// Blocks whose content was damaged or missing.
    pub damaged_blocks: u64,
    /// How many of those keys and blocks were repaired.
    pub repaired: u64,
    /// How many could not be.
    pub unrepaired: u64,
    /// The first [`UNREPAIRED_LISTED_MAX`] of these.
    pub unrepaired_items: Vec<Unrepaired>,
}

/// Something that could not be repaired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unrepaired {
    /// Its slot.
    pub slot: SlotId,
    /// What it is.
    pub item: ScrubbedItem,
    /// Why not, for people.
    pub reason: String,
}

/// Something on a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScrubbedItem {
    /// A key's transactions.
    Key(Key),
    /// A block's content.
    Block(Hash),
}

/// What a node's scrubbing has come to since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubTotals {
    /// Transactions checked.
    pub transactions: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Bytes read of both.
    pub bytes: u64,
    /// Keys and blocks found damaged.
    pub damaged: u64,
    /// Of those, the ones repaired.
    pub repaired: u64,
    /// Of those, the ones given up for the time being.
    pub unrepaired: u64,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To [`Request::Read`].
    Entry(Reading),
    /// To [`Request::Write`]: it is applied. At level leader it is lost if the leader is lost before another member has it.
    Written {
        /// Height of the new transaction.
        height: u64,
        /// Its hash.
        hash: Hash,
        /// Whether the key had no value before.
        created: bool,
        /// Up to where whoever sees this has seen the key's slot.
        mark: Option<Ballot>,
    },
    /// To [`Request::Command`].
    Command {
        /// The reply, encoded: see [`difuse_structures::Reply::decode`].
        reply: Bytes,
        /// Whether the command may change its key.
        is_write: bool,
        /// Height and hash of the transaction that was appended, if one was.
        appended: Option<(u64, Hash)>,
        /// Up to where whoever sees this has seen the key's slot.
        mark: Option<Ballot>,
    },
    /// To [`Request::Write`] at level lazy: the node has it durably, and sees to it that it is applied or refused.
    Queued {
        /// Asks for the outcome.
        operation_id: OperationId,
    },
    /// To [`Request::Operation`]; `None` if no node knows of it (any more).
    Operation(Option<OperationOutcome>),
    /// To [`Request::Log`].
    Log {
        /// They follow each other.
        transactions: Vec<Transaction>,
        /// Height of the committed head; 0 if the key was never written.
        head_height: u64,
    },
    /// To [`Request::List`].
    List {
        /// In the order of keys; only keys with values.
        entries: Vec<ListEntry>,
        /// Where the next page begins; `None` if nothing follows.
        next: Option<Key>,
    },
    /// To [`Request::ListLed`].
    ListLed {
        /// In the order of keys; only keys with values.
        entries: Vec<ListEntry>,
        /// Up to here, and beyond only if `None`, the entries are complete.
        next: Option<Key>,
        /// The slots that they were looked for in.
        slots: Vec<SlotId>,
    },
    /// To [`Request::Usage`].
    Usage(UsagePage),
    /// To [`Request::UsageLed`].
    UsageLed {
        /// What was counted: complete before its `next`.
        page: UsagePage,
        /// The slots that were counted.
        slots: Vec<SlotId>,
    },
    /// To [`Request::Locate`].
    Located(Located),
    /// To [`Request::PutBlock`]: whether it was not there before.
    BlockPut {
        /// Whether no member had it before.
        created: bool,
    },
    /// To [`Request::ReadBlock`]; `None` if it is not there.
    Block(Option<Bytes>),
    /// To [`Request::StatBlock`]; `None` if it is not there.
    BlockStat(Option<BlockRecord>),
    /// To [`Request::DeleteBlock`]: whether it was there.
    BlockDeleted {
        /// Whether it was there.
        existed: bool,
    },
    /// To [`Request::LocateBlock`].
    BlockLocated(BlockLocated),
    /// To [`Request::Ring`].
    Ring(Box<RingView>),
    /// To [`Request::Status`].
    Status(NodeStatus),
    /// To [`Request::Routes`].
    Routes(Box<Routes>),
    /// To [`Request::Leave`].
    Done,
    /// To [`Request::Recover`].
    Recovery(Box<Recovery>),
    /// To [`Request::Survey`].
    Survey(Vec<SlotSurvey>),
    /// To [`Request::BeginEpochs`].
    EpochsBegun {
        /// The slots whose recovery the node has entered.
        slots: Vec<SlotId>,
    },
    /// To [`Request::Dump`].
    Dump {
        /// The items.
        items: Vec<DumpItem>,
        /// Where the next page begins; `None` if nothing follows.
        next: Option<DumpCursor>,
    },
    /// To [`Request::Collection`] and [`Request::Generation`].
    Collection(CollectionReply),
    /// To [`Request::Scrub`].
    Scrub(Box<ScrubReport>),
}

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The write's condition does not hold. Nothing was changed.
    #[error("the condition does not hold: {}", describe_head(current.as_ref()))]
    Conflict {
        /// The key's head: height, hash and whether it has a value; `None` if it was never written.
        current: Option<(u64, Hash, bool)>,
    },
    /// The group cannot be reached now. Nothing was changed.
    #[error("slot {slot} is unavailable: {reason}; nothing was changed, try again later")]
    Unavailable {
        /// The slot.
        slot: SlotId,
        /// Why, for people.
        reason: String,
    },
    /// Level all was asked for, and not every member stands behind it.
    #[error("{}", describe_not_all(silent, differing, *is_applied))]
    NotAll {
        /// The slot.
        slot: SlotId,
        /// Members that cannot be reached or did not answer in time.
        silent: Vec<NodeId>,
        /// Members that hold something else than the others.
        differing: Vec<NodeId>,
        /// Whether a majority has what was to be written all the same; if not, nothing was changed.
        is_applied: bool,
        /// Height and hash of the key's transaction if one was applied.
        written: Option<(u64, Hash)>,
    },
    /// The write may or may not have been applied; repeat it with the same operation id to find out.
    #[error(
        "no answer in time: the outcome of operation {operation_id} is unknown; repeat it with the same operation id"
    )]
    Unknown {
        /// The write.
        operation_id: OperationId,
        /// It was first sent after this, if anything is known of that; to be repeated with it.
        since: Option<Anchor>,
    },
    /// The write may have been applied before, so long ago that nobody can tell: too many other writes of the key
    /// followed, or it was deleted and forgotten. It was not applied now, and repeating it is of no use.
    #[error(
        "nobody can tell whether operation {operation_id} was applied: too many other writes followed, or the key was \
         deleted and forgotten; it was not applied now: read the key, and write it under a new operation id if need be"
    )]
    Forgotten {
        /// The write.
        operation_id: OperationId,
        /// Of the present: a sender that knows that it was never applied sends it again with this.
        now: Anchor,
    },
    /// The write was not applied, and no copy of it that was sent before this answer will be: it was sent so long ago, or to
    /// another leader, that it may have been refused since. Repeating it as it was is of no use: only with what this says.
    #[error(
        "operation {operation_id} was sent too long ago, or before the slot's leader changed: it was not applied, and \
         will not be; repeat it with the same operation id and what this answer says that it comes after"
    )]
    Lapsed {
        /// The write.
        operation_id: OperationId,
        /// To be repeated with.
        now: Anchor,
    },
    /// The bytes are not those of the hash.
    #[error("the content's hash is {actual}, not {expected}")]
    WrongHash {
        /// The hash asked for.
        expected: Hash,
        /// The hash of the bytes.
        actual: Hash,
    },
    /// The value or block is too large, or a field is out of bounds.
    #[error("{0}")]
    Invalid(String),
    /// A file refers to the block.
    #[error("block {hash} belongs to a file, or is pinned: delete the file, or the pin, instead")]
    BlockReferenced {
        /// The block.
        hash: Hash,
    },
    /// The part of the log asked for begins below what is kept: it was pruned, and what is left begins with this
    /// checkpoint and can be verified from there.
    #[error("the history below height {} is pruned: it begins with checkpoint {}", .0.height, .0.hash)]
    Pruned(Checkpoint),
    /// The upload took so long that two collections of blocks began meanwhile: some of its blocks may be gone. Nothing was
    /// changed; upload it again.
    #[error(
        "the upload took too long: two collections of blocks began meanwhile (generation {generation}); upload it again"
    )]
    UploadTooOld {
        /// The generation now.
        generation: u64,
    },
    /// Too much is waiting already. Nothing was changed.
    #[error("the node is busy: too many requests are waiting; try again later")]
    Busy,
    /// A disk that the write needs is full. Nothing was changed; reads go on, and writes do when there is room.
    #[error("{reason}; nothing was changed: make room, and try again")]
    Full {
        /// Which disk, and how much is free, for people.
        reason: String,
    },
    /// The namespace holds as much as it may. Nothing was changed; reads and deletes go on, and so do writes when there is room
    /// for them again.
    #[error(
        "namespace {} has reached its quota of {quota}; nothing was changed: delete keys, or raise the quota \
         (difuse namespace set)",
        describe_namespace(namespace)
    )]
    QuotaReached {
        /// The namespace.
        namespace: String,
        /// What it has reached.
        quota: Quota,
    },
    /// A command on a value that lives in blocks, or that would have to: read it, change it, and write it anew. Nothing was
    /// changed.
    #[error("the value is too long to be changed in place")]
    InBlocks,
    /// This node's storage cannot go on. Nothing was changed.
    #[error("{0}")]
    Storage(String),
    /// The node is not ready, or is going away.
    #[error("the node is not serving: {0}")]
    NotServing(String),
}

impl RequestError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Busy | Self::Unknown { .. } | Self::Lapsed { .. } | Self::NotServing(_)
        )
    }

    /// What this error says of the write `operation_id` when an earlier attempt at it may still be on its way: that
    /// something stood in the way of this one says nothing of that one. (That its condition did not hold does: a refusal is
    /// final.)
    pub fn beside_open_attempt(self, operation_id: OperationId, since: Since) -> Self {
        match &self {
            Self::NotAll { is_applied: false, .. }
            | Self::Full { .. }
            | Self::QuotaReached { .. }
            | Self::UploadTooOld { .. }
            | Self::InBlocks => Self::Unknown { operation_id, since: since.anchor() },
            _ => self,
        }
    }

    /// How long to wait before trying again, for answers such as HTTP's `Retry-After`.
    pub fn retry_after(&self) -> Option<Duration> {
        let may_pass = self.is_transient() || matches!(self, Self::NotAll { .. } | Self::UploadTooOld { .. });
        may_pass.then_some(Duration::from_secs(1))
    }
}

fn describe_not_all(silent: &[NodeId], differing: &[NodeId], is_applied: bool) -> String {
    let names = |nodes: &[NodeId]| nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    if !silent.is_empty() {
        parts.push(format!("no answer from {}", names(silent)));
    }
    if !differing.is_empty() {
        parts.push(format!("another state is held by {}", names(differing)));
    }
    let change = match is_applied {
        true => "the write is applied at a majority",
        false => "nothing was changed",
    };
    format!("not every member stands behind it: {}; {change}", parts.join("; "))
}

fn describe_namespace(namespace: &str) -> &str {
    if namespace.is_empty() { "\"\" (the default one)" } else { namespace }
}

fn describe_head(current: Option<&(u64, Hash, bool)>) -> String {
    match current {
        None => "the key was never written".into(),
        Some((height, hash, true)) => format!("the key is at height {height}, transaction {hash}"),
        Some((height, hash, false)) => format!("the key was deleted at height {height}, transaction {hash}"),
    }
}
