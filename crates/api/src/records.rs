//! Keys with what they hold as JSON lines: how `difuse export` and `GET /v1/export` write them, and `difuse import` reads them.
//!
//! ```json
//! {"key":"k","value":"v","deadline_ms":1900000000000}
//! {"key":"l","type":"list","commands":[["rpush","a",{"base64":"/w=="}]]}
//! ```
//!
//! A structure is written as the commands that make it, without the key. What is not UTF-8 is written in base64.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use difuse_types::{Hash, WallTime};
use serde::{Deserialize, Serialize};

use crate::iterate::{Content, Item};

/// A key with what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The key's name.
    pub key: Bytes,
    /// What it holds.
    pub content: RecordContent,
    /// When it expires.
    pub deadline: Option<WallTime>,
}

/// What a key holds, as it is written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordContent {
    /// A value of bytes.
    Value(Bytes),
    /// A structure.
    Structure {
        /// What `TYPE` says.
        kind: String,
        /// The commands that make it, without the key.
        commands: Vec<Vec<Bytes>>,
    },
}

/// The last line of a stream of records.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Whether all records were written.
    pub end: bool,
    /// How many were.
    pub items: u64,
    /// Why not all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A word of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Word {
    /// One that is UTF-8.
    Text(String),
    /// Any bytes.
    Bytes {
        /// They.
        base64: String,
    },
}

#[derive(Default, Serialize, Deserialize)]
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
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commands: Option<Vec<Vec<Word>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
}

impl Record {
    /// What is written down of an item.
    ///
    /// # Errors
    /// If it cannot be written down, why.
    pub fn of(item: &Item) -> Result<Self, String> {
        let content = match &item.content {
            Content::Bytes(bytes) => RecordContent::Value(bytes.clone()),
            Content::Structure(state) => {
                let kind = state.name();
                let commands = state.rebuilding().ok_or_else(|| format!("a {kind} has no form to be exported in"))?;
                RecordContent::Structure { kind: kind.into(), commands }
            }
            Content::TooLong(bytes) => return Err(format!("it holds {bytes} bytes, which is too much for a line")),
        };
        Ok(Self { key: item.key.encoded().slice_ref(item.key.name()), content, deadline: item.deadline })
    }

    /// The line, without its end.
    pub fn line(&self) -> String {
        self.fields().line()
    }

    /// The line with the transaction after which the key holds that, without its end.
    pub fn line_at(&self, height: u64, hash: Hash) -> String {
        Fields { height: Some(height), hash: Some(hash), ..self.fields() }.line()
    }

    /// Reads a line; `None`: it is the [`End`] of all.
    ///
    /// # Errors
    /// If it is not as it should be, why.
    pub fn read(line: &str) -> Result<Option<Self>, String> {
        let fields: Fields = match serde_json::from_str(line) {
            Ok(fields) => fields,
            Err(error) => {
                return match serde_json::from_str::<End>(line) {
                    Ok(End { end: true, .. }) => Ok(None),
                    Ok(End { detail, .. }) => Err(format!("the export broke off: {}", detail.unwrap_or_default())),
                    Err(_) => Err(error.to_string()),
                };
            }
        };
        let key = joined(fields.key, fields.key_base64, "key")?.ok_or("there is no key")?;
        let value = joined(fields.value, fields.value_base64, "value")?;
        let content = match (value, fields.commands) {
            (Some(value), None) => RecordContent::Value(value),
            (None, Some(commands)) => {
                let commands = commands.into_iter().map(read_command).collect::<Result<_, _>>()?;
                RecordContent::Structure { kind: fields.kind.unwrap_or_default(), commands }
            }
            (None, None) => return Err("there is no value".into()),
            (Some(_), Some(_)) => return Err("value and commands exclude each other".into()),
        };
        Ok(Some(Self { key, content, deadline: fields.deadline_ms.map(WallTime) }))
    }

    fn fields(&self) -> Fields {
        let (key, key_base64) = split(&self.key);
        let fields =
            Fields { key, key_base64, deadline_ms: self.deadline.map(|deadline| deadline.0), ..Fields::default() };
        match &self.content {
            RecordContent::Value(value) => {
                let (value, value_base64) = split(value);
                Fields { value, value_base64, ..fields }
            }
            RecordContent::Structure { kind, commands } => {
                let words = |command: &Vec<Bytes>| command.iter().map(word).collect();
                let commands = Some(commands.iter().map(words).collect());
                Fields { kind: Some(kind.clone()), commands, ..fields }
            }
        }
    }
}

impl Fields {
    /// There is nothing in it that cannot be written.
    fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Text where it is UTF-8, else base64.
fn split(bytes: &Bytes) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_string()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The bytes that one of two fields of a line holds, if one does.
///
/// # Errors
/// If both are there, or the base64 is none.
pub fn joined(text: Option<String>, base64: Option<String>, name: &str) -> Result<Option<Bytes>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("{name} and {name}_base64 exclude each other")),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => {
            let bytes = STANDARD.decode(base64).map_err(|error| format!("{name}_base64: {error}"))?;
            Ok(Some(bytes.into()))
        }
        (None, None) => Ok(None),
    }
}

fn word(bytes: &Bytes) -> Word {
    match split(bytes) {
        (Some(text), _) => Word::Text(text),
        (None, base64) => Word::Bytes { base64: base64.unwrap_or_default() },
    }
}

/// The command that a list of words is.
///
/// # Errors
/// If one of them is no base64.
pub fn read_command(words: Vec<Word>) -> Result<Vec<Bytes>, String> {
    let read = |word| match word {
        Word::Text(text) => Ok(Bytes::from(text)),
        Word::Bytes { base64 } => STANDARD.decode(base64).map(Bytes::from).map_err(|error| format!("base64: {error}")),
    };
    words.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_types::{Hash, WallTime};

    use super::{Record, RecordContent};

    #[test]
    fn records_are_read_as_they_were_written() {
        let commands = vec![vec!["rpush".into(), "a b".into(), Bytes::from_static(b"\xff\x00")], vec!["x".into()]];
        for content in [
            RecordContent::Value("two\nlines".into()),
            RecordContent::Value(Bytes::from_static(b"\x00\xfe")),
            RecordContent::Structure { kind: "list".into(), commands },
        ] {
            for (key, deadline) in [("k", None), ("ü", Some(WallTime(7)))] {
                let record = Record { key: key.into(), content: content.clone(), deadline };
                assert_eq!(Record::read(&record.line()), Ok(Some(record.clone())));
                assert_eq!(Record::read(&record.line_at(3, Hash::ZERO)), Ok(Some(record.clone())));
                assert_eq!(record.line().lines().count(), 1);
            }
        }
    }

    #[test]
    fn what_is_no_record_says_why() {
        for (line, reason) in [
            ("nonsense", "expected"),
            ("{}", "no key"),
            (r#"{"key":"k"}"#, "no value"),
            (r#"{"key":"k","value":"v","commands":[]}"#, "exclude"),
            (r#"{"key":"k","key_base64":"aw==","value":"v"}"#, "exclude"),
            (r#"{"key":"k","commands":[["rpush",{"base64":"*"}]]}"#, "base64"),
            (r#"{"key":"k","value":"v","more":1}"#, "more"),
            (r#"{"end":false,"items":7,"detail":"no majority"}"#, "no majority"),
        ] {
            let error = Record::read(line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
        assert_eq!(Record::read(r#"{"end":true,"items":7}"#), Ok(None));
    }
}
