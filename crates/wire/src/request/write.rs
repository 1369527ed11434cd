use difuse_keylog::{Ballot, Operation};
use difuse_protocol::request::{Anchor, Condition, DumpCursor, Request, Since};
use difuse_types::{Hash, Key, Level, OperationId, SlotId};

use super::collection::write_step;
use super::command::write_command;
use super::recovery::{write_begin_epochs, write_recover};
use super::usage::{write_usage, write_usage_led};
use crate::{
    builder::{Builder, Offset, UnionOffset, write_bytes},
    generated::difuse::request as fb,
    keylog::{ballot_in, ballot_out, write_value},
    types::{hash_out, level_out, operation_id_out, write_key, write_key_option},
};

/// Writes a request.
pub(crate) fn write_request(
    builder: &mut Builder,
    id: u64,
    direct: bool,
    request: &Request,
) -> Offset<fb::Request<'static>> {
    let (body_type, body) = write_body(builder, request);
    fb::Request::create(builder, &fb::RequestArgs { id, direct, body_type, body: Some(body) })
}

fn write_body(builder: &mut Builder, request: &Request) -> (fb::RequestBody, UnionOffset) {
    use fb::RequestBody as Body;
    match request {
        Request::Read { key, level, seen } => (Body::Read, read(builder, key, *level, seen.as_ref())),
        Request::Write { key, operation, condition, operation_id, level, since } => {
            (Body::Write, write(builder, key, operation, condition, operation_id, *level, *since))
        }
        Request::Command { key, arguments, operation_id, level, since } => {
            (Body::Command, write_command(builder, key, arguments, operation_id, *level, *since))
        }
        Request::Log { key, from_height, limit } => (Body::Log, log(builder, key, *from_height, *limit)),
        Request::List { prefix, after, limit, slot } => {
            (Body::List, list(builder, prefix, after.as_ref(), *limit, *slot))
        }
        Request::ListLed { prefix, after, limit } => (Body::ListLed, list_led(builder, prefix, after.as_ref(), *limit)),
        Request::Usage { from, limit } => (Body::Usage, write_usage(builder, from, *limit)),
        Request::UsageLed { from, limit } => (Body::UsageLed, write_usage_led(builder, from, *limit)),
        Request::Locate { key } => (Body::Locate, locate(builder, key)),
        Request::PutBlock { hash, bytes, referenced, generation, level } => {
            let bytes = Some(write_bytes(builder, bytes));
            let (hash, level) = (hash_out(hash), level_out(*level));
            let (referenced, generation) = (*referenced, *generation);
            let args = fb::PutBlockArgs { hash: Some(&hash), bytes, referenced, generation, level };
            (Body::PutBlock, fb::PutBlock::create(builder, &args).as_union_value())
        }
        Request::ReadBlock { hash, level } => (Body::ReadBlock, read_block(builder, hash, *level)),
        Request::StatBlock { hash } => (Body::StatBlock, stat_block(builder, hash)),
        Request::DeleteBlock { hash, level } => (Body::DeleteBlock, delete_block(builder, hash, *level)),
        Request::LocateBlock { hash } => (Body::LocateBlock, locate_block(builder, hash)),
        Request::Operation { operation_id } => {
            let args = fb::OperationArgs { operation_id: Some(&operation_id_out(operation_id)) };
            (Body::Operation, fb::Operation::create(builder, &args).as_union_value())
        }
        Request::Ring => (Body::Ring, fb::Ring::create(builder, &fb::RingArgs {}).as_union_value()),
        Request::Status => (Body::Status, fb::Status::create(builder, &fb::StatusArgs {}).as_union_value()),
        Request::Routes => (Body::Routes, fb::Routes::create(builder, &fb::RoutesArgs {}).as_union_value()),
        Request::Leave => (Body::Leave, fb::Leave::create(builder, &fb::LeaveArgs {}).as_union_value()),
        Request::Dump { after, limit } => (Body::Dump, dump(builder, after.as_ref(), *limit)),
        Request::Generation { key } => {
            let key = Some(write_key(builder, key));
            (Body::Generation, fb::Generation::create(builder, &fb::GenerationArgs { key }).as_union_value())
        }
        Request::Collection { slot, step } => (Body::Collection, write_step(builder, *slot, step)),
        Request::Scrub { start } => {
            (Body::Scrub, fb::Scrub::create(builder, &fb::ScrubArgs { start: *start }).as_union_value())
        }
        Request::Recover { first, given_up } => (Body::Recover, write_recover(builder, *first, given_up.as_ref())),
        Request::Survey { first } => {
            (Body::Survey, fb::Survey::create(builder, &fb::SurveyArgs { first: first.0 }).as_union_value())
        }
        Request::BeginEpochs { recoveries } => (Body::BeginEpochs, write_begin_epochs(builder, recoveries)),
    }
}

fn read(builder: &mut Builder, key: &Key, level: Level, seen: Option<&Ballot>) -> UnionOffset {
    let key = Some(write_key(builder, key));
    let seen = seen.map(ballot_out);
    fb::Read::create(builder, &fb::ReadArgs { key, level: level_out(level), seen: seen.as_ref() }).as_union_value()
}

fn write(
    builder: &mut Builder,
    key: &Key,
    operation: &Operation,
    condition: &Condition,
    operation_id: &OperationId,
    level: Level,
    since: Since,
) -> UnionOffset {
    let key = Some(write_key(builder, key));
    let value = match operation {
        Operation::Set(value) => Some(write_value(builder, value)),
        Operation::Delete => None,
    };
    let (condition, head) = match condition {
        Condition::None => (fb::ConditionKind::None, None),
        Condition::Absent => (fb::ConditionKind::Absent, None),
        Condition::Present => (fb::ConditionKind::Present, None),
        Condition::Head(hash) => (fb::ConditionKind::Head, Some(hash_out(hash))),
    };
    let anchor = since.anchor().as_ref().map(anchor_out);
    fb::Write::create(
        builder,
        &fb::WriteArgs {
            key,
            value,
            condition,
            head: head.as_ref(),
            operation_id: Some(&operation_id_out(operation_id)),
            level: level_out(level),
            since: anchor.as_ref(),
            unsent: matches!(since, Since::Now | Since::Unsent),
        },
    )
    .as_union_value()
}

/// Writes a point in the history of a slot and a key.
pub(super) fn anchor_out(anchor: &Anchor) -> fb::Anchor {
    fb::Anchor::new(&ballot_out(&anchor.ballot), anchor.height)
}

/// Reads one.
pub(super) fn anchor_in(anchor: &fb::Anchor) -> Anchor {
    Anchor { ballot: ballot_in(anchor.ballot()), height: anchor.height() }
}

fn log(builder: &mut Builder, key: &Key, from_height: u64, limit: u32) -> UnionOffset {
    let key = Some(write_key(builder, key));
    fb::Log::create(builder, &fb::LogArgs { key, from_height, limit }).as_union_value()
}

fn list(builder: &mut Builder, prefix: &[u8], after: Option<&Key>, limit: u32, slot: Option<SlotId>) -> UnionOffset {
    let prefix = Some(write_bytes(builder, prefix));
    let after = write_key_option(builder, after);
    fb::List::create(builder, &fb::ListArgs { prefix, after, limit, slot: slot.map(|slot| slot.0) }).as_union_value()
}

fn list_led(builder: &mut Builder, prefix: &[u8], after: Option<&Key>, limit: u32) -> UnionOffset {
    let prefix = Some(write_bytes(builder, prefix));
    let after = write_key_option(builder, after);
    fb::ListLed::create(builder, &fb::ListLedArgs { prefix, after, limit }).as_union_value()
}

fn locate(builder: &mut Builder, key: &Key) -> UnionOffset {
    let key = Some(write_key(builder, key));
    fb::Locate::create(builder, &fb::LocateArgs { key }).as_union_value()
}

fn read_block(builder: &mut Builder, hash: &Hash, level: Level) -> UnionOffset {
    fb::ReadBlock::create(builder, &fb::ReadBlockArgs { hash: Some(&hash_out(hash)), level: level_out(level) })
        .as_union_value()
}

fn stat_block(builder: &mut Builder, hash: &Hash) -> UnionOffset {
    fb::StatBlock::create(builder, &fb::StatBlockArgs { hash: Some(&hash_out(hash)) }).as_union_value()
}

fn delete_block(builder: &mut Builder, hash: &Hash, level: Level) -> UnionOffset {
    fb::DeleteBlock::create(builder, &fb::DeleteBlockArgs { hash: Some(&hash_out(hash)), level: level_out(level) })
        .as_union_value()
}

fn locate_block(builder: &mut Builder, hash: &Hash) -> UnionOffset {
    fb::LocateBlock::create(builder, &fb::LocateBlockArgs { hash: Some(&hash_out(hash)) }).as_union_value()
}

fn dump(builder: &mut Builder, after: Option<&DumpCursor>, limit: u32) -> UnionOffset {
    let after = after.map(|cursor| write_cursor(builder, cursor));
    fb::Dump::create(builder, &fb::DumpArgs { after, limit }).as_union_value()
}

/// Writes where a page of a dump begins.
pub(super) fn write_cursor(builder: &mut Builder, cursor: &DumpCursor) -> Offset<fb::DumpCursor<'static>> {
    let (slot, key, block) = match cursor {
        DumpCursor::Key(slot, key) => (slot, Some(write_key(builder, key)), None),
        DumpCursor::Block(slot, hash) => (slot, None, hash.as_ref().map(hash_out)),
    };
    fb::DumpCursor::create(builder, &fb::DumpCursorArgs { slot: slot.0, key, block: block.as_ref() })
}
