//! What several messages carry.

use difuse_ring::{HostEntry, HostState, SUCCESSORS_MAX, VirtualNodeId};
use flatbuffers::{Vector, WIPOffset};

use crate::{
    builder::{Builder, Offset},
    error::{WireError, check},
    frame::list,
    generated::difuse::ring as fb,
    limits::VIRTUAL_NODES_MAX,
    types::{node_in, node_out, read_host, write_host},
};

pub(crate) fn state_out(state: HostState) -> fb::HostState {
    match state {
        HostState::Joining => fb::HostState::Joining,
        HostState::Up => fb::HostState::Up,
        HostState::Suspect => fb::HostState::Suspect,
        HostState::Leaving => fb::HostState::Leaving,
        HostState::Gone => fb::HostState::Gone,
        HostState::Left => fb::HostState::Left,
    }
}

pub(crate) fn state_in(state: fb::HostState) -> Result<HostState, WireError> {
    match state {
        fb::HostState::Joining => Ok(HostState::Joining),
        fb::HostState::Up => Ok(HostState::Up),
        fb::HostState::Suspect => Ok(HostState::Suspect),
        fb::HostState::Leaving => Ok(HostState::Leaving),
        fb::HostState::Gone => Ok(HostState::Gone),
        fb::HostState::Left => Ok(HostState::Left),
        _ => Err(WireError::OutOfBounds { field: "state" }),
    }
}

pub(super) fn virtual_node_out(node: &VirtualNodeId) -> fb::VirtualNodeId {
    fb::VirtualNodeId::new(&node_out(&node.node), node.index)
}

pub(super) fn virtual_node_in(node: &fb::VirtualNodeId) -> Result<VirtualNodeId, WireError> {
    check(node.index() < VIRTUAL_NODES_MAX, "index")?;
    Ok(VirtualNodeId { node: node_in(node.node()), index: node.index() })
}

pub(super) fn write_successors(
    builder: &mut Builder,
    successors: &[VirtualNodeId],
) -> WIPOffset<Vector<'static, fb::VirtualNodeId>> {
    builder.create_vector_from_iter(successors.iter().map(virtual_node_out))
}

/// Reads a successor list; an empty one if it is absent.
pub(super) fn read_successors(
    successors: Option<Vector<'_, fb::VirtualNodeId>>,
) -> Result<Vec<VirtualNodeId>, WireError> {
    successors.map_or(Ok(Vec::new()), |successors| list(successors, SUCCESSORS_MAX, "successors", virtual_node_in))
}

pub(super) fn write_entry(builder: &mut Builder, entry: &HostEntry) -> Offset<fb::HostEntry<'static>> {
    let host = Some(write_host(builder, &entry.host));
    let args = fb::HostEntryArgs { host, state: state_out(entry.state), version: entry.version };
    fb::HostEntry::create(builder, &args)
}

pub(super) fn read_entry(entry: fb::HostEntry<'_>) -> Result<HostEntry, WireError> {
    Ok(HostEntry { host: read_host(entry.host())?, state: state_in(entry.state())?, version: entry.version() })
}
