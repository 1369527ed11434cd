//! `difuse rm`.

use clap::Args;
use difuse_api::files::{Files, RemoveOptions};
use serde_json::json;

use super::{exit::Failure, output, progress, session::Session};

/// Arguments of `rm`.
#[derive(Debug, Args)]
pub struct RmArguments {
    /// The file or directory.
    path: String,
    /// A directory with everything in it.
    #[arg(short, long)]
    recursive: bool,
}

/// Removes a file or directory.
pub async fn run(session: &Session, arguments: RmArguments) -> Result<(), Failure> {
    let files = Files::new(session.connect().await?).with_level(session.level());
    let spinner = progress::spinner(format!("removing {}", arguments.path));
    let options = RemoveOptions { recursive: arguments.recursive, ..RemoveOptions::default() };
    let removed = files.remove(&arguments.path, options).await;
    spinner.finish_and_clear();
    let removed = removed?;
    if session.json {
        return output::print_json(&json!({ "removed": removed }));
    }
    output::print(&format!("{removed} removed"))
}
