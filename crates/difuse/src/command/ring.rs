//! `difuse ring`.

use difuse_api::{keys, request::RingView};
use serde_json::json;

use super::{exit::Failure, output, session::Session};
use crate::terminal;

/// Shows the ring as the node connected to sees it.
pub async fn run(session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let view = keys::ring(&client.at(client.entry_node())).await?;
    if session.json { output::print_json(&view_json(&view)) } else { output::print(&view_text(&view)) }
}

fn view_text(view: &RingView) -> String {
    let rows = view.hosts.iter().map(|(host, state)| {
        let here = if host.node == view.node { " (asked)" } else { "" };
        [
            format!("{}{here}", host.node),
            state.as_str().to_string(),
            host.address.clone(),
            host.http.clone(),
            host.zone.clone(),
        ]
    });
    let table = terminal::table(&["node", "state", "ring address", "HTTP", "zone"], rows);
    let settings = &view.settings;
    let settled = if view.settled { "settled" } else { "not settled" };
    let mut text = format!(
        "{table}\nRing {}: {settled}; {} replicas, {} slots, {} virtual nodes per node",
        settings.id,
        settings.replicas,
        settings.slots.count(),
        settings.virtual_nodes
    );
    if view.slots_short > 0 {
        text += &format!("\n{} slots have fewer replicas than wanted, for want of hosts", view.slots_short);
    }
    if view.keys_damaged > 0 {
        text += &format!("\n{} damaged copies of keys are being fetched again from other nodes", view.keys_damaged);
    }
    if !view.short_of_room.is_empty() {
        let nodes: Vec<_> = view.short_of_room.iter().map(ToString::to_string).collect();
        text += &format!("\nShort of disk space, and taking over no more slots: {}", nodes.join(", "));
    }
    if view.tombstones > 0 {
        text += &format!("\n{} deleted keys are remembered", view.tombstones);
    }
    if view.moving.slots > 0 {
        let (done, total) = (terminal::bytes(view.moving.bytes_done), terminal::bytes(view.moving.bytes_total));
        text += &format!("\n{} slots are moving: {done} of {total} done", view.moving.slots);
    }
    text
}

fn view_json(view: &RingView) -> serde_json::Value {
    let hosts = view.hosts.iter().map(|(host, state)| {
        json!({
            "id": host.node, "state": state.as_str(), "address": host.address, "http": host.http,
            "zone": host.zone, "label": host.label,
        })
    });
    json!({
        "id": view.settings.id.to_string(),
        "node": view.node,
        "replicas": view.settings.replicas,
        "slots": view.settings.slots.count(),
        "virtual_nodes": view.settings.virtual_nodes,
        "settled": view.settled,
        "slots_short": view.slots_short,
        "keys_damaged": view.keys_damaged,
        "moving": {
            "slots": view.moving.slots,
            "bytes_done": view.moving.bytes_done,
            "bytes_total": view.moving.bytes_total,
        },
        "short_of_room": view.short_of_room,
        "tombstones": view.tombstones,
        "hosts": hosts.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use difuse_api::{
        request::{Moving, RingView},
        ring::HostState,
    };
    use difuse_types::{Hash, Host, Incarnation, NodeId, RingId, RingSettings};

    use super::{view_json, view_text};

    #[test]
    fn the_ring_is_shown_to_people_and_programs() {
        let host = Host {
            node: NodeId([1; 32]),
            incarnation: Incarnation(1),
            address: "127.0.0.1:4624".into(),
            http: "127.0.0.1:9090".into(),
            zone: "attic".into(),
            label: String::new(),
        };
        let view = RingView {
            node: host.node,
            settings: RingSettings::new(RingId(Hash::ZERO), 3, 1024, 8).unwrap(),
            settled: false,
            slots_short: 7,
            keys_damaged: 5,
            moving: Moving { slots: 2, bytes_done: 1024, bytes_total: 4096 },
            short_of_room: vec![host.node],
            tombstones: 3,
            hosts: vec![(host, HostState::Up)],
        };
        let text = view_text(&view);
        for part in [
            "not settled",
            "7 slots have fewer",
            "3 deleted keys are remembered",
            "5 damaged copies of keys",
            "1.0 KiB of 4.0 KiB",
            "127.0.0.1:9090",
            "attic",
            "(asked)",
            "Short of disk space",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(view_json(&view)["hosts"][0]["state"], "up");
        assert_eq!(view_json(&view)["moving"]["slots"], 2);
    }
}
