//! `/v1/batch`: many puts, gets and deletes in one request, as JSON lines in and out, streamed both ways.
//!
//! Each line of the body is an object, such as
//! `{"op":"put","key":"k","value":"v","ttl":"1h"}`, `{"op":"get","key":"k"}` or `{"op":"delete","key":"k"}`; there is a
//! line of answer for each, in their order. A line that is wrong is answered with an error and stops nothing.

use std::{convert::Infallible, io};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use difuse_api::{
    batch::{self, Done, Item},
    keys::Written,
    records,
    request::Condition,
};
use difuse_types::{Hash, Key};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio_util::{
    codec::{FramedRead, LinesCodec, LinesCodecError},
    io::StreamReader,
};

use super::{
    Gateway, TRANSFERS_OF_STREAM,
    body::stream_of,
    keys::no_such_key,
    parameters::{Parameters, bad_key, deadline_of},
    problem::Problem,
};

/// Answers that are there at the same time are sent as one part of the body, up to about so many bytes.
const PART_BYTES_ENOUGH: usize = 16 << 10;
/// The longest line, in bytes: longer values have a request of their own.
const LINE_BYTES_MAX: usize = 8 << 20;

/// One line of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemLine {
    op: Op,
    key: Option<String>,
    /// Of a name that is not UTF-8.
    key_base64: Option<String>,
    namespace: Option<String>,
    value: Option<String>,
    /// Of a value that is not UTF-8.
    value_base64: Option<String>,
    /// The commands that make a structure, without the key.
    commands: Option<Vec<Vec<records::Word>>>,
    /// What they make, for people.
    #[serde(rename = "type")]
    _kind: Option<String>,
    /// How long the key lives.
    ttl: Option<String>,
    /// `absent`, `present`, or the hash that the key's last transaction must have.
    #[serde(rename = "if")]
    condition: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Put,
    Get,
    Delete,
}

/// One line of an answer.
#[derive(Default, Serialize)]
struct AnswerLine {
    /// Counted from 1.
    line: u64,
    /// As of a request of its own.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// POST: does what each line says.
pub(super) async fn run(State(gateway): State<Gateway>, uri: Uri, body: Body) -> Result<Response, Problem> {
    let transfer = gateway.begin_transfers(TRANSFERS_OF_STREAM)?;
    let parameters = Parameters::of(&uri);
    let namespace = parameters.namespace()?;
    let levels = gateway.levels(&parameters)?;
    let items = lines_of(body).map(move |line| item_of(&line?, &namespace));
    let results = batch::run(gateway.shared_datastore(), items, levels);
    let answers = results.zip(stream::iter(1..)).map(move |(result, line)| {
        // Held until the last answer is read.
        let _transfer = &transfer;
        answer(line, result)
    });
    let parts = parts_of(answers).map(Ok::<_, Infallible>);
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    Ok((content_type, Body::from_stream(parts)).into_response())
}

/// The lines of a body. A line that is too long is an error in its place; where the body is cut off, an error is the last
/// one.
fn lines_of(body: Body) -> impl Stream<Item = Result<String, Problem>> + Send + 'static {
    let reader = StreamReader::new(stream_of(body).map_err(io::Error::other));
    let lines = FramedRead::new(reader, LinesCodec::new_with_max_length(LINE_BYTES_MAX));
    // After an error the reader ends once, and then goes on behind the line that was too long.
    let lines = stream::unfold((lines, false), |(mut lines, ends_once)| async move {
        if ends_once {
            lines.next().await;
        }
        let line = lines.next().await?;
        let ends_once = matches!(line, Err(LinesCodecError::MaxLineLengthExceeded));
        Some((line, (lines, ends_once)))
    });
    lines
        .map_err(|error| match error {
            LinesCodecError::MaxLineLengthExceeded => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("a line has at most {LINE_BYTES_MAX} bytes: PUT /v1/keys/{{key}} takes a value of any length"),
            ),
            LinesCodecError::Io(error) => Problem::bad_request("body_cut_off", format!("{error}; nothing follows")),
        })
        .filter(|line| std::future::ready(!matches!(line, Ok(line) if line.trim().is_empty())))
}

fn item_of(line: &str, namespace: &str) -> Result<Item, Problem> {
    let line: ItemLine =
        serde_json::from_str(line).map_err(|error| bad(format!("the line is not as expected: {error}")))?;
    let name = bytes_of(line.key, line.key_base64, "key")?.ok_or_else(|| bad("the line has no key"))?;
    let namespace = line.namespace.as_deref().unwrap_or(namespace);
    let key = Key::in_namespace(namespace, &name).map_err(bad_key)?;
    let condition = line.condition.as_deref().map(condition_of).transpose()?.unwrap_or_default();
    let value = bytes_of(line.value, line.value_base64, "value")?;
    if let Some(commands) = line.commands {
        if line.op != Op::Put || value.is_some() || condition != Condition::None {
            return Err(bad("commands stand in a put, without a value and without a condition"));
        }
        let deadline = line.ttl.as_deref().map(deadline_of).transpose()?;
        let commands = commands.into_iter().map(records::read_command).collect::<Result<_, _>>().map_err(bad)?;
        return Ok(Item::Build { key, commands, deadline });
    }
    match (line.op, value) {
        (Op::Put, Some(value)) => {
            let deadline = line.ttl.as_deref().map(deadline_of).transpose()?;
            Ok(Item::Put { key, value, deadline, condition })
        }
        (Op::Put, None) => Err(bad("a put needs value or value_base64")),
        (_, Some(_)) => Err(bad("only a put has a value")),
        (_, None) if line.ttl.is_some() => Err(bad("only a put has a ttl")),
        (Op::Get, None) if line.condition.is_some() => Err(bad("a get has no condition")),
        (Op::Get, None) => Ok(Item::Get { key }),
        (Op::Delete, None) => Ok(Item::Delete { key, condition }),
    }
}

fn bytes_of(text: Option<String>, base64: Option<String>, name: &str) -> Result<Option<Bytes>, Problem> {
    records::joined(text, base64, name).map_err(bad)
}

fn condition_of(word: &str) -> Result<Condition, Problem> {
    match word {
        "absent" => Ok(Condition::Absent),
        "present" => Ok(Condition::Present),
        hash => {
            let hash = hash.parse().map_err(|_| bad("if: expected absent, present, or a hash of 64 hex digits"))?;
            Ok(Condition::Head(hash))
        }
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::bad_request("bad_line", detail)
}

fn answer(line: u64, result: Result<Done, Problem>) -> AnswerLine {
    let written = |status: StatusCode, written: Option<Written>| AnswerLine {
        line,
        // At level lazy it has no place in its key's log yet.
        status: if written.is_some() { status.as_u16() } else { StatusCode::ACCEPTED.as_u16() },
        height: written.map(|written| written.height),
        hash: written.map(|written| written.hash),
        ..AnswerLine::default()
    };
    match result {
        Ok(Done::Put(Some(put))) if put.created => written(StatusCode::CREATED, Some(put)),
        Ok(Done::Put(put)) => written(StatusCode::OK, put),
        Ok(Done::Built) => AnswerLine { line, status: StatusCode::OK.as_u16(), ..AnswerLine::default() },
        Ok(Done::Deleted(deleted)) => written(StatusCode::OK, deleted),
        Ok(Done::Got(Some((entry, value)))) => {
            let (text, base64) = match String::from_utf8(value.into()) {
                Ok(text) => (Some(text), None),
                Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
            };
            AnswerLine {
                value: text,
                value_base64: base64,
                deadline_ms: entry.value.and_then(|value| value.deadline).map(|deadline| deadline.0),
                ..written(StatusCode::OK, Some(Written { height: entry.height, hash: entry.hash, created: false }))
            }
        }
        Ok(Done::Got(None) | Done::Absent) => failed(line, no_such_key()),
        Err(problem) => failed(line, problem),
    }
}

fn failed(line: u64, problem: Problem) -> AnswerLine {
    let (status, code, detail) = problem.into_parts();
    AnswerLine { line, status: status.as_u16(), code: Some(code), detail: Some(detail), ..AnswerLine::default() }
}

/// The text of answers, as many at a time as are there.
fn parts_of(answers: impl Stream<Item = AnswerLine> + Send) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(Box::pin(answers.fuse()), |mut answers| async move {
        let mut text = Vec::new();
        let mut next = answers.next().await;
        while let Some(answer) = next {
            // There is nothing in it that cannot be written.
            let _ = serde_json::to_writer(&mut text, &answer);
            text.push(b'\n');
            let is_enough = text.len() >= PART_BYTES_ENOUGH;
            next = if is_enough { None } else { answers.next().now_or_never().flatten() };
        }
        (!text.is_empty()).then(|| (Bytes::from(text), answers))
    })
}
