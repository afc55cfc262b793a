//! Rewriting layers so that a read touches few of them, and dropping history that nobody can ask for.
//!
//! Runs are ordered by LSN; within a run, layers have disjoint page ranges. Newest to oldest:
//!
//! ```text
//! buffers        in memory
//! level 0        one run for each flush
//! level 1…       merged runs: `run_places` at most, then the newest that were rewritten least often become one
//! images         of parts of the page space, each part at an LSN of its own: made where the records since
//!                the last one have become as much as the pages themselves
//! older runs     history: kept down to the horizon
//! ```
//!
//! A *tile* is a part of the page space with one newest image. For reading a page, only records above its tile's image count:
//! [`depth`] is the most that any tile has, and flushes wait when it reaches `max_depth`. So a read of the newest LSN
//! touches at most `max_depth` layers of records and an image; reads of older LSNs start from an older image and see no
//! more than were there at that time.
//!
//! What it costs: each byte of records is written once by its flush, at most `w` times by merges (see [`plan_merge`]), and
//! causes at most `1 / image_ratio` bytes of images.
//!
//! Planning is pure; a job is a function from layers to layers, which any node can run.

mod job;
mod loads;
mod plan;
mod sample;
mod tiling;

#[cfg(test)]
mod tests;

pub use job::{JobContext, JobError, MadePages, apart, run_job, write_buffer};
pub use loads::tile_loads;
pub use plan::{
    ALL_PAGES, Floor, Garbage, Job, JobKind, TileLoad, depth, image_job, keep_from, live_runs, plan_garbage,
    plan_images, plan_merge,
};
pub use sample::compare_samples;
pub use storage::layer::LayerId;
pub use tiling::{Tile, Tiling};

/// When layers are rewritten, and how much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionSettings {
    /// Runs of records that are left beside each other; one more, and some are merged.
    pub run_places: usize,
    /// Runs above an image that are worth a new one.
    pub run_trigger: usize,
    /// Images are made once records since the last ones have this share of the images' size: 4 means a quarter.
    pub image_ratio: u64,
    /// Images are made of neighbouring tiles together up to this much: others wait for their turn meanwhile.
    pub image_job_bytes: u64,
    /// Flushes wait while a read may touch this many runs of records.
    pub max_depth: usize,
    /// Pages with this many records in one buffer get an image along with them.
    pub hot_page_records: usize,
    /// A layer is closed at the first page boundary after this many bytes.
    pub layer_target_bytes: u64,
    /// How long old LSNs stay readable, unless the branch says otherwise.
    pub retention: Retention,
}

/// How long old LSNs stay readable: as long as either of the two asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Distance in the log.
    pub bytes: u64,
    /// Time since something newer was committed, in microseconds.
    pub time_us: u64,
}

impl Default for Retention {
    /// 1 GiB of log, and seven days.
    fn default() -> Retention {
        Retention { bytes: 1 << 30, time_us: 7 * 24 * 60 * 60 * 1_000_000 }
    }
}

impl Default for CompactionSettings {
    fn default() -> CompactionSettings {
        CompactionSettings {
            run_places: 4,
            run_trigger: 2,
            image_ratio: 1,
            image_job_bytes: 256 << 20,
            // With the image, eight layers at most are read for a page.
            max_depth: 7,
            hot_page_records: 512,
            layer_target_bytes: 64 << 20,
            retention: Retention::default(),
        }
    }
}
