//! Keys and values as lines of a file: JSON lines or CSV, as `difuse import` reads them and `difuse export` writes them.

use std::io::{BufRead, Write};

use clap::ValueEnum;
use difuse_api::records::{Record, RecordContent};
use difuse_types::WallTime;
use serde::Deserialize;

/// How records are written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// One JSON object on each line: {"key":"k","value":"v"}.
    Jsonl,
    /// Comma-separated values with a first line that names them: key,value.
    Csv,
}

impl Format {
    /// What a file's name says, unless it is told.
    pub fn of(told: Option<Self>, path: &std::path::Path) -> Self {
        let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        told.unwrap_or(if is_csv { Self::Csv } else { Self::Jsonl })
    }
}

/// A row of comma-separated values, which are text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    key: String,
    value: String,
    #[serde(default)]
    deadline_ms: Option<u64>,
}

/// The records of a file, in order; where one is not as it should be, why.
pub fn read(format: Format, reader: impl BufRead + 'static) -> Box<dyn Iterator<Item = Result<Record, String>>> {
    match format {
        Format::Jsonl => {
            let lines = reader.lines().filter(|line| !line.as_ref().is_ok_and(|line| line.trim().is_empty()));
            Box::new(lines.filter_map(|line| match line {
                Ok(line) => Record::read(&line).transpose(),
                Err(error) => Some(Err(error.to_string())),
            }))
        }
        Format::Csv => {
            let records = csv::Reader::from_reader(reader).into_deserialize();
            Box::new(records.map(|row: Result<Row, _>| {
                let Row { key, value, deadline_ms } = row.map_err(|error| error.to_string())?;
                let (content, deadline) = (RecordContent::Value(value.into()), deadline_ms.map(WallTime));
                Ok(Record { key: key.into(), content, deadline })
            }))
        }
    }
}

/// Writes records to a file.
pub enum Writer<W: Write> {
    /// JSON lines.
    Jsonl(W),
    /// Comma-separated values.
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> Writer<W> {
    /// A writer that begins a file.
    pub fn new(format: Format, writer: W) -> Result<Self, String> {
        match format {
            Format::Jsonl => Ok(Self::Jsonl(writer)),
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(writer);
                writer.write_record(["key", "value", "deadline_ms"]).map_err(|error| error.to_string())?;
                Ok(Self::Csv(Box::new(writer)))
            }
        }
    }

    /// Writes one record.
    pub fn write(&mut self, record: &Record) -> Result<(), String> {
        match self {
            Self::Jsonl(writer) => writeln!(writer, "{}", record.line()).map_err(|error| error.to_string()),
            Self::Csv(writer) => {
                let (key, value) = text_of(record)?;
                let deadline = record.deadline.map(|deadline| deadline.0.to_string()).unwrap_or_default();
                writer.write_record([key, value, &deadline]).map_err(|error| error.to_string())
            }
        }
    }

    /// Whether the file can hold a record; if not, why.
    pub fn holds(&self, record: &Record) -> Result<(), String> {
        match self {
            Self::Jsonl(_) => Ok(()),
            Self::Csv(_) => text_of(record).map(drop),
        }
    }

    /// Sees to it that everything is written.
    pub fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Jsonl(writer) => writer.flush(),
            Self::Csv(writer) => writer.flush(),
        }
    }
}

/// The key and the value of a record that are text.
fn text_of(record: &Record) -> Result<(&str, &str), String> {
    let RecordContent::Value(value) = &record.content else {
        return Err("it holds a data structure: CSV cannot hold it, --format jsonl can".into());
    };
    match (std::str::from_utf8(&record.key), std::str::from_utf8(value)) {
        (Ok(key), Ok(value)) => Ok((key, value)),
        _ => Err("the key or its value is not text: CSV cannot hold it, --format jsonl can".into()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_types::WallTime;

    use super::{Format, Record, RecordContent, Writer, read};

    fn record(key: &[u8], value: &[u8], deadline: Option<u64>) -> Record {
        Record {
            key: Bytes::copy_from_slice(key),
            content: RecordContent::Value(Bytes::copy_from_slice(value)),
            deadline: deadline.map(WallTime),
        }
    }

    #[test]
    fn records_round_trip() {
        let text =
            [record(b"a", b"1", None), record(b"b,\"c", b"two\nlines", Some(7)), record("ü".as_bytes(), b"", None)];
        let any = [record(b"\xff", b"\x00\xfe", None)];
        for (format, records) in [(Format::Jsonl, [&text[..], &any].concat()), (Format::Csv, text.to_vec())] {
            let mut file = Vec::new();
            let mut writer = Writer::new(format, &mut file).unwrap();
            records.iter().for_each(|record| writer.write(record).unwrap());
            writer.flush().unwrap();
            drop(writer);
            let found: Vec<_> = read(format, std::io::Cursor::new(file)).map(Result::unwrap).collect();
            assert_eq!(found, records);
        }
        let refused = Writer::new(Format::Csv, Vec::new()).unwrap().write(&any[0]);
        assert!(refused.unwrap_err().contains("--format jsonl"));
    }

    #[test]
    fn what_is_wrong_says_why_and_stops_nothing() {
        let lines = "{\"key\":\"a\",\"value\":\"1\"}\n\nnonsense\n{\"key\":\"b\"}\n{\"key\":\"c\",\"value\":\"3\"}\n";
        let found: Vec<_> = read(Format::Jsonl, std::io::Cursor::new(lines)).collect();
        assert_eq!((found.len(), found[0].is_ok(), found[3].is_ok()), (4, true, true));
        assert!(found[2].as_ref().unwrap_err().contains("no value"), "{found:?}");
        let found: Vec<_> = read(Format::Csv, std::io::Cursor::new("value,key\n1,a\n2\n3,c\n")).collect();
        assert_eq!(found[0].as_ref().unwrap(), &record(b"a", b"1", None));
        assert_eq!((found[1].is_ok(), found[2].is_ok()), (false, true));
    }
}
