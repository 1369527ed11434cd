//! `/v1/namespaces`: which namespaces of keys there are, what each holds and is set to, and dropping one. The default one, which has
//! no name, is `/v1/namespaces/`.

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use difuse_api::{
    namespaces::{self, DropError, Settings, SettingsError},
    request::Usage,
};
use difuse_types::{Hash, Level};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Gateway,
    headers::{self, ReadCondition, Verdict},
    parameters::{Parameters, rest},
    problem::Problem,
};

/// The route, without the name.
const ROUTE: &str = "/v1/namespaces/";
/// The longest body, in bytes.
const BODY_BYTES_MAX: usize = 4 << 10;

/// What a namespace is to be set to: what is left out, or `null`, is not set.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SettingsBody {
    read_level: Option<Level>,
    write_level: Option<Level>,
    keys_max: Option<u64>,
    bytes_max: Option<u64>,
}

/// What a namespace is set to, and what its keys come to.
#[derive(Serialize)]
struct NamespaceBody {
    namespace: String,
    #[serde(flatten)]
    settings: Option<Settings>,
    #[serde(flatten)]
    usage: Option<UsageBody>,
}

/// What the keys of a namespace come to.
#[derive(Serialize)]
struct UsageBody {
    keys: u64,
    bytes: u64,
}

impl From<Usage> for UsageBody {
    fn from(Usage { keys, bytes }: Usage) -> Self {
        Self { keys, bytes }
    }
}

/// GET: their names, in order, each with what its keys come to.
pub(super) async fn list(State(gateway): State<Gateway>) -> Result<Response, Problem> {
    let listed = namespaces::list(gateway.datastore()).await?.into_iter();
    let bodies: Vec<_> = listed
        .map(|one| NamespaceBody { namespace: one.namespace, settings: None, usage: Some(one.usage.into()) })
        .collect();
    Ok(Json(json!({ "namespaces": bodies })).into_response())
}

/// GET and HEAD of one: what it is set to, and what its keys come to.
pub(super) async fn read(
    State(gateway): State<Gateway>,
    uri: Uri,
    request_headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = name(&uri)?;
    let condition = ReadCondition::of(&request_headers)?;
    let level = Parameters::of(&uri).level(Level::Quorum)?;
    let found = namespaces::settings(gateway.datastore(), &name, level).await?;
    match condition.judge(&found.hash.unwrap_or(Hash::ZERO)) {
        Verdict::Send => {
            let usage = namespaces::usage(gateway.datastore(), &name).await?;
            Ok(answer(name, found.settings, found.hash, Some(usage)))
        }
        Verdict::NotModified => Ok((StatusCode::NOT_MODIFIED, tag(found.hash)).into_response()),
        Verdict::Failed => Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "condition_failed",
            "the condition does not hold: the namespace is set to something else",
        )),
    }
}

/// PUT of one: what it is set to from now on, instead of all that it was.
pub(super) async fn write(
    State(gateway): State<Gateway>,
    uri: Uri,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let name = name(&uri)?;
    let condition = headers::write_condition(request.headers())?;
    let settings = settings_of(request.into_body()).await?;
    let hash = namespaces::set(gateway.datastore(), &name, settings, condition).await?;
    gateway.default_levels().note(&name, settings);
    Ok(answer(name, settings, hash, None))
}

async fn settings_of(body: Body) -> Result<Settings, Problem> {
    let expected = r#"expected an object such as {"read_level": "leader", "write_level": "all", "keys_max": 1000000, "bytes_max": 1073741824}"#;
    let bad = |what: String| Problem::bad_request("bad_body", format!("{what}: {expected}"));
    let bytes = to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| bad(error.to_string()))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    // Taken by itself, serde would take an array for the members of an object.
    if !value.is_object() {
        return Err(bad("the body is no object".into()));
    }
    let SettingsBody { read_level, write_level, keys_max, bytes_max } =
        serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
    Ok(Settings { read_level, write_level, keys_max, bytes_max })
}

fn answer(namespace: String, settings: Settings, hash: Option<Hash>, usage: Option<Usage>) -> Response {
    let body = NamespaceBody { namespace, settings: Some(settings), usage: usage.map(UsageBody::from) };
    (tag(hash), Json(body)).into_response()
}

/// The entity tag, of settings that there are.
fn tag(hash: Option<Hash>) -> HeaderMap {
    hash.iter().map(|hash| (header::ETAG, headers::etag(hash))).collect()
}

/// DELETE of one: of every key in it, and of what it was set to.
pub(super) async fn delete(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let name = name(&uri)?;
    let levels = gateway.levels(&Parameters::of(&uri))?.of(gateway.datastore(), &name).await?;
    let dropped = namespaces::drop(gateway.datastore(), &name, levels.delete_inode, |_| {}).await;
    let deleted = dropped.map_err(|error| match error {
        DropError::Name(error) => Problem::bad_request("bad_key", error.to_string()),
        DropError::Request(error) => error.into(),
    })?;
    gateway.default_levels().note(&name, Settings::default());
    Ok(Json(json!({ "deleted": deleted })).into_response())
}

fn name(uri: &Uri) -> Result<String, Problem> {
    String::from_utf8(rest(uri, ROUTE).into_owned())
        .map_err(|_| Problem::bad_request("bad_key", "names of namespaces must be UTF-8, percent-encoded"))
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Self {
        let detail = error.to_string();
        match error {
            SettingsError::Name(_) => Self::bad_request("bad_key", detail),
            SettingsError::Request(error) => error.into(),
            SettingsError::Malformed { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged", detail),
        }
    }
}
