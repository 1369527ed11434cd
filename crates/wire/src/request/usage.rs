//! What the keys of namespaces come to.

use difuse_protocol::request::{NamespaceUsage, PAGE_MAX, Reply, Request, Usage, UsagePage};
use difuse_types::{MAX_NAMESPACE_BYTES, SlotId};
use flatbuffers::{ForwardsUOffset, Vector};

use super::read::limit_in;
use crate::{
    builder::{Builder, Offset, UnionOffset, write_tables},
    error::WireError,
    frame::{list, text},
    generated::difuse::request as fb,
    limits::SLOTS_MAX,
    types::slot_in,
};

pub(super) fn write_usage(builder: &mut Builder, from: &str, limit: u32) -> UnionOffset {
    let from = Some(builder.create_string(from));
    fb::Usage::create(builder, &fb::UsageArgs { from, limit }).as_union_value()
}

pub(super) fn read_usage(table: fb::Usage<'_>) -> Result<Request, WireError> {
    Ok(Request::Usage { from: text(table.from(), MAX_NAMESPACE_BYTES, "from")?, limit: limit_in(table.limit())? })
}

pub(super) fn write_usage_led(builder: &mut Builder, from: &str, limit: u32) -> UnionOffset {
    let from = Some(builder.create_string(from));
    fb::UsageLed::create(builder, &fb::UsageLedArgs { from, limit }).as_union_value()
}

pub(super) fn read_usage_led(table: fb::UsageLed<'_>) -> Result<Request, WireError> {
    Ok(Request::UsageLed { from: text(table.from(), MAX_NAMESPACE_BYTES, "from")?, limit: limit_in(table.limit())? })
}

pub(super) fn write_usage_reply(builder: &mut Builder, page: &UsagePage) -> UnionOffset {
    let namespaces = Some(write_tables(builder, &page.namespaces, write_namespace));
    let next = page.next.as_deref().map(|next| builder.create_string(next));
    fb::UsageReply::create(builder, &fb::UsageReplyArgs { namespaces, next }).as_union_value()
}

pub(super) fn read_usage_reply(table: fb::UsageReply<'_>) -> Result<Reply, WireError> {
    Ok(Reply::Usage(read_page(table.namespaces(), table.next())?))
}

pub(super) fn write_usage_led_reply(builder: &mut Builder, page: &UsagePage, slots: &[SlotId]) -> UnionOffset {
    let namespaces = Some(write_tables(builder, &page.namespaces, write_namespace));
    let next = page.next.as_deref().map(|next| builder.create_string(next));
    let slots = Some(builder.create_vector_from_iter(slots.iter().map(|slot| slot.0)));
    fb::UsageLedReply::create(builder, &fb::UsageLedReplyArgs { namespaces, next, slots }).as_union_value()
}

pub(super) fn read_usage_led_reply(table: fb::UsageLedReply<'_>) -> Result<Reply, WireError> {
    let page = read_page(table.namespaces(), table.next())?;
    Ok(Reply::UsageLed { page, slots: list(table.slots(), SLOTS_MAX, "slots", slot_in)? })
}

fn write_namespace(builder: &mut Builder, one: &NamespaceUsage) -> Offset<fb::NamespaceUsage<'static>> {
    let namespace = Some(builder.create_string(&one.namespace));
    let Usage { keys, bytes } = one.usage;
    fb::NamespaceUsage::create(builder, &fb::NamespaceUsageArgs { namespace, keys, bytes })
}

fn read_page(
    namespaces: Vector<'_, ForwardsUOffset<fb::NamespaceUsage<'_>>>,
    next: Option<&str>,
) -> Result<UsagePage, WireError> {
    let namespaces = list(namespaces, PAGE_MAX as usize, "namespaces", |one| {
        let namespace = text(one.namespace(), MAX_NAMESPACE_BYTES, "namespace")?;
        Ok(NamespaceUsage { namespace, usage: Usage { keys: one.keys(), bytes: one.bytes() } })
    })?;
    let next = next.map(|next| text(next, MAX_NAMESPACE_BYTES, "next")).transpose()?;
    Ok(UsagePage { namespaces, next })
}
