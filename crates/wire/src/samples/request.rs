use bytes::Bytes;
use difuse_keylog::{Checkpoint, Operation, ValueKind};
use difuse_protocol::{
    message::{Message, Outcome},
    request::{
        BlockHolding, BlockLocated, CollectionReply, CollectionStep, Condition, DumpCursor, DumpItem, Entry, Holding,
        ListEntry, Located, LostSlot, Moving, NamespaceUsage, NodeStatus, OperationOutcome, OperationState, PAGE_MAX,
        Quota, Reading, Recovery, Reply, Request, RequestError, RingView, Routes, ScrubReport, ScrubbedItem, Since,
        SlotSurvey, Survivor, Unrepaired, Usage, UsagePage,
    },
};
use difuse_types::{Level, SlotId, WallTime};

use super::{
    parts::{
        OPERATION_ID, SLOT, anchor, ballot, block, configuration, file, hash, host, key, node, record,
        recovered_configuration, settings, transactions, value,
    },
    ring::STATES,
};

pub(super) fn requests() -> Vec<Message> {
    let message = |request| Message::Request { id: 21, direct: true, request };
    let mut messages = vec![Message::Request { id: 0, direct: false, request: Request::Ring }];
    messages.extend(of_keys().into_iter().chain(writes()).chain(of_blocks()).chain(of_nodes()).map(message));
    messages
}

pub(super) fn responses() -> Vec<Message> {
    let message = |outcome| Message::Response { id: 22, outcome };
    let redirect = |configuration, leader| Outcome::Redirect { slot: SLOT, configuration, leader };
    let mut messages = vec![message(redirect(Some(configuration()), Some(node(1)))), message(redirect(None, None))];
    let replies = key_replies().into_iter().chain(block_replies()).chain(node_replies());
    messages.extend(replies.map(Outcome::Reply).map(message));
    messages.extend(errors().into_iter().map(Outcome::Error).map(message));
    messages
}

fn of_keys() -> Vec<Request> {
    let list = |after, slot| Request::List { prefix: Bytes::from_static(&[1, 0]), after, limit: PAGE_MAX, slot };
    let read = |level| Request::Read { key: key("k"), level, seen: (level == Level::Lazy).then(ballot) };
    let mut requests: Vec<_> = Level::ALL.into_iter().map(read).collect();
    requests.extend([
        Request::Log { key: key("k"), from_height: 1, limit: 10 },
        list(Some(key("k")), Some(SlotId(0))),
        list(None, None),
        Request::ListLed { prefix: Bytes::new(), after: Some(key("k")), limit: 0 },
        Request::ListLed { prefix: Bytes::new(), after: None, limit: 1 },
        Request::Usage { from: "".into(), limit: PAGE_MAX },
        Request::Usage { from: "n".into(), limit: 0 },
        Request::UsageLed { from: "n".repeat(64), limit: 1 },
        Request::Locate { key: file() },
        Request::Operation { operation_id: OPERATION_ID },
    ]);
    requests
}

fn writes() -> Vec<Request> {
    let write_since = |operation, condition, since| Request::Write {
        key: key("k"),
        operation,
        condition,
        operation_id: OPERATION_ID,
        level: Level::Quorum,
        since,
    };
    let write = |operation, condition| write_since(operation, condition, Since::After(anchor()));
    vec![
        write(Operation::Set(value(ValueKind::Inline)), Condition::None),
        write(Operation::Set(value(ValueKind::Inode)), Condition::Absent),
        write(Operation::Delete, Condition::Present),
        Request::Command {
            key: key("k"),
            arguments: vec![Bytes::from_static(b"hset"), Bytes::from_static(b"k"), Bytes::new()],
            operation_id: OPERATION_ID,
            level: Level::Leader,
            since: Since::Unsent,
        },
        write(Operation::Delete, Condition::Head(hash(8))),
        write_since(Operation::Delete, Condition::None, Since::Unsent),
        write_since(Operation::Delete, Condition::None, Since::Unknown),
    ]
}

fn of_blocks() -> Vec<Request> {
    vec![
        Request::PutBlock { hash: hash(1), bytes: block(), referenced: true, generation: 3, level: Level::All },
        Request::ReadBlock { hash: hash(1), level: Level::Lazy },
        Request::StatBlock { hash: hash(1) },
        Request::DeleteBlock { hash: hash(1), level: Level::Leader },
        Request::LocateBlock { hash: hash(1) },
    ]
}

fn of_nodes() -> Vec<Request> {
    let dump = |after| Request::Dump { after, limit: 3 };
    let collection = |step| Request::Collection { slot: SLOT, step };
    vec![
        Request::Ring,
        Request::Status,
        Request::Routes,
        Request::Leave,
        dump(None),
        dump(Some(DumpCursor::Key(SLOT, key("k")))),
        dump(Some(DumpCursor::Block(SLOT, Some(hash(1))))),
        dump(Some(DumpCursor::Block(SLOT, None))),
        Request::Generation { key: key("k") },
        collection(CollectionStep::Look),
        collection(CollectionStep::Raise { generation: 3 }),
        collection(CollectionStep::Seal { generation: 3 }),
        collection(CollectionStep::List { after: None }),
        collection(CollectionStep::List { after: Some(hash(1)) }),
        collection(CollectionStep::Delete { blocks: vec![(hash(1), 7), (hash(2), 1 << 33)] }),
        collection(CollectionStep::Delete { blocks: vec![] }),
        Request::Scrub { start: true },
        Request::Scrub { start: false },
        Request::Recover { first: SLOT, given_up: None },
        Request::Recover { first: SLOT, given_up: Some([node(3), node(4)].into()) },
        Request::Survey { first: SLOT },
        Request::BeginEpochs { recoveries: vec![(configuration(), recovered_configuration())] },
    ]
}

fn key_replies() -> Vec<Reply> {
    let entry = |value| Entry { height: 4, hash: hash(2), time: WallTime(1_700_000_000_000), author: node(1), value };
    let located = Located {
        slot: SLOT,
        epoch: 3,
        leader: node(1),
        members: vec![node(1), node(2)],
        joint: vec![node(3)],
        holdings: vec![
            Holding { node: node(1), head: Some((4, hash(2))), answered: true },
            Holding { node: node(2), head: None, answered: false },
        ],
    };
    let operation = |state| Reply::Operation(Some(OperationOutcome { key: key("k"), state }));
    let entries = vec![
        ListEntry { key: key("k"), entry: entry(Some(value(ValueKind::Inline))) },
        ListEntry { key: file(), entry: entry(Some(value(ValueKind::Inode))) },
    ];
    vec![
        Reply::Entry(Reading::default()),
        Reply::Entry(Reading { entry: Some(entry(None)), is_linearizable: false, mark: Some(ballot()) }),
        Reply::Entry(Reading {
            entry: Some(entry(Some(value(ValueKind::Inline)))),
            is_linearizable: true,
            mark: Some(ballot()),
        }),
        Reply::Written { height: 5, hash: hash(3), created: true, mark: Some(ballot()) },
        Reply::Written { height: 5, hash: hash(3), created: false, mark: None },
        Reply::Command {
            reply: Bytes::from_static(b"reply"),
            is_write: true,
            appended: Some((3, hash(4))),
            mark: Some(ballot()),
        },
        Reply::Command { reply: Bytes::new(), is_write: false, appended: None, mark: None },
        Reply::Queued { operation_id: OPERATION_ID },
        Reply::Operation(None),
        operation(OperationState::Queued),
        operation(OperationState::Forgotten),
        operation(OperationState::Applied { height: 7, hash: hash(7) }),
        operation(OperationState::Refused { reason: "because".into(), current: Some((3, hash(1), true)) }),
        operation(OperationState::Refused { reason: "because".into(), current: None }),
        Reply::Log { transactions: transactions(), head_height: 5 },
        Reply::Log { transactions: vec![], head_height: 0 },
        Reply::ListLed { entries: entries.clone(), next: Some(key("l")), slots: vec![SlotId(0), SLOT] },
        Reply::ListLed { entries: vec![], next: None, slots: vec![] },
        Reply::Usage(usage_page()),
        Reply::Usage(UsagePage::default()),
        Reply::UsageLed { page: usage_page(), slots: vec![SlotId(0), SLOT] },
        Reply::UsageLed { page: UsagePage::default(), slots: vec![] },
        Reply::List { entries, next: Some(key("l")) },
        Reply::List { entries: vec![], next: None },
        Reply::Located(Located { joint: vec![], ..located.clone() }),
        Reply::Located(located),
    ]
}

fn usage_page() -> UsagePage {
    let one = |namespace: &str, keys| NamespaceUsage {
        namespace: namespace.into(),
        usage: Usage { keys, bytes: u64::MAX - keys },
    };
    UsagePage { namespaces: vec![one("", 1), one("n", u64::MAX)], next: Some("n".into()) }
}

fn block_replies() -> Vec<Reply> {
    let holdings = vec![
        BlockHolding { node: node(1), record: Some(record(1)), answered: true },
        BlockHolding { node: node(2), record: None, answered: true },
        BlockHolding { node: node(3), record: None, answered: false },
    ];
    vec![
        Reply::BlockPut { created: true },
        Reply::Block(Some(block())),
        Reply::Block(None),
        Reply::BlockStat(Some(record(1))),
        Reply::BlockStat(None),
        Reply::BlockDeleted { existed: true },
        Reply::BlockLocated(BlockLocated { slot: SLOT, epoch: 3, holdings }),
    ]
}

fn node_replies() -> Vec<Reply> {
    let hosts: Vec<_> = STATES.into_iter().zip(1..).map(|(state, name)| (host(name), state)).collect();
    let moving = Moving { slots: 1, bytes_done: 2, bytes_total: 3 };
    let view = RingView {
        node: node(1),
        settings: settings(),
        settled: true,
        slots_short: 4,
        keys_damaged: 9,
        moving,
        short_of_room: vec![node(2), node(3)],
        tombstones: 7,
        hosts: hosts.clone(),
    };
    let status = NodeStatus {
        slots_led: 1,
        slots_settled: 2,
        slots_short: 3,
        slots_behind: 4,
        slots_left_over: 5,
        keys_damaged: 6,
        is_short_of_room: true,
        tombstones: 7,
        moving,
    };
    let items = vec![
        DumpItem::Key { slot: SLOT, key: key("k"), height: 1, hash: hash(1) },
        DumpItem::Block { slot: SLOT, hash: hash(2), record: record(2) },
    ];
    let survivors = vec![Survivor { node: node(1), keys: 1, bytes: 2, highest: 3 }];
    let lost = LostSlot { configuration: configuration(), survivors, recovered: true };
    vec![
        Reply::Ring(Box::new(view)),
        Reply::Status(status),
        Reply::Routes(Box::new(Routes { settings: settings(), hosts, leaders: vec![0, 5, u32::MAX] })),
        Reply::Done,
        Reply::Dump { items, next: Some(DumpCursor::Key(SLOT, key("k"))) },
        Reply::Dump { items: vec![], next: None },
        Reply::Collection(CollectionReply::Generation(3)),
        Reply::Collection(CollectionReply::Sealed { is_sealed: false, silent: vec![node(1)] }),
        Reply::Collection(CollectionReply::Sealed { is_sealed: true, silent: vec![] }),
        Reply::Collection(CollectionReply::Blocks { records: vec![(hash(1), record(1))], is_last: false }),
        Reply::Collection(CollectionReply::Blocks { records: vec![], is_last: true }),
        Reply::Collection(CollectionReply::Done),
        Reply::Scrub(Box::default()),
        Reply::Scrub(Box::new(scrub_report())),
        Reply::Recovery(Box::new(Recovery { slots: vec![lost], unreached: [node(3)].into(), next: Some(SlotId(256)) })),
        Reply::Recovery(Box::new(Recovery { slots: vec![], unreached: [].into(), next: None })),
        Reply::Survey(vec![SlotSurvey { configuration: configuration(), keys: 1, bytes: 2, highest: 3 }]),
        Reply::EpochsBegun { slots: vec![SlotId(0), SLOT] },
    ]
}

fn scrub_report() -> ScrubReport {
    let unrepaired = |item| Unrepaired { slot: SLOT, item, reason: "because".into() };
    ScrubReport {
        pass: 1,
        is_running: true,
        is_asked_for: true,
        slots_done: 2,
        slots_total: 3,
        transactions: 4,
        blocks: 5,
        bytes: 6,
        damaged_keys: 7,
        damaged_blocks: 8,
        repaired: 9,
        unrepaired: 10,
        unrepaired_items: vec![unrepaired(ScrubbedItem::Key(key("k"))), unrepaired(ScrubbedItem::Block(hash(1)))],
    }
}

fn errors() -> Vec<RequestError> {
    let reason = || String::from("because");
    vec![
        RequestError::Conflict { current: Some((3, hash(1), true)) },
        RequestError::Conflict { current: None },
        RequestError::Unavailable { slot: SLOT, reason: reason() },
        RequestError::Unknown { operation_id: OPERATION_ID, since: None },
        RequestError::Unknown { operation_id: OPERATION_ID, since: Some(anchor()) },
        RequestError::Forgotten { operation_id: OPERATION_ID, now: anchor() },
        RequestError::Lapsed { operation_id: OPERATION_ID, now: anchor() },
        RequestError::WrongHash { expected: hash(1), actual: hash(2) },
        RequestError::Invalid(reason()),
        RequestError::BlockReferenced { hash: hash(1) },
        RequestError::Busy,
        RequestError::Storage(reason()),
        RequestError::NotServing(reason()),
        RequestError::NotAll {
            slot: SLOT,
            silent: (1..=30).map(node).collect(),
            differing: vec![],
            is_applied: true,
            written: Some((7, hash(1))),
        },
        RequestError::NotAll { slot: SLOT, silent: vec![], differing: vec![node(1)], is_applied: false, written: None },
        RequestError::Pruned(Checkpoint { height: 1024, hash: hash(1), state: hash(2) }),
        RequestError::QuotaReached { namespace: "n".into(), quota: Quota::Keys(7) },
        RequestError::QuotaReached { namespace: "".into(), quota: Quota::Bytes(u64::MAX) },
        RequestError::Full { reason: reason() },
        RequestError::UploadTooOld { generation: 9 },
        RequestError::InBlocks,
    ]
}
