//! Who has a thing, and who is in the ring.

use difuse_protocol::request::{
    BlockHolding, BlockLocated, Holding, Located, Moving, NodeStatus, Reply, RingView, Routes,
};
use difuse_ring::HostState;
use difuse_types::Host;
use flatbuffers::{ForwardsUOffset, Vector};

use crate::{
    blocks::{record_in, record_out},
    builder::{Builder, TablesOffset, UnionOffset, write_tables},
    error::{WireError, check},
    frame::list,
    generated::difuse::request as fb,
    keylog::{read_nodes, write_nodes},
    limits::{HOLDINGS_MAX, HOSTS_MAX, SLOTS_MAX},
    ring::{state_in, state_out},
    types::{hash_in, hash_out, node_in, node_out, read_host, read_settings, slot_in, write_host, write_settings},
};

pub(super) fn write_located(builder: &mut Builder, located: &Located) -> UnionOffset {
    let members = Some(write_nodes(builder, &located.members));
    let joint = (!located.joint.is_empty()).then(|| write_nodes(builder, &located.joint));
    let holdings = Some(write_tables(builder, &located.holdings, |builder, holding| {
        let node = node_out(&holding.node);
        let head = holding.head.as_ref().map(|(height, hash)| fb::HeadSummary::new(*height, &hash_out(hash)));
        let args = fb::HoldingArgs { node: Some(&node), head: head.as_ref(), answered: holding.answered };
        fb::Holding::create(builder, &args)
    }));
    fb::LocatedReply::create(
        builder,
        &fb::LocatedReplyArgs {
            slot: located.slot.0,
            epoch: located.epoch,
            leader: Some(&node_out(&located.leader)),
            members,
            joint,
            holdings,
        },
    )
    .as_union_value()
}

pub(super) fn read_located(table: fb::LocatedReply<'_>) -> Result<Reply, WireError> {
    let holdings = list(table.holdings(), HOLDINGS_MAX, "holdings", |holding| {
        let head = holding.head().map(|head| (head.height(), hash_in(head.hash())));
        Ok(Holding { node: node_in(holding.node()), head, answered: holding.answered() })
    })?;
    Ok(Reply::Located(Located {
        slot: slot_in(table.slot())?,
        epoch: table.epoch(),
        leader: node_in(table.leader()),
        members: read_nodes(Some(table.members()), "members")?,
        joint: read_nodes(table.joint(), "joint")?,
        holdings,
    }))
}

pub(super) fn write_block_located(builder: &mut Builder, located: &BlockLocated) -> UnionOffset {
    let holdings = Some(write_tables(builder, &located.holdings, |builder, holding| {
        let (node, record) = (node_out(&holding.node), holding.record.as_ref().map(record_out));
        let args = fb::BlockHoldingArgs { node: Some(&node), record: record.as_ref(), answered: holding.answered };
        fb::BlockHolding::create(builder, &args)
    }));
    let args = fb::BlockLocatedReplyArgs { slot: located.slot.0, epoch: located.epoch, holdings };
    fb::BlockLocatedReply::create(builder, &args).as_union_value()
}

pub(super) fn read_block_located(table: fb::BlockLocatedReply<'_>) -> Result<Reply, WireError> {
    let holdings = list(table.holdings(), HOLDINGS_MAX, "holdings", |holding| {
        let (node, record) = (node_in(holding.node()), holding.record().map(record_in));
        Ok(BlockHolding { node, record, answered: holding.answered() })
    })?;
    Ok(Reply::BlockLocated(BlockLocated { slot: slot_in(table.slot())?, epoch: table.epoch(), holdings }))
}

pub(super) fn write_ring(builder: &mut Builder, view: &RingView) -> UnionOffset {
    let settings = Some(write_settings(builder, &view.settings));
    let hosts = Some(write_hosts(builder, &view.hosts));
    let moving = moving_out(&view.moving);
    let short_of_room = Some(write_nodes(builder, &view.short_of_room));
    fb::RingReply::create(
        builder,
        &fb::RingReplyArgs {
            node: Some(&node_out(&view.node)),
            settings,
            settled: view.settled,
            slots_short: view.slots_short,
            keys_damaged: view.keys_damaged,
            moving: Some(&moving),
            short_of_room,
            tombstones: view.tombstones,
            hosts,
        },
    )
    .as_union_value()
}

pub(super) fn read_ring(table: fb::RingReply<'_>) -> Result<Reply, WireError> {
    Ok(Reply::Ring(Box::new(RingView {
        node: node_in(table.node()),
        settings: read_settings(table.settings())?,
        settled: table.settled(),
        slots_short: table.slots_short(),
        keys_damaged: table.keys_damaged(),
        moving: moving_in(table.moving()),
        short_of_room: match table.short_of_room() {
            Some(nodes) => list(nodes, HOSTS_MAX, "short_of_room", |node| Ok(node_in(node)))?,
            None => Vec::new(),
        },
        tombstones: table.tombstones(),
        hosts: read_hosts(table.hosts())?,
    })))
}

fn moving_out(moving: &Moving) -> fb::Moving {
    fb::Moving::new(moving.slots, moving.bytes_done, moving.bytes_total)
}

fn moving_in(moving: &fb::Moving) -> Moving {
    Moving { slots: moving.slots(), bytes_done: moving.bytes_done(), bytes_total: moving.bytes_total() }
}

pub(super) fn write_status(builder: &mut Builder, status: &NodeStatus) -> UnionOffset {
    fb::StatusReply::create(
        builder,
        &fb::StatusReplyArgs {
            slots_led: status.slots_led,
            slots_settled: status.slots_settled,
            slots_short: status.slots_short,
            slots_behind: status.slots_behind,
            slots_left_over: status.slots_left_over,
            moving: Some(&moving_out(&status.moving)),
            keys_damaged: status.keys_damaged,
            is_short_of_room: status.is_short_of_room,
            tombstones: status.tombstones,
        },
    )
    .as_union_value()
}

pub(super) fn read_status(table: fb::StatusReply<'_>) -> NodeStatus {
    NodeStatus {
        slots_led: table.slots_led(),
        slots_settled: table.slots_settled(),
        slots_short: table.slots_short(),
        slots_behind: table.slots_behind(),
        slots_left_over: table.slots_left_over(),
        moving: moving_in(table.moving()),
        keys_damaged: table.keys_damaged(),
        is_short_of_room: table.is_short_of_room(),
        tombstones: table.tombstones(),
    }
}

pub(super) fn write_routes(builder: &mut Builder, routes: &Routes) -> UnionOffset {
    let settings = Some(write_settings(builder, &routes.settings));
    let hosts = Some(write_hosts(builder, &routes.hosts));
    let leaders = Some(builder.create_vector(&routes.leaders));
    fb::RoutesReply::create(builder, &fb::RoutesReplyArgs { settings, hosts, leaders }).as_union_value()
}

pub(super) fn read_routes(table: fb::RoutesReply<'_>) -> Result<Reply, WireError> {
    let hosts = read_hosts(table.hosts())?;
    let leaders = list(table.leaders(), SLOTS_MAX, "leaders", |leader| {
        check((leader as usize) < hosts.len() || leader == u32::MAX, "leaders")?;
        Ok(leader)
    })?;
    Ok(Reply::Routes(Box::new(Routes { settings: read_settings(table.settings())?, hosts, leaders })))
}

fn write_hosts(builder: &mut Builder, hosts: &[(Host, HostState)]) -> TablesOffset<fb::HostEntry<'static>> {
    write_tables(builder, hosts, |builder, (host, state)| {
        let host = Some(write_host(builder, host));
        fb::HostEntry::create(builder, &fb::HostEntryArgs { host, state: state_out(*state) })
    })
}

fn read_hosts(hosts: Vector<'_, ForwardsUOffset<fb::HostEntry<'_>>>) -> Result<Vec<(Host, HostState)>, WireError> {
    list(hosts, HOSTS_MAX, "hosts", |entry| Ok((read_host(entry.host())?, state_in(entry.state())?)))
}
