//! Every bound of the plain messages: just beyond it a frame is refused, and the field is named.

use bytes::Bytes;
use difuse_keylog::{
    Configuration, KeylogMessage, MAX_INLINE_BYTES, MAX_INODE_BYTES, MAX_VALUE_BYTES, Operation, SCAN_PAGE_MAX,
    SlotDigest, TRANSACTIONS_MAX, Transaction, Value, ValueKind,
};
use difuse_protocol::{
    message::{BlockAnswer, BlockMessage, BlockQuestion, Message, Outcome},
    notice::{Notice, PUBLISHED_BYTES_MAX},
    request::{
        ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, COLLECTED_MAX, CollectionReply, CollectionStep, Condition, NamespaceUsage,
        PAGE_MAX, Quota, Reply, Request, RequestError, Routes, ScrubReport, ScrubbedItem, Since, UNREPAIRED_LISTED_MAX,
        Unrepaired, Usage, UsagePage,
    },
};
use difuse_ring::{
    DIGEST_BUCKETS, ENTRIES_PER_PAGE_MAX, HostEntry, HostState, RingMessage, SUCCESSORS_MAX, VirtualNodeId,
};
use difuse_types::{Host, Level, NodeId, RingSettings, SlotId};

use crate::{
    WireError, decode, encode,
    limits::{BLOCK_BYTES_MAX, HOST_TEXT_BYTES_MAX, HOSTS_MAX, KEY_PREFIX_BYTES_MAX, REASON_BYTES_MAX},
    samples::parts::{
        OPERATION_ID, SLOT, ballot, configuration, hash, host, key, node, record, register, ring_id, settings, term,
        transaction,
    },
};

const BEYOND: SlotId = SlotId(65_536);

/// Checks that each message is refused for its field.
fn refused(cases: impl IntoIterator<Item = (&'static str, Message)>) {
    for (field, message) in cases {
        assert_eq!(decode(&encode(&[message])), Err(WireError::OutOfBounds { field }), "{field}");
    }
}

/// Checks that a message at its bound is taken.
fn taken(message: Message) {
    assert_eq!(decode(&encode(std::slice::from_ref(&message))), Ok(vec![message]));
}

fn keylog(message: KeylogMessage) -> Message {
    Message::Keylog(message)
}

fn request(request: Request) -> Message {
    Message::Request { id: 1, direct: false, request }
}

fn reply(reply: Reply) -> Message {
    Message::Response { id: 1, outcome: Outcome::Reply(reply) }
}

#[test]
fn configurations() {
    let install = |configuration| keylog(KeylogMessage::Install { configuration });
    let nodes = |count: usize| (0..count).map(|name| NodeId([name as u8; 32])).collect::<Vec<_>>();
    let most = Configuration::MEMBERS_MAX;
    taken(install(Configuration { members: nodes(most), joint: nodes(most), ..configuration() }));
    refused([
        ("slot", install(Configuration { slot: BEYOND, ..configuration() })),
        ("members", install(Configuration { members: nodes(most + 1), ..configuration() })),
        ("joint", install(Configuration { joint: nodes(most + 1), ..configuration() })),
        ("configuration", install(Configuration { members: vec![], ..configuration() })),
        ("configuration", install(Configuration { members: vec![node(1), node(1)], ..configuration() })),
        ("configuration", install(Configuration { epoch: 0, ..configuration() })),
    ]);
}

#[test]
fn transactions() {
    let chain = |transactions| keylog(KeylogMessage::Transactions { slot: SLOT, key: key("k"), transactions });
    let one = |height, kind, length| {
        let operation = Operation::Set(Value::new(kind, Bytes::from(vec![7; length])));
        chain(vec![transaction(key("k"), height, operation)])
    };
    let deletes = |count| -> Vec<Transaction> {
        (1..).take(count).map(|height| transaction(key("k"), height, Operation::Delete)).collect()
    };
    taken(one(1, ValueKind::Inline, MAX_INLINE_BYTES));
    taken(one(1, ValueKind::Inode, MAX_INODE_BYTES));
    taken(one(1, ValueKind::Operation, MAX_VALUE_BYTES));
    taken(one(1, ValueKind::State, MAX_VALUE_BYTES));
    let part = |index: u8, length| {
        let bytes = [&[1, index, 0, 2, 0][..], &vec![7; length - 5]].concat();
        chain(vec![transaction(key("k"), 1, Operation::Set(Value::new(ValueKind::Part, bytes)))])
    };
    taken(part(1, MAX_VALUE_BYTES));
    taken(chain(deletes(TRANSACTIONS_MAX)));
    refused([
        ("transaction", one(1, ValueKind::Inline, MAX_INLINE_BYTES + 1)),
        ("transaction", one(0, ValueKind::Inline, 1)),
        ("transaction", one(1, ValueKind::Inode, MAX_INODE_BYTES + 1)),
        ("transaction", one(1, ValueKind::Operation, 0)),
        ("transaction", one(1, ValueKind::Part, 4)),
        ("transaction", part(2, 10)),
        ("value", part(1, MAX_VALUE_BYTES + 1)),
        ("value", one(1, ValueKind::State, MAX_VALUE_BYTES + 1)),
        ("transactions", chain(deletes(TRANSACTIONS_MAX + 1))),
        ("transactions", reply(Reply::Log { transactions: deletes(PAGE_MAX as usize + 1), head_height: 1 })),
    ]);
}

#[test]
fn steps_of_a_collection() {
    let delete = |slot, count| {
        request(Request::Collection { slot, step: CollectionStep::Delete { blocks: vec![(hash(1), 1); count] } })
    };
    let blocks = |count| {
        let records = vec![(hash(1), record(1)); count];
        reply(Reply::Collection(CollectionReply::Blocks { records, is_last: true }))
    };
    let sealed = |count| {
        let silent = vec![node(1); count];
        reply(Reply::Collection(CollectionReply::Sealed { is_sealed: false, silent }))
    };
    taken(delete(SLOT, COLLECTED_MAX));
    taken(blocks(PAGE_MAX as usize));
    refused([
        ("slot", delete(BEYOND, 1)),
        ("blocks", delete(SLOT, COLLECTED_MAX + 1)),
        ("records", blocks(PAGE_MAX as usize + 1)),
        ("silent", sealed(31)),
    ]);
}

#[test]
fn usage_of_namespaces() {
    let page = |count, length, next: Option<usize>| {
        let one = NamespaceUsage { namespace: "n".repeat(length), usage: Usage::default() };
        UsagePage { namespaces: vec![one; count], next: next.map(|length| "n".repeat(length)) }
    };
    let led = |count, slots| reply(Reply::UsageLed { page: page(count, 1, None), slots });
    let all = |length, next| reply(Reply::Usage(page(1, length, next)));
    let full = |length| {
        let (namespace, quota) = ("n".repeat(length), Quota::Keys(1));
        Message::Response { id: 1, outcome: Outcome::Error(RequestError::QuotaReached { namespace, quota }) }
    };
    let ask = |length, limit| request(Request::Usage { from: "n".repeat(length), limit });
    taken(led(PAGE_MAX as usize, vec![SLOT; 65_536]));
    taken(all(64, Some(64)));
    taken(ask(64, PAGE_MAX));
    taken(full(64));
    refused([
        ("namespaces", led(PAGE_MAX as usize + 1, vec![])),
        ("slots", led(1, vec![SLOT; 65_537])),
        ("slot", led(1, vec![BEYOND])),
        ("namespace", all(65, None)),
        ("namespace", full(65)),
        ("next", all(1, Some(65))),
        ("from", ask(65, 1)),
        ("limit", ask(1, PAGE_MAX + 1)),
        ("from", request(Request::UsageLed { from: "n".repeat(65), limit: 1 })),
    ]);
}

#[test]
fn reports_of_scrubbing() {
    let report = |count, slot, length| {
        let unrepaired = Unrepaired { slot, item: ScrubbedItem::Block(hash(1)), reason: "r".repeat(length) };
        reply(Reply::Scrub(Box::new(ScrubReport { unrepaired_items: vec![unrepaired; count], ..Default::default() })))
    };
    taken(report(UNREPAIRED_LISTED_MAX, SLOT, REASON_BYTES_MAX));
    refused([("unrepaired_items", report(UNREPAIRED_LISTED_MAX + 1, SLOT, 1)), ("slot", report(1, BEYOND, 1))]);
}

#[test]
fn lists_of_slots_and_registers() {
    let scanned = |count| {
        let registers = vec![(key("k"), register()); count];
        keylog(KeylogMessage::Scanned { slot: SLOT, term: term(), after: None, registers, is_last: true })
    };
    let confirmed = |count| keylog(KeylogMessage::Confirmed { round: 1, slots: vec![SLOT; count] });
    taken(scanned(SCAN_PAGE_MAX));
    taken(confirmed(65_536));
    let ask = |count| keylog(KeylogMessage::AskCommitted { slots: vec![SLOT; count] });
    let committed = |slot| keylog(KeylogMessage::Committed { slots: vec![(slot, ballot(), SlotDigest(1))] });
    refused([("slots", ask(65_537)), ("slot", committed(BEYOND))]);
    refused([
        ("registers", scanned(SCAN_PAGE_MAX + 1)),
        ("slots", confirmed(65_537)),
        ("slot", keylog(KeylogMessage::Confirmed { round: 1, slots: vec![BEYOND] })),
        ("slot", keylog(KeylogMessage::Confirm { round: 1, leaderships: vec![(BEYOND, term())], is_lease: false })),
        ("slot", keylog(KeylogMessage::BlocksReady { slot: BEYOND, epoch: 1 })),
    ]);
}

#[test]
fn notices() {
    let bytes = |length| Bytes::from(vec![1; length]);
    let published =
        |channel, message| Message::Notice(Notice::Published { channel: bytes(channel), message: bytes(message) });
    taken(published(0, 0));
    taken(published(1000, PUBLISHED_BYTES_MAX - 1000));
    refused([
        ("message", published(1000, PUBLISHED_BYTES_MAX - 999)),
        ("message", published(PUBLISHED_BYTES_MAX + 1, 0)),
    ]);
}

#[test]
fn hosts_and_settings() {
    let long = || "x".repeat(HOST_TEXT_BYTES_MAX + 1);
    let introduce = |host| Message::Introduce { host };
    let welcome = |settings, hosts| Message::Welcome { settings, hosts };
    let short = Host { label: String::new(), ..host(1) };
    refused([
        ("address", introduce(Host { address: long(), ..host(1) })),
        ("http", introduce(Host { http: long(), ..host(1) })),
        ("zone", introduce(Host { zone: long(), ..host(1) })),
        ("label", introduce(Host { label: long(), ..host(1) })),
        (
            "hosts",
            welcome(settings(), vec![Host { address: String::new(), zone: String::new(), ..short }; HOSTS_MAX + 1]),
        ),
        ("settings", welcome(RingSettings { replicas: 16, ..settings() }, vec![])),
        ("settings", welcome(RingSettings { virtual_nodes: 0, ..settings() }, vec![])),
    ]);
}

#[test]
fn ring_messages() {
    let ring = ring_id();
    let virtual_node = |index| VirtualNodeId { node: node(1), index };
    let reply = |count| RingMessage::StabilizeReply {
        operation: 1,
        from: virtual_node(1),
        to: virtual_node(2),
        member: true,
        predecessor: None,
        successors: vec![virtual_node(255); count],
    };
    let entry = HostEntry { host: host(1), state: HostState::Up, version: 1 };
    let rows = |count, wanted| RingMessage::GossipRows { ring, entries: vec![entry.clone(); count], wanted };
    taken(Message::Ring(reply(SUCCESSORS_MAX)));
    taken(Message::Ring(rows(ENTRIES_PER_PAGE_MAX, vec![0; DIGEST_BUCKETS])));
    let cases = [
        ("successors", reply(SUCCESSORS_MAX + 1)),
        ("index", RingMessage::Notify { from: virtual_node(256), to: virtual_node(1) }),
        ("entries", rows(ENTRIES_PER_PAGE_MAX + 1, vec![])),
        ("wanted", rows(0, vec![0; DIGEST_BUCKETS + 1])),
        ("wanted", rows(0, vec![256])),
        ("buckets", RingMessage::GossipDigest { ring, buckets: vec![0; DIGEST_BUCKETS - 1] }),
    ];
    refused(cases.map(|(field, message)| (field, Message::Ring(message))));
}

#[test]
fn requests_and_replies() {
    let list = |length: usize, limit| {
        let prefix = Bytes::from(vec![1; length]);
        request(Request::List { prefix, after: None, limit, slot: None })
    };
    let write = |length| {
        let operation = Operation::Set(Value::inline(Bytes::from(vec![7; length])));
        let (condition, operation_id, level) = (Condition::None, OPERATION_ID, Level::Quorum);
        let since = Since::Unknown;
        request(Request::Write { key: key("k"), operation, condition, operation_id, level, since })
    };
    let routes = |leaders| {
        reply(Reply::Routes(Box::new(Routes { settings: settings(), hosts: vec![(host(1), HostState::Up)], leaders })))
    };
    taken(list(KEY_PREFIX_BYTES_MAX, PAGE_MAX));
    taken(write(MAX_INLINE_BYTES));
    let command = |arguments| {
        request(Request::Command {
            key: key("k"),
            arguments,
            operation_id: OPERATION_ID,
            level: Level::Quorum,
            since: Since::Unknown,
        })
    };
    taken(command(vec![Bytes::from(vec![1; ARGUMENT_BYTES_MAX])]));
    taken(command(vec![Bytes::new(); ARGUMENTS_MAX]));
    taken(routes(vec![u32::MAX; 65_536]));
    refused([
        ("prefix", list(KEY_PREFIX_BYTES_MAX + 1, 1)),
        ("limit", list(1, PAGE_MAX + 1)),
        ("limit", request(Request::Dump { after: None, limit: PAGE_MAX + 1 })),
        ("limit", request(Request::Log { key: key("k"), from_height: 1, limit: PAGE_MAX + 1 })),
        ("value", write(MAX_INLINE_BYTES + 1)),
        ("arguments", command(vec![])),
        ("arguments", command(vec![Bytes::from(vec![1; ARGUMENT_BYTES_MAX]), Bytes::from_static(b"x")])),
        ("arguments", command(vec![Bytes::new(); ARGUMENTS_MAX + 1])),
        ("leaders", routes(vec![1])),
        ("leaders", routes(vec![0; 65_537])),
    ]);
}

#[test]
fn blocks() {
    let put = |length| {
        let bytes = Bytes::from(vec![7; length]);
        let question = BlockQuestion::Put { hash: hash(1), bytes, version: 1, referenced: false };
        Message::Block(BlockMessage::Ask { id: 1, slot: SLOT, epoch: 1, question })
    };
    let page = |count| {
        let answer = BlockAnswer::Page { records: vec![(hash(1), record(1)); count], is_last: true };
        Message::Block(BlockMessage::Answer { id: 1, answer })
    };
    taken(put(BLOCK_BYTES_MAX));
    taken(page(PAGE_MAX as usize));
    let not_all = |silent, differing| {
        let nodes = |count: u8| (0..count).map(node).collect();
        let (silent, differing) = (nodes(silent), nodes(differing));
        let error = RequestError::NotAll { slot: SLOT, silent, differing, is_applied: false, written: None };
        Message::Response { id: 1, outcome: Outcome::Error(error) }
    };
    refused([("silent", not_all(31, 0)), ("differing", not_all(0, 31))]);
    refused([("bytes", put(BLOCK_BYTES_MAX + 1)), ("records", page(PAGE_MAX as usize + 1))]);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let failed =
        |reason: String| Message::Block(BlockMessage::Answer { id: 1, answer: BlockAnswer::Failed { reason } });
    let long = "é".repeat(REASON_BYTES_MAX);
    let odd = format!("x{long}");
    assert_eq!(decode(&encode(&[failed(long.clone())])), Ok(vec![failed(long[..REASON_BYTES_MAX].into())]));
    assert_eq!(decode(&encode(&[failed(odd.clone())])), Ok(vec![failed(odd[..REASON_BYTES_MAX - 1].into())]));
}
