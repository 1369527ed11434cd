//! Bodies of requests.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use difuse_api::values::SourceError;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use tokio::time::timeout;

use super::problem::Problem;

/// How long a client may send nothing within a body.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The body as a stream for [`difuse_api::values::store`]: a body that is cut off, or does not go on, ends in an error,
/// never just ends.
pub(super) fn stream_of(body: Body) -> BoxStream<'static, Result<Bytes, SourceError>> {
    stream::try_unfold(body.into_data_stream(), |mut parts| async move {
        match timeout(SILENCE_MAX, parts.try_next()).await {
            Ok(Ok(part)) => Ok(part.map(|part| (part, parts))),
            Ok(Err(error)) => Err(SourceError::from(format!("the request's body was cut off: {error}"))),
            Err(_) => Err(SourceError::from(format!("the request's body did not go on for {SILENCE_MAX:?}"))),
        }
    })
    .boxed()
}

/// The length that the request announces.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body, at most `length_max` bytes; 413 if it is longer.
pub(super) async fn collect(headers: &HeaderMap, body: Body, length_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("a block has at most {length_max} bytes: PUT /v1/files/{{path}} stores content of any size"),
        )
    };
    let announced = content_length(headers);
    if announced.is_some_and(|announced| announced > length_max as u64) {
        return Err(too_large());
    }
    let mut collected = BytesMut::with_capacity(announced.and_then(|length| length.try_into().ok()).unwrap_or(0));
    let mut parts = stream_of(body);
    while let Some(part) = parts.next().await {
        let part =
            part.map_err(|error| Problem::bad_request("body_cut_off", format!("{error}; nothing was changed")))?;
        if collected.len() + part.len() > length_max {
            return Err(too_large());
        }
        collected.extend_from_slice(&part);
    }
    Ok(collected.freeze())
}
