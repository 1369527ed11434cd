//! `difuse stat`.

use clap::Args;
use difuse_api::files::Files;

use super::{
    exit::Failure,
    ls::{entry_json, mode_text},
    output,
    session::Session,
};
use crate::terminal;

/// Arguments of `stat`.
#[derive(Debug, Args)]
pub struct StatArguments {
    /// The file or directory.
    path: String,
}

/// Shows what is known of a file or directory.
pub async fn run(session: &Session, arguments: StatArguments) -> Result<(), Failure> {
    let files = Files::new(session.connect().await?).with_level(session.level());
    let found = files.stat(&arguments.path).await?;
    if session.json {
        return output::print_json(&entry_json(&found));
    }
    let unknown = || "–".to_string();
    let rows = [
        ["mode".into(), mode_text(&found)],
        ["size".into(), format!("{} ({} B)", terminal::bytes(found.size), found.size)],
        ["modified".into(), found.modified_ms.map_or_else(unknown, terminal::date)],
        ["media type".into(), found.media_type.clone().unwrap_or_else(unknown)],
        ["height".into(), found.entry.as_ref().map_or_else(unknown, |entry| entry.height.to_string())],
        ["transaction".into(), found.entry.as_ref().map_or_else(unknown, |entry| entry.hash.to_string())],
        ["written".into(), found.entry.as_ref().map_or_else(unknown, |entry| terminal::date(entry.time.0))],
    ];
    output::print(&terminal::table(&["path", &arguments.path], rows))
}
