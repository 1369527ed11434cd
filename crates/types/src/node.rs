use std::{fmt, str::FromStr};

use crate::order::ordered;

/// A node's identity: its Ed25519 public key. Text form: the libp2p PeerId (base58 of the identity multihash of the
/// key's protobuf form), so that it reads the same here, in multiaddrs and in other libp2p tools.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(pub [u8; 32]);

ordered!(NodeId);

/// identity multihash (0x00), 36 bytes long, of the protobuf {type: Ed25519, data: 32 bytes}.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl NodeId {
    /// The 32 bytes of the public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The last six characters of the text form: enough for people to tell nodes apart in a table.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len() - 6..].to_string()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = PEER_ID_PREFIX.to_vec();
        bytes.extend_from_slice(&self.0);
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// The text is not the PeerId of an Ed25519 key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the peer id of an Ed25519 key (12D3Koo…): {0:?}")]
pub struct ParseNodeIdError(pub String);

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseNodeIdError(text.chars().take(80).collect());
        let bytes = bs58::decode(text).into_vec().map_err(|_| refuse())?;
        let key = bytes.strip_prefix(&PEER_ID_PREFIX[..]).ok_or_else(refuse)?;
        Ok(Self(key.try_into().map_err(|_| refuse())?))
    }
}

impl serde::Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Names one write of one client, so that a retry of it is found instead of applied again. Chosen at random by the
/// client. Text form: 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OperationId(pub [u8; 16]);

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

/// The text is not 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an operation id is 32 hex digits")]
pub struct ParseOperationIdError;

impl FromStr for OperationId {
    type Err = ParseOperationIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseOperationIdError)?;
        Ok(Self(bytes))
    }
}

impl serde::Serialize for OperationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::NodeId;

    #[test]
    fn text_form_is_a_libp2p_peer_id() {
        let node = NodeId([7; 32]);
        assert!(node.to_string().starts_with("12D3Koo"), "{node}");
        assert_eq!(node.to_string().parse::<NodeId>(), Ok(node));
        assert!("12D3KooW".parse::<NodeId>().is_err());
    }
}
