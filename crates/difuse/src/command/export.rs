//! `difuse export`.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Read, Seek, SeekFrom, Write, stdout},
    path::{Path, PathBuf},
};

use clap::Args;
use difuse_api::{
    iterate::{self, IterateError, Range},
    records::Record,
    values::ValueError,
};
use difuse_types::Key;
use futures::StreamExt;

use super::{
    exit::Failure,
    progress,
    records::{self, Format, Writer},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  difuse export > all.jsonl
  difuse export --namespace shop --output prices.csv
  difuse export --output all.jsonl --resume    after it was interrupted

Keys come in the order of their bytes, with what they hold when they are reached: writers may go on meanwhile. What is there from
the beginning to the end comes exactly once. Data structures are written as the commands that make them (JSON lines only).";

/// The longest value, and about the largest structure, that is written, in bytes: it is held in memory whole.
const CONTENT_BYTES_MAX: u64 = 1 << 30;
/// How much of a file that goes on is read at first.
const WINDOW_BYTES: u64 = 64 << 10;
/// After so many keys they are handed to the system, and counted on the screen.
const FLUSHED_EVERY: u64 = 1000;

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
    let after = last.map(|name| Key::in_namespace(&arguments.namespace, &name)).transpose()?;
    let levels = session.levels().of(&client, &arguments.namespace).await?;
    let spinner = progress::spinner("exporting".into());
    let (mut count, mut skipped) = (0_u64, 0_u64);
    let mut items = std::pin::pin!(iterate::items(client, Range { prefix, after }, levels, CONTENT_BYTES_MAX));
    while let Some(item) = items.next().await {
        let (key, record) = match item {
            Ok(item) => {
                let record = Record::of(&item).and_then(|record| writer.holds(&record).map(|()| record));
                (item.key, record)
            }
            Err((Some(key), error)) if is_of_the_key(&error) => (key, Err(error.to_string())),
            Err((_, error)) => {
                writer.flush()?;
                return Err(failure_of(error));
            }
        };
        match record {
            Ok(record) => write(&mut writer, &record, path)?,
            Err(reason) => {
                skipped += 1;
                spinner.suspend(|| eprintln!("{key}: {reason}"));
            }
        }
        count += 1;
        if count.is_multiple_of(FLUSHED_EVERY) {
            writer.flush()?;
            spinner.set_message(format!("{count} keys"));
        }
    }
    writer.flush()?;
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

/// Whether it is this one key that cannot be read, and the next one may be.
fn is_of_the_key(error: &IterateError) -> bool {
    !matches!(error, IterateError::Value(ValueError::Request(_)))
}

fn failure_of(error: IterateError) -> Failure {
    match error {
        IterateError::Value(error) => error.into(),
        error => Failure::Other(error.to_string()),
    }
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
    let (whole, last_line) = last_line(&mut file).map_err(local)?;
    file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0))).map_err(local)?;
    let last = records::read(Format::Jsonl, std::io::Cursor::new(last_line)).next().transpose();
    let last = last.map_err(|reason| Failure::Usage(format!("{}: its last line: {reason}", path.display())))?;
    Ok((Box::new(BufWriter::new(file)), last.map(|record| record.key)))
}

/// How long the whole lines of a file are, and the last one of them. It is read from the end, no further than that line.
fn last_line(file: &mut (impl Read + Seek)) -> std::io::Result<(u64, Vec<u8>)> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut window = WINDOW_BYTES;
    loop {
        let start = length.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let end_of_line = |content: &[u8]| content.iter().rposition(|byte| *byte == b'\n');
        let end = end_of_line(&content);
        let before = end.and_then(|end| end_of_line(&content[..end]));
        if before.is_some() || start == 0 {
            let whole = end.map_or(0, |end| end + 1);
            let first = before.map_or(0, |before| before + 1);
            return Ok((start + whole as u64, content[first.min(whole)..whole].to_vec()));
        }
        window *= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{WINDOW_BYTES, last_line};

    #[test]
    fn the_last_whole_line_is_found_however_long_it_is() {
        let check = |content: &[u8], whole: usize, line: &[u8]| {
            let found = last_line(&mut Cursor::new(content)).unwrap();
            assert!(found == (whole as u64, line.to_vec()), "{} bytes: {}", content.len(), found.0);
        };
        check(b"", 0, b"");
        check(b"cut of", 0, b"");
        check(b"one\n", 4, b"one\n");
        check(b"one\ntwo\ncut of", 8, b"two\n");
        let long = [vec![b'x'; 5 * WINDOW_BYTES as usize], b"\n".to_vec()].concat();
        check(&long, long.len(), &long);
        let with_others = [b"one\n", &long[..], &long[1..], b"cut of"].concat();
        check(&with_others, with_others.len() - 6, &long[1..]);
        let cut = [b"one\n", &long[1..long.len() - 1]].concat();
        check(&cut, 4, b"one\n");
    }
}
