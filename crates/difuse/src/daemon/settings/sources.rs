//! Where settings and data are looked for on this machine.

use std::path::{Path, PathBuf};

use etcetera::{BaseStrategy, choose_base_strategy};

use super::{Effective, SettingsError, merge};
use crate::daemon::arguments::Flags;

const FILE_NAME: &str = "difuse.toml";

/// Everything that settings come from.
pub struct Sources {
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// Finds the settings file: the one named, or else the first of the usual places that has one.
    pub fn find(flags: &Flags) -> Self {
        let named = flags.config.clone().or_else(|| std::env::var_os("DIFUSE_CONFIG").map(PathBuf::from));
        Self { file: named.or_else(usual_file), flags: flags.given() }
    }

    /// The settings in force.
    pub fn merged(self) -> Result<Vec<Effective>, SettingsError> {
        let data_dir = data_folder("difuse");
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        merge(self.flags, environment, self.file, &data_dir.to_string_lossy())
    }
}

fn usual_file() -> Option<PathBuf> {
    let local = Path::new(FILE_NAME).to_path_buf();
    let platform = choose_base_strategy().ok().map(|places| places.config_dir().join("difuse").join(FILE_NAME));
    [Some(local), platform].into_iter().flatten().find(|path| path.is_file())
}

/// A folder of ours in the platform's folder for data (`~/.local/share` on Linux); here if there is none.
pub fn data_folder(name: &str) -> PathBuf {
    let base = choose_base_strategy().map(|places| places.data_dir());
    base.unwrap_or_else(|_| PathBuf::from(".")).join(name)
}
