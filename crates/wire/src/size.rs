use difuse_keylog::{KeylogMessage, Operation, Transaction, Value};
use difuse_protocol::{
    message::{BlockAnswer, BlockMessage, BlockQuestion, Message, Outcome},
    notice::Notice,
    request::{CollectionReply, CollectionStep, Reading, Reply, Request, UsagePage},
};
use difuse_ring::{JoinOutcome, RingMessage};
use difuse_types::Key;

/// What a message takes besides what is counted below.
const MESSAGE_BYTES: usize = 256;
/// What a table in a list takes besides its byte strings: a transaction, a register, a host's fixed part.
const ELEMENT_BYTES: usize = 160;
/// What an argument of a command takes besides its bytes.
const ARGUMENT_BYTES: usize = 20;
/// What the name of a node takes in a list.
const NODE_BYTES: usize = 40;
/// What a host takes with texts of usual length.
const HOST_BYTES: usize = 288;

/// About how many bytes `message` takes in a frame: for queues and batches that are bounded in bytes. Never far below
/// the truth for messages that are long.
pub fn approximate_bytes(message: &Message) -> usize {
    MESSAGE_BYTES
        + match message {
            Message::Introduce { .. } => HOST_BYTES,
            Message::Welcome { hosts, .. } => hosts.len() * HOST_BYTES,
            Message::Ring(message) => of_ring(message),
            Message::Keylog(message) => of_keylog(message),
            Message::Request { request, .. } => of_request(request),
            Message::Response { outcome: Outcome::Reply(reply), .. } => of_reply(reply),
            Message::Response { .. } => 0,
            Message::Block(message) => of_block_message(message),
            Message::Notice(Notice::Published { channel, message }) => channel.len() + message.len(),
            Message::Notice(Notice::Waiting { key } | Notice::Added { key }) => of_key(key),
        }
}

fn of_ring(message: &RingMessage) -> usize {
    match message {
        RingMessage::GossipDigest { buckets, .. } => buckets.len() * 8,
        RingMessage::GossipRows { entries, .. } => entries.len() * HOST_BYTES,
        RingMessage::JoinReply { outcome: JoinOutcome::Redirect { .. }, .. } => HOST_BYTES,
        RingMessage::JoinReply { outcome: JoinOutcome::Place { successors, .. }, .. }
        | RingMessage::StabilizeReply { successors, .. } => successors.len() * 34,
        _ => 0,
    }
}

fn of_key(key: &Key) -> usize {
    key.encoded().len()
}

fn of_value(value: Option<&Value>) -> usize {
    value.map_or(0, |value| value.bytes.len())
}

fn of_transactions(transactions: &[Transaction]) -> usize {
    let of_transaction =
        |transaction: &Transaction| ELEMENT_BYTES + of_key(&transaction.key) + of_value(transaction.value());
    transactions.iter().map(of_transaction).sum()
}

fn of_keylog(message: &KeylogMessage) -> usize {
    match message {
        KeylogMessage::Accept { proposal, .. } => of_transactions(&proposal.transactions),
        KeylogMessage::Transactions { transactions, .. } => of_transactions(transactions),
        KeylogMessage::Scanned { registers, .. } => registers.iter().map(|(key, _)| ELEMENT_BYTES + of_key(key)).sum(),
        KeylogMessage::Confirm { leaderships, .. } => leaderships.len() * 56,
        KeylogMessage::Confirmed { slots, .. } => slots.len() * 4,
        KeylogMessage::Holdings { slots } => slots.len() * 32,
        KeylogMessage::Committed { slots } => slots.len() * 96,
        KeylogMessage::Drop { keys, .. } => keys.iter().map(|(key, _)| ELEMENT_BYTES + of_key(key)).sum(),
        KeylogMessage::AskCommitted { slots } => slots.len() * 4,
        _ => 0,
    }
}

fn of_request(request: &Request) -> usize {
    match request {
        Request::Command { key, arguments, .. } => {
            of_key(key) + arguments.iter().map(|argument| argument.len() + ARGUMENT_BYTES).sum::<usize>()
        }
        Request::Write { key, operation: Operation::Set(value), .. } => of_key(key) + value.bytes.len(),
        Request::PutBlock { bytes, .. } => bytes.len(),
        Request::Recover { given_up: Some(given_up), .. } => given_up.len() * NODE_BYTES,
        Request::BeginEpochs { recoveries } => recoveries.len() * 4 * ELEMENT_BYTES,
        Request::Collection { step: CollectionStep::Delete { blocks }, .. } => blocks.len() * 40,
        _ => 0,
    }
}

fn of_reply(reply: &Reply) -> usize {
    match reply {
        Reply::Entry(Reading { entry: Some(entry), .. }) => of_value(entry.value.as_ref()),
        Reply::Log { transactions, .. } => of_transactions(transactions),
        Reply::List { entries, .. } | Reply::ListLed { entries, .. } => {
            entries.iter().map(|item| ELEMENT_BYTES + of_key(&item.key) + of_value(item.entry.value.as_ref())).sum()
        }
        Reply::Usage(page) => of_usage(page),
        Reply::UsageLed { page, slots } => of_usage(page) + slots.len() * 4,
        Reply::Block(Some(bytes)) | Reply::Command { reply: bytes, .. } => bytes.len(),
        Reply::Collection(CollectionReply::Blocks { records, .. }) => records.len() * 64,
        Reply::Ring(view) => view.hosts.len() * HOST_BYTES,
        Reply::Routes(routes) => routes.hosts.len() * HOST_BYTES + routes.leaders.len() * 4,
        Reply::Dump { items, .. } => items.len() * ELEMENT_BYTES,
        Reply::Recovery(recovery) => recovery.slots.len() * 4 * ELEMENT_BYTES + recovery.unreached.len() * NODE_BYTES,
        Reply::Survey(surveys) => surveys.len() * 2 * ELEMENT_BYTES,
        _ => 0,
    }
}

fn of_usage(page: &UsagePage) -> usize {
    page.namespaces.iter().map(|one| ELEMENT_BYTES + one.namespace.len()).sum()
}

fn of_block_message(message: &BlockMessage) -> usize {
    match message {
        BlockMessage::Ask { question: BlockQuestion::Put { bytes, .. }, .. } => bytes.len(),
        BlockMessage::Answer { answer: BlockAnswer::Content { bytes: Some(bytes), .. }, .. } => bytes.len(),
        BlockMessage::Answer { answer: BlockAnswer::Page { records, .. }, .. } => records.len() * ELEMENT_BYTES,
        _ => 0,
    }
}
