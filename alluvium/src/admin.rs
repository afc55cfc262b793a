//! `/metrics` (Prometheus text format) and `/healthz` on a loopback port.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

/// Installs the process's metrics recorder. Call once, before any tier registers a metric.
pub fn install_metrics() -> Result<PrometheusHandle, String> {
    let latencies = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
    PrometheusBuilder::new()
        .set_buckets_for_metric(metrics_exporter_prometheus::Matcher::Suffix("_seconds".to_owned()), &latencies)
        .and_then(|builder| builder.install_recorder())
        .map_err(|error| format!("cannot install the metrics recorder: {error}"))
}

/// Serves until the process ends. `/healthz` answers what `health` gives.
pub async fn serve(
    listener: TcpListener,
    metrics: PrometheusHandle,
    health: impl Fn() -> String + Clone + Send + Sync + 'static,
) {
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(std::time::Duration::from_secs(5));
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    let router = Router::new()
        .route("/metrics", get(move || std::future::ready(metrics.render())))
        .route("/healthz", get(move || std::future::ready((StatusCode::OK, health()))));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the metrics port has stopped serving");
    }
}
