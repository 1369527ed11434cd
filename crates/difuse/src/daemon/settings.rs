//! The settings of a node: raw text from four places, merged once and validated once, before anything opens.

mod layers;
mod sources;
mod validated;

pub use layers::{Effective, Origin, SettingsError, merge};
pub use sources::{Sources, data_folder};
pub use validated::{DaemonConfig, LogFormat};
