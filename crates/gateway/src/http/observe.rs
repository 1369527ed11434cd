//! What happens to every request, whatever its route: bounded, timed, counted, and answered under the node's name.

use std::time::Instant;

use axum::{
    body::Body,
    extract::{MatchedPath, State},
    http::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Gateway, headers, problem::Problem};

/// Serves one request through `next`, unless too many are being served already.
pub(super) async fn observe(State(gateway): State<Gateway>, request: Request<Body>, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let flight = Flight::begin(&gateway);
    let mut response = if flight.within_bounds { next.run(request).await } else { Problem::busy().into_response() };
    drop(flight);
    response.headers_mut().insert(headers::NODE, gateway.node_header());
    let route = route.as_ref().map(MatchedPath::as_str);
    gateway.metrics().count(route, &method, response.status(), started.elapsed());
    response
}

/// Counts a request as being served until it is dropped, as it also is when the client goes away.
struct Flight<'a> {
    gateway: &'a Gateway,
    within_bounds: bool,
}

impl<'a> Flight<'a> {
    fn begin(gateway: &'a Gateway) -> Self {
        let within_bounds = gateway.metrics().begin() <= super::REQUESTS_MAX;
        Self { gateway, within_bounds }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.gateway.metrics().end();
    }
}
