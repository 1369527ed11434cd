//! The steps of a collection of blocks that nothing names any more.

use difuse_protocol::request::{COLLECTED_MAX, CollectionReply, CollectionStep, PAGE_MAX, Reply, Request};
use difuse_types::SlotId;

use crate::{
    blocks::{record_in, record_out},
    builder::{Builder, UnionOffset},
    error::WireError,
    frame::list,
    generated::difuse::{blocks::ListedBlock, request as fb},
    keylog::write_nodes,
    limits::HOLDINGS_MAX,
    types::{hash_in, hash_out, node_in, slot_in},
};

pub(super) fn write_step(builder: &mut Builder, slot: SlotId, step: &CollectionStep) -> UnionOffset {
    let mut args = fb::CollectionArgs { slot: slot.0, ..Default::default() };
    let mut begin = None;
    match step {
        CollectionStep::Look => args.step = fb::CollectionStep::Look,
        CollectionStep::Raise { generation } => {
            (args.step, args.generation) = (fb::CollectionStep::Raise, *generation);
        }
        CollectionStep::Seal { generation } => (args.step, args.generation) = (fb::CollectionStep::Seal, *generation),
        CollectionStep::List { after } => {
            args.step = fb::CollectionStep::List;
            begin = after.as_ref().map(hash_out);
        }
        CollectionStep::Delete { blocks } => {
            args.step = fb::CollectionStep::Delete;
            let blocks = blocks.iter().map(|(hash, version)| fb::Collected::new(&hash_out(hash), *version));
            args.blocks = Some(builder.create_vector_from_iter(blocks));
        }
    }
    args.after = begin.as_ref();
    fb::Collection::create(builder, &args).as_union_value()
}

pub(super) fn read_step(table: fb::Collection<'_>) -> Result<Request, WireError> {
    let generation = table.generation();
    let step = match table.step() {
        fb::CollectionStep::Look => CollectionStep::Look,
        fb::CollectionStep::Raise => CollectionStep::Raise { generation },
        fb::CollectionStep::Seal => CollectionStep::Seal { generation },
        fb::CollectionStep::List => CollectionStep::List { after: table.after().map(hash_in) },
        fb::CollectionStep::Delete => {
            let collected = |block: &fb::Collected| Ok((hash_in(block.hash()), block.version()));
            let blocks = table.blocks().map(|blocks| list(blocks, COLLECTED_MAX, "blocks", collected));
            CollectionStep::Delete { blocks: blocks.transpose()?.unwrap_or_default() }
        }
        _ => return Err(WireError::OutOfBounds { field: "step" }),
    };
    Ok(Request::Collection { slot: slot_in(table.slot())?, step })
}

pub(super) fn write_answer(builder: &mut Builder, answer: &CollectionReply) -> UnionOffset {
    let mut args = fb::CollectionReplyArgs::default();
    match answer {
        CollectionReply::Generation(generation) => {
            (args.answer, args.generation) = (fb::CollectionAnswer::Generation, *generation);
        }
        CollectionReply::Sealed { is_sealed, silent } => {
            (args.answer, args.sealed) = (fb::CollectionAnswer::Sealed, *is_sealed);
            args.silent = Some(write_nodes(builder, silent));
        }
        CollectionReply::Blocks { records, is_last } => {
            (args.answer, args.last) = (fb::CollectionAnswer::Blocks, *is_last);
            let records = records.iter().map(|(hash, record)| ListedBlock::new(&hash_out(hash), &record_out(record)));
            args.records = Some(builder.create_vector_from_iter(records));
        }
        CollectionReply::Done => args.answer = fb::CollectionAnswer::Done,
    }
    fb::CollectionReply::create(builder, &args).as_union_value()
}

pub(super) fn read_answer(table: fb::CollectionReply<'_>) -> Result<Reply, WireError> {
    let answer = match table.answer() {
        fb::CollectionAnswer::Generation => CollectionReply::Generation(table.generation()),
        fb::CollectionAnswer::Sealed => {
            let silent = table.silent().map(|nodes| list(nodes, HOLDINGS_MAX, "silent", |node| Ok(node_in(node))));
            CollectionReply::Sealed { is_sealed: table.sealed(), silent: silent.transpose()?.unwrap_or_default() }
        }
        fb::CollectionAnswer::Blocks => {
            let listed = |block: &ListedBlock| Ok((hash_in(block.hash()), record_in(block.record())));
            let records = table.records().map(|records| list(records, PAGE_MAX as usize, "records", listed));
            CollectionReply::Blocks { records: records.transpose()?.unwrap_or_default(), is_last: table.last() }
        }
        fb::CollectionAnswer::Done => CollectionReply::Done,
        _ => return Err(WireError::OutOfBounds { field: "answer" }),
    };
    Ok(Reply::Collection(answer))
}
