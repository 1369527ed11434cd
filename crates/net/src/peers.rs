//! Who is connected, over which links.

use std::collections::HashMap;

use bytes::Bytes;
use difuse_types::NodeId;
use tokio_util::sync::CancellationToken;

use crate::{Class, Role, SendError, queue::Queue};

/// Who dialled a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Dialled,
    Accepted,
}

/// The sending end of a link. Dropping it ends the link.
#[derive(Debug)]
pub(crate) struct LinkHandle {
    pub control: Queue,
    pub bulk: Queue,
    /// Tells the link's task to end.
    pub end: CancellationToken,
}

impl LinkHandle {
    fn queue(&self, class: Class) -> &Queue {
        match class {
            Class::Control => &self.control,
            Class::Bulk => &self.bulk,
        }
    }
}

impl Drop for LinkHandle {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// A link is in the table.
#[derive(Debug)]
pub(crate) struct Inserted {
    /// Its number.
    pub id: u64,
    /// Whether it is the node's only link.
    pub first: bool,
    /// Ends the link that it replaces.
    pub replaced: Option<CancellationToken>,
}

/// All remotes with at least one link.
#[derive(Default, Debug)]
pub(crate) struct Peers {
    peers: HashMap<NodeId, Peer>,
    clients: usize,
    next_link: u64,
}

#[derive(Debug)]
struct Peer {
    /// What it said when its first link came up.
    role: Role,
    /// At most one per direction and one more that is being replaced, the newest last.
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    id: u64,
    direction: Direction,
    handle: LinkHandle,
}

impl Peers {
    /// Whether there is a link to the node.
    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    /// How many remotes of this role are connected.
    pub(crate) fn count(&self, role: Role) -> usize {
        match role {
            Role::Client => self.clients,
            Role::Peer => self.peers.len() - self.clients,
        }
    }

    /// Adds a link. Of its direction only the one before it stays, to be ended by the caller.
    pub(crate) fn insert(&mut self, node: NodeId, role: Role, direction: Direction, handle: LinkHandle) -> Inserted {
        let id = self.next_link;
        self.next_link += 1;
        let first = !self.peers.contains_key(&node);
        if first && role == Role::Client {
            self.clients += 1;
        }
        let links = &mut self.peers.entry(node).or_insert_with(|| Peer { role, links: Vec::new() }).links;
        let replaced = links.iter().rev().find(|link| link.direction == direction);
        let replaced = replaced.map(|link| (link.id, link.handle.end.clone()));
        if let Some((kept, _)) = &replaced {
            links.retain(|link| link.direction != direction || link.id == *kept);
        }
        links.push(Link { id, direction, handle });
        Inserted { id, first, replaced: replaced.map(|(_, end)| end) }
    }

    /// Removes a link that ended; whether it was the node's last.
    pub(crate) fn remove(&mut self, node: NodeId, id: u64) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else {
            return false;
        };
        peer.links.retain(|link| link.id != id);
        if !peer.links.is_empty() {
            return false;
        }
        if peer.role == Role::Client {
            self.clients -= 1;
        }
        self.peers.remove(&node);
        true
    }

    /// Queues a frame on the newest link that still works.
    pub(crate) fn send(&self, node: NodeId, class: Class, frame: &Bytes) -> Result<(), SendError> {
        let links = self.peers.get(&node).map_or(&[][..], |peer| &peer.links);
        for Link { handle, .. } in links.iter().rev() {
            match handle.queue(class).push(frame.clone()) {
                Err(SendError::NotConnected) => {}
                result => return result,
            }
        }
        Err(SendError::NotConnected)
    }

    /// Queues a frame as [`Peers::send`] does if that leaves most of the queue to others.
    pub(crate) fn offer(&self, node: NodeId, class: Class, frame: &Bytes) -> Result<(), SendError> {
        let links = self.peers.get(&node).map_or(&[][..], |peer| &peer.links);
        let is_busy = links.last().is_some_and(|link| !link.handle.queue(class).has_room_to_spare(frame.len()));
        if is_busy { Err(SendError::Full) } else { self.send(node, class, frame) }
    }

    /// Tells all links to the node to end.
    pub(crate) fn end(&self, node: NodeId) {
        for link in self.peers.get(&node).map_or(&[][..], |peer| &peer.links) {
            link.handle.end.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_types::NodeId;
    use tokio_util::sync::CancellationToken;

    use super::{Direction, LinkHandle, Peers};
    use crate::{
        Class, Role, SendError,
        queue::{QueueReader, queue},
    };

    const NODE: NodeId = NodeId([1; 32]);

    fn link() -> (LinkHandle, QueueReader, CancellationToken) {
        let (control, reader) = queue(8, 100);
        let (bulk, _) = queue(8, 100);
        let end = CancellationToken::new();
        (LinkHandle { control, bulk, end: end.clone() }, reader, end)
    }

    #[test]
    fn frames_leave_over_the_newest_working_link() {
        let mut peers = Peers::default();
        let send = |peers: &Peers| peers.send(NODE, Class::Control, &Bytes::from_static(b"x"));
        assert_eq!(send(&peers), Err(SendError::NotConnected));

        let (older, mut older_reader, _) = link();
        let (newer, mut newer_reader, _) = link();
        assert!(peers.insert(NODE, Role::Peer, Direction::Accepted, older).first);
        assert!(!peers.insert(NODE, Role::Peer, Direction::Dialled, newer).first);
        assert_eq!(send(&peers), Ok(()));
        assert!(newer_reader.next_ready().is_some());

        drop(newer_reader);
        assert_eq!(send(&peers), Ok(()));
        assert!(older_reader.next_ready().is_some());
    }

    #[test]
    fn a_link_replaces_the_one_before_it() {
        let mut peers = Peers::default();
        let mut ends = Vec::new();
        let mut insert = |peers: &mut Peers| {
            let (handle, _, end) = link();
            ends.push(end);
            peers.insert(NODE, Role::Client, Direction::Accepted, handle)
        };
        assert!(insert(&mut peers).replaced.is_none());
        insert(&mut peers).replaced.expect("the first is replaced").cancel();
        assert!(insert(&mut peers).replaced.is_some());
        let ended: Vec<_> = ends.iter().map(CancellationToken::is_cancelled).collect();
        assert_eq!(ended, [true, false, false]);
        assert_eq!((peers.count(Role::Client), peers.count(Role::Peer)), (1, 0));

        assert!(!peers.remove(NODE, 0) && !peers.remove(NODE, 1), "neither is the last");
        assert!(peers.is_connected(NODE));
        assert!(peers.remove(NODE, 2));
        assert!(!peers.is_connected(NODE));
        assert_eq!(peers.count(Role::Client), 0);
        assert!(ends[2].is_cancelled());
    }
}
