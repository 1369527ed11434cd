//! `difuse ls`.

use clap::Args;
use difuse_api::files::{FileEntry, FileKind, Files};
use serde_json::{Value, json};

use super::{exit::Failure, get::list_all, output, session::Session};
use crate::terminal;

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct LsArguments {
    /// The directory.
    #[arg(default_value = "/")]
    path: String,
    /// With permissions, sizes and times.
    #[arg(short, long)]
    long: bool,
}

/// Lists a directory; of a file, shows the file.
pub async fn run(session: &Session, arguments: LsArguments) -> Result<(), Failure> {
    let files = Files::new(session.connect().await?).with_level(session.level());
    let found = files.stat(&arguments.path).await?;
    let entries = match found.kind {
        FileKind::File | FileKind::Symlink => vec![found],
        FileKind::Directory => list_all(&files, &arguments.path).await?,
    };
    if session.json {
        return entries.iter().try_for_each(|entry| output::print_json_line(&entry_json(entry)));
    }
    if arguments.long {
        return output::print(&terminal::table(&["mode", "size", "modified", "name"], entries.iter().map(row)));
    }
    entries.iter().try_for_each(|entry| output::print(&shown_name(entry)))
}

fn row(entry: &FileEntry) -> [String; 4] {
    [
        mode_text(entry),
        if entry.kind == FileKind::File { terminal::bytes(entry.size) } else { "–".into() },
        entry.modified_ms.map_or_else(|| "–".into(), terminal::date),
        shown_name(entry),
    ]
}

/// The name without control characters, which could deceive a terminal; directories end with a slash.
fn shown_name(entry: &FileEntry) -> String {
    let name: String = entry.name.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    if entry.kind == FileKind::Directory { format!("{name}/") } else { name }
}

/// Type and permissions as `ls -l` shows them.
pub fn mode_text(entry: &FileEntry) -> String {
    let kind = match entry.kind {
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::File => '-',
    };
    let mode = entry.mode.unwrap_or(if entry.kind == FileKind::Directory { 0o755 } else { 0o644 });
    let bits =
        "rwxrwxrwx".chars().enumerate().map(|(index, letter)| if mode >> (8 - index) & 1 == 1 { letter } else { '-' });
    std::iter::once(kind).chain(bits).collect()
}

/// What is known of a file or directory, for programs.
pub fn entry_json(entry: &FileEntry) -> Value {
    json!({
        "name": entry.name,
        "kind": match entry.kind {
            FileKind::File => "file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
        },
        "size": entry.size,
        "mode": entry.mode.map(|mode| format!("{mode:o}")),
        "modified_ms": entry.modified_ms,
        "media_type": entry.media_type,
        "height": entry.entry.as_ref().map(|entry| entry.height),
        "hash": entry.entry.as_ref().map(|entry| entry.hash),
    })
}
