//! Values as answers: whole or a range, inline or streamed from blocks.

use std::time::{Duration, UNIX_EPOCH};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
    response::IntoResponse,
};
use difuse_api::{
    keylog::{Value, ValueKind},
    values,
};
use difuse_types::{Hash, Level};
use futures::StreamExt;

use super::{
    Gateway,
    headers::{self, ReadCondition, Verdict},
    problem::Problem,
};

/// What a key or a file holds, and what its answer says about it.
pub(super) struct Content {
    /// The hash of the transaction that put it there: its entity tag.
    pub(super) hash: Hash,
    /// That transaction's height.
    pub(super) height: u64,
    /// Whether it is the last one for certain, where that is told.
    pub(super) is_linearizable: Option<bool>,
    /// The value.
    pub(super) value: Value,
    /// Who stands behind its blocks.
    pub(super) block_level: Level,
    /// As given when it was put.
    pub(super) media_type: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub(super) modified_ms: Option<u64>,
}

/// The answer to a GET or HEAD for `content`.
pub(super) fn respond_with_content(
    gateway: &Gateway,
    method: &Method,
    request_headers: &HeaderMap,
    condition: &ReadCondition,
    content: Content,
) -> Result<Response<Body>, Problem> {
    match condition.judge(&content.hash) {
        Verdict::Send => {}
        Verdict::NotModified => {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            describe(response.headers_mut(), &content);
            return Ok(response);
        }
        Verdict::Failed => return Err(failed(&content)),
    }
    let size = values::size_of(&content.value)?;
    // A range of a HEAD has no meaning (RFC 9110, section 14.2).
    let range = if *method == Method::GET { headers::range(request_headers, size)? } else { None };
    let wanted = range.clone().unwrap_or(0..size);
    let body = if *method == Method::HEAD { Body::empty() } else { body(gateway, &content, wanted.clone())? };
    let mut response = Response::new(body);
    describe(response.headers_mut(), &content);
    let response_headers = response.headers_mut();
    response_headers.insert(header::CONTENT_LENGTH, (wanted.end - wanted.start).into());
    response_headers.insert(header::CONTENT_TYPE, media_type(&content));
    response_headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if range.is_some() {
        let described = format!("bytes {}-{}/{size}", wanted.start, wanted.end - 1);
        response_headers.insert(header::CONTENT_RANGE, headers::value(described));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn describe(response_headers: &mut HeaderMap, content: &Content) {
    response_headers.insert(header::ETAG, headers::etag(&content.hash));
    response_headers.insert(headers::HEIGHT, content.height.into());
    if let Some(deadline) = content.value.deadline {
        response_headers.insert(headers::DEADLINE, deadline.0.into());
    }
    if let Some(is_linearizable) = content.is_linearizable {
        response_headers.insert(headers::LINEARIZABLE, headers::boolean(is_linearizable));
    }
    if let Some(modified_ms) = content.modified_ms.filter(|modified_ms| *modified_ms <= LAST_DATE_MS) {
        let time = UNIX_EPOCH + Duration::from_millis(modified_ms);
        response_headers.insert(header::LAST_MODIFIED, headers::value(httpdate::fmt_http_date(time)));
    }
}

/// HTTP dates end with the year 9999.
const LAST_DATE_MS: u64 = 253_402_300_799_000;

fn media_type(content: &Content) -> HeaderValue {
    let given = content.media_type.as_deref().filter(|given| !given.is_empty());
    given
        .and_then(|given| HeaderValue::from_str(given).ok())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

fn failed(content: &Content) -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "condition_failed",
        format!(
            "the condition does not hold: the content is of height {}, transaction {}",
            content.height, content.hash
        ),
    )
    .with_header(header::ETAG, headers::etag(&content.hash))
    .with_header(headers::HEIGHT, content.height.into())
}

fn body(gateway: &Gateway, content: &Content, range: std::ops::Range<u64>) -> Result<Body, Problem> {
    let value = &content.value;
    if value.kind == ValueKind::Inline {
        let (start, end) = (range.start as usize, range.end as usize);
        return Ok(Body::from(value.bytes.slice(start..end)));
    }
    let transfer = gateway.begin_transfer()?;
    let blocks = values::stream(gateway.shared_datastore(), value, Some(range), content.block_level)?;
    Ok(Body::from_stream(blocks.inspect(move |part| {
        // The permit lives as long as the stream.
        let _transfer = &transfer;
        if let Err(error) = part {
            tracing::warn!(%error, "a download was cut off");
        }
    })))
}
