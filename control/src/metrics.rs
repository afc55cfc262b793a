//! The process's metrics: one recorder, rendered for Prometheus.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Renders what the recorder has gathered.
pub type Metrics = PrometheusHandle;

/// Upper bounds of latency buckets, in seconds: from a memory access of some length to a request that is lost.
const LATENCY_SECONDS: [f64; 16] =
    [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds of sizes, in bytes: one small commit to the largest group.
const SIZE_BYTES: [f64; 9] = [128.0, 512.0, 2048.0, 8192.0, 32768.0, 131072.0, 524288.0, 2097152.0, 8388608.0];

/// Upper bounds of counts of things done at once.
const COUNTS: [f64; 10] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0, 64.0, 256.0];

/// Histograms that count things; what they count is in their names.
const COUNTING: [&str; 2] = ["_group_entries", "_layers_per_read"];

/// How often what histograms have gathered is folded into buckets, whether or not anyone asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the process's recorder. Call once, before any tier registers a metric. Every histogram has buckets, so that
/// those of several processes can be added up.
pub fn install() -> Result<Metrics, String> {
    let microseconds = LATENCY_SECONDS.map(|seconds| seconds * 1e6);
    let failed = |error| format!("cannot install the metrics recorder: {error}");
    let mut builder = PrometheusBuilder::new();
    for (suffix, buckets) in [("_seconds", &LATENCY_SECONDS[..]), ("_us", &microseconds), ("_bytes", &SIZE_BYTES)] {
        builder = builder.set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets).map_err(failed)?;
    }
    for suffix in COUNTING {
        builder = builder.set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), &COUNTS).map_err(failed)?;
    }
    builder.install_recorder().map_err(failed)
}

/// Folds what histograms gather, for as long as the process runs; without it their memory grows until somebody asks.
pub async fn keep_up(metrics: Metrics) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        metrics.run_upkeep();
    }
}
