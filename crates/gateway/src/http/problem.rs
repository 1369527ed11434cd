use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use difuse_api::{files::FileError, request::RequestError, values::ValueError};
use difuse_types::{Hash, NodeId};
use problem_details::ProblemDetails;
use serde::Serialize;

use super::{headers, log::CheckpointBody};

/// Why a request is refused: becomes an `application/problem+json` answer (RFC 9457) with the further member `code`,
/// a word that programs can compare.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    members: Option<Box<Members>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    base: Option<Box<CheckpointBody>>,
}

/// What the answer says besides RFC 9457.
#[derive(Serialize)]
struct Extensions {
    code: &'static str,
    /// Where the part of a pruned history begins that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<Box<CheckpointBody>>,
    #[serde(flatten)]
    members: Option<Box<Members>>,
}

/// Why not every member stands behind an answer, and what became of the write.
#[derive(Debug, Serialize)]
struct Members {
    silent: Vec<NodeId>,
    differing: Vec<NodeId>,
    applied: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
}

impl Problem {
    /// An answer with `status`; `detail` says what is wrong and what to do about it.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), members: None, headers: Vec::new(), base: None }
    }

    /// 400: the request makes no sense.
    pub(super) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 404: the thing is not there.
    pub(super) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 503: this node has too much to do already.
    pub(super) fn busy() -> Self {
        RequestError::Busy.into()
    }

    /// Status, code and detail, for an answer that is a part of another one.
    pub(super) fn into_parts(self) -> (StatusCode, &'static str, String) {
        (self.status, self.code, self.detail)
    }

    /// The same with one more header.
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let details = ProblemDetails::from_status_code(self.status)
            .with_detail(self.detail)
            .with_extensions(Extensions { code: self.code, base: self.base, members: self.members });
        let mut response = details.into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let (status, code) = match &error {
            RequestError::Conflict { .. } => (StatusCode::PRECONDITION_FAILED, "condition_failed"),
            RequestError::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            RequestError::Unknown { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unknown_outcome"),
            RequestError::Forgotten { .. } => (StatusCode::CONFLICT, "forgotten_outcome"),
            RequestError::Lapsed { .. } => (StatusCode::SERVICE_UNAVAILABLE, "lapsed_attempt"),
            RequestError::NotAll { differing, .. } if !differing.is_empty() => (StatusCode::CONFLICT, "members_differ"),
            RequestError::NotAll { .. } => (StatusCode::SERVICE_UNAVAILABLE, "members_silent"),
            RequestError::WrongHash { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "wrong_hash"),
            RequestError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            RequestError::BlockReferenced { .. } => (StatusCode::CONFLICT, "block_referenced"),
            RequestError::Pruned(_) => (StatusCode::GONE, "pruned"),
            RequestError::UploadTooOld { .. } => (StatusCode::SERVICE_UNAVAILABLE, "upload_too_old"),
            RequestError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            RequestError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            RequestError::QuotaReached { .. } => (StatusCode::INSUFFICIENT_STORAGE, "quota_reached"),
            RequestError::InBlocks => (StatusCode::CONFLICT, "in_blocks"),
            RequestError::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "storage"),
            RequestError::NotServing(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_serving"),
        };
        let mut problem = Self::new(status, code, error.to_string());
        if let RequestError::NotAll { silent, differing, is_applied, written, .. } = &error {
            problem.members = Some(Box::new(Members {
                silent: silent.clone(),
                differing: differing.clone(),
                applied: *is_applied,
                height: written.map(|(height, _)| height),
                hash: written.map(|(_, hash)| hash),
            }));
        }
        if let RequestError::Conflict { current: Some((height, hash, has_value)) } = &error {
            problem = problem.with_header(headers::HEIGHT, (*height).into());
            if *has_value {
                problem = problem.with_header(header::ETAG, headers::etag(hash));
            }
        }
        if let RequestError::Pruned(checkpoint) = error {
            problem.base = Some(Box::new(checkpoint.into()));
        }
        let named = match &error {
            RequestError::Unknown { operation_id, since } => Some((operation_id, *since)),
            RequestError::Forgotten { operation_id, now } | RequestError::Lapsed { operation_id, now } => {
                Some((operation_id, Some(*now)))
            }
            _ => None,
        };
        if let Some((operation_id, since)) = named {
            problem = problem.with_header(headers::OPERATION_ID, headers::value(operation_id.to_string()));
            problem = problem.with_header(headers::OPERATION_SINCE, headers::since(since));
        }
        match error.retry_after() {
            Some(wait) => problem.with_header(header::RETRY_AFTER, wait.as_secs().max(1).into()),
            None => problem,
        }
    }
}

impl From<ValueError> for Problem {
    fn from(error: ValueError) -> Self {
        let detail = error.to_string();
        match error {
            ValueError::Request(error) => error.into(),
            ValueError::Source(_) => Self::bad_request("body_cut_off", format!("{detail}; nothing was changed")),
            ValueError::Missing { .. } | ValueError::Damaged { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged", detail)
            }
            ValueError::Structure => Self::new(StatusCode::CONFLICT, "is_structure", detail),
            ValueError::Range { size } => range_not_satisfiable(size),
        }
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        let detail = error.to_string();
        match error {
            FileError::Request(error) => error.into(),
            FileError::Value(error) => error.into(),
            FileError::Path(_) => Self::bad_request("bad_path", detail),
            FileError::Options(_) => Self::bad_request("bad_options", detail),
            FileError::NotFound { .. } => Self::not_found("no_such_file", detail),
            FileError::IsADirectory { .. } => Self::new(StatusCode::CONFLICT, "is_a_directory", detail),
            FileError::NotADirectory { .. } => Self::new(StatusCode::CONFLICT, "not_a_directory", detail),
            FileError::NotEmpty { .. } => Self::new(StatusCode::CONFLICT, "directory_not_empty", detail),
            FileError::NotAFile { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged", detail),
        }
    }
}

/// 416 for content of `size` bytes.
pub(super) fn range_not_satisfiable(size: u64) -> Problem {
    Problem::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "range_not_satisfiable",
        format!("the range begins after the end: the content has {size} bytes, numbered from 0"),
    )
    .with_header(header::CONTENT_RANGE, headers::value(format!("bytes */{size}")))
}

/// 404 for a path that is no route.
pub(super) async fn no_such_route() -> Problem {
    Problem::not_found("no_such_route", "there is no such route; routes begin with /v1/, /livez, /readyz or /metrics")
}

/// 405; the header `Allow`, which axum adds, names the methods of the route.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "the route does not know this method: the header Allow names those it knows",
    )
}
