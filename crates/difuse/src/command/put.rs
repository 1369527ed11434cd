//! `difuse put`.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use difuse_api::{
    files::{Files, Put, PutOptions},
    values::Upload,
};
use difuse_client::Client;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde_json::json;

use super::{
    exit::Failure,
    input,
    local::{self, LocalEntry, LocalKind},
    output, progress,
    session::Session,
};
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  difuse put report.pdf /docs/              as /docs/report.pdf
  difuse put photos /holiday                the folder's content under /holiday
  pg_dump shop | difuse put - /shop.sql     a stream of any length

Permissions and times of files are kept; symbolic links are stored as links. What the ring has already is not sent
again.";

/// Arguments of `put`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PutArguments {
    /// A file, a folder, or - for standard input.
    source: PathBuf,
    /// Where to store it; with a slash at the end, under its own name in that directory.
    path: String,
    /// How many files are stored at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,
}

/// Stores a file, a folder or a stream.
pub async fn run(session: &Session, arguments: PutArguments) -> Result<(), Failure> {
    let started = Instant::now();
    let destination = destination(&arguments.source, &arguments.path)?;
    let client = session.connect().await?;
    let files = Files::new(client).with_level(session.level());
    if arguments.source == Path::new("-") {
        let put = put_stream(&files, &destination).await?;
        return report(session, &Summary { files: 1, ..Summary::default() }.with(&put), started.elapsed());
    }
    let source = arguments.source.clone();
    let walked = tokio::task::spawn_blocking(move || local::walk(&source)).await;
    let walked = walked.map_err(|error| Failure::Other(error.to_string()))?;
    let (entries, skipped) = walked.map_err(|error| Failure::local(&arguments.source, &error))?;
    let summary = put_all(&files, &destination, entries, usize::from(arguments.jobs)).await?;
    report(session, &summary, started.elapsed())?;
    skipped.iter().for_each(|reason| eprintln!("skipped {reason}"));
    if skipped.is_empty() { Ok(()) } else { Err(Failure::Other(format!("{} entries were skipped", skipped.len()))) }
}

/// What was done.
#[derive(Debug, Default)]
struct Summary {
    files: u64,
    bytes: u64,
    blocks_total: u64,
    blocks_new: u64,
    bytes_new: u64,
}

impl Summary {
    fn with(mut self, put: &Put) -> Self {
        self.bytes += put.upload.size;
        self.blocks_total += put.upload.blocks_total;
        self.blocks_new += put.upload.blocks_new;
        self.bytes_new += put.upload.bytes_new;
        self
    }
}

fn destination(source: &Path, path: &str) -> Result<String, Failure> {
    if !path.ends_with('/') || path.trim_matches('/').is_empty() && source.is_dir() {
        return Ok(path.trim_end_matches('/').to_string());
    }
    let name = source.file_name().and_then(|name| name.to_str()).filter(|name| *name != "-");
    let name = name.ok_or_else(|| Failure::Usage(format!("{path}: say under which name to store it")))?;
    Ok(format!("{path}{name}"))
}

async fn put_stream(files: &Files<Client>, path: &str) -> Result<Put, Failure> {
    let bar = progress::bytes_bar(None);
    let content = input::stream(Path::new("-")).await?;
    let content = content.inspect_ok(|part| bar.inc(part.len() as u64));
    let put = files.put(path, content, PutOptions::default()).await?;
    bar.finish_and_clear();
    Ok(put)
}

/// Stores all entries, several at once; goes on after a failure and reports the first one at the end.
async fn put_all(files: &Files<Client>, root: &str, entries: Vec<LocalEntry>, jobs: usize) -> Result<Summary, Failure> {
    let total = entries.iter().map(|entry| if let LocalKind::File { size } = entry.kind { size } else { 0 }).sum();
    let (count, bar) = (entries.len(), progress::bytes_bar(Some(total)));
    let store = |entry: LocalEntry| {
        let bar = &bar;
        async move {
            let stored = put_entry(files, root, &entry, bar).await;
            (entry.path, stored)
        }
    };
    let mut results = stream::iter(entries.into_iter().map(store)).buffer_unordered(jobs);
    let (mut summary, mut failures) = (Summary::default(), Vec::new());
    while let Some((path, result)) = results.next().await {
        match result {
            Ok(Some(put)) => summary = Summary { files: summary.files + 1, ..summary }.with(&put),
            Ok(None) => {}
            Err(failure) => {
                bar.suspend(|| eprintln!("{}: {failure}", path.display()));
                failures.push(failure);
            }
        }
    }
    bar.finish_and_clear();
    let failed = failures.len();
    failures.into_iter().next().map_or(Ok(summary), |first| Err(first.of_several(failed, count)))
}

async fn put_entry(
    files: &Files<Client>,
    root: &str,
    entry: &LocalEntry,
    bar: &ProgressBar,
) -> Result<Option<Put>, Failure> {
    let path = if entry.relative.is_empty() { root.to_string() } else { format!("{root}/{}", entry.relative) };
    let options = PutOptions { mode: entry.mode, modified_ms: entry.modified_ms, ..PutOptions::default() };
    match &entry.kind {
        LocalKind::EmptyFolder => {
            files.make_directory(&path).await?;
            Ok(None)
        }
        LocalKind::Symlink { target } => {
            let written = files.put_symlink(&path, target.clone().into(), options).await?;
            Ok(Some(Put { written, upload: Upload::default() }))
        }
        LocalKind::File { .. } => {
            let content = input::stream(&entry.path).await?;
            let content = content.inspect_ok(|part| bar.inc(part.len() as u64));
            Ok(Some(files.put(&path, content, options).await?))
        }
    }
}

fn report(session: &Session, summary: &Summary, elapsed: Duration) -> Result<(), Failure> {
    if session.json {
        return output::print_json(&json!({
            "files": summary.files,
            "bytes": summary.bytes,
            "blocks_total": summary.blocks_total,
            "blocks_new": summary.blocks_new,
            "bytes_new": summary.bytes_new,
            "seconds": elapsed.as_secs_f64(),
        }));
    }
    output::print(&format!(
        "{} files, {} in {:.1} s; {} of it new, in {} of {} blocks",
        summary.files,
        terminal::bytes(summary.bytes),
        elapsed.as_secs_f64(),
        terminal::bytes(summary.bytes_new),
        summary.blocks_new,
        summary.blocks_total
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::destination;

    #[test]
    fn a_slash_at_the_end_keeps_the_name() {
        for (source, path, expected) in [
            ("dir/report.pdf", "/docs/", "/docs/report.pdf"),
            ("dir/report.pdf", "/docs/other", "/docs/other"),
            ("report.pdf", "/", "/report.pdf"),
            ("-", "/stream", "/stream"),
        ] {
            assert_eq!(destination(Path::new(source), path).unwrap(), expected);
        }
        assert!(destination(Path::new("-"), "/docs/").is_err());
    }
}
