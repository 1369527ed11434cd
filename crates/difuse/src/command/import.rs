//! `difuse import`.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use difuse_api::{
    batch::{self, Item},
    records::RecordContent,
    request::Condition,
    values::ValueError,
};
use difuse_types::{Key, KeyError};
use futures::{SinkExt, StreamExt, channel::mpsc};
use indicatif::ProgressBar;
use serde_json::json;

use super::{
    exit::Failure,
    output, progress,
    records::{self, Format},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  difuse import users.jsonl                    lines such as {\"key\":\"k\",\"value\":\"v\"}
  difuse import prices.csv --namespace shop    columns key and value, named in the first line
  pg_dump_as_lines | difuse import -
  difuse import users.jsonl --resume           after it was interrupted

What is not UTF-8 stands in key_base64 and value_base64 of JSON lines. deadline_ms says when a key expires. A data
structure stands as the commands that make it, without the key; it replaces what the key held:
  {\"key\":\"l\",\"type\":\"list\",\"commands\":[[\"rpush\",\"first\",\"second\"]]}";

/// How many records wait to be sent.
const RECORDS_WAITING: usize = 256;
/// How often the number of records that are done is written down.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How many failures are told one by one.
const FAILURES_TOLD: u64 = 10;

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportArguments {
    /// The file to read; - for standard input.
    file: PathBuf,
    /// How it is written; without it, as its name says, else JSON lines.
    #[arg(long)]
    format: Option<Format>,
    /// The namespace to write to; the default one has no name.
    #[arg(long, value_name = "NAME", default_value = "")]
    namespace: String,
    /// Leave out the records that an earlier run, which was interrupted, has written: it noted their number in
    /// FILE.imported.
    #[arg(long)]
    resume: bool,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error("{0}")]
    Unreadable(String),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// Writes the records of a file.
pub async fn run(session: &Session, arguments: ImportArguments) -> Result<(), Failure> {
    let started = Instant::now();
    let note = Note::of(&arguments);
    let skip = if arguments.resume { note.read()? } else { 0 };
    let format = Format::of(arguments.format, &arguments.file);
    let (reader, bar) = open(&arguments.file)?;
    let client = session.connect().await?;
    let items = items_of(reader, format, arguments.namespace, skip);
    let mut results = std::pin::pin!(batch::run(client, items, session.levels().clone()));
    let (mut done, mut failed, mut first, mut noted) = (skip, 0, None, Instant::now());
    while let Some(result) = results.next().await {
        done += 1;
        if let Err(error) = result {
            failed += 1;
            if failed <= FAILURES_TOLD {
                bar.suspend(|| eprintln!("record {done}: {error}"));
            }
            first.get_or_insert(error);
        }
        bar.set_message(format!("{done} records"));
        if noted.elapsed() >= NOTE_EVERY {
            note.write(done)?;
            noted = Instant::now();
        }
    }
    bar.finish_and_clear();
    note.remove();
    report(session, done - skip - failed, failed, started.elapsed())?;
    let count = usize::try_from(done - skip).unwrap_or(usize::MAX);
    first.map_or(Ok(()), |first| Err(failure_of(first).of_several(usize::try_from(failed).unwrap_or(1), count)))
}

fn failure_of(error: RecordError) -> Failure {
    match error {
        RecordError::Unreadable(reason) => Failure::Usage(reason),
        RecordError::Key(error) => error.into(),
        RecordError::Value(error) => error.into(),
    }
}

/// The file, and the bar that shows how much of it was read.
fn open(path: &Path) -> Result<(Box<dyn Read + Send>, ProgressBar), Failure> {
    if path == Path::new("-") {
        let bar = progress::bytes_bar(None);
        return Ok((Box::new(bar.wrap_read(std::io::stdin())), bar));
    }
    let file = File::open(path).map_err(|error| Failure::local(path, &error))?;
    let bar = progress::bytes_bar(file.metadata().ok().map(|metadata| metadata.len()));
    Ok((Box::new(bar.wrap_read(file)), bar))
}

/// What is to be written, as fast as it is: a thread reads the file.
fn items_of(
    reader: Box<dyn Read + Send>,
    format: Format,
    namespace: String,
    skip: u64,
) -> mpsc::Receiver<Result<Item, RecordError>> {
    let (mut sender, receiver) = mpsc::channel(RECORDS_WAITING);
    std::thread::spawn(move || {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        for record in records::read(format, BufReader::new(reader)).skip(skip) {
            let item = record.map_err(RecordError::Unreadable).and_then(|record| {
                let key = Key::in_namespace(&namespace, &record.key)?;
                let deadline = record.deadline;
                Ok(match record.content {
                    RecordContent::Value(value) => Item::Put { key, value, deadline, condition: Condition::None },
                    RecordContent::Structure { commands, .. } => Item::Build { key, commands, deadline },
                })
            });
            if futures::executor::block_on(sender.send(item)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn report(session: &Session, written: u64, failed: u64, elapsed: Duration) -> Result<(), Failure> {
    let seconds = elapsed.as_secs_f64();
    if session.json {
        return output::print_json(&json!({ "written": written, "failed": failed, "seconds": seconds }));
    }
    let rate = written as f64 / seconds.max(0.001);
    let failures = if failed == 0 { String::new() } else { format!(", {failed} failed") };
    output::print(&format!("{written} records written in {seconds:.1} s ({rate:.0}/s){failures}"))
}

/// Where the number of records that are done is noted: nowhere for standard input.
struct Note(Option<PathBuf>);

impl Note {
    fn of(arguments: &ImportArguments) -> Self {
        let mut path = arguments.file.clone().into_os_string();
        path.push(".imported");
        Self((arguments.file != Path::new("-")).then(|| path.into()))
    }

    fn read(&self) -> Result<u64, Failure> {
        let Some(path) = &self.0 else {
            return Err(Failure::Usage("--resume needs a file: standard input cannot be read again".into()));
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Failure::local(path, &error)),
        };
        text.trim().parse().map_err(|_| Failure::Usage(format!("{}: is no number of records", path.display())))
    }

    fn write(&self, done: u64) -> Result<(), Failure> {
        let Some(path) = &self.0 else { return Ok(()) };
        // Renamed, so that an interrupted run leaves a whole number.
        let new = path.with_extension("imported.new");
        std::fs::write(&new, format!("{done}\n"))
            .and_then(|()| std::fs::rename(&new, path))
            .map_err(|error| Failure::local(path, &error))
    }

    fn remove(&self) {
        if let Some(path) = &self.0 {
            // If it was never written there is nothing to remove.
            let _ = std::fs::remove_file(path);
        }
    }
}
