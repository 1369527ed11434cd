//! Keys and values as lines of a file: JSON lines or CSV, as `difuse import` reads them and `difuse export` writes them.

use std::io::{BufRead, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::ValueEnum;
use difuse_types::WallTime;
use serde::{Deserialize, Serialize};

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

/// A key with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The key's name.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// When it expires.
    pub deadline: Option<WallTime>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
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

impl Fields {
    fn of(record: &Record) -> Self {
        let split = |bytes: &Bytes| match std::str::from_utf8(bytes) {
            Ok(text) => (Some(text.to_string()), None),
            Err(_) => (None, Some(STANDARD.encode(bytes))),
        };
        let ((key, key_base64), (value, value_base64)) = (split(&record.key), split(&record.value));
        let deadline_ms = record.deadline.map(|deadline| deadline.0);
        Self { key, key_base64, value, value_base64, deadline_ms }
    }

    fn record(self) -> Result<Record, String> {
        let join = |text: Option<String>, base64: Option<String>, name: &str| match (text, base64) {
            (Some(text), None) => Ok(Bytes::from(text)),
            (None, Some(base64)) => {
                STANDARD.decode(base64).map(Bytes::from).map_err(|error| format!("{name}_base64: {error}"))
            }
            (None, None) => Err(format!("there is no {name}")),
            (Some(_), Some(_)) => Err(format!("{name} and {name}_base64 exclude each other")),
        };
        Ok(Record {
            key: join(self.key, self.key_base64, "key")?,
            value: join(self.value, self.value_base64, "value")?,
            deadline: self.deadline_ms.map(WallTime),
        })
    }
}

/// The records of a file, in order; where one is not as it should be, why.
pub fn read(format: Format, reader: impl BufRead + 'static) -> Box<dyn Iterator<Item = Result<Record, String>>> {
    match format {
        Format::Jsonl => {
            let lines = reader.lines().filter(|line| !line.as_ref().is_ok_and(|line| line.trim().is_empty()));
            Box::new(lines.map(|line| {
                let line = line.map_err(|error| error.to_string())?;
                let fields: Fields = serde_json::from_str(&line).map_err(|error| error.to_string())?;
                fields.record()
            }))
        }
        Format::Csv => {
            let records = csv::Reader::from_reader(reader).into_deserialize();
            Box::new(records.map(|row: Result<Row, _>| {
                let Row { key, value, deadline_ms } = row.map_err(|error| error.to_string())?;
                Ok(Record { key: key.into(), value: value.into(), deadline: deadline_ms.map(WallTime) })
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
        let fields = Fields::of(record);
        match self {
            Self::Jsonl(writer) => {
                let line = serde_json::to_string(&fields).map_err(|error| error.to_string())?;
                writeln!(writer, "{line}").map_err(|error| error.to_string())
            }
            Self::Csv(writer) => {
                let (Some(key), Some(value)) = (fields.key, fields.value) else {
                    return Err("the key or its value is not text: CSV cannot hold it, --format jsonl can".into());
                };
                let deadline = fields.deadline_ms.map(|deadline| deadline.to_string()).unwrap_or_default();
                writer.write_record([key, value, deadline]).map_err(|error| error.to_string())
            }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_types::WallTime;

    use super::{Format, Record, Writer, read};

    fn record(key: &[u8], value: &[u8], deadline: Option<u64>) -> Record {
        Record {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
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
