//! `difuse get`.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use bytes::Bytes;
use clap::Args;
use difuse_api::{
    files::{FileEntry, FileKind, Files},
    request::PAGE_MAX,
    values::{self, ValueError},
};
use difuse_client::Client;
use difuse_types::Level;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{exit::Failure, local, output, progress, session::Session};
use crate::terminal;

/// The longest target of a symbolic link that is believed, in bytes.
const LINK_BYTES_MAX: u64 = 4096;

const EXAMPLES: &str = "\
Examples:
  difuse get /docs/report.pdf               into the current folder
  difuse get /holiday copy                  a directory with everything in it, into the folder copy
  difuse get /backup.tar - | tar x          to standard output

Every block is checked against its hash. Files appear under their names only when they are complete.";

/// Arguments of `get`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GetArguments {
    /// The file or directory.
    path: String,
    /// Where to write it, or - for standard output [default: its own name, in the current folder].
    destination: Option<PathBuf>,
    /// How many files are fetched at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,
}

/// Fetches a file or a directory tree.
pub async fn run(session: &Session, arguments: GetArguments) -> Result<(), Failure> {
    let started = Instant::now();
    let client = session.connect().await?;
    let source =
        Source { files: Files::new(client.clone()).with_level(session.level()), client, level: session.level() };
    let found = source.files.stat(&arguments.path).await?;
    let name = arguments.path.trim_matches('/').rsplit('/').next().unwrap_or_default().to_string();
    let is_directory = found.kind == FileKind::Directory;
    if arguments.destination.as_deref() == Some(Path::new("-")) {
        return if is_directory {
            Err(Failure::Usage("a directory cannot go to standard output: name a folder".into()))
        } else {
            source.print(&found).await
        };
    }
    let destination = match &arguments.destination {
        Some(folder) if !is_directory && folder.is_dir() => folder.join(&name),
        Some(path) => path.clone(),
        None if name.is_empty() => return Err(Failure::Usage("say into which folder the root goes".into())),
        None => PathBuf::from(&name),
    };
    let wanted = if is_directory {
        source.tree(&arguments.path, &destination).await?
    } else {
        vec![Wanted { destination, entry: found }]
    };
    let (count, bytes) = (wanted.len(), wanted.iter().map(|wanted| wanted.entry.size).sum());
    source.fetch_all(wanted, bytes, usize::from(arguments.jobs)).await?;
    let seconds = started.elapsed().as_secs_f64();
    if session.json {
        return output::print_json(&json!({ "files": count, "bytes": bytes, "seconds": seconds }));
    }
    output::print(&format!("{count} files, {} in {seconds:.1} s", terminal::bytes(bytes)))
}

/// One file to fetch.
struct Wanted {
    destination: PathBuf,
    entry: FileEntry,
}

impl Wanted {
    fn is_symlink(&self) -> bool {
        self.entry.kind == FileKind::Symlink
    }
}

/// Where files come from.
struct Source {
    files: Files<Client>,
    client: Client,
    level: Level,
}

impl Source {
    /// Lists a whole tree and creates its folders.
    async fn tree(&self, root: &str, destination: &Path) -> Result<Vec<Wanted>, Failure> {
        let spinner = progress::spinner("listing".into());
        let mut wanted = Vec::new();
        let mut folders = vec![(root.trim_matches('/').to_string(), destination.to_path_buf())];
        while let Some((path, folder)) = folders.pop() {
            std::fs::create_dir_all(&folder).map_err(|error| Failure::local(&folder, &error))?;
            for entry in list_all(&self.files, &path).await? {
                if !local::is_safe_name(&entry.name) {
                    return Err(Failure::Corrupt(format!(
                        "/{path} has an entry with the unsafe name {:?}",
                        entry.name
                    )));
                }
                let below = folder.join(&entry.name);
                match entry.kind {
                    FileKind::Directory => folders.push((join(&path, &entry.name), below)),
                    FileKind::File | FileKind::Symlink => wanted.push(Wanted { destination: below, entry }),
                }
            }
        }
        spinner.finish_and_clear();
        Ok(wanted)
    }

    /// Fetches several files at once; links come last, so that nothing is ever written through one.
    async fn fetch_all(&self, wanted: Vec<Wanted>, bytes: u64, jobs: usize) -> Result<(), Failure> {
        let (count, bar) = (wanted.len(), progress::bytes_bar(Some(bytes)));
        let (links, files): (Vec<_>, Vec<_>) = wanted.into_iter().partition(Wanted::is_symlink);
        let mut failures = Vec::new();
        for group in [files, links] {
            let fetch = |wanted: Wanted| {
                let bar = &bar;
                async move {
                    let fetched = self.fetch(&wanted, bar).await;
                    (wanted.destination, fetched)
                }
            };
            let mut results = stream::iter(group.into_iter().map(fetch)).buffer_unordered(jobs);
            while let Some((destination, result)) = results.next().await {
                if let Err(failure) = result {
                    bar.suspend(|| eprintln!("{}: {failure}", destination.display()));
                    failures.push(failure);
                }
            }
        }
        bar.finish_and_clear();
        let failed = failures.len();
        failures.into_iter().next().map_or(Ok(()), |first| Err(first.of_several(failed, count)))
    }

    async fn fetch(&self, wanted: &Wanted, bar: &ProgressBar) -> Result<(), Failure> {
        if wanted.is_symlink() {
            let target = self.link_target(&wanted.entry).await?;
            let created = local::create_symlink(&target, &wanted.destination);
            return created.map_err(|error| Failure::local(&wanted.destination, &error));
        }
        let part = part_path(&wanted.destination);
        let written = self.write_file(&wanted.entry, &part, bar).await;
        let renamed = match written {
            Ok(()) => tokio::fs::rename(&part, &wanted.destination).await,
            Err(failure) => {
                let _ = tokio::fs::remove_file(&part).await;
                return Err(failure);
            }
        };
        renamed.map_err(|error| Failure::local(&wanted.destination, &error))
    }

    async fn write_file(&self, entry: &FileEntry, path: &Path, bar: &ProgressBar) -> Result<(), Failure> {
        let refuse = |error: std::io::Error| Failure::local(path, &error);
        let mut file = tokio::fs::File::create(path).await.map_err(refuse)?;
        let mut parts = self.content(entry)?;
        while let Some(part) = parts.try_next().await? {
            file.write_all(&part).await.map_err(refuse)?;
            bar.inc(part.len() as u64);
        }
        file.flush().await.map_err(refuse)?;
        local::apply_metadata(&file.into_std().await, entry).map_err(refuse)
    }

    async fn link_target(&self, entry: &FileEntry) -> Result<String, Failure> {
        if entry.size > LINK_BYTES_MAX {
            return Err(Failure::Corrupt("the link's target is too long".into()));
        }
        let parts: Vec<_> = self.content(entry)?.try_collect().await?;
        String::from_utf8(parts.concat()).map_err(|_| Failure::Corrupt("the link's target is not UTF-8".into()))
    }

    fn content(
        &self,
        entry: &FileEntry,
    ) -> Result<impl Stream<Item = Result<Bytes, ValueError>> + Send + Unpin + use<>, Failure> {
        let value = entry.entry.as_ref().and_then(|entry| entry.value.as_ref());
        let value = value.ok_or_else(|| Failure::NotFound(format!("{} was removed meanwhile", entry.name)))?;
        Ok(values::stream(self.client.clone(), value, None, self.level)?)
    }

    async fn print(&self, entry: &FileEntry) -> Result<(), Failure> {
        let mut parts = self.content(entry)?;
        while let Some(part) = parts.try_next().await? {
            output::print_bytes(&part)?;
        }
        Ok(())
    }
}

/// All entries of a directory, page by page.
pub async fn list_all(files: &Files<Client>, path: &str) -> Result<Vec<FileEntry>, Failure> {
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let page = files.list(path, after.as_deref(), PAGE_MAX).await?;
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return Ok(entries);
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}/{name}") }
}

/// Where a file is written until it is complete.
fn part_path(destination: &Path) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    destination.with_file_name(format!(".{name}.difuse-part"))
}
