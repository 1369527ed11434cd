//! `difuse export`.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Read, Seek, SeekFrom, Write, stdout},
    path::{Path, PathBuf},
};

use clap::Args;
use difuse_api::{
    batch, keys,
    request::{ListEntry, PAGE_MAX},
    values::{self, ValueError},
};
use difuse_client::Client;
use difuse_types::{Key, Level};
use futures::TryStreamExt;

use super::{
    exit::Failure,
    progress,
    records::{self, Format, Record, Writer},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  difuse export > all.jsonl
  difuse export --namespace shop --output prices.csv
  difuse export --output all.jsonl --resume    after it was interrupted

Keys come in order, with the values that they have when they are reached: writers may go on meanwhile.";

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExportArguments {
    /// Only keys that begin with this.
    #[arg(default_value = "")]
    prefix: String,
    /// The file to write; without it, standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How to write it; without it, as its name says, else JSON lines.
    #[arg(long)]
    format: Option<Format>,
    /// The namespace to read; the default one has no name.
    #[arg(long, value_name = "NAME", default_value = "")]
    namespace: String,
    /// Go on behind the last whole line of the file (JSON lines only).
    #[arg(long, requires = "output")]
    resume: bool,
}

/// Writes keys and values to a file.
pub async fn run(session: &Session, arguments: ExportArguments) -> Result<(), Failure> {
    let path = arguments.output.as_deref();
    let format = Format::of(arguments.format, path.unwrap_or(Path::new("")));
    let (output, last) = open(path, format, arguments.resume)?;
    let mut writer = if last.is_some() { Writer::Jsonl(output) } else { writer(format, output)? };
    let client = session.connect().await?;
    let prefix = Key::prefix(&arguments.namespace, arguments.prefix.as_bytes())?;
    let mut after = last.map(|name| Key::in_namespace(&arguments.namespace, &name)).transpose()?;
    let level = session.levels().of(&client, &arguments.namespace).await?.get_block;
    let spinner = progress::spinner("exporting".into());
    let (mut count, mut skipped) = (0_u64, 0_u64);
    loop {
        let page = keys::list(&client, prefix.clone(), after, PAGE_MAX, None).await?;
        for listed in &page.entries {
            match record_of(&client, listed, level).await? {
                Ok(Some(record)) => write(&mut writer, &record, path)?,
                Ok(None) => continue,
                Err(reason) => {
                    skipped += 1;
                    spinner.suspend(|| eprintln!("{}: {reason}", listed.key));
                }
            }
            count += 1;
        }
        writer.flush()?;
        spinner.set_message(format!("{count} keys"));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    spinner.finish_and_clear();
    if path.is_some() {
        eprintln!("{} keys written", count - skipped);
    }
    if skipped == 0 { Ok(()) } else { Err(Failure::Other(format!("{skipped} keys could not be exported"))) }
}

fn writer(format: Format, output: Box<dyn Write>) -> Result<Writer<Box<dyn Write>>, Failure> {
    Writer::new(format, output).map_err(Failure::Other)
}

fn write(writer: &mut Writer<Box<dyn Write>>, record: &Record, path: Option<&Path>) -> Result<(), Failure> {
    let place = path.map_or("standard output".into(), |path| path.display().to_string());
    writer.write(record).map_err(|reason| Failure::Other(format!("{place}: {reason}")))
}

/// What is to be written of a key; `None` if it has no value any more, an error if it cannot be written.
async fn record_of(
    client: &Client,
    listed: &ListEntry,
    level: Level,
) -> Result<Result<Option<Record>, String>, Failure> {
    let Some(value) = &listed.entry.value else { return Ok(Ok(None)) };
    let size = match values::size_of(value) {
        Ok(size) => size,
        Err(error @ ValueError::Structure) => return Ok(Err(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    if size > batch::READ_BYTES_MAX {
        return Ok(Err(format!("its value has {size} bytes: fetch it with `difuse kv get`")));
    }
    let parts: Vec<_> = values::stream(client.clone(), value, None, level)?.try_collect().await?;
    let key = listed.key.encoded().slice_ref(listed.key.name());
    Ok(Ok(Some(Record { key, value: parts.concat().into(), deadline: value.deadline })))
}

/// The file to write to, and, where it goes on, the name of the last key that is in it.
fn open(path: Option<&Path>, format: Format, resume: bool) -> Result<(Box<dyn Write>, Option<bytes::Bytes>), Failure> {
    let Some(path) = path else { return Ok((Box::new(BufWriter::new(stdout())), None)) };
    let local = |error: std::io::Error| Failure::local(path, &error);
    if !resume {
        return Ok((Box::new(BufWriter::new(File::create(path).map_err(local)?)), None));
    }
    if format == Format::Csv {
        return Err(Failure::Usage("--resume goes on with JSON lines only: a line of CSV may be cut anywhere".into()));
    }
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(local)?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(local)?;
    let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    file.set_len(whole as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(local)?;
    let start = content[..whole.saturating_sub(1)].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let last_line = content[start..whole].to_vec();
    let last = records::read(Format::Jsonl, std::io::Cursor::new(last_line)).next().transpose();
    let last = last.map_err(|reason| Failure::Usage(format!("{}: its last line: {reason}", path.display())))?;
    Ok((Box::new(BufWriter::new(file)), last.map(|record| record.key)))
}
