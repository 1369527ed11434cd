//! Settings after validation.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use difuse_api::Consistency;
use difuse_client::secret_from_text;
use difuse_gateway::resp;
use difuse_node::{Founding, NodeConfig};
use difuse_types::{Hash, Level, RingId, RingSettings};
use tracing_subscriber::EnvFilter;

use super::{Effective, SettingsError};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json".into()),
        }
    }
}

/// What a node runs with.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// Where the HTTP gateway listens.
    pub http: SocketAddr,
    /// Where clients of Redis are served; `None`: nowhere.
    pub resp: Option<SocketAddr>,
    /// What they are served with.
    pub resp_settings: resp::Settings,
    /// After how long joining is given up; `None`: never.
    pub join_timeout: Option<Duration>,
    /// Which levels stand behind requests over HTTP that name none.
    pub consistency: Consistency,
    /// How often this node collects unnamed blocks while it leads the first slot; `None`: never.
    pub gc_every: Option<Duration>,
    /// What is logged.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// The node's own part.
    pub node: NodeConfig,
}

impl DaemonConfig {
    /// Checks every value, and that they go together. Reads the secret file.
    pub fn from_settings(settings: &[Effective]) -> Result<Self, SettingsError> {
        let view = View(settings);
        let http = view.parsed("http", "expected IP:PORT, such as 127.0.0.1:9090")?;
        let consistency = view.consistency()?;
        let config = Self {
            http,
            resp: view.resp()?,
            resp_settings: view.resp_settings(consistency)?,
            join_timeout: view.optional_duration("join_timeout")?,
            consistency,
            gc_every: if view.text("gc_every") == "off" { None } else { Some(view.duration("gc_every")?) },
            log: view.checked("log", |text| EnvFilter::try_new(text).map_err(|error| error.to_string()))?.into(),
            log_format: view.checked_value("log_format", str::parse)?,
            node: view.node(http)?,
        };
        view.check_network(&config.node)?;
        Ok(config)
    }
}

/// Typed access to the settings.
struct View<'a>(&'a [Effective]);

impl View<'_> {
    fn node(&self, http: SocketAddr) -> Result<NodeConfig, SettingsError> {
        let advertise = self.optional("advertise");
        Ok(NodeConfig {
            data_dir: PathBuf::from(self.required("data_dir")?),
            bind: self.parsed("bind", "expected IP:PORT, such as 127.0.0.1:4624")?,
            http: advertised_http(http, advertise.as_deref()),
            advertise,
            join: self.join()?,
            zone: self.text("zone").into(),
            host_label: self.optional("host_label"),
            secret: self.secret()?,
            suspect_after: self.duration("suspect_after")?,
            gone_after: self.gone_after()?,
            tombstones_kept: self.tombstones_kept()?,
            keep_free: self.bytes("keep_free")?,
            scrub_rate: self.scrub_rate()?,
            founding: self.founding()?,
        })
    }

    fn resp(&self) -> Result<Option<SocketAddr>, SettingsError> {
        match self.text("resp") {
            "off" => Ok(None),
            _ => self.parsed("resp", "expected IP:PORT, such as 127.0.0.1:6379, or off").map(Some),
        }
    }

    fn resp_settings(&self, consistency: Consistency) -> Result<resp::Settings, SettingsError> {
        const EXPECTED: &str = "expected a number from 1 to 65536";
        let databases = self.parsed("resp_databases", EXPECTED)?;
        if !(1..=65_536).contains(&databases) {
            return Err(self.refuse("resp_databases", EXPECTED));
        }
        let password = self.secret_text("resp_password_file")?.map(|text| Hash::of(text.as_bytes()));
        Ok(resp::Settings { password, databases, consistency, ..resp::Settings::default() })
    }

    fn consistency(&self) -> Result<Consistency, SettingsError> {
        let level = |name| self.checked_value(name, |text| text.parse::<Level>().map_err(|error| error.to_string()));
        let level_or = |name: &'static str, default| match self.optional(name) {
            Some(_) => level(name),
            None => Ok(default),
        };
        let (read, write) = (level("consistency_read")?, level("consistency_write")?);
        Ok(Consistency {
            stat: level_or("consistency_stat", read)?,
            set_inode: level_or("consistency_set_inode", write)?,
            delete_inode: level_or("consistency_delete_inode", write)?,
            get_block: level_or("consistency_get_block", read)?,
            set_block: level_or("consistency_set_block", write)?,
            delete_block: level_or("consistency_delete_block", write)?,
        })
    }

    fn setting(&self, name: &str) -> Option<&Effective> {
        self.0.iter().find(|setting| setting.name == name)
    }

    fn text(&self, name: &str) -> &str {
        self.setting(name).map(|setting| setting.value.trim()).unwrap_or_default()
    }

    fn optional(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(Into::into)
    }

    fn required(&self, name: &'static str) -> Result<String, SettingsError> {
        self.optional(name).ok_or_else(|| self.refuse(name, "must not be empty"))
    }

    fn refuse(&self, name: &'static str, reason: impl Into<String>) -> SettingsError {
        let setting = self.setting(name);
        SettingsError::Value {
            name,
            value: setting.map(|setting| setting.value.clone()).unwrap_or_default(),
            origin: setting.map_or(super::Origin::Default, |setting| setting.origin.clone()),
            reason: reason.into(),
        }
    }

    fn checked_value<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, SettingsError> {
        parse(self.text(name)).map_err(|reason| self.refuse(name, reason))
    }

    fn checked<T>(
        &self,
        name: &'static str,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<&str, SettingsError> {
        self.checked_value(name, check).map(|_| self.text(name))
    }

    fn parsed<T: FromStr>(&self, name: &'static str, expected: &str) -> Result<T, SettingsError> {
        self.text(name).parse().map_err(|_| self.refuse(name, expected))
    }

    fn duration(&self, name: &'static str) -> Result<Duration, SettingsError> {
        let duration = humantime::parse_duration(self.text(name)).ok().filter(|duration| !duration.is_zero());
        duration.ok_or_else(|| self.refuse(name, "expected a duration above zero, such as 500ms, 1s or 5m"))
    }

    fn optional_duration(&self, name: &'static str) -> Result<Option<Duration>, SettingsError> {
        if self.text(name).is_empty() { Ok(None) } else { self.duration(name).map(Some) }
    }

    fn gone_after(&self) -> Result<Duration, SettingsError> {
        let gone_after = self.duration("gone_after")?;
        if gone_after <= self.duration("suspect_after")? {
            return Err(self.refuse("gone_after", "must be longer than suspect_after"));
        }
        Ok(gone_after)
    }

    fn scrub_rate(&self) -> Result<Option<u64>, SettingsError> {
        const EXPECTED: &str = "expected bytes per second such as 8MiB or 8MiB/s, or off";
        let text = self.text("scrub_rate");
        if text == "off" {
            return Ok(None);
        }
        let rate = parse_bytes(text.strip_suffix("/s").unwrap_or(text)).filter(|rate| *rate > 0);
        rate.map(Some).ok_or_else(|| self.refuse("scrub_rate", EXPECTED))
    }

    fn tombstones_kept(&self) -> Result<Option<Duration>, SettingsError> {
        if self.text("tombstones_kept") == "forever" { Ok(None) } else { self.duration("tombstones_kept").map(Some) }
    }

    fn bytes(&self, name: &'static str) -> Result<u64, SettingsError> {
        let bytes = parse_bytes(self.text(name));
        bytes.ok_or_else(|| self.refuse(name, "expected a size such as 0, 500MB, 256MiB or 4GiB"))
    }
    fn join(&self) -> Result<Vec<String>, SettingsError> {
        let addresses: Vec<_> = self.text("join").split(',').map(|part| part.trim().to_string()).collect();
        let addresses: Vec<_> = addresses.into_iter().filter(|address| !address.is_empty()).collect();
        match addresses.iter().find(|address| !is_address(address)) {
            Some(bad) => {
                Err(self.refuse("join", format!("{bad:?} is neither host:port nor a multiaddr (/ip4/…/tcp/…)")))
            }
            None => Ok(addresses),
        }
    }

    fn secret(&self) -> Result<Option<[u8; 32]>, SettingsError> {
        Ok(self.secret_text("secret_file")?.map(|text| secret_from_text(&text)))
    }

    /// What is in a file that a setting names, without blanks around it; `None` if it names none.
    fn secret_text(&self, name: &'static str) -> Result<Option<String>, SettingsError> {
        let Some(path) = self.optional(name) else { return Ok(None) };
        let text = std::fs::read_to_string(&path).map_err(|error| self.refuse(name, error.to_string()))?;
        let text = text.trim().to_string();
        if text.is_empty() { Err(self.refuse(name, "the file is empty")) } else { Ok(Some(text)) }
    }

    fn founding(&self) -> Result<Founding, SettingsError> {
        let replicas = self.parsed("replicas", "expected a number from 1 to 15")?;
        let slots = self.parsed("slots", "expected a power of two from 1 to 65536")?;
        let virtual_nodes = self.parsed("vnodes", "expected a number from 1 to 256")?;
        use difuse_types::SettingsError as Refused;
        RingSettings::new(RingId(Hash::ZERO), replicas, slots, virtual_nodes).map_err(|error| match error {
            Refused::Replicas(_) => self.refuse("replicas", error.to_string()),
            Refused::Slots(_) => self.refuse("slots", error.to_string()),
            Refused::VirtualNodes(_) => self.refuse("vnodes", error.to_string()),
        })?;
        Ok(Founding { replicas, slots, virtual_nodes })
    }

    /// What is dangerous or cannot work once other machines can reach the node.
    fn check_network(&self, node: &NodeConfig) -> Result<(), SettingsError> {
        if let Some(advertise) = &node.advertise
            && !is_address(advertise)
        {
            return Err(self.refuse("advertise", "expected host:port or a multiaddr"));
        }
        let is_open = self.text("open") == "true";
        let is_reached = self.resp()?.is_some_and(|address| !address.ip().is_loopback());
        if is_reached && self.optional("resp_password_file").is_none() && !is_open {
            let reason = "other machines reach this address, and clients can read and write everything: give them a \
                          password with --resp-password-file FILE, listen on 127.0.0.1, or say --open";
            return Err(self.refuse("resp", reason));
        }
        if node.bind.ip().is_loopback() {
            return Ok(());
        }
        if node.bind.ip().is_unspecified() && node.advertise.is_none() {
            let reason =
                "nobody can connect to this address: name the one that others reach with --advertise HOST:PORT";
            return Err(self.refuse("bind", reason));
        }
        if node.secret.is_none() && !is_open {
            let reason = "other machines reach this address, and whoever joins can read and write everything: give the \
                          ring a secret with --secret-file FILE (the same text at every node), bind to 127.0.0.1, or \
                          say --open if anybody may join";
            return Err(self.refuse("bind", reason));
        }
        Ok(())
    }
}

/// A number of bytes, with or without a unit.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let factor: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "kB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(factor)
}

/// The HTTP address that others are told: an unspecified one is completed with the advertised host.
fn advertised_http(http: SocketAddr, advertise: Option<&str>) -> String {
    let host = advertise.and_then(|address| address.rsplit_once(':')).map(|(host, _)| host);
    match host {
        Some(host) if http.ip().is_unspecified() => format!("{host}:{}", http.port()),
        _ => http.to_string(),
    }
}

fn is_address(text: &str) -> bool {
    let host_and_port =
        text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    text.starts_with('/') || host_and_port
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use difuse_api::Consistency;
    use difuse_types::Level;

    use super::{super::merge, DaemonConfig};

    fn check(flags: &[(&'static str, &str)]) -> Result<DaemonConfig, String> {
        let flags = flags.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let settings = merge(flags, std::iter::empty(), None, "/data").unwrap();
        DaemonConfig::from_settings(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_run() {
        let config = check(&[]).unwrap();
        assert_eq!(config.http.port(), 9090);
        assert_eq!(config.node.suspect_after, Duration::from_secs(1));
        assert_eq!(config.node.gone_after, Duration::from_secs(300));
        assert!(config.node.join.is_empty() && config.node.secret.is_none());
        assert_eq!(config.node.scrub_rate, Some(8 << 20));
        assert_eq!(config.gc_every, Some(Duration::from_secs(24 * 3600)));
        assert_eq!(check(&[("gc_every", "off")]).unwrap().gc_every, None);
    }

    #[test]
    fn clients_of_redis_are_served_on_loopback_unless_told_otherwise() {
        assert_eq!(check(&[]).unwrap().resp, Some("127.0.0.1:6379".parse().unwrap()));
        assert_eq!(check(&[("resp", "off")]).unwrap().resp, None);
        assert!(check(&[("resp", "0.0.0.0:6379"), ("open", "true")]).is_ok());
    }

    #[test]
    fn scrubbing_has_a_rate_or_is_off() {
        let rate = |text| check(&[("scrub_rate", text)]).unwrap().node.scrub_rate;
        assert_eq!((rate("4MiB/s"), rate("1MB"), rate("off")), (Some(4 << 20), Some(1_000_000), None));
    }

    #[test]
    fn levels_are_those_of_reads_and_writes_unless_an_operation_has_its_own() {
        let settings =
            [("consistency_read", "leader"), ("consistency_write", "all"), ("consistency_get_block", "lazy")];
        let consistency = check(&settings).unwrap().consistency;
        assert_eq!((consistency.stat, consistency.get_block), (Level::Leader, Level::Lazy));
        assert_eq!((consistency.set_inode, consistency.delete_block), (Level::All, Level::All));
        assert_eq!(check(&[]).unwrap().consistency, Consistency::default());
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (name, value, expected) in [
            ("http", "9090", "http = \"9090\" (command line --http): expected IP:PORT"),
            ("resp", "6379", "or off"),
            ("resp", "0.0.0.0:6379", "--resp-password-file"),
            ("resp_databases", "0", "from 1 to 65536"),
            ("resp_password_file", "/does/not/exist", "resp_password_file"),
            ("bind", "nonsense", "bind"),
            ("join", "127.0.0.1", "neither host:port"),
            ("replicas", "0", "between 1 and 15"),
            ("replicas", "many", "number from 1 to 15"),
            ("slots", "1000", "power of two"),
            ("vnodes", "1000", "between 1 and 256"),
            ("suspect_after", "soon", "expected a duration"),
            ("suspect_after", "0s", "above zero"),
            ("gone_after", "500ms", "longer than suspect_after"),
            ("tombstones_kept", "0s", "a duration above zero"),
            ("consistency_read", "most", "use lazy, leader, quorum or all"),
            ("consistency_set_block", "\"", "use lazy, leader, quorum or all"),
            ("scrub_rate", "0", "bytes per second"),
            ("scrub_rate", "fast", "or off"),
            ("log", "info,,=x=", "log"),
            ("log_format", "xml", "text or json"),
            ("secret_file", "/does/not/exist", "secret_file"),
        ] {
            let error = check(&[(name, value)]).unwrap_err();
            assert!(error.contains(expected), "{name} = {value}: {error}");
        }
    }

    #[test]
    fn beyond_loopback_needs_a_secret_or_consent_and_an_address() {
        let error = check(&[("bind", "10.0.0.1:4624")]).unwrap_err();
        assert!(error.contains("--secret-file") && error.contains("--open"), "{error}");
        assert!(check(&[("bind", "10.0.0.1:4624"), ("open", "true")]).is_ok());
        let error = check(&[("bind", "0.0.0.0:4624"), ("open", "true")]).unwrap_err();
        assert!(error.contains("--advertise"), "{error}");
        let with_address =
            [("bind", "0.0.0.0:4624"), ("open", "true"), ("advertise", "a.example:1"), ("http", "0.0.0.0:90")];
        assert_eq!(check(&with_address).unwrap().node.http, "a.example:90");
    }
}
