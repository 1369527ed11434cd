//! How a pass over a node's disk stands.

use difuse_protocol::request::{Reply, ScrubReport, ScrubbedItem, UNREPAIRED_LISTED_MAX, Unrepaired};

use crate::{
    builder::{Builder, Offset, UnionOffset, write_reason, write_tables},
    error::WireError,
    frame::{Frame, list, reason},
    generated::difuse::request as fb,
    types::{hash_in, hash_out, slot_in, write_key},
};

pub(super) fn write_scrub(builder: &mut Builder, report: &ScrubReport) -> UnionOffset {
    let unrepaired_items = Some(write_tables(builder, &report.unrepaired_items, write_unrepaired));
    let args = fb::ScrubReplyArgs {
        pass: report.pass,
        running: report.is_running,
        asked_for: report.is_asked_for,
        slots_done: report.slots_done,
        slots_total: report.slots_total,
        transactions: report.transactions,
        blocks: report.blocks,
        bytes: report.bytes,
        damaged_keys: report.damaged_keys,
        damaged_blocks: report.damaged_blocks,
        repaired: report.repaired,
        unrepaired: report.unrepaired,
        unrepaired_items,
    };
    fb::ScrubReply::create(builder, &args).as_union_value()
}

fn write_unrepaired(builder: &mut Builder, unrepaired: &Unrepaired) -> Offset<fb::Unrepaired<'static>> {
    let reason = Some(write_reason(builder, &unrepaired.reason));
    let (key, block) = match &unrepaired.item {
        ScrubbedItem::Key(key) => (Some(write_key(builder, key)), None),
        ScrubbedItem::Block(hash) => (None, Some(hash_out(hash))),
    };
    fb::Unrepaired::create(builder, &fb::UnrepairedArgs { slot: unrepaired.slot.0, key, block: block.as_ref(), reason })
}

pub(super) fn read_scrub(frame: &Frame<'_>, table: fb::ScrubReply<'_>) -> Result<Reply, WireError> {
    let unrepaired = |item| read_unrepaired(frame, item);
    Ok(Reply::Scrub(Box::new(ScrubReport {
        pass: table.pass(),
        is_running: table.running(),
        is_asked_for: table.asked_for(),
        slots_done: table.slots_done(),
        slots_total: table.slots_total(),
        transactions: table.transactions(),
        blocks: table.blocks(),
        bytes: table.bytes(),
        damaged_keys: table.damaged_keys(),
        damaged_blocks: table.damaged_blocks(),
        repaired: table.repaired(),
        unrepaired: table.unrepaired(),
        unrepaired_items: list(table.unrepaired_items(), UNREPAIRED_LISTED_MAX, "unrepaired_items", unrepaired)?,
    })))
}

fn read_unrepaired(frame: &Frame<'_>, table: fb::Unrepaired<'_>) -> Result<Unrepaired, WireError> {
    let item = match (table.key(), table.block()) {
        (Some(key), None) => ScrubbedItem::Key(frame.key(key)?),
        (None, Some(hash)) => ScrubbedItem::Block(hash_in(hash)),
        _ => return Err(WireError::malformed("what was not repaired is a key or a block")),
    };
    Ok(Unrepaired { slot: slot_in(table.slot())?, item, reason: reason(table.reason())? })
}
