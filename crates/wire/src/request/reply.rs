use difuse_keylog::{Operation, Transaction};
use difuse_protocol::request::{DumpCursor, DumpItem, Entry, ListEntry, PAGE_MAX, Reading, Reply};
use difuse_types::{Key, SlotId};
use flatbuffers::{ForwardsUOffset, Vector};

use super::{
    collection::{read_answer, write_answer},
    command::{CommandReply, read_command_reply, write_command_reply},
    located::{
        read_block_located, read_located, read_ring, read_routes, read_status, write_block_located, write_located,
        write_ring, write_routes, write_status,
    },
    operation::{read_operation, write_operation},
    read::read_cursor,
    recovery::{read_epochs_begun, read_recovery, read_surveys, write_recovery, write_surveys},
    scrub::{read_scrub, write_scrub},
    usage::{read_usage_led_reply, read_usage_reply, write_usage_led_reply, write_usage_reply},
    write::write_cursor,
};
use crate::{
    blocks::{record_in, record_out},
    builder::{Builder, Offset, UnionOffset, write_bytes, write_tables},
    error::{WireError, present},
    frame::{Frame, list},
    generated::difuse::request as fb,
    keylog::{ballot_in, ballot_out, read_transactions, read_value, write_transactions, write_value},
    limits::{BLOCK_BYTES_MAX, SLOTS_MAX},
    types::{
        hash_in, hash_out, node_in, node_out, operation_id_in, operation_id_out, slot_in, time_in, write_key,
        write_key_option,
    },
};

const PAGE_COUNT_MAX: usize = PAGE_MAX as usize;

/// Writes the answer to a request that was served.
pub(super) fn write_reply(builder: &mut Builder, reply: &Reply) -> Offset<fb::Reply<'static>> {
    let (body_type, body) = write_body(builder, reply);
    fb::Reply::create(builder, &fb::ReplyArgs { body_type, body: Some(body) })
}

fn write_body(builder: &mut Builder, reply: &Reply) -> (fb::ReplyBody, UnionOffset) {
    use fb::ReplyBody as Body;
    match reply {
        Reply::Entry(reading) => (Body::EntryReply, write_reading(builder, reading)),
        Reply::Written { height, hash, created, mark } => {
            let (hash, mark) = (hash_out(hash), mark.as_ref().map(ballot_out));
            let args =
                fb::WrittenReplyArgs { height: *height, hash: Some(&hash), created: *created, mark: mark.as_ref() };
            (Body::WrittenReply, fb::WrittenReply::create(builder, &args).as_union_value())
        }
        Reply::Command { reply, is_write, appended, mark } => {
            let reply = CommandReply { reply, is_write: *is_write, appended: *appended, mark: *mark };
            (Body::CommandReply, write_command_reply(builder, &reply))
        }
        Reply::Queued { operation_id } => {
            let args = fb::QueuedReplyArgs { operation_id: Some(&operation_id_out(operation_id)) };
            (Body::QueuedReply, fb::QueuedReply::create(builder, &args).as_union_value())
        }
        Reply::Operation(outcome) => (Body::OperationReply, write_operation(builder, outcome.as_ref())),
        Reply::Log { transactions, head_height } => (Body::LogReply, write_log(builder, transactions, *head_height)),
        Reply::List { entries, next } => (Body::ListReply, write_list(builder, entries, next.as_ref())),
        Reply::ListLed { entries, next, slots } => {
            (Body::ListLedReply, write_list_led(builder, entries, next.as_ref(), slots))
        }
        Reply::Usage(page) => (Body::UsageReply, write_usage_reply(builder, page)),
        Reply::UsageLed { page, slots } => (Body::UsageLedReply, write_usage_led_reply(builder, page, slots)),
        Reply::Located(located) => (Body::LocatedReply, write_located(builder, located)),
        Reply::BlockPut { created } => {
            let table = fb::BlockPutReply::create(builder, &fb::BlockPutReplyArgs { created: *created });
            (Body::BlockPutReply, table.as_union_value())
        }
        Reply::Block(bytes) => {
            let bytes = bytes.as_ref().map(|bytes| write_bytes(builder, bytes));
            let table = fb::BlockReply::create(builder, &fb::BlockReplyArgs { bytes });
            (Body::BlockReply, table.as_union_value())
        }
        Reply::BlockStat(record) => {
            let record = record.as_ref().map(record_out);
            let table = fb::BlockStatReply::create(builder, &fb::BlockStatReplyArgs { record: record.as_ref() });
            (Body::BlockStatReply, table.as_union_value())
        }
        Reply::BlockDeleted { existed } => {
            let table = fb::BlockDeletedReply::create(builder, &fb::BlockDeletedReplyArgs { existed: *existed });
            (Body::BlockDeletedReply, table.as_union_value())
        }
        Reply::BlockLocated(located) => (Body::BlockLocatedReply, write_block_located(builder, located)),
        Reply::Ring(view) => (Body::RingReply, write_ring(builder, view)),
        Reply::Status(status) => (Body::StatusReply, write_status(builder, status)),
        Reply::Routes(routes) => (Body::RoutesReply, write_routes(builder, routes)),
        Reply::Done => (Body::DoneReply, fb::DoneReply::create(builder, &fb::DoneReplyArgs {}).as_union_value()),
        Reply::Dump { items, next } => (Body::DumpReply, write_dump(builder, items, next.as_ref())),
        Reply::Collection(answer) => (Body::CollectionReply, write_answer(builder, answer)),
        Reply::Scrub(report) => (Body::ScrubReply, write_scrub(builder, report)),
        Reply::Recovery(recovery) => (Body::RecoveryReply, write_recovery(builder, recovery)),
        Reply::Survey(surveys) => (Body::SurveyReply, write_surveys(builder, surveys)),
        Reply::EpochsBegun { slots } => {
            let slots = Some(builder.create_vector_from_iter(slots.iter().map(|slot| slot.0)));
            let table = fb::EpochsBegunReply::create(builder, &fb::EpochsBegunReplyArgs { slots });
            (Body::EpochsBegunReply, table.as_union_value())
        }
    }
}

fn write_reading(builder: &mut Builder, reading: &Reading) -> UnionOffset {
    let entry = reading.entry.as_ref().map(|entry| write_entry(builder, entry));
    let mark = reading.mark.as_ref().map(ballot_out);
    let args = fb::EntryReplyArgs { entry, linearizable: reading.is_linearizable, mark: mark.as_ref() };
    fb::EntryReply::create(builder, &args).as_union_value()
}

fn write_entry(builder: &mut Builder, entry: &Entry) -> Offset<fb::Entry<'static>> {
    let value = entry.value.as_ref().map(|value| write_value(builder, value));
    fb::Entry::create(
        builder,
        &fb::EntryArgs {
            height: entry.height,
            hash: Some(&hash_out(&entry.hash)),
            time: entry.time.0,
            author: Some(&node_out(&entry.author)),
            value,
        },
    )
}

fn write_log(builder: &mut Builder, transactions: &[Transaction], head_height: u64) -> UnionOffset {
    let transactions = Some(write_transactions(builder, None, transactions));
    fb::LogReply::create(builder, &fb::LogReplyArgs { transactions, head_height }).as_union_value()
}

fn write_list(builder: &mut Builder, entries: &[ListEntry], next: Option<&Key>) -> UnionOffset {
    let entries = Some(write_tables(builder, entries, write_list_entry));
    let next = write_key_option(builder, next);
    fb::ListReply::create(builder, &fb::ListReplyArgs { entries, next }).as_union_value()
}

fn write_list_led(builder: &mut Builder, entries: &[ListEntry], next: Option<&Key>, slots: &[SlotId]) -> UnionOffset {
    let entries = Some(write_tables(builder, entries, write_list_entry));
    let next = write_key_option(builder, next);
    let slots = Some(builder.create_vector_from_iter(slots.iter().map(|slot| slot.0)));
    fb::ListLedReply::create(builder, &fb::ListLedReplyArgs { entries, next, slots }).as_union_value()
}

fn write_list_entry(builder: &mut Builder, item: &ListEntry) -> Offset<fb::ListEntry<'static>> {
    let key = Some(write_key(builder, &item.key));
    let entry = Some(write_entry(builder, &item.entry));
    fb::ListEntry::create(builder, &fb::ListEntryArgs { key, entry })
}

fn write_dump(builder: &mut Builder, items: &[DumpItem], next: Option<&DumpCursor>) -> UnionOffset {
    let items = Some(write_tables(builder, items, write_dump_item));
    let next = next.map(|cursor| write_cursor(builder, cursor));
    fb::DumpReply::create(builder, &fb::DumpReplyArgs { items, next }).as_union_value()
}

fn write_dump_item(builder: &mut Builder, item: &DumpItem) -> Offset<fb::DumpItem<'static>> {
    match item {
        DumpItem::Key { slot, key, height, hash } => {
            let key = Some(write_key(builder, key));
            let hash = hash_out(hash);
            let args = fb::DumpItemArgs { slot: slot.0, key, height: *height, hash: Some(&hash), record: None };
            fb::DumpItem::create(builder, &args)
        }
        DumpItem::Block { slot, hash, record } => {
            let (hash, record) = (hash_out(hash), record_out(record));
            let args =
                fb::DumpItemArgs { slot: slot.0, key: None, height: 0, hash: Some(&hash), record: Some(&record) };
            fb::DumpItem::create(builder, &args)
        }
    }
}

/// Reads the answer to a request that was served.
pub(super) fn read_reply(frame: &Frame<'_>, reply: fb::Reply<'_>) -> Result<Reply, WireError> {
    use fb::ReplyBody as Body;
    const WHAT: &str = "a reply without its body";
    match reply.body_type() {
        Body::EntryReply => {
            let table = present(reply.body_as_entry_reply(), WHAT)?;
            Ok(Reply::Entry(Reading {
                entry: table.entry().map(|entry| read_entry(frame, entry)).transpose()?,
                is_linearizable: table.linearizable(),
                mark: table.mark().map(ballot_in),
            }))
        }
        Body::WrittenReply => {
            let table = present(reply.body_as_written_reply(), WHAT)?;
            Ok(Reply::Written {
                height: table.height(),
                hash: hash_in(table.hash()),
                created: table.created(),
                mark: table.mark().map(ballot_in),
            })
        }
        Body::QueuedReply => {
            let operation_id = present(reply.body_as_queued_reply(), WHAT)?.operation_id();
            Ok(Reply::Queued { operation_id: operation_id_in(operation_id) })
        }
        Body::CommandReply => read_command_reply(frame, present(reply.body_as_command_reply(), WHAT)?),
        Body::OperationReply => read_operation(frame, present(reply.body_as_operation_reply(), WHAT)?),
        Body::LogReply => read_log(frame, present(reply.body_as_log_reply(), WHAT)?),
        Body::ListReply => read_list(frame, present(reply.body_as_list_reply(), WHAT)?),
        Body::ListLedReply => read_list_led(frame, present(reply.body_as_list_led_reply(), WHAT)?),
        Body::UsageReply => read_usage_reply(present(reply.body_as_usage_reply(), WHAT)?),
        Body::UsageLedReply => read_usage_led_reply(present(reply.body_as_usage_led_reply(), WHAT)?),
        Body::LocatedReply => read_located(present(reply.body_as_located_reply(), WHAT)?),
        Body::BlockPutReply => {
            Ok(Reply::BlockPut { created: present(reply.body_as_block_put_reply(), WHAT)?.created() })
        }
        Body::BlockReply => {
            let bytes = present(reply.body_as_block_reply(), WHAT)?.bytes();
            let bytes = bytes.map(|bytes| frame.bytes(bytes, BLOCK_BYTES_MAX, "bytes"));
            Ok(Reply::Block(bytes.transpose()?))
        }
        Body::BlockStatReply => {
            Ok(Reply::BlockStat(present(reply.body_as_block_stat_reply(), WHAT)?.record().map(record_in)))
        }
        Body::BlockDeletedReply => {
            Ok(Reply::BlockDeleted { existed: present(reply.body_as_block_deleted_reply(), WHAT)?.existed() })
        }
        Body::BlockLocatedReply => read_block_located(present(reply.body_as_block_located_reply(), WHAT)?),
        Body::RingReply => read_ring(present(reply.body_as_ring_reply(), WHAT)?),
        Body::StatusReply => Ok(Reply::Status(read_status(present(reply.body_as_status_reply(), WHAT)?))),
        Body::RoutesReply => read_routes(present(reply.body_as_routes_reply(), WHAT)?),
        Body::DoneReply => Ok(Reply::Done),
        Body::DumpReply => read_dump(frame, present(reply.body_as_dump_reply(), WHAT)?),
        Body::CollectionReply => read_answer(present(reply.body_as_collection_reply(), WHAT)?),
        Body::ScrubReply => read_scrub(frame, present(reply.body_as_scrub_reply(), WHAT)?),
        Body::RecoveryReply => read_recovery(present(reply.body_as_recovery_reply(), WHAT)?),
        Body::SurveyReply => read_surveys(present(reply.body_as_survey_reply(), WHAT)?),
        Body::EpochsBegunReply => read_epochs_begun(present(reply.body_as_epochs_begun_reply(), WHAT)?),
        _ => Err(WireError::malformed("an unknown reply")),
    }
}

fn read_entry(frame: &Frame<'_>, entry: fb::Entry<'_>) -> Result<Entry, WireError> {
    let value = match read_value(frame, entry.value())? {
        Operation::Set(value) => Some(value),
        Operation::Delete => None,
    };
    Ok(Entry {
        height: entry.height(),
        hash: hash_in(entry.hash()),
        time: time_in(entry.time()),
        author: node_in(entry.author()),
        value,
    })
}

fn read_log(frame: &Frame<'_>, table: fb::LogReply<'_>) -> Result<Reply, WireError> {
    Ok(Reply::Log {
        transactions: read_transactions(frame, None, Some(table.transactions()), PAGE_COUNT_MAX)?,
        head_height: table.head_height(),
    })
}

fn read_list(frame: &Frame<'_>, table: fb::ListReply<'_>) -> Result<Reply, WireError> {
    Ok(Reply::List { entries: read_list_entries(frame, table.entries())?, next: frame.key_option(table.next())? })
}

fn read_list_led(frame: &Frame<'_>, table: fb::ListLedReply<'_>) -> Result<Reply, WireError> {
    Ok(Reply::ListLed {
        entries: read_list_entries(frame, table.entries())?,
        next: frame.key_option(table.next())?,
        slots: list(table.slots(), SLOTS_MAX, "slots", slot_in)?,
    })
}

fn read_list_entries(
    frame: &Frame<'_>,
    entries: Vector<'_, ForwardsUOffset<fb::ListEntry<'_>>>,
) -> Result<Vec<ListEntry>, WireError> {
    list(entries, PAGE_COUNT_MAX, "entries", |item| {
        Ok(ListEntry { key: frame.key(item.key())?, entry: read_entry(frame, item.entry())? })
    })
}

fn read_dump(frame: &Frame<'_>, table: fb::DumpReply<'_>) -> Result<Reply, WireError> {
    Ok(Reply::Dump {
        items: list(table.items(), PAGE_COUNT_MAX, "items", |item| read_dump_item(frame, item))?,
        next: table.next().map(|cursor| read_cursor(frame, cursor)).transpose()?,
    })
}

fn read_dump_item(frame: &Frame<'_>, item: fb::DumpItem<'_>) -> Result<DumpItem, WireError> {
    let slot = slot_in(item.slot())?;
    let hash = hash_in(item.hash());
    match (item.key(), item.record()) {
        (Some(key), None) => Ok(DumpItem::Key { slot, key: frame.key(key)?, height: item.height(), hash }),
        (None, Some(record)) => Ok(DumpItem::Block { slot, hash, record: record_in(record) }),
        _ => Err(WireError::malformed("an item of a dump is a key or a block")),
    }
}
