//! Comparing a few pages of a rewrite with what it was made of: what an owner can afford before it names layers that somebody
//! else has made. It costs a block or two of each run for each page.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use storage::layer::{LayerDescriptor, LayerError, LayerReader};
use storage::{BranchId, PageNo};

use super::job::{MadePages, MergedScan, RunScan};
use super::{Job, JobError, JobKind, Tile};

/// Pages chosen at random for each job, besides the last one with records.
const SAMPLES: u64 = 4;
/// A page whose records lie in more blocks than that, all layers together, is not compared: it would take long.
const MOST_BLOCKS: usize = 64;

/// Compares pages of `made` with what the job's own layers give: the same records in the same order, or the image that the
/// records make. Says what differs, or why that could not be found out. `seed` decides which pages.
///
/// One of them is always the last that has records: a rewrite that ended early has lost it.
pub async fn compare_samples(
    reader: &LayerReader,
    branch: BranchId,
    job: &Job,
    made: &[LayerDescriptor],
    seed: u64,
) -> Result<(), String> {
    let unreadable = |error: LayerError| error.to_string();
    for page in sample_pages(reader, job, seed).await.map_err(unreadable)? {
        let same = match job.kind {
            JobKind::Merge => same_records(reader, job, made, page).await.map_err(unreadable)?,
            JobKind::Image => {
                same_image(reader, branch, job, made, page).await.map_err(|error: JobError| error.to_string())?
            }
        };
        if !same {
            return Err(format!("page {page} is not what the job's layers make of it"));
        }
    }
    Ok(())
}

/// The layers that a job reads.
fn inputs(job: &Job) -> Vec<&LayerDescriptor> {
    job.runs.iter().flatten().chain(job.base.iter().filter_map(|tile| tile.image.as_ref())).collect()
}

async fn sample_pages(reader: &LayerReader, job: &Job, seed: u64) -> Result<BTreeSet<PageNo>, LayerError> {
    let (inputs, mut random) = (inputs(job), seed);
    let mut below = |limit: usize| {
        // Splitmix64.
        random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (random ^ random >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ mixed >> 31) % limit.max(1) as u64).expect("below a usize")
    };
    let mut pages: BTreeSet<_> = job.runs.iter().flatten().map(|layer| layer.last_page).max().into_iter().collect();
    for number in 0..SAMPLES {
        let Some(layer) = inputs.get(below(inputs.len())) else { continue };
        let index = reader.index(layer).await?;
        let Some(block) = index.blocks.get(below(index.blocks.len())) else { continue };
        pages.insert(if number % 2 == 0 { block.first_page } else { block.last_page });
    }
    pages.retain(|page| job.pages.contains(page) && job.holds(*page));
    let mut blocks = Vec::with_capacity(pages.len());
    for page in &pages {
        let mut holding = 0;
        for layer in inputs.iter().filter(|layer| layer.covers(*page)) {
            let index = reader.index(layer).await?;
            let first = index.blocks.partition_point(|block| block.last_page < *page);
            holding += index.blocks.partition_point(|block| block.first_page <= *page).saturating_sub(first);
        }
        blocks.push(holding);
    }
    let mut blocks = blocks.into_iter();
    pages.retain(|_| blocks.next().is_some_and(|holding| holding <= MOST_BLOCKS));
    Ok(pages)
}

/// The entries of one page.
async fn made_of<'a>(
    reader: &'a LayerReader,
    made: &'a [LayerDescriptor],
    page: PageNo,
) -> Result<RunScan<'a>, LayerError> {
    RunScan::new(reader, made.iter().filter(|layer| layer.covers(page)).map(|layer| (layer, page..=page))).await
}

async fn same_records(
    reader: &LayerReader,
    job: &Job,
    made: &[LayerDescriptor],
    page: PageNo,
) -> Result<bool, LayerError> {
    let of_page = Job { pages: page..=page, ..job.clone() };
    let mut expected = MergedScan::new(reader, &of_page).await?;
    let mut found = made_of(reader, made, page).await?;
    while expected.head() == found.head() {
        if expected.head().is_none() {
            return Ok(true);
        }
        expected.advance().await?;
        found.advance().await?;
    }
    Ok(false)
}

async fn same_image(
    reader: &LayerReader,
    branch: BranchId,
    job: &Job,
    made: &[LayerDescriptor],
    page: PageNo,
) -> Result<bool, JobError> {
    let holding = job.base.iter().filter(|tile| tile.first_page <= page && page <= tile.last_page);
    let base = holding.map(|tile| Tile { first_page: page, last_page: page, ..tile.clone() }).collect();
    let of_page = Job { pages: page..=page, base, ..job.clone() };
    let expected = MadePages::new(reader, branch, &of_page).await?.next().await?;
    let found = made_of(reader, made, page).await?;
    Ok(expected.as_ref().map(|(page, lsn, bytes)| (*page, *lsn, &bytes[..])) == found.head())
}
