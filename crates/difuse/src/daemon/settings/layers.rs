//! Merging: command line over environment over file over defaults, remembering where each value came from.

use std::{net::SocketAddr, path::PathBuf};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};

/// Every setting with its default; empty means "none".
pub(super) const DEFAULTS: [(&str, &str); 32] = [
    ("http", "127.0.0.1:9090"),
    ("resp", "127.0.0.1:6379"),
    ("resp_password_file", ""),
    ("resp_databases", "16"),
    ("bind", "127.0.0.1:4624"),
    ("join", ""),
    ("join_timeout", ""),
    ("advertise", ""),
    ("data_dir", ""),
    ("zone", ""),
    ("host_label", ""),
    ("suspect_after", "1s"),
    ("gone_after", "5m"),
    ("tombstones_kept", "24h"),
    ("keep_free", "256MiB"),
    ("scrub_rate", "8MiB"),
    ("gc_every", "24h"),
    ("secret_file", ""),
    ("open", "false"),
    ("replicas", "3"),
    ("slots", "1024"),
    ("vnodes", "8"),
    ("consistency_read", "quorum"),
    ("consistency_write", "quorum"),
    ("consistency_stat", ""),
    ("consistency_set_inode", ""),
    ("consistency_delete_inode", ""),
    ("consistency_get_block", ""),
    ("consistency_set_block", ""),
    ("consistency_delete_block", ""),
    ("log", "info,libp2p=warn"),
    ("log_format", "text"),
];

/// Why settings are not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The file has a key that means nothing.
    #[error("unknown setting `{key}` in {path}; known are: {}", known_names())]
    UnknownKey {
        /// The key.
        key: String,
        /// The file.
        path: String,
    },
    /// A value is not accepted.
    #[error("{name} = {value:?} ({origin}): {reason}")]
    Value {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// Where it came from.
        origin: Origin,
        /// What is accepted.
        reason: String,
    },
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// The settings file.
    File(PathBuf),
    /// A variable.
    Environment(String),
    /// A flag.
    CommandLine(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(variable) => write!(f, "variable {variable}"),
            Self::CommandLine(flag) => write!(f, "command line {flag}"),
        }
    }
}

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Its name, as in the file.
    pub name: &'static str,
    /// Its value; empty for none.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
}

/// Merges the three places over the defaults. `environment` are all variables; only `DIFUSE_` and a setting's name
/// count. `data_dir_default` depends on the platform; a node on another port than the usual one has a folder of its own
/// beside it, so that several nodes on one machine need not be given one each.
pub fn merge(
    flags: Vec<(&'static str, String)>,
    environment: impl Iterator<Item = (String, String)>,
    file: Option<PathBuf>,
    data_dir_default: &str,
) -> Result<Vec<Effective>, SettingsError> {
    let mut figment = Figment::new().merge(Layer::defaults(data_dir_default));
    if let Some(path) = &file {
        figment = figment.merge(Layer::of_file(path)?);
    }
    let figment = figment.merge(Layer::environment(environment)).merge(Layer::new(COMMAND_LINE, flags));
    let mut settings: Vec<_> = DEFAULTS.iter().map(|(name, _)| effective(&figment, name, file.as_ref())).collect();
    if let Some(port) = unusual_port(&settings) {
        let unnamed = |setting: &&mut Effective| setting.name == "data_dir" && setting.origin == Origin::Default;
        settings.iter_mut().filter(unnamed).for_each(|setting| setting.value = format!("{data_dir_default}-{port}"));
    }
    Ok(settings)
}

/// The port to bind to, if it is not the usual one (a value that makes no sense is refused elsewhere).
fn unusual_port(settings: &[Effective]) -> Option<u16> {
    let port = |text: &str| Some(text.trim().parse::<SocketAddr>().ok()?.port());
    let (_, usual) = DEFAULTS.iter().find(|(name, _)| *name == "bind")?;
    let bind = settings.iter().find(|setting| setting.name == "bind")?;
    // Port 0 is another one at each start: no folder could be found again by it.
    port(&bind.value).filter(|found| *found != 0 && Some(*found) != port(usual))
}

const DEFAULT: &str = "default";
const FILE: &str = "file";
const ENVIRONMENT: &str = "environment";
const COMMAND_LINE: &str = "command line";

fn effective(figment: &Figment, name: &'static str, file: Option<&PathBuf>) -> Effective {
    let value = figment.find_value(name).ok().and_then(Value::into_string).unwrap_or_default();
    let origin = match (figment.find_metadata(name).map(|metadata| &*metadata.name), file) {
        (Some(COMMAND_LINE), _) => Origin::CommandLine(format!("--{}", name.replace('_', "-"))),
        (Some(ENVIRONMENT), _) => Origin::Environment(variable(name)),
        (Some(FILE), Some(path)) => Origin::File(path.clone()),
        _ => Origin::Default,
    };
    Effective { name, value, origin }
}

/// The variable that stands for a setting.
fn variable(name: &str) -> String {
    format!("DIFUSE_{}", name.to_uppercase())
}

fn known_names() -> String {
    DEFAULTS.map(|(name, _)| name).join(", ")
}

/// Values from one place, all as text: a host label `007` stays what it is.
struct Layer {
    place: &'static str,
    values: Dict,
}

impl Layer {
    fn new(place: &'static str, values: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.to_string(), Value::from(value)));
        Self { place, values: values.collect() }
    }

    fn defaults(data_dir: &str) -> Self {
        let value = |name, value: &str| if name == "data_dir" { data_dir } else { value }.to_string();
        Self::new(DEFAULT, DEFAULTS.into_iter().map(|(name, default)| (name, value(name, default))))
    }

    fn environment(variables: impl Iterator<Item = (String, String)>) -> Self {
        let known = |(variable_given, value): (String, String)| {
            let (name, _) = DEFAULTS.iter().find(|(name, _)| variable(name) == variable_given)?;
            Some((*name, value))
        };
        Self::new(ENVIRONMENT, variables.filter_map(known))
    }

    fn of_file(path: &PathBuf) -> Result<Self, SettingsError> {
        let shown = || path.display().to_string();
        let refuse = |reason: String| SettingsError::File { path: shown(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let mut profiles = Toml::string(&text).data().map_err(|error| refuse(error.to_string()))?;
        let mut values = Vec::new();
        for (key, value) in profiles.remove(&Profile::Default).unwrap_or_default() {
            let known = DEFAULTS.iter().find(|(name, _)| *name == key);
            let (name, _) = known.ok_or_else(|| SettingsError::UnknownKey { key: key.clone(), path: shown() })?;
            let text =
                scalar_text(&value).ok_or_else(|| refuse(format!("`{key}` is neither text nor number nor list")))?;
            values.push((*name, text));
        }
        Ok(Self::new(FILE, values))
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// A value of the file as it would be written on the command line; lists become comma lists.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, character) => Some(character.to_string()),
        Value::Bool(_, value) => Some(value.to_string()),
        Value::Num(_, number) => Some(match (number.to_i128(), number.to_f64()) {
            (Some(integer), _) => integer.to_string(),
            (None, float) => float?.to_string(),
        }),
        Value::Array(_, items) => Some(items.iter().map(scalar_text).collect::<Option<Vec<_>>>()?.join(",")),
        Value::Empty(..) | Value::Dict(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::{Effective, Origin, SettingsError, merge};

    fn variables(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>().into_iter()
    }

    fn find<'a>(settings: &'a [Effective], name: &str) -> (&'a str, &'a Origin) {
        let found = settings.iter().find(|setting| setting.name == name).unwrap();
        (&found.value, &found.origin)
    }

    fn file(folder: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = folder.path().join("difuse.toml");
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn the_command_line_wins_over_variables_over_the_file_over_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path =
            file(&folder, "http = \"f:1\"\nbind = \"f:2\"\nzone = \"f\"\nreplicas = 5\njoin = [\"a:1\", \"b:2\"]\n");
        let environment =
            variables(&[("DIFUSE_HTTP", "e:1"), ("DIFUSE_BIND", "e:2"), ("DIFUSE_NODE", "x"), ("ZONE", "y")]);
        let settings = merge(vec![("http", "c:1".into())], environment, Some(path.clone()), "/data").unwrap();
        assert_eq!(find(&settings, "http"), ("c:1", &Origin::CommandLine("--http".into())));
        assert_eq!(find(&settings, "bind"), ("e:2", &Origin::Environment("DIFUSE_BIND".into())));
        assert_eq!(find(&settings, "zone"), ("f", &Origin::File(path.clone())));
        assert_eq!(find(&settings, "replicas"), ("5", &Origin::File(path.clone())));
        assert_eq!(find(&settings, "join"), ("a:1,b:2", &Origin::File(path)));
        assert_eq!(find(&settings, "slots"), ("1024", &Origin::Default));
        assert_eq!(find(&settings, "data_dir"), ("/data", &Origin::Default));
    }

    #[test]
    fn a_node_on_another_port_has_a_data_directory_of_its_own() {
        let check = |flags: &[(&'static str, &str)], expected: &str| {
            let flags = flags.iter().map(|(name, value)| (*name, value.to_string())).collect();
            let settings = merge(flags, variables(&[]), None, "/data").unwrap();
            assert_eq!(find(&settings, "data_dir").0, expected);
        };
        check(&[("bind", "127.0.0.1:4625")], "/data-4625");
        check(&[("bind", "10.0.0.1:4624")], "/data");
        check(&[("bind", "127.0.0.1:0")], "/data");
        check(&[("bind", "127.0.0.1:4625"), ("data_dir", "/mine")], "/mine");
    }

    #[test]
    fn text_from_variables_is_not_taken_for_a_number() {
        let settings = merge(vec![], variables(&[("DIFUSE_HOST_LABEL", "007")]), None, "/data").unwrap();
        assert_eq!(find(&settings, "host_label").0, "007");
    }

    #[test]
    fn a_bad_file_is_refused_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str, expected: &str| {
            let error = merge(vec![], variables(&[]), Some(file(&folder, text)), "/data").unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check("htpp = \"x\"", "unknown setting `htpp`");
        check("http = ", "difuse.toml");
        check("[http]\nx = 1", "`http` is neither");
        let missing = merge(vec![], variables(&[]), Some(folder.path().join("none.toml")), "/data");
        assert!(matches!(missing, Err(SettingsError::File { .. })));
    }
}
