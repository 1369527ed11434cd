//! Transports on loopback, and waiting for what they report.
#![allow(dead_code)] // Each test file uses a part.

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use difuse_net::{Class, Config, Event, Identity, Net, Role};
use difuse_types::NodeId;
use tokio::sync::mpsc::Receiver;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A transport and what it reports.
pub struct Node {
    pub net: Net,
    pub control: Receiver<Event>,
    pub bulk: Receiver<Event>,
}

/// Settings of a listening node whose key grows from `seed`.
pub fn settings(seed: u8) -> Config {
    let mut config = Config::new(Identity::from_seed([seed; 32]));
    config.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config
}

/// Settings of a client.
pub fn client_settings(seed: u8) -> Config {
    Config::new(Identity::from_seed([seed; 32]))
}

pub async fn start(config: Config) -> Node {
    let (net, control, bulk) = Net::start(config).await.expect("the transport starts");
    Node { net, control, bulk }
}

/// Waits, but not for ever.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens within the time allowed")
}

impl Node {
    pub fn id(&self) -> NodeId {
        self.net.node()
    }

    pub fn address(&self) -> String {
        self.net.local_address().expect("it listens").to_string()
    }

    pub async fn next(&mut self) -> Event {
        soon(self.control.recv()).await.expect("the transport runs")
    }

    pub async fn expect_connected(&mut self, expected: NodeId) -> Role {
        match self.next().await {
            Event::Connected { node, role, .. } if node == expected => role,
            other => panic!("expected {expected} to connect, not {other:?}"),
        }
    }

    pub async fn expect_disconnected(&mut self, expected: NodeId) {
        assert_eq!(self.next().await, Event::Disconnected { node: expected });
    }

    pub async fn expect_frame(&mut self, sender: NodeId, expected_class: Class) -> Bytes {
        let event = match expected_class {
            Class::Control => self.next().await,
            Class::Bulk => soon(self.bulk.recv()).await.expect("the transport runs"),
        };
        match event {
            Event::Frame { from, class, frame, .. } if from == sender && class == expected_class => frame,
            other => panic!("expected a frame of {sender}, not {other:?}"),
        }
    }

    pub fn send(&self, to: NodeId, class: Class, frame: &'static [u8]) {
        self.net.send(to, class, Bytes::from_static(frame)).expect("the frame is queued");
    }
}

/// Connects `from` to `to`, and waits until both have reported it.
pub async fn link(from: &mut Node, to: &mut Node) {
    assert_eq!(soon(from.net.connect(&to.address())).await.expect("it connects"), to.id());
    from.expect_connected(to.id()).await;
    to.expect_connected(from.id()).await;
}
