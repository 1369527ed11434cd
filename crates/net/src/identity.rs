use difuse_types::NodeId;
use libp2p::{PeerId, identity::Keypair};

/// A node's or client's Ed25519 key pair. Every process needs one of its own: two processes under one identity take
/// each other's links away.
#[derive(Clone)]
pub struct Identity {
    seed: [u8; 32],
    keypair: Keypair,
    node: NodeId,
}

impl Identity {
    /// A new identity from the operating system's randomness.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn generate() -> std::io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self::from_seed(seed))
    }

    /// The identity that grows from a secret seed (the Ed25519 private key).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let mut bytes = seed;
        let keypair = Keypair::ed25519_from_bytes(&mut bytes).expect("every 32 bytes are an Ed25519 seed");
        let node = node_of(&keypair.public().to_peer_id()).expect("an Ed25519 key has an identity peer id");
        Self { seed, keypair, node }
    }

    /// The secret seed, to be kept by the owner alone.
    pub fn to_seed(&self) -> [u8; 32] {
        self.seed
    }

    /// The public key, which names the node.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    pub(crate) fn keypair(&self) -> &Keypair {
        &self.keypair
    }
}

/// Never shows the seed.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.node).finish()
    }
}

/// The node behind a peer id; `None` when its key is not an Ed25519 key.
pub(crate) fn node_of(peer: &PeerId) -> Option<NodeId> {
    peer.to_base58().parse().ok()
}

/// The peer id of a node.
pub(crate) fn peer_of(node: NodeId) -> PeerId {
    node.to_string().parse().expect("a node id's text form is a peer id")
}

#[cfg(test)]
mod tests {
    use super::{Identity, node_of, peer_of};

    #[test]
    fn a_node_id_reads_like_its_peer_id() {
        for seed in 0..8 {
            let identity = Identity::from_seed([seed; 32]);
            let peer = identity.keypair().public().to_peer_id();
            assert_eq!(identity.node_id().to_string(), peer.to_string());
            assert_eq!(node_of(&peer), Some(identity.node_id()));
            assert_eq!(peer_of(identity.node_id()), peer);
            assert_eq!(identity.to_seed(), [seed; 32]);
        }
    }

    #[test]
    fn identities_differ_and_keep_their_seed_to_themselves() {
        let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(one.node_id(), other.node_id());
        assert_eq!(format!("{one:?}"), format!("Identity({:?})", one.node_id()));
    }
}
