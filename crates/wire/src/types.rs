//! The vocabulary that all messages share.

use difuse_types::{
    Hash, Host, Incarnation, Key, Level, NodeId, OperationId, RingId, RingSettings, SlotId, Slots, WallTime,
};

use crate::{
    builder::{Builder, BytesOffset, Offset, write_bytes},
    error::{WireError, check},
    frame::text,
    generated::difuse::types as fb,
    limits::{HOST_TEXT_BYTES_MAX, SLOTS_MAX},
};

pub(crate) fn hash_out(hash: &Hash) -> fb::Hash {
    fb::Hash(hash.0)
}

pub(crate) fn hash_in(hash: &fb::Hash) -> Hash {
    Hash(hash.0)
}

pub(crate) fn node_out(node: &NodeId) -> fb::NodeId {
    fb::NodeId(node.0)
}

pub(crate) fn node_in(node: &fb::NodeId) -> NodeId {
    NodeId(node.0)
}

pub(crate) fn operation_id_out(id: &OperationId) -> fb::OperationId {
    fb::OperationId(id.0)
}

pub(crate) fn operation_id_in(id: &fb::OperationId) -> OperationId {
    OperationId(id.0)
}

pub(crate) fn time_in(milliseconds: u64) -> WallTime {
    WallTime(milliseconds)
}

pub(crate) fn digest_out(digest: u128) -> fb::Digest {
    let bytes = digest.to_le_bytes();
    let half = |start: usize| {
        let mut half = [0; 8];
        half.copy_from_slice(&bytes[start..start + 8]);
        u64::from_le_bytes(half)
    };
    fb::Digest::new(half(0), half(8))
}

pub(crate) fn digest_in(digest: &fb::Digest) -> u128 {
    u128::from(digest.low()) | u128::from(digest.high()) << 64
}

pub(crate) fn slot_in(slot: u32) -> Result<SlotId, WireError> {
    check((slot as usize) < SLOTS_MAX, "slot")?;
    Ok(SlotId(slot))
}

pub(crate) fn level_out(level: Level) -> fb::Level {
    match level {
        Level::Lazy => fb::Level::Lazy,
        Level::Leader => fb::Level::Leader,
        Level::Quorum => fb::Level::Quorum,
        Level::All => fb::Level::All,
    }
}

pub(crate) fn level_in(level: fb::Level) -> Result<Level, WireError> {
    match level {
        fb::Level::Lazy => Ok(Level::Lazy),
        fb::Level::Leader => Ok(Level::Leader),
        fb::Level::Quorum => Ok(Level::Quorum),
        fb::Level::All => Ok(Level::All),
        _ => Err(WireError::OutOfBounds { field: "level" }),
    }
}

pub(crate) fn write_key(builder: &mut Builder, key: &Key) -> BytesOffset {
    write_bytes(builder, key.encoded())
}

pub(crate) fn write_key_option(builder: &mut Builder, key: Option<&Key>) -> Option<BytesOffset> {
    key.map(|key| write_key(builder, key))
}

pub(crate) fn write_host(builder: &mut Builder, host: &Host) -> Offset<fb::Host<'static>> {
    let address = builder.create_string(&host.address);
    let http = builder.create_string(&host.http);
    let zone = builder.create_string(&host.zone);
    let label = builder.create_string(&host.label);
    fb::Host::create(
        builder,
        &fb::HostArgs {
            node: Some(&node_out(&host.node)),
            incarnation: host.incarnation.0,
            address: Some(address),
            http: Some(http),
            zone: Some(zone),
            label: Some(label),
        },
    )
}

pub(crate) fn read_host(host: fb::Host<'_>) -> Result<Host, WireError> {
    Ok(Host {
        node: node_in(host.node()),
        incarnation: Incarnation(host.incarnation()),
        address: text(host.address(), HOST_TEXT_BYTES_MAX, "address")?,
        http: text(host.http(), HOST_TEXT_BYTES_MAX, "http")?,
        zone: text(host.zone(), HOST_TEXT_BYTES_MAX, "zone")?,
        label: text(host.label(), HOST_TEXT_BYTES_MAX, "label")?,
    })
}

pub(crate) fn write_settings(builder: &mut Builder, settings: &RingSettings) -> Offset<fb::RingSettings<'static>> {
    fb::RingSettings::create(
        builder,
        &fb::RingSettingsArgs {
            id: Some(&hash_out(&settings.id.0)),
            replicas: settings.replicas,
            slots: Slots::count(settings.slots),
            virtual_nodes: settings.virtual_nodes,
        },
    )
}

pub(crate) fn read_settings(settings: fb::RingSettings<'_>) -> Result<RingSettings, WireError> {
    RingSettings::new(RingId(hash_in(settings.id())), settings.replicas(), settings.slots(), settings.virtual_nodes())
        .map_err(|_| WireError::OutOfBounds { field: "settings" })
}
