//! Addresses as people write them.

use std::net::{IpAddr, SocketAddr};

use difuse_types::NodeId;
use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::{NetError, identity::node_of};

/// Addresses of one name that are tried.
const SOCKETS_MAX: usize = 8;

/// Where to dial and whom to expect there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub sockets: Vec<SocketAddr>,
    pub node: Option<NodeId>,
}

#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    host: String,
    port: u16,
    node: Option<NodeId>,
}

/// Understands `host:port` and `/ip4/…/tcp/…[/p2p/…]`, and asks the resolver for names.
pub(crate) async fn resolve(address: &str) -> Result<Target, NetError> {
    let refuse = |reason: String| NetError::Address { address: shorten(address), reason };
    let parsed = parse(address).map_err(refuse)?;
    let found = tokio::net::lookup_host((parsed.host.as_str(), parsed.port))
        .await
        .map_err(|error| NetError::Address { address: shorten(address), reason: error.to_string() })?;
    let sockets: Vec<_> = found.take(SOCKETS_MAX).collect();
    if sockets.is_empty() {
        return Err(NetError::Address { address: shorten(address), reason: "the name has no address".into() });
    }
    Ok(Target { sockets, node: parsed.node })
}

fn shorten(address: &str) -> String {
    address.chars().take(200).collect()
}

/// The port of a well-formed address.
pub(crate) fn port_of(address: &str) -> Result<u16, String> {
    parse(address).map(|parsed| parsed.port)
}

fn parse(address: &str) -> Result<Parsed, String> {
    if address.starts_with('/') { parse_multiaddr(address) } else { parse_host_port(address) }
}

fn parse_host_port(address: &str) -> Result<Parsed, String> {
    let (host, port) = address.rsplit_once(':').ok_or("expected host:port")?;
    let port = parse_port(port.parse().map_err(|_| "the port is not a number from 1 to 65535")?)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or("a ']' is missing")?,
        None if host.contains(':') => return Err("an IPv6 address needs [brackets]".into()),
        None => host,
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    Ok(Parsed { host: host.to_string(), port, node: None })
}

fn parse_multiaddr(address: &str) -> Result<Parsed, String> {
    let address: Multiaddr = address.parse().map_err(|error| format!("{error}"))?;
    let mut parts = address.iter();
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.to_string(),
        Some(Protocol::Ip6(ip)) => ip.to_string(),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => name.to_string(),
        _ => return Err("expected /ip4, /ip6 or /dns first".into()),
    };
    let Some(Protocol::Tcp(port)) = parts.next() else {
        return Err("expected /tcp second".into());
    };
    let node = match parts.next() {
        None => None,
        Some(Protocol::P2p(peer)) => Some(node_of(&peer).ok_or("the peer id is not of an Ed25519 key")?),
        Some(_) => return Err("expected /p2p or nothing third".into()),
    };
    if parts.next().is_some() {
        return Err("expected nothing after /p2p".into());
    }
    Ok(Parsed { host, port: parse_port(port)?, node })
}

fn parse_port(port: u16) -> Result<u16, String> {
    if port == 0 { Err("port 0 cannot be dialled".into()) } else { Ok(port) }
}

/// `/ip4/…/tcp/…` of a socket address.
pub(crate) fn multiaddr_of(socket: SocketAddr) -> Multiaddr {
    Multiaddr::empty().with(socket.ip().into()).with(Protocol::Tcp(socket.port()))
}

/// The socket address of `/ip4/…/tcp/…`.
pub(crate) fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{multiaddr_of, parse, resolve, socket_of};
    use crate::Identity;

    #[test]
    fn addresses_are_understood() {
        let node = Identity::from_seed([3; 32]).node_id();
        let with_node = format!("/ip4/10.0.0.1/tcp/70/p2p/{node}");
        let cases = [
            ("localhost:4001", Some(("localhost", 4001, None))),
            ("10.0.0.1:1", Some(("10.0.0.1", 1, None))),
            ("[::1]:4001", Some(("::1", 4001, None))),
            ("/ip4/10.0.0.1/tcp/70", Some(("10.0.0.1", 70, None))),
            ("/ip6/::1/tcp/70", Some(("::1", 70, None))),
            ("/dns4/a.example/tcp/70", Some(("a.example", 70, None))),
            (&with_node, Some(("10.0.0.1", 70, Some(node)))),
            ("localhost", None),
            ("localhost:0", None),
            (":4001", None),
            ("::1:4001", None),
            ("[::1:4001", None),
            ("localhost:70000", None),
            ("/ip4/10.0.0.1/udp/70", None),
            ("/ip4/10.0.0.1/tcp/70/ws", None),
            ("/nonsense", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = parse(text).ok().map(|parsed| (parsed.host, parsed.port, parsed.node));
            assert_eq!(found, expected.map(|(host, port, node)| (host.to_string(), port, node)), "{text}");
        }
    }

    #[tokio::test]
    async fn numbers_need_no_resolver() {
        let target = resolve("127.0.0.1:4001").await.unwrap();
        assert_eq!(target.sockets, ["127.0.0.1:4001".parse().unwrap()]);
        assert_eq!(socket_of(&multiaddr_of(target.sockets[0])), Some(target.sockets[0]));
    }
}
