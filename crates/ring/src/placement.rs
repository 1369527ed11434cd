use std::collections::{BTreeMap, BTreeSet};

use difuse_types::{NodeId, RingPosition};

use crate::{HostEntry, circle::Circle, table::HostTable};

/// Which hosts hold what: a function of the host table alone, so that nodes with equal tables agree.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    circle: Circle,
    hosts_by_zone: BTreeMap<String, usize>,
    hosts: usize,
    version: u64,
}

impl Placement {
    /// Counted up whenever a host enters or leaves placement, or changes its zone or label.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The number of hosts that take part.
    pub(crate) fn hosts(&self) -> usize {
        self.hosts
    }

    /// Follows the change of one row of the table.
    pub(crate) fn update(&mut self, before: Option<&HostEntry>, after: Option<&HostEntry>, virtual_nodes: u16) {
        let before = before.filter(|entry| entry.state.takes_part_in_placement());
        let after = after.filter(|entry| entry.state.takes_part_in_placement());
        let marks = |entry: &HostEntry| (entry.host.node, entry.host.zone.clone(), entry.host.label.clone());
        if before.map(marks) == after.map(marks) {
            return;
        }
        self.version += 1;
        if let Some(entry) = before {
            self.circle.remove(entry.host.node, virtual_nodes);
            self.leave_zone(&entry.host.zone);
            self.hosts -= 1;
        }
        if let Some(entry) = after {
            self.circle.insert(entry.host.node, virtual_nodes);
            *self.hosts_by_zone.entry(entry.host.zone.clone()).or_default() += 1;
            self.hosts += 1;
        }
    }

    /// The first `wanted` distinct hosts clockwise from `position`: first one of each zone as they come, and when
    /// zones run out the hosts that were passed over. No two share a label. In clockwise order.
    pub(crate) fn successors(&self, table: &HostTable, position: RingPosition, wanted: usize) -> Vec<NodeId> {
        let zones_wanted = wanted.min(self.hosts_by_zone.len());
        let mut seen = BTreeSet::new();
        let mut zones = BTreeSet::new();
        let mut walked: Vec<(&HostEntry, bool)> = Vec::new();
        for place in self.circle.clockwise_from(position) {
            if !seen.insert(place.node()) {
                continue;
            }
            let Some(entry) = table.entry(&place.node()) else { continue };
            let new_zone = zones.len() < zones_wanted && !labels_used(&walked).contains(entry.host.label.as_str());
            let new_zone = new_zone && zones.insert(entry.host.zone.as_str());
            walked.push((entry, new_zone));
            if zones.len() == zones_wanted && distinct_labels(&walked) >= wanted {
                break;
            }
            if seen.len() == self.hosts {
                break;
            }
        }
        choose(&walked, wanted)
    }

    fn leave_zone(&mut self, zone: &str) {
        if let Some(count) = self.hosts_by_zone.get_mut(zone) {
            *count -= 1;
            if *count == 0 {
                self.hosts_by_zone.remove(zone);
            }
        }
    }
}

/// The labels of those already chosen for their zone.
fn labels_used<'a>(walked: &[(&'a HostEntry, bool)]) -> BTreeSet<&'a str> {
    walked.iter().filter(|(_, chosen)| *chosen).map(|(entry, _)| entry.host.label.as_str()).collect()
}

fn distinct_labels(walked: &[(&HostEntry, bool)]) -> usize {
    walked.iter().map(|(entry, _)| entry.host.label.as_str()).collect::<BTreeSet<_>>().len()
}

/// Fills up those chosen for their zone with the first others of unused labels.
fn choose(walked: &[(&HostEntry, bool)], wanted: usize) -> Vec<NodeId> {
    let mut labels = labels_used(walked);
    let mut room = wanted.saturating_sub(labels.len());
    let mut chosen = Vec::with_capacity(wanted);
    for (entry, for_its_zone) in walked {
        let fills_up = !for_its_zone && room > 0 && labels.insert(entry.host.label.as_str());
        if fills_up {
            room -= 1;
        }
        if *for_its_zone || fills_up {
            chosen.push(entry.host.node);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use difuse_types::{Host, Incarnation, NodeId, Slots};

    use super::Placement;
    use crate::{HostEntry, HostState, table::HostTable};

    fn build(hosts: &[(u8, &str, &str)]) -> (Placement, HostTable) {
        let (mut placement, mut table) = (Placement::default(), HostTable::new(1000));
        for (node, zone, label) in hosts {
            let host = Host {
                node: NodeId([*node; 32]),
                incarnation: Incarnation(0),
                address: String::new(),
                http: String::new(),
                zone: (*zone).to_string(),
                label: (*label).to_string(),
            };
            let entry = HostEntry { host, state: HostState::Up, version: 0 };
            placement.update(None, Some(&entry), 8);
            table.offer(entry);
        }
        (placement, table)
    }

    /// For every slot: how many replicas, how many zones and labels among them.
    fn check(hosts: &[(u8, &str, &str)], replicas: usize, zones: usize) {
        let (placement, table) = build(hosts);
        let slots = Slots::with_count(64).unwrap();
        for slot in slots.iter() {
            let chosen = placement.successors(&table, slots.position(slot), 3);
            let of = |pick: fn(&Host) -> &str| -> usize {
                let texts: BTreeSet<_> = chosen.iter().map(|n| pick(&table.entry(n).unwrap().host)).collect();
                texts.len()
            };
            assert_eq!(chosen.len(), replicas, "{slot}");
            assert_eq!(of(|host| &host.label), replicas, "{slot}: labels");
            assert_eq!(of(|host| &host.zone), zones, "{slot}: zones");
        }
    }

    #[test]
    fn replicas_are_spread_over_labels_and_zones() {
        check(&[(1, "", "a"), (2, "", "b"), (3, "", "c"), (4, "", "d")], 3, 1);
        check(&[(1, "", "a"), (2, "", "a"), (3, "", "b"), (4, "", "b")], 2, 1);
        check(&[(1, "x", "a"), (2, "x", "b"), (3, "x", "c"), (4, "y", "d"), (5, "y", "e")], 3, 2);
        check(&[(1, "x", "a"), (2, "x", "b"), (3, "x", "c"), (4, "y", "d"), (5, "z", "e")], 3, 3);
        check(&[(1, "x", "a"), (2, "y", "b")], 2, 2);
        check(&[], 0, 0);
    }

    #[test]
    fn removal_undoes_insertion() {
        let (mut placement, table) = build(&[(1, "x", "a"), (2, "y", "b")]);
        let entry = table.entry(&NodeId([2; 32])).unwrap().clone();
        placement.update(Some(&entry), None, 8);
        assert_eq!((placement.hosts(), placement.circle.len()), (1, 8));
        let slots = Slots::with_count(1).unwrap();
        let first = slots.iter().next().unwrap();
        assert_eq!(placement.successors(&table, slots.position(first), 3), [NodeId([1; 32])]);
    }
}
