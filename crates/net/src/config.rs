use std::net::SocketAddr;

use difuse_types::RingId;

use crate::{Identity, NetError, Role};

/// The ring that a process belongs to; `None` for one that joins whatever ring it meets, and for a client that does
/// not mind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingTag(pub Option<RingId>);

/// What a [`crate::Net`] needs to start. [`Config::new`] fills in bounds that suit most.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who we are.
    pub identity: Identity,
    /// Where to listen (port 0: any free port); `None` makes us a [`Role::Client`].
    pub listen: Option<SocketAddr>,
    /// Shown to everyone we meet; a remote of another ring is refused.
    pub ring: RingTag,
    /// The ring's secret, hashed; both sides prove that they know it. `None` meets only others without one.
    pub secret: Option<[u8; 32]>,
    /// Longest frame, in bytes, sent and accepted; 1 to 256 MiB.
    pub frame_bytes_max: usize,
    /// Control frames that may wait for one remote.
    pub control_queue_frames_max: usize,
    /// Bytes of control frames that may wait for one remote.
    pub control_queue_bytes_max: usize,
    /// Bulk frames that may wait for one remote.
    pub bulk_queue_frames_max: usize,
    /// Bytes of bulk frames that may wait for one remote.
    pub bulk_queue_bytes_max: usize,
    /// Events that may wait in the control receiver before remotes are slowed down.
    pub control_events_max: usize,
    /// Frames that may wait in the bulk receiver before remotes are slowed down.
    pub bulk_events_max: usize,
    /// Nodes that may be connected at once, and entries of the address book.
    pub peers_max: usize,
    /// Clients that may be connected at once.
    pub clients_max: usize,
}

const MIB: usize = 1024 * 1024;
const FRAME_BYTES_LIMIT: usize = 256 * MIB;

impl Config {
    /// Defaults for a process of this identity that does not listen, has no ring and no secret.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            listen: None,
            ring: RingTag(None),
            secret: None,
            frame_bytes_max: 2 * MIB,
            control_queue_frames_max: 32 * 1024,
            control_queue_bytes_max: 8 * MIB,
            bulk_queue_frames_max: 1024,
            bulk_queue_bytes_max: 16 * MIB,
            control_events_max: 4096,
            bulk_events_max: 64,
            peers_max: 4096,
            clients_max: 4096,
        }
    }

    /// What we are: whoever listens is a peer.
    pub(crate) fn role(&self) -> Role {
        if self.listen.is_some() { Role::Peer } else { Role::Client }
    }

    pub(crate) fn validate(&self) -> Result<(), NetError> {
        if !(1..=FRAME_BYTES_LIMIT).contains(&self.frame_bytes_max) {
            return Err(NetError::Config(format!("frame_bytes_max must be 1 to {FRAME_BYTES_LIMIT}")));
        }
        let positive = [
            ("control_queue_frames_max", self.control_queue_frames_max),
            ("bulk_queue_frames_max", self.bulk_queue_frames_max),
            ("control_events_max", self.control_events_max),
            ("bulk_events_max", self.bulk_events_max),
            ("peers_max", self.peers_max),
        ];
        for (name, value) in positive {
            if value == 0 {
                return Err(NetError::Config(format!("{name} must not be 0")));
            }
        }
        let queue_bytes = self.control_queue_bytes_max.min(self.bulk_queue_bytes_max);
        if queue_bytes < self.frame_bytes_max {
            return Err(NetError::Config("a queue must have room for the longest frame".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::Identity;

    #[test]
    fn impossible_bounds_are_refused() {
        let defaults = || Config::new(Identity::from_seed([1; 32]));
        assert!(defaults().validate().is_ok());
        let broken: [fn(&mut Config); 4] = [
            |config| config.frame_bytes_max = 0,
            |config| config.frame_bytes_max = usize::MAX,
            |config| config.bulk_events_max = 0,
            |config| config.bulk_queue_bytes_max = config.frame_bytes_max - 1,
        ];
        for break_it in broken {
            let mut config = defaults();
            break_it(&mut config);
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}
