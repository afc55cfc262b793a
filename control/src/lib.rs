//! The admin API: what an operator asks over HTTP. Today it tells: status of every tier, health, metrics, and a page to
//! look at. It is on no query's path; when it is gone, everything else goes on.
//!
//! It knows the tiers only by [`StatusSource`], which the process that runs them implements.

pub mod api;
pub mod metrics;
pub mod status;

pub use api::router;
pub use status::{ClusterStatus, StatusSource};
