//! A ring as it is after a long calm, without the calm: for simulations of rings too large to be grown join by join.

use difuse_types::{Host, Instant, RingPosition};

use crate::{
    HostEntry, HostState, Ring, RingConfig, VirtualNode, gossip::Gossip, successor_list::successor_list,
    virtual_node::LocalVirtualNode,
};

impl Ring {
    /// One node's part of a ring whose virtual nodes are `places`, in the order of their positions and with this node's
    /// own among them: every pointer is right, and nothing is on its way. `known` are the rows of its host table, which
    /// may be few: then it is to be asked by fingers alone.
    pub fn converged(
        config: RingConfig,
        me: Host,
        known: Vec<HostEntry>,
        places: &[VirtualNode],
        now: Instant,
        rng_seed: u64,
    ) -> Self {
        let mut ring = Self::new(config, me.node, now, rng_seed);
        ring.accept(HostEntry { host: me, state: HostState::Up, version: 1 });
        for entry in known {
            ring.accept(entry);
        }
        let hosts_wanted = ring.config.successor_hosts();
        for node in &mut ring.virtual_nodes {
            converge(node, places, hosts_wanted);
        }
        // Nodes do not act in step.
        for index in 0..ring.virtual_nodes.len() {
            ring.virtual_nodes[index].due = now + ring.config.stabilize_every.mul_f64(ring.rng.f64());
        }
        ring.gossip = Gossip::default();
        ring.gossip.next_comparison = now + ring.config.gossip_every.mul_f64(ring.rng.f64());
        ring.detector.begin_rounds_at(now, now + ring.config.ping_every.mul_f64(ring.rng.f64()));
        ring.joined = true;
        ring.placement_told = ring.placement.version();
        ring.outputs.clear();
        ring
    }
}

fn converge(node: &mut LocalVirtualNode, places: &[VirtualNode], hosts_wanted: usize) {
    let own = node.place;
    let first_at =
        |position: RingPosition| places.partition_point(|place| place.position < position) % places.len().max(1);
    let after = first_at(own.position.plus_power_of_two(0));
    let following = places[after..].iter().chain(&places[..after]).copied();
    node.successors = successor_list(&own, following, hosts_wanted);
    node.predecessor = places.get((first_at(own.position) + places.len() - 1) % places.len().max(1)).copied();
    node.member = true;
    let Some(last) = node.successors.last().copied() else { return };
    for exponent in (0..=u8::MAX).rev() {
        let target = own.position.plus_power_of_two(exponent);
        if last == own || target == last.position || target.is_between(own.position, last.position) {
            break;
        }
        node.fingers.insert(exponent, places[first_at(target)]);
    }
}
