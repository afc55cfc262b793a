//! The HTTP surface.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::status::StatusSource;

/// The page at `/`: a picture of the tiers, drawn from `/v1/status` once a second. It loads nothing from elsewhere.
const PAGE: &str = include_str!("page.html");

#[derive(Clone)]
struct Shared {
    source: Arc<dyn StatusSource>,
    metrics: PrometheusHandle,
}

/// Every route.
pub fn router(source: Arc<dyn StatusSource>, metrics_handle: PrometheusHandle) -> Router {
    Router::new()
        .route("/", get(|| std::future::ready(Html(PAGE))))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .fallback(unknown)
        .with_state(Shared { source, metrics: metrics_handle })
}

/// Whether reads and writes are served.
async fn healthz(State(shared): State<Shared>) -> (StatusCode, String) {
    let status = shared.source.status().await;
    if status.healthy {
        let lsn = status.compute.map_or_else(String::new, |compute| format!(" {}", compute.durable_lsn));
        (StatusCode::OK, format!("ok{lsn}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, status.reasons.join("\n") + "\n")
    }
}

/// Where every tier stands.
async fn status(State(shared): State<Shared>) -> Response {
    let status = serde_json::to_vec(&shared.source.status().await).expect("text, numbers and truth values are JSON");
    ([(header::CONTENT_TYPE, "application/json")], status).into_response()
}

/// Every metric, in Prometheus' text format.
async fn metrics(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.render()).into_response()
}

async fn unknown() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "not here; there are /, /healthz, /metrics and /v1/status\n")
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
