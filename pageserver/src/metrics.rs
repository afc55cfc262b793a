//! Names of the metrics that a page server reports, in one place.

/// LSN up to which the log has been taken into memory.
pub const INGESTED_LSN: &str = "alluvium_pageserver_ingested_lsn";
/// Bytes of log that came to the shards: of a branch with several, only what is theirs.
pub const LOG_RECEIVED_BYTES: &str = "alluvium_pageserver_log_received_bytes_total";
/// LSN up to which layers named by the manifest hold everything.
pub const DURABLE_LSN: &str = "alluvium_pageserver_durable_lsn";
/// Seconds from a request to its page.
pub const GET_PAGE_SECONDS: &str = "alluvium_pageserver_get_page_seconds";
/// Requests taken on that wait for the log or for a place, by priority.
pub const REQUESTS_WAITING: &str = "alluvium_pageserver_requests_waiting";
/// Requests whose page is being made, by priority.
pub const REQUESTS_WORKING: &str = "alluvium_pageserver_requests_working";
/// Requests turned away because too many waited, by priority.
pub const REQUESTS_REFUSED: &str = "alluvium_pageserver_requests_refused_total";
/// Layers read for a page that was not in the cache.
pub const LAYERS_PER_READ: &str = "alluvium_pageserver_layers_per_read";
/// Pages answered from the cache as they were.
pub const PAGE_CACHE_HITS: &str = "alluvium_pageserver_page_cache_hits_total";
/// Pages that had to be made.
pub const PAGE_CACHE_MISSES: &str = "alluvium_pageserver_page_cache_misses_total";
/// Memory of records not yet in layers.
pub const BUFFER_BYTES: &str = "alluvium_pageserver_buffer_bytes";
/// Buffers set aside on local disk while the object store does not take layers.
pub const SPILLED_BUFFERS: &str = "alluvium_pageserver_spilled_buffers";
/// Bytes of these.
pub const SPILLED_BYTES: &str = "alluvium_pageserver_spilled_bytes";
/// Layers in the manifest.
pub const LAYERS: &str = "alluvium_pageserver_layers";
/// Shards being served.
pub const SHARDS: &str = "alluvium_pageserver_shards";
/// Bytes written to layers, by the work that wrote them.
pub const WRITTEN_BYTES: &str = "alluvium_pageserver_written_bytes_total";
/// Rewrites, by who did them and how they ended.
pub const COMPACTION_JOBS: &str = "alluvium_pageserver_compaction_jobs_total";
/// Rewrites on offer to compactors, and those that one of them has.
pub const COMPACTION_OFFERS: &str = "alluvium_pageserver_compaction_offers";
/// Compactors that were heard of lately.
pub const COMPACTORS: &str = "alluvium_pageserver_compactors";
/// Jobs that a compactor ended, by outcome.
pub const COMPACTOR_JOBS: &str = "alluvium_compactor_jobs_total";
/// Jobs that a compactor is working on.
pub const COMPACTOR_RUNNING: &str = "alluvium_compactor_running";
/// Bytes of layers that a compactor wrote.
pub const COMPACTOR_WRITTEN_BYTES: &str = "alluvium_compactor_written_bytes_total";
/// Bytes that the scrubber has read.
pub const SCRUBBED_BYTES: &str = "alluvium_pageserver_scrubbed_bytes_total";
/// Damages that the scrubber has found.
pub const SCRUB_DAMAGES: &str = "alluvium_pageserver_scrub_damages_total";
/// Damages of the cache on local disk that were mended from the object store.
pub const CACHE_REPAIRS: &str = "alluvium_pageserver_cache_repairs_total";
/// Background work that failed and is repeated, by kind.
pub const BACKGROUND_FAILURES: &str = "alluvium_pageserver_background_failures_total";
