use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderName, HeaderValue, Method, Request, Uri},
};
use difuse_api::testing::FakeDatastore;
use difuse_gateway::http::{Gateway, Health, router};
use tower::ServiceExt;

/// More than any answer to these requests.
const ANSWER_BYTES_MAX: usize = 64 << 20;

struct Healthy;

impl Health for Healthy {
    fn ready(&self) -> Result<(), Vec<String>> {
        Ok(())
    }

    fn metrics(&self) -> String {
        String::new()
    }
}

thread_local! {
    static GATEWAY: (Arc<FakeDatastore>, Router) = {
        let datastore = Arc::new(FakeDatastore::new());
        let gateway = Gateway::new(datastore.clone(), FakeDatastore::NODE, Arc::new(Healthy));
        (datastore, router(gateway))
    };
}

/// Requests to the gateway: paths, queries, cursors, headers and ranges. The requests are separated by a zero byte; the
/// first line of each is method and path, headers follow up to an empty line, then the body. Every answer must be one
/// of the contract's, and never 500.
pub fn http_request(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (datastore, router) = GATEWAY.with(Clone::clone);
    datastore.clear();
    for request in bytes.split(|byte| *byte == 0).take(8) {
        if let Some(request) = parse(request) {
            runtime.block_on(answer(router.clone(), request));
        }
    }
}

async fn answer(router: Router, request: Request<Body>) {
    let what = format!("{} {}", request.method(), request.uri());
    let Ok(answer) = router.oneshot(request).await;
    let status = answer.status().as_u16();
    assert!(status != 500, "{what}: {status}");
    assert!(answer.headers().contains_key("difuse-node"), "{what}: nobody says who answered");
    // A body that breaks off is how a stream reports an error.
    let _ = to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await;
}

/// `None` if no HTTP server would hand it on.
fn parse(bytes: &[u8]) -> Option<Request<Body>> {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let uri = Uri::try_from(first.next()?).ok().filter(|uri| uri.path().starts_with('/'))?;
    let mut request = Request::builder().method(method).uri(uri);
    let mut rest = lines.next().unwrap_or_default();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        request = request.header(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    request.body(Body::from(rest.to_vec())).ok()
}
