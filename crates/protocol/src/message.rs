//! Everything that one peer says to another.

use bytes::Bytes;
use difuse_blocks::BlockRecord;
use difuse_keylog::{Configuration, KeylogMessage, RegisterSummary};
use difuse_ring::RingMessage;
use difuse_types::{Hash, Host, Key, NodeId, RingSettings, SlotId};

use crate::{
    notice::Notice,
    request::{Reply, Request, RequestError},
};

/// A message between peers, or between a client and a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// A node that wants to join tells who it is; the answer is [`Message::Welcome`].
    Introduce {
        /// The node.
        host: Host,
    },
    /// What a joining node must know before it can start.
    Welcome {
        /// What the ring was founded with.
        settings: RingSettings,
        /// Some members.
        hosts: Vec<Host>,
    },
    /// The ring's own.
    Ring(RingMessage),
    /// Between replicas of a slot.
    Keylog(KeylogMessage),
    /// A request, from a client or from the peer that coordinates one.
    Request {
        /// Chosen by the sender; the response repeats it.
        id: u64,
        /// Whether the sender coordinates it for a client: then the receiver serves it only if it leads the slot, and
        /// else answers [`Outcome::Redirect`].
        direct: bool,
        /// The request.
        request: Request,
    },
    /// The answer to a request.
    Response {
        /// The request's.
        id: u64,
        /// How it went.
        outcome: Outcome,
    },
    /// Between members of a block's slot and the coordinator of a block request.
    Block(BlockMessage),
    /// Between gateways, for their clients.
    Notice(Notice),
}

/// How a request went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was served.
    Reply(Reply),
    /// It was not.
    Error(RequestError),
    /// The receiver does not lead the slot. Nothing was changed.
    Redirect {
        /// The slot.
        slot: SlotId,
        /// The newest configuration that it knows.
        configuration: Option<Configuration>,
        /// The leader as far as it knows.
        leader: Option<NodeId>,
    },
}

/// A message about blocks. Requests name the slot's epoch; a member in a later one answers
/// [`BlockAnswer::Outdated`], so that a quorum is always of one configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlockMessage {
    /// Asks a member.
    Ask {
        /// Chosen by the sender; the answer repeats it.
        id: u64,
        /// The slot.
        slot: SlotId,
        /// The epoch of the configuration that the sender believes in; 0 if it knows none.
        epoch: u64,
        /// What it asks.
        question: BlockQuestion,
    },
    /// A member's answer.
    Answer {
        /// The question's.
        id: u64,
        /// The answer.
        answer: BlockAnswer,
    },
}

/// What is asked of a member of a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlockQuestion {
    /// Only the configuration.
    Configuration,
    /// Store this block.
    Put {
        /// Its hash.
        hash: Hash,
        /// Its content.
        bytes: Bytes,
        /// Its record's version.
        version: u64,
        /// Whether a file refers to it.
        referenced: bool,
    },
    /// Its content.
    Read {
        /// Its hash.
        hash: Hash,
    },
    /// What is recorded of it.
    Stat {
        /// Its hash.
        hash: Hash,
    },
    /// Mark it as deleted.
    Delete {
        /// Its hash.
        hash: Hash,
        /// The tombstone's version.
        version: u64,
    },
    /// A page of the records of the slot, in the order of hashes.
    List {
        /// The page begins after this hash.
        after: Option<Hash>,
    },
    /// The digest of the slot's records.
    Digest,
    /// What the member has accepted for a key (for `locate`).
    Register {
        /// The key.
        key: Key,
    },
}

/// A member's answer about blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlockAnswer {
    /// The member is in this later configuration; nothing was changed.
    Outdated {
        /// The newest configuration that it knows.
        configuration: Configuration,
    },
    /// The member does not know the slot, or is behind the epoch asked for; ask another.
    NotHere,
    /// To [`BlockQuestion::Configuration`].
    Configuration {
        /// The newest configuration that it knows.
        configuration: Configuration,
        /// The leader as far as it knows.
        leader: Option<NodeId>,
    },
    /// Stored, durably.
    Stored {
        /// Whether it was not there before.
        created: bool,
    },
    /// A tombstone of this or a higher version stands against it.
    Superseded {
        /// The tombstone's version.
        version: u64,
    },
    /// The content; `None` if it is not there.
    Content {
        /// The record, if any.
        record: Option<BlockRecord>,
        /// The content.
        bytes: Option<Bytes>,
    },
    /// The record; `None` if nothing is recorded.
    Record {
        /// The record.
        record: Option<BlockRecord>,
    },
    /// Marked as deleted, durably.
    Deleted,
    /// A page of records.
    Page {
        /// Hash and record, in the order of hashes.
        records: Vec<(Hash, BlockRecord)>,
        /// Whether nothing follows.
        is_last: bool,
    },
    /// The digest.
    Digest {
        /// The wrapping sum of the records' digests.
        digest: u128,
    },
    /// The register.
    Register {
        /// What it has accepted.
        register: Option<RegisterSummary>,
    },
    /// The member's disk is full; nothing was changed.
    Full {
        /// Which disk, and how much is free, for people.
        reason: String,
    },
    /// The member's storage cannot do it.
    Failed {
        /// Why, for people.
        reason: String,
    },
}
