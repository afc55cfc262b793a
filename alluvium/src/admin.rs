//! The admin port: `control`'s API over the tiers of this process.

use std::sync::Arc;

use control::metrics::Metrics;
use control::status::StatusSource;
use tokio::net::TcpListener;

/// Serves until the process ends. Without it the database goes on, unseen.
pub fn serve(listener: TcpListener, metrics: Metrics, tiers: impl StatusSource + 'static) {
    tokio::spawn(control::metrics::keep_up(metrics.clone()));
    let router = control::router(Arc::new(tiers), metrics);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin port has stopped serving");
        }
    });
}
