//! `/v1/export`: all keys of a namespace with what they hold, as JSON lines, in the order of their names, while others write.
//!
//! A line for each key, as [`records`](difuse_api::records) has it, with its height and hash; the last line says whether it
//! is complete, and if not, where to go on. The next page of keys is read when the client has taken the one before: one that goes
//! away, or does not read, costs nothing more.

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use difuse_api::{
    batch::READ_BYTES_MAX,
    iterate::{self, Content, Item, IterateError, Range},
    records::{End, Record},
    values::ValueError,
};
use difuse_types::{Hash, Key};
use futures::{FutureExt, Stream, StreamExt, stream};
use serde::Serialize;

use super::{
    Gateway, TRANSFERS_OF_STREAM,
    parameters::{Parameters, bad_key, cursor, display, encoded, key_after, name_of},
    problem::Problem,
};

/// Lines that are there at the same time are sent as one part of the body, up to about so many bytes.
const PART_BYTES_ENOUGH: usize = 16 << 10;

/// The line of a key whose content has none.
#[derive(Serialize)]
struct Omitted {
    key: String,
    href: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Why.
    omitted: String,
}

type Found = Result<Item, (Option<Key>, IterateError)>;

/// How far a stream of lines is.
struct Lines<S> {
    items: S,
    after: Option<Key>,
    count: u64,
    is_at_end: bool,
}

/// GET.
pub(super) async fn run(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let transfer = gateway.begin_transfers(TRANSFERS_OF_STREAM)?;
    let parameters = Parameters::of(&uri);
    let namespace = parameters.namespace()?;
    let prefix = Key::prefix(&namespace, &parameters.bytes("prefix").unwrap_or_default()).map_err(bad_key)?;
    let after = parameters.after()?.map(|name| key_after(&namespace, &name)).transpose()?;
    let datastore = gateway.shared_datastore();
    let levels = gateway.levels(&parameters)?.of(gateway.datastore(), &namespace).await?;
    let range = Range { prefix, after: after.clone() };
    let items = Box::pin(iterate::items(datastore, range, levels, READ_BYTES_MAX));
    let lines = Lines { items, after, count: 0, is_at_end: false };
    let parts = parts_of(lines).map(move |part| {
        // Held until the last part is read, or nobody wants it any more.
        let _transfer = &transfer;
        Ok::<_, Infallible>(part)
    });
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    Ok((content_type, Body::from_stream(parts)).into_response())
}

/// The text of the lines, as many at a time as are there.
fn parts_of<S: Stream<Item = Found> + Send + Unpin>(lines: Lines<S>) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(lines, |mut lines| async move {
        if lines.is_at_end {
            return None;
        }
        let mut text = Vec::new();
        let mut next = Some(lines.items.next().await);
        while let Some(found) = next {
            lines.add(found, &mut text);
            let is_enough = text.len() >= PART_BYTES_ENOUGH || lines.is_at_end;
            next = if is_enough { None } else { lines.items.next().now_or_never() };
        }
        Some((Bytes::from(text), lines))
    })
}

impl<S> Lines<S> {
    /// Adds the line of what was found, or the last one.
    fn add(&mut self, found: Option<Found>, text: &mut Vec<u8>) {
        match found {
            Some(Ok(item)) => {
                self.count += 1;
                self.after = Some(item.key.clone());
                match Record::of(&item) {
                    Ok(record) => text.extend_from_slice(record.line_at(item.height, item.hash).as_bytes()),
                    Err(reason) => {
                        let size = if let Content::TooLong(size) = item.content { Some(size) } else { None };
                        let (height, hash) = (Some(item.height), Some(item.hash));
                        write(&omitted(&item.key, height, hash, size, reason), text);
                    }
                }
            }
            Some(Err((Some(key), error))) if !matches!(error, IterateError::Value(ValueError::Request(_))) => {
                self.count += 1;
                write(&omitted(&key, None, None, None, error.to_string()), text);
                self.after = Some(key);
            }
            Some(Err((_, error))) => {
                self.is_at_end = true;
                let (code, detail) = described(error);
                let after = self.after.as_ref().map(|after| cursor(&name_of(after)));
                write(&End { end: false, items: self.count, code: Some(code), detail: Some(detail), after }, text);
            }
            None => {
                self.is_at_end = true;
                write(&End { end: true, items: self.count, ..End::default() }, text);
            }
        }
        text.push(b'\n');
    }
}

fn write(line: &impl Serialize, text: &mut Vec<u8>) {
    // There is nothing in it that cannot be written.
    let _ = serde_json::to_writer(text, line);
}

fn omitted(key: &Key, height: Option<u64>, hash: Option<Hash>, size: Option<u64>, reason: String) -> Omitted {
    let (name, namespace) = (name_of(key), key.namespace());
    let query =
        if namespace.is_empty() { String::new() } else { format!("?namespace={}", encoded(namespace.as_bytes())) };
    let href = format!("{}{}{query}", super::keys::ROUTE, encoded(&name));
    Omitted { key: display(&name), href, height, hash, size, omitted: reason }
}

fn described(error: IterateError) -> (String, String) {
    match error {
        IterateError::Value(error) => {
            let (_, code, detail) = Problem::from(error).into_parts();
            (code.into(), detail)
        }
        error => ("damaged".into(), error.to_string()),
    }
}
