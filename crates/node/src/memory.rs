//! What a node remembers of itself over a restart: small named values in its store.

use bytes::Bytes;
use difuse_keylog::{Store, StoreError, Write};
use difuse_protocol::message::Message;
use difuse_ring::{ENTRIES_PER_PAGE_MAX, HostEntry, RingMessage};
use difuse_storage::KeyStore;
use difuse_types::{Hash, RingId, RingSettings};

use crate::StartError;

const IDENTITY: &str = "identity";
const INCARNATION: &str = "incarnation";
const RING: &str = "ring";
/// The host table, as frames of the wire format.
pub(crate) const HOSTS: &str = "hosts";

/// The node's identity, made from `fresh` and remembered if there is none yet.
pub(crate) fn identity(store: &mut KeyStore, fresh: [u8; 32]) -> Result<[u8; 32], StartError> {
    match store.meta(IDENTITY)? {
        Some(seed) => seed.try_into().map_err(|_| StartError::Memory("the identity is not 32 bytes".into())),
        None => {
            store.write(vec![Write::Meta(IDENTITY.into(), Some(fresh.to_vec()))])?;
            Ok(fresh)
        }
    }
}

/// The number of this life of the node, counted up and remembered.
pub(crate) fn next_incarnation(store: &mut KeyStore) -> Result<u64, StartError> {
    let last = store.meta(INCARNATION)?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    let next = last + 1;
    store.write(vec![Write::Meta(INCARNATION.into(), Some(next.to_le_bytes().to_vec()))])?;
    Ok(next)
}

/// The ring that the node belongs to, if it does.
pub(crate) fn ring(store: &KeyStore) -> Result<Option<RingSettings>, StartError> {
    let Some(bytes) = store.meta(RING)? else { return Ok(None) };
    let unreadable = || StartError::Memory("the ring's settings".into());
    let fields: [u8; 39] = bytes.try_into().map_err(|_| unreadable())?;
    let mut id = [0; 32];
    id.copy_from_slice(&fields[..32]);
    let slots = u32::from_le_bytes([fields[33], fields[34], fields[35], fields[36]]);
    let virtual_nodes = u16::from_le_bytes([fields[37], fields[38]]);
    let settings = RingSettings::new(RingId(Hash(id)), fields[32], slots, virtual_nodes).map_err(|_| unreadable())?;
    Ok(Some(settings))
}

pub(crate) fn remember_ring(store: &mut KeyStore, settings: &RingSettings) -> Result<(), StoreError> {
    let mut bytes = settings.id.0.0.to_vec();
    bytes.push(settings.replicas);
    bytes.extend(settings.slots.count().to_le_bytes());
    bytes.extend(settings.virtual_nodes.to_le_bytes());
    store.write(vec![Write::Meta(RING.into(), Some(bytes))])?;
    Ok(())
}

/// The host table as it was when last remembered.
pub(crate) fn hosts(store: &KeyStore) -> Result<Vec<HostEntry>, StartError> {
    let Some(bytes) = store.meta(HOSTS)? else { return Ok(Vec::new()) };
    let frame = Bytes::from(bytes);
    let messages =
        difuse_wire::decode(&frame).map_err(|error| StartError::Memory(format!("the host table: {error}")))?;
    let rows = messages.into_iter().filter_map(|message| match message {
        Message::Ring(RingMessage::GossipRows { entries, .. }) => Some(entries),
        _ => None,
    });
    Ok(rows.flatten().collect())
}

pub(crate) fn encode_hosts(settings: &RingSettings, hosts: &[HostEntry]) -> Vec<u8> {
    let page = |entries: &[HostEntry]| {
        let (ring, entries) = (settings.id, entries.to_vec());
        Message::Ring(RingMessage::GossipRows { ring, entries, wanted: Vec::new() })
    };
    let pages: Vec<Message> = hosts.chunks(ENTRIES_PER_PAGE_MAX).map(page).collect();
    difuse_wire::encode(&pages).to_vec()
}
