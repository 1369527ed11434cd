//! `/v1/files`: a tree of directories and files, streamed both ways.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use difuse_api::{
    files::{FileEntry, FileKind, Files, PutOptions, RemoveOptions},
    keys::{Submitted, Written},
    values::Upload,
};
use difuse_types::{Hash, Level};
use serde::Serialize;

use super::{
    Gateway, SharedDatastore,
    body::{content_length, stream_of},
    content::{Content, respond_with_content},
    headers::{self, ReadCondition},
    operations::accepted,
    parameters::{Parameters, cursor, encoded, path},
    problem::Problem,
};

/// The route, without the path.
pub(super) const ROUTE: &str = "/v1/files/";

#[derive(Serialize)]
struct PutBody {
    path: String,
    height: u64,
    hash: Hash,
    size: u64,
    blocks_total: u64,
    blocks_new: u64,
    bytes_new: u64,
}

#[derive(Serialize)]
struct DirectoryBody {
    path: String,
    entries: Vec<EntryBody>,
    next: Option<String>,
}

/// What is said of a file or directory, here and by `/v1/stat`.
#[derive(Serialize)]
pub(super) struct EntryBody {
    name: String,
    href: String,
    kind: &'static str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
}

/// GET and HEAD: a file's content, or a directory's listing.
pub(super) async fn read(
    State(gateway): State<Gateway>,
    method: Method,
    uri: Uri,
    request_headers: HeaderMap,
) -> Result<Response, Problem> {
    let condition = ReadCondition::of(&request_headers)?;
    let (path, files) = (path(&uri, ROUTE)?, files(&gateway, &uri)?);
    let found = files.stat(&path).await?;
    match found.entry.as_ref().filter(|_| found.kind != FileKind::Directory) {
        None => list(&files, &path, &uri).await,
        Some(entry) => {
            let content = Content {
                hash: entry.hash,
                height: entry.height,
                is_linearizable: None,
                value: entry
                    .value
                    .clone()
                    .ok_or_else(|| Problem::not_found("no_such_file", "there is no such file"))?,
                block_level: gateway.consistency().get_block,
                media_type: found.media_type,
                modified_ms: found.modified_ms,
            };
            respond_with_content(&gateway, &method, &request_headers, &condition, content)
        }
    }
}

fn files(gateway: &Gateway, uri: &Uri) -> Result<Files<SharedDatastore>, Problem> {
    let level = Parameters::of(uri).given_level()?;
    Ok(level.map_or_else(|| gateway.files().clone(), |level| gateway.files().with_level(level)))
}

async fn list(files: &Files<SharedDatastore>, path: &str, uri: &Uri) -> Result<Response, Problem> {
    let parameters = Parameters::of(uri);
    let after = parameters.after()?.map(String::from_utf8).transpose();
    let after = after.map_err(|_| Problem::bad_request("bad_parameter", "after must be the name of an entry"))?;
    let page = files.list(path, after.as_deref(), parameters.limit()?).await?;
    let trimmed = path.trim_matches('/');
    let body = DirectoryBody {
        path: format!("/{trimmed}"),
        entries: page.entries.iter().map(|entry| entry_body(trimmed, entry)).collect(),
        next: page.next.map(|name| cursor(name.as_bytes())),
    };
    Ok(Json(body).into_response())
}

/// What is said of `entry` of the directory `parent` (without slashes at its ends).
pub(super) fn entry_body(parent: &str, entry: &FileEntry) -> EntryBody {
    let separator = if parent.is_empty() || entry.name.is_empty() { "" } else { "/" };
    EntryBody {
        href: format!("{ROUTE}{}{separator}{}", encoded(parent.as_bytes()), encoded(entry.name.as_bytes())),
        name: entry.name.clone(),
        kind: match entry.kind {
            FileKind::File => "file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
        },
        size: entry.size,
        mode: entry.mode.map(|mode| format!("{mode:o}")),
        modified_ms: entry.modified_ms,
        media_type: entry.media_type.clone(),
        height: entry.entry.as_ref().map(|entry| entry.height),
        hash: entry.entry.as_ref().map(|entry| entry.hash),
    }
}

/// PUT of a file, or with `?kind=directory` of a directory.
pub(super) async fn write(
    State(gateway): State<Gateway>,
    uri: Uri,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (path, files) = (path(&uri, ROUTE)?, files(&gateway, &uri)?);
    match Parameters::of(&uri).text("kind")?.as_deref() {
        None | Some("file") => {}
        Some("directory") => {
            files.make_directory(&path).await?;
            return Ok((StatusCode::CREATED, Json(serde_json::json!({ "path": absolute(&path) }))).into_response());
        }
        Some(_) => return Err(Problem::bad_request("bad_parameter", "the parameter kind is file or directory")),
    }
    let options = put_options(&uri, request.headers())?;
    let operation_id = options.attempt.map(|attempt| attempt.operation_id);
    let transfer = gateway.begin_transfer_unless_small(content_length(request.headers()))?;
    let put = files.put(&path, stream_of(request.into_body()), options).await?;
    drop(transfer);
    let written = match &put.written {
        Submitted::Written(written) => written,
        Submitted::Queued(operation_id) => return Ok(accepted(*operation_id)),
    };
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, Json(put_body(&path, written, &put.upload))).into_response();
    let response_headers = response.headers_mut();
    response_headers.insert(header::ETAG, headers::etag(&written.hash));
    response_headers.insert(headers::HEIGHT, written.height.into());
    if let Some(operation_id) = operation_id {
        response_headers.insert(headers::OPERATION_ID, headers::value(operation_id.to_string()));
    }
    Ok(response)
}

fn put_body(path: &str, written: &Written, upload: &Upload) -> PutBody {
    PutBody {
        path: absolute(path),
        height: written.height,
        hash: written.hash,
        size: upload.size,
        blocks_total: upload.blocks_total,
        blocks_new: upload.blocks_new,
        bytes_new: upload.bytes_new,
    }
}

fn absolute(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

fn put_options(uri: &Uri, request_headers: &HeaderMap) -> Result<PutOptions, Problem> {
    let parameters = Parameters::of(uri);
    let bad_mode = || {
        Problem::bad_request("bad_parameter", "the parameter mode is malformed: expected octal digits, as in mode=644")
    };
    let mode = parameters.text("mode")?.map(|digits| u32::from_str_radix(&digits, 8).map_err(|_| bad_mode()));
    let modified_ms = parameters.text("modified_ms")?.map(|_| parameters.number("modified_ms", 0)).transpose()?;
    let media_type = headers::text(request_headers, &header::CONTENT_TYPE)?.map(str::to_owned);
    Ok(PutOptions {
        mode: mode.transpose()?,
        media_type,
        modified_ms,
        condition: headers::write_condition(request_headers)?,
        attempt: Some(headers::attempt(request_headers)?),
    })
}

/// DELETE of a file or directory.
pub(super) async fn delete(
    State(gateway): State<Gateway>,
    uri: Uri,
    request_headers: HeaderMap,
) -> Result<Response, Problem> {
    let (path, files) = (path(&uri, ROUTE)?, files(&gateway, &uri)?);
    let options = RemoveOptions {
        recursive: Parameters::of(&uri).flag("recursive")?,
        condition: headers::write_condition(&request_headers)?,
        attempt: Some(headers::attempt(&request_headers)?),
    };
    let removed = files.remove(&path, options).await?;
    let level = Parameters::of(&uri).level(gateway.consistency().delete_inode)?;
    if let (Level::Lazy, Some(attempt)) = (level, options.attempt) {
        return Ok(accepted(attempt.operation_id));
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert("difuse-removed", HeaderValue::from(removed));
    Ok(response)
}
