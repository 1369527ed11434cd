//! A few peers and a network without faults, but for what one of them does not get to see.

use std::{collections::BTreeMap, time::Duration};

use difuse_blocks::PutDecision;
use difuse_keylog::store::MemoryStore;
use difuse_protocol::{
    BlockCommand, BlockResult, Input, Output, Peer, PeerOptions, Start,
    message::Message,
    request::{Reply, Request, RequestError},
};
use difuse_ring::{JoinOutcome, RingMessage};
use difuse_types::{Hash, Host, Incarnation, Instant, NodeId, RingId, RingSettings, WallTime};

const STEP: Duration = Duration::from_millis(2);

pub fn node(number: u8) -> NodeId {
    NodeId(Hash::of(&[number]).0)
}

pub fn host(number: u8) -> Host {
    Host {
        node: node(number),
        incarnation: Incarnation(1),
        address: format!("127.0.0.1:{number}"),
        http: String::new(),
        zone: String::new(),
        label: number.to_string(),
    }
}

pub fn settings() -> RingSettings {
    RingSettings::new(RingId(Hash::of(b"ring")), 1, 32, 4).expect("valid settings")
}

#[derive(Default)]
pub struct Network {
    now: Instant,
    peers: BTreeMap<NodeId, Peer<MemoryStore>>,
    inboxes: BTreeMap<NodeId, Vec<Input>>,
    replies: BTreeMap<u64, Result<Reply, RequestError>>,
    requests: u64,
    /// The first node is shown only itself and the second in the host table, and never becomes a member.
    pub shown_to: Option<(NodeId, NodeId)>,
    /// Where each node was told that others are reached.
    pub dialed: BTreeMap<NodeId, BTreeMap<NodeId, String>>,
}

impl Network {
    pub fn found(&mut self, number: u8) {
        self.start(number, Start::Found);
    }

    pub fn join(&mut self, number: u8, seed: Host) {
        self.start(number, Start::Join(vec![seed]));
    }

    fn start(&mut self, number: u8, start: Start) {
        let (options, store) = (PeerOptions::default(), MemoryStore::new());
        let peer = Peer::new(host(number), settings(), options, start, store, self.now, u64::from(number));
        self.peers.insert(node(number), peer.expect("a store in memory does not fail"));
    }

    pub fn peer(&self, number: u8) -> &Peer<MemoryStore> {
        &self.peers[&node(number)]
    }

    /// Whether every slot is with its successors, as all see them.
    pub fn is_spread(&self) -> bool {
        let is_with = |node: &NodeId, slot| {
            self.peers[node].keylog().configuration(slot).is_some_and(|known| known.members == [*node])
        };
        settings().slots.iter().all(|slot| {
            let mut proposals = self.peers.values().map(|peer| peer.ring().successors(slot));
            let first = proposals.next().unwrap_or_default();
            proposals.all(|proposal| proposal == first) && first.iter().all(|node| is_with(node, slot))
        })
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    pub fn run_until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(60);
        while !reached(self) {
            self.step();
            assert!(self.now < end, "{what}: not in time");
        }
    }

    /// Asks a node, and waits for its answer.
    pub fn request(&mut self, number: u8, request: Request) -> Result<Reply, RequestError> {
        self.requests += 1;
        let id = self.requests;
        self.inboxes.entry(node(number)).or_default().push(Input::Request { id, request });
        self.run_until("an answer", |network| network.replies.contains_key(&id));
        self.replies.remove(&id).expect("it was just seen")
    }

    /// Everybody deals with what came in, and with time.
    fn step(&mut self) {
        self.now = self.now + STEP;
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            let inputs = self.inboxes.remove(&node).unwrap_or_default();
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            let outputs = peer.handle(self.now, WallTime(1), inputs).expect("a store in memory does not fail");
            peer.store_mut().flush_all();
            let durable = Input::Durable(peer.store_mut().durable());
            self.inboxes.entry(node).or_default().push(durable);
            for output in outputs {
                self.perform(node, output);
            }
        }
    }

    fn perform(&mut self, from: NodeId, output: Output) {
        match output {
            Output::Send { to, message } => {
                let message = if self.shown_to.is_some_and(|(to_whom, _)| to_whom == to) {
                    self.censored(message)
                } else {
                    Some(message)
                };
                let inputs = message.map(|message| Input::Message { from, message });
                self.inboxes.entry(to).or_default().extend(inputs);
            }
            Output::Reply { id, result } => drop(self.replies.insert(id, result)),
            Output::Block { ticket, command } => {
                let input = Input::BlockDone { ticket, result: perform_block(&command) };
                self.inboxes.entry(from).or_default().push(input);
            }
            Output::Dial { node, address } => self.dial(from, node, address),
            _ => {}
        }
    }

    fn dial(&mut self, from: NodeId, to: NodeId, address: String) {
        let is_first = self.dialed.entry(from).or_default().insert(to, address).is_none();
        if is_first {
            self.inboxes.entry(from).or_default().push(Input::Connected(to));
            self.inboxes.entry(to).or_default().push(Input::Connected(from));
        }
    }

    fn censored(&self, message: Message) -> Option<Message> {
        let shown = self.shown_to.map(|(_, shown)| shown);
        match message {
            Message::Ring(RingMessage::GossipRows { ring, mut entries, .. }) => {
                entries.retain(|entry| Some(entry.host.node) == shown);
                Some(Message::Ring(RingMessage::GossipRows { ring, entries, wanted: Vec::new() }))
            }
            Message::Ring(RingMessage::JoinReply { operation, joiner, .. }) => {
                Some(Message::Ring(RingMessage::JoinReply { operation, joiner, outcome: JoinOutcome::Busy }))
            }
            other => Some(other),
        }
    }
}

/// Disks that hold no block and take any.
fn perform_block(command: &BlockCommand) -> BlockResult {
    match command {
        BlockCommand::Put { .. } => BlockResult::Put(PutDecision::Store),
        BlockCommand::Read { .. } => BlockResult::Content { record: None, bytes: None },
        BlockCommand::Stat { .. } | BlockCommand::Verify { .. } => BlockResult::Record(None),
        BlockCommand::Delete { .. } | BlockCommand::NoteLost { .. } | BlockCommand::Clear { .. } => BlockResult::Done,
        BlockCommand::List { .. } => BlockResult::Page { records: Vec::new(), is_last: true },
        BlockCommand::Digest { .. } => BlockResult::Digest(0),
    }
}
