//! Page servers over gRPC: the service, the client, and what both say to each other.
//!
//! Many batches share one bidirectional stream. Each answer names its request and carries a status for each page, so a
//! page that cannot be given neither ends the stream nor holds up others. Compactors ask for jobs beside it.

mod client;
mod jobs;
mod server;

#[cfg(test)]
mod tests;

use proto::pageserver::page_answer::Outcome;
use proto::pageserver::{PageAnswer, PageAsked, PageFailure, PageFound, Priority as WirePriority, page_failure};
use storage::{BranchId, Lsn, PageNo, ShardId};

use crate::client::{GetPage, PageError, PageImage, Priority};

pub use client::GrpcPageClient;
pub use jobs::{GrpcJobs, JobService};
pub use server::PageService;

/// Most pages in one request, so that its answer stays well below gRPC's limit of 4 MiB for a message.
pub const MAX_PAGES_PER_REQUEST: usize = 256;

fn asked(request: &GetPage) -> PageAsked {
    let priority = match request.priority {
        Priority::Foreground => WirePriority::Foreground,
        Priority::Prefetch => WirePriority::Prefetch,
        Priority::Background => WirePriority::Background,
    };
    PageAsked {
        page: request.page.0,
        at: request.at.0,
        not_modified_since: request.not_modified_since.0,
        priority: priority.into(),
    }
}

fn request(asked: &PageAsked) -> GetPage {
    // A number of a newer program: the most urgent, as if it had named none.
    let priority = match asked.priority() {
        WirePriority::Foreground => Priority::Foreground,
        WirePriority::Prefetch => Priority::Prefetch,
        WirePriority::Background => Priority::Background,
    };
    let (at, not_modified_since) = (Lsn(asked.at), Lsn(asked.not_modified_since));
    GetPage { page: PageNo(asked.page), at, not_modified_since, priority }
}

fn answer(outcome: Result<PageImage, PageError>) -> PageAnswer {
    let outcome = match outcome {
        Ok(image) => Outcome::Found(PageFound { page_lsn: image.page_lsn.0, bytes: image.bytes }),
        Err(error) => Outcome::Failure(failure(error)),
    };
    PageAnswer { outcome: Some(outcome) }
}

fn failure(error: PageError) -> PageFailure {
    use page_failure::Kind;
    if let PageError::NotServed { branch, shard } = error {
        return PageFailure {
            kind: Kind::NotServed.into(),
            branch: branch.0,
            shard: shard.0,
            ..PageFailure::default()
        };
    }
    let (kind, page, at, lsn, reason) = match error {
        PageError::NotFound { page, at } => (Kind::NotFound, page.0, at.0, 0, String::new()),
        PageError::BelowHorizon { page, at, horizon } => (Kind::BelowHorizon, page.0, at.0, horizon.0, String::new()),
        PageError::Behind { page, at, reached } => (Kind::Behind, page.0, at.0, reached.0, String::new()),
        PageError::Damaged { page, reason } => (Kind::Damaged, page.0, 0, 0, reason),
        PageError::Unavailable { reason } => (Kind::Unavailable, 0, 0, 0, reason),
        PageError::Overloaded { reason } => (Kind::Overloaded, 0, 0, 0, reason),
        PageError::NotServed { .. } => unreachable!("answered above"),
    };
    PageFailure { kind: kind.into(), page, at, lsn, reason, ..PageFailure::default() }
}

fn outcome(answer: PageAnswer) -> Result<PageImage, PageError> {
    use page_failure::Kind;
    match answer.outcome {
        Some(Outcome::Found(found)) => Ok(PageImage { bytes: found.bytes, page_lsn: Lsn(found.page_lsn) }),
        Some(Outcome::Failure(failure)) => {
            let (page, at, lsn) = (PageNo(failure.page), Lsn(failure.at), Lsn(failure.lsn));
            Err(match failure.kind() {
                Kind::NotFound => PageError::NotFound { page, at },
                Kind::BelowHorizon => PageError::BelowHorizon { page, at, horizon: lsn },
                Kind::Behind => PageError::Behind { page, at, reached: lsn },
                Kind::NotServed => {
                    PageError::NotServed { branch: BranchId(failure.branch), shard: ShardId(failure.shard) }
                }
                Kind::Damaged => PageError::Damaged { page, reason: failure.reason },
                Kind::Overloaded => PageError::Overloaded { reason: failure.reason },
                Kind::Unavailable => PageError::Unavailable { reason: failure.reason },
            })
        }
        None => Err(PageError::Unavailable { reason: "the page server gave an empty answer".to_owned() }),
    }
}
