//! Rewriting layers so that a read touches few of them, and dropping history that nobody can ask for.
//!
//! Runs are ordered by LSN; within a run, layers have disjoint page ranges. Newest to oldest:
//!
//! ```text
//! buffers        in memory
//! level 0        one run for each flush             merged when `merge_trigger` are there
//! level 1        merged runs of records             when `run_trigger` lie above the newest image run:
//!                                                   merged into one, or turned into an image run
//! images         every page at one LSN
//! older runs     history: kept down to the horizon
//! ```
//!
//! So a read of the newest LSN touches at most `merge_trigger - 1` + `run_trigger - 1` runs and an image, besides what
//! came in while a job runs; [`depth`] counts, and flushes wait when it exceeds `max_depth`. Reads of older LSNs
//! start from an older image and see no more runs than that.
//!
//! Planning is pure; a job is a function from layers to layers, which any node can run.

mod job;
mod plan;

#[cfg(test)]
mod tests;

pub use job::{JobContext, JobError, run_job, write_buffer};
pub use plan::{Garbage, Job, JobKind, LayerId, depth, plan_garbage, plan_images, plan_merge};

/// When layers are rewritten, and how much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionSettings {
    /// Flushed runs that are merged into one.
    pub merge_trigger: usize,
    /// Merged runs above the newest image run that are rewritten.
    pub run_trigger: usize,
    /// Images are made once records since the last ones have this share of the images' size: 4 means a quarter.
    pub image_ratio: u64,
    /// Flushes wait beyond this many runs above the newest image run.
    pub max_depth: usize,
    /// Pages with this many records in one buffer get an image along with them.
    pub hot_page_records: usize,
    /// A layer is closed at the first page boundary after this many bytes.
    pub layer_target_bytes: u64,
    /// Distance in the log over which old LSNs stay readable.
    pub retention_bytes: u64,
}

impl Default for CompactionSettings {
    fn default() -> CompactionSettings {
        CompactionSettings {
            merge_trigger: 3,
            run_trigger: 3,
            image_ratio: 4,
            // With the image, eight layers at most are read for a page.
            max_depth: 7,
            hot_page_records: 512,
            layer_target_bytes: 64 << 20,
            retention_bytes: 1 << 30,
        }
    }
}
