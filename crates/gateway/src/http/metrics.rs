//! What the gateway counts. Each counter is looked up once and kept in a table, so that a request costs a few atomic
//! additions and no search.

use std::{
    sync::{OnceLock, atomic::AtomicI64},
    time::Duration,
};

use axum::http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The routes that are counted apart; whatever is none of them counts as the first.
pub(super) const ROUTES: [&str; 27] = [
    "none",
    "/v1/keys/{*key}",
    "/v1/keys",
    "/v1/log/{*key}",
    "/v1/stat/{*key}",
    "/v1/leader/{*key}",
    "/v1/locate/{*key}",
    "/v1/blocks",
    "/v1/blocks/{*hash}",
    "/v1/locate-block/{*hash}",
    "/v1/files",
    "/v1/files/",
    "/v1/files/{*path}",
    "/v1/namespaces",
    "/v1/namespaces/",
    "/v1/namespaces/{name}",
    "/v1/pins",
    "/v1/pins/{*hash}",
    "/v1/ring",
    "/v1/leave",
    "/v1/dump",
    "/v1/gc",
    "/v1/scrub",
    "/livez",
    "/readyz",
    "/healthz",
    "/metrics",
];
const METHODS: [&str; 6] = ["other", "GET", "HEAD", "PUT", "POST", "DELETE"];
/// The statuses that are counted apart; any other counts as 500.
const STATUSES: [u16; 17] = [500, 200, 201, 204, 206, 304, 400, 404, 405, 409, 412, 413, 416, 422, 431, 503, 507];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

/// The gateway's figures.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    counters: Vec<OnceLock<Counter>>,
    latencies: Vec<Histogram>,
    in_flight: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// All zero.
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("difuse_http");
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("requests", "Requests answered", requests.clone());
        let latency = Family::<RouteLabels, Histogram>::new_with_constructor(new_histogram);
        let description = "Time from a request's head to its answer's head";
        registry.register_with_unit("request_duration", description, Unit::Seconds, latency.clone());
        let in_flight = Gauge::default();
        registry.register("requests_in_flight", "Requests being served", in_flight.clone());
        let latencies = ROUTES.iter().map(|route| latency.get_or_create(&RouteLabels { route }).clone()).collect();
        let counters =
            std::iter::repeat_with(OnceLock::new).take(ROUTES.len() * METHODS.len() * STATUSES.len()).collect();
        Self { registry, requests, counters, latencies, in_flight }
    }

    /// A request begins; the number now being served, with it.
    pub(super) fn begin(&self) -> i64 {
        self.in_flight.inc() + 1
    }

    /// A request ends, answered or not.
    pub(super) fn end(&self) {
        self.in_flight.dec();
    }

    /// Counts an answer. `route` is the pattern that the router matched.
    pub(super) fn count(&self, route: Option<&str>, method: &Method, status: StatusCode, took: Duration) {
        let route = index(&ROUTES, |known| Some(*known) == route);
        let method = index(&METHODS, |known| *known == method.as_str());
        let status = index(&STATUSES, |known| *known == status.as_u16());
        self.counter(route, method, status).inc();
        self.latencies[route].observe(took.as_secs_f64());
    }

    fn counter(&self, route: usize, method: usize, status: usize) -> &Counter {
        self.counters[(route * METHODS.len() + method) * STATUSES.len() + status].get_or_init(|| {
            let labels = RequestLabels { route: ROUTES[route], method: METHODS[method], status: STATUSES[status] };
            self.requests.get_or_create(&labels).clone()
        })
    }

    /// All figures as OpenMetrics text, with `further` metrics in the same format (without an end mark).
    pub(super) fn render(&self, further: &str) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        let own = text.trim_end().trim_end_matches("# EOF").trim_end();
        let further = further.trim_end().trim_end_matches("# EOF").trim_end();
        let separator = if further.is_empty() { "" } else { "\n" };
        format!("{own}\n{further}{separator}# EOF\n")
    }
}

/// From 50 µs to some 26 s.
fn new_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 20))
}

/// Where the element is that `is_it` knows; 0 if nowhere.
fn index<T>(known: &[T], is_it: impl Fn(&T) -> bool) -> usize {
    known.iter().position(is_it).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{Method, StatusCode};

    use super::Metrics;

    #[test]
    fn answers_are_counted_by_route_method_and_status() {
        let metrics = Metrics::new();
        for _ in 0..3 {
            metrics.count(Some("/v1/ring"), &Method::GET, StatusCode::OK, Duration::from_millis(1));
        }
        metrics.count(None, &Method::PATCH, StatusCode::IM_A_TEAPOT, Duration::from_millis(1));
        let text = metrics.render("difuse_keys 7\n# EOF\n");
        for line in [
            r#"difuse_http_requests_total{route="/v1/ring",method="GET",status="200"} 3"#,
            r#"difuse_http_requests_total{route="none",method="other",status="500"} 1"#,
            r#"difuse_http_request_duration_seconds_count{route="/v1/ring"} 3"#,
            "difuse_keys 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        assert_eq!(text.matches("# EOF").count(), 1);
    }
}
