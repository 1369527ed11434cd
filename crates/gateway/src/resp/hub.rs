//! Channels of this node: who listens, and what is published.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use difuse_api::notice::Notice;
use difuse_types::NodeId;
use tokio::sync::{Notify, mpsc};

use super::glob;

/// The most messages that wait for one subscriber.
const MESSAGES_MAX: usize = 16_384;
/// The most bytes that wait for one subscriber, as Redis has it: then it is cut off.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// The most channels and patterns of one connection.
pub(super) const SUBSCRIPTIONS_MAX: usize = 16_384;

/// Carries what gateways of different nodes tell each other. Nothing here waits: what cannot be sent is lost.
pub trait Relay: Send + Sync + 'static {
    /// Tells the gateways of all other nodes.
    fn tell_all(&self, notice: Notice);
    /// Tells that of one node.
    fn tell(&self, node: NodeId, notice: Notice);
}

/// A message as a subscriber gets it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The pattern that its channel matches, if it was subscribed by one.
    pub(super) pattern: Option<Bytes>,
    pub(super) channel: Bytes,
    pub(super) message: Bytes,
}

/// The channels of this node.
#[derive(Default)]
pub(super) struct Hub {
    listeners: Mutex<Listeners>,
    relay: OnceLock<Box<dyn Relay>>,
}

#[derive(Default)]
struct Listeners {
    channels: BTreeMap<Bytes, BTreeMap<u64, Subscriber>>,
    patterns: BTreeMap<Bytes, BTreeMap<u64, Subscriber>>,
}

/// The end of a subscription into which messages are put.
#[derive(Clone)]
struct Subscriber {
    messages: mpsc::Sender<Message>,
    waiting_bytes: Arc<AtomicUsize>,
    overflown: Arc<Notify>,
}

/// What one connection listens to; it ends when this is dropped.
pub(super) struct Subscription {
    hub: Arc<dyn HasHub>,
    id: u64,
    own: Subscriber,
    messages: mpsc::Receiver<Message>,
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
}

/// Whatever owns the channels.
pub(super) trait HasHub: Send + Sync {
    /// The channels.
    fn hub(&self) -> &Hub;
}

impl HasHub for super::Shared {
    fn hub(&self) -> &Hub {
        &self.hub
    }
}

impl Hub {
    /// Tells other nodes through `relay` from now on; the first one stays.
    pub(super) fn set_relay(&self, relay: Box<dyn Relay>) {
        let _ = self.relay.set(relay);
    }

    /// Publishes a message of a client; returns how many of this node's subscribers get it.
    pub(super) fn publish(&self, channel: &Bytes, message: &Bytes) -> usize {
        self.tell_all(Notice::Published { channel: channel.clone(), message: message.clone() });
        self.deliver(channel, message)
    }

    /// Tells the gateways of all other nodes.
    pub(super) fn tell_all(&self, notice: Notice) {
        if let Some(relay) = self.relay.get() {
            relay.tell_all(notice);
        }
    }

    /// Tells that of one node.
    pub(super) fn tell(&self, node: NodeId, notice: Notice) {
        if let Some(relay) = self.relay.get() {
            relay.tell(node, notice);
        }
    }

    /// Hands a message to this node's subscribers.
    pub(super) fn deliver(&self, channel: &Bytes, message: &Bytes) -> usize {
        let listeners = self.listeners();
        let direct = listeners.channels.get(channel).into_iter().flat_map(|all| all.values().map(|one| (None, one)));
        let matching = listeners.patterns.iter().filter(|(pattern, _)| glob::matches(pattern, channel));
        let by_pattern = matching.flat_map(|(pattern, all)| all.values().map(move |one| (Some(pattern.clone()), one)));
        let send = |(pattern, to): (Option<Bytes>, &Subscriber)| {
            to.send(Message { pattern, channel: channel.clone(), message: message.clone() });
        };
        direct.chain(by_pattern).map(send).count()
    }

    /// Channels with subscribers whose names match `pattern`.
    pub(super) fn channels(&self, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let listeners = self.listeners();
        let names = listeners.channels.keys();
        names.filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name))).cloned().collect()
    }

    /// How many subscribers a channel has, not counting patterns.
    pub(super) fn subscribers(&self, channel: &Bytes) -> usize {
        self.listeners().channels.get(channel).map_or(0, BTreeMap::len)
    }

    /// How many different patterns are subscribed.
    pub(super) fn pattern_count(&self) -> usize {
        self.listeners().patterns.len()
    }

    /// How many channels have subscribers.
    pub(super) fn channel_count(&self) -> usize {
        self.listeners().channels.len()
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    /// Never waits: a subscriber that does not read is told that it has lost something, which ends its connection.
    fn send(&self, message: Message) {
        let length = size_of(&message);
        let waiting = self.waiting_bytes.fetch_add(length, Ordering::Relaxed) + length;
        if waiting > WAITING_BYTES_MAX || self.messages.try_send(message).is_err() {
            self.overflown.notify_one();
        }
    }
}

impl Subscription {
    /// One without channels, for the connection with this id.
    pub(super) fn new(hub: Arc<dyn HasHub>, id: u64) -> Self {
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let own = Subscriber { messages: sender, waiting_bytes: Arc::default(), overflown: Arc::default() };
        Self { hub, id, own, messages, channels: BTreeSet::new(), patterns: BTreeSet::new() }
    }

    /// Listens to `name` too; `is_pattern`: to whatever matches it.
    pub(super) fn add(&mut self, name: Bytes, is_pattern: bool) {
        let own = self.own.clone();
        let mut listeners = self.hub.hub().listeners();
        let (names, all) = match is_pattern {
            true => (&mut self.patterns, &mut listeners.patterns),
            false => (&mut self.channels, &mut listeners.channels),
        };
        if names.insert(name.clone()) {
            all.entry(name).or_default().insert(self.id, own);
        }
    }

    /// Listens no more to `name`.
    pub(super) fn remove(&mut self, name: &Bytes, is_pattern: bool) {
        let mut listeners = self.hub.hub().listeners();
        let (names, all) = match is_pattern {
            true => (&mut self.patterns, &mut listeners.patterns),
            false => (&mut self.channels, &mut listeners.channels),
        };
        names.remove(name);
        remove(all, name, self.id);
    }

    /// What it listens to.
    pub(super) fn names(&self, are_patterns: bool) -> Vec<Bytes> {
        if are_patterns { &self.patterns } else { &self.channels }.iter().cloned().collect()
    }

    /// How many channels and patterns it listens to.
    pub(super) fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// How many of each.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.channels.len(), self.patterns.len())
    }

    /// The next message.
    pub(super) async fn next_message(&mut self) -> Option<Message> {
        let message = self.messages.recv().await?;
        Some(self.taken(message))
    }

    /// The next message if there is one already.
    pub(super) fn ready_message(&mut self) -> Option<Message> {
        let message = self.messages.try_recv().ok()?;
        Some(self.taken(message))
    }

    fn taken(&self, message: Message) -> Message {
        self.own.waiting_bytes.fetch_sub(size_of(&message), Ordering::Relaxed);
        message
    }

    /// Told when messages were lost, because too many waited.
    pub(super) fn overflown(&self) -> Arc<Notify> {
        self.own.overflown.clone()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut listeners = self.hub.hub().listeners();
        for name in &self.channels {
            remove(&mut listeners.channels, name, self.id);
        }
        for name in &self.patterns {
            remove(&mut listeners.patterns, name, self.id);
        }
    }
}

fn remove(all: &mut BTreeMap<Bytes, BTreeMap<u64, Subscriber>>, name: &Bytes, id: u64) {
    if let Some(subscribers) = all.get_mut(name) {
        subscribers.remove(&id);
        if subscribers.is_empty() {
            all.remove(name);
        }
    }
}

fn size_of(message: &Message) -> usize {
    message.channel.len() + message.message.len() + 128
}
