//! One run of the command: where the ring is, and how to answer.

use std::{sync::Arc, time::Duration};

use difuse_api::{Consistency, namespaces::Levels};
use difuse_client::{Client, ClientConfig, secret_from_text};
use difuse_types::{Key, Level, Space};

use super::{arguments::Connection, exit::Failure};

/// What every subcommand needs.
pub struct Session {
    addresses: Vec<String>,
    config: ClientConfig,
    /// Who stands behind answers, if the user says so.
    named_level: Option<Level>,
    levels: Levels,
    /// Whether to answer in JSON.
    pub json: bool,
}

impl Session {
    /// Checks the arguments; nothing is opened but the secret's file.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        if connection.timeout.is_zero() {
            return Err(Failure::Usage("--timeout must be above zero".into()));
        }
        if let Some(bad) = connection.node.iter().find(|address| !is_address(address)) {
            return Err(Failure::Usage(format!("--node: {bad:?} is neither host:port nor a multiaddr (/ip4/…/tcp/…)")));
        }
        let secret = connection.secret_file.as_ref().map(std::fs::read_to_string).transpose();
        let secret = secret.map_err(|error| Failure::Usage(format!("--secret-file: {error}")))?;
        let config = ClientConfig {
            deadline: connection.timeout,
            connect_timeout: connection.timeout.min(ClientConfig::default().connect_timeout),
            secret: secret.as_deref().map(secret_from_text),
            ..ClientConfig::default()
        };
        let named_level = connection.consistency;
        let levels = match named_level {
            Some(level) => Consistency::uniform(level).into(),
            None => Levels::Default(Arc::default()),
        };
        Ok(Self { addresses: connection.node.clone(), config, named_level, levels, json: connection.json })
    }

    /// Who stands behind answers about anything but keys.
    pub fn level(&self) -> Level {
        self.named_level.unwrap_or_default()
    }

    /// Who stands behind answers about keys: whoever the user named, else whoever their namespace says.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The levels for a key.
    pub async fn levels_of(&self, client: &Client, key: &Key) -> Result<Consistency, Failure> {
        match key.space() {
            Space::Keys => Ok(self.levels.of(client, key.namespace()).await?),
            Space::Files | Space::Ring => Ok(Consistency::uniform(self.level())),
        }
    }

    /// Connects to the ring.
    pub async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.addresses, self.config.clone()).await?)
    }

    /// Connects with bounds for measuring: `clients` requests at once.
    pub async fn connect_for(&self, clients: usize) -> Result<Client, Failure> {
        let in_flight_max = self.config.in_flight_max.max(clients);
        Ok(Client::connect(&self.addresses, ClientConfig { in_flight_max, ..self.config.clone() }).await?)
    }

    /// How long one request may take.
    pub fn deadline(&self) -> Duration {
        self.config.deadline
    }
}

fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    text.starts_with('/') || parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn addresses_have_a_port() {
        for good in ["127.0.0.1:4624", "[::1]:1", "ring.example:4624", "/ip4/127.0.0.1/tcp/4624"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "127.0.0.1", ":4624", "host:port", "host:70000"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
