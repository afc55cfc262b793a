//! Jobs for compactors over gRPC: the service, the client, and what both say to each other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto::compaction as wire;
use proto::compaction::compaction_service_client::CompactionServiceClient;
use proto::compaction::compaction_service_server::{self, CompactionServiceServer};
use storage::layer::{LayerDescriptor, LayerName};
use storage::layout::ShardLayout;
use storage::manifest::{decode_layers, encode_layers};
use storage::{BranchId, Generation, Lsn, PageNo, ShardId};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::compaction::{Floor, Job, JobKind, Tile};
use crate::compactors::{Assignment, JobSource, LeaseId, OfferSeen, SourceError, VERSION, WorkerSeen};

/// A job names every layer that it reads: more than a manifest can hold there cannot be.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Of a worker's name, and of a reason.
const MAX_TEXT_BYTES: usize = 1024;

/// What a message does not make sense for.
type Nonsense = String;

fn wire_job_kind(kind: JobKind) -> i32 {
    match kind {
        JobKind::Merge => wire::JobKind::Merge.into(),
        JobKind::Image => wire::JobKind::Image.into(),
    }
}

fn job_kind(number: i32) -> Result<JobKind, Nonsense> {
    match wire::JobKind::try_from(number) {
        Ok(wire::JobKind::Merge) => Ok(JobKind::Merge),
        Ok(wire::JobKind::Image) => Ok(JobKind::Image),
        Ok(wire::JobKind::Unknown) | Err(_) => Err("an unknown kind of job".to_owned()),
    }
}

fn wire_lease(lease: LeaseId) -> wire::Lease {
    let LeaseId { branch, shard, first_name } = lease;
    let (generation, first_sequence) = (first_name.generation.0, first_name.sequence);
    wire::Lease { branch: branch.0, shard: shard.0, generation, first_sequence }
}

fn lease(lease: Option<wire::Lease>) -> Result<LeaseId, Nonsense> {
    let wire::Lease { branch, shard, generation, first_sequence } = lease.ok_or("no lease")?;
    let first_name = LayerName { generation: Generation(generation), sequence: first_sequence };
    Ok(LeaseId { branch: BranchId(branch), shard: ShardId(shard), first_name })
}

fn layers(bytes: &[u8]) -> Result<Vec<LayerDescriptor>, Nonsense> {
    decode_layers(bytes).map_err(|error| error.to_string())
}

fn one_layer(bytes: &[u8]) -> Result<LayerDescriptor, Nonsense> {
    let [layer] = layers(bytes)?.try_into().map_err(|layers: Vec<_>| format!("{} images of one tile", layers.len()))?;
    Ok(layer)
}

fn wire_assignment(assignment: &Assignment) -> wire::Assignment {
    let Assignment { lease, job, layer_target_bytes, names } = assignment;
    let tile = |tile: &Tile| wire::Tile {
        first_page: tile.first_page.0,
        last_page: tile.last_page.0,
        image: tile.image.as_ref().map(|image| encode_layers(std::slice::from_ref(image))),
    };
    let floor =
        |floor: &Floor| wire::Floor { first_page: floor.first_page.0, last_page: floor.last_page.0, lsn: floor.lsn.0 };
    let job = wire::Job {
        kind: wire_job_kind(job.kind),
        first_page: job.pages.start().0,
        last_page: job.pages.end().0,
        runs: job.runs.iter().map(|layers| encode_layers(layers)).collect(),
        base: job.base.iter().map(tile).collect(),
        floors: job.floors.iter().map(floor).collect(),
        shards: job.holds.1.shards(),
        stripe_pages: job.holds.1.stripe_pages(),
        start_lsn: job.start_lsn.0,
        end_lsn: job.end_lsn.0,
        level: job.level.into(),
    };
    wire::Assignment {
        lease: Some(wire_lease(*lease)),
        job: Some(job),
        layer_target_bytes: *layer_target_bytes,
        names: *names,
    }
}

fn assignment(assignment: wire::Assignment) -> Result<Assignment, Nonsense> {
    let wire::Assignment { lease: whose, job, layer_target_bytes, names } = assignment;
    let (lease, job) = (lease(whose)?, job.ok_or("no job")?);
    let tile = |tile: &wire::Tile| {
        let image = tile.image.as_deref().map(one_layer).transpose()?;
        Ok(Tile { first_page: PageNo(tile.first_page), last_page: PageNo(tile.last_page), image })
    };
    let floor = |floor: &wire::Floor| Floor {
        first_page: PageNo(floor.first_page),
        last_page: PageNo(floor.last_page),
        lsn: Lsn(floor.lsn),
    };
    let layout = ShardLayout::new(job.shards, job.stripe_pages).ok_or("an impossible layout")?;
    let job = Job {
        kind: job_kind(job.kind)?,
        pages: PageNo(job.first_page)..=PageNo(job.last_page),
        runs: job.runs.iter().map(|run| layers(run)).collect::<Result<_, _>>()?,
        base: job.base.iter().map(tile).collect::<Result<_, Nonsense>>()?,
        floors: job.floors.iter().map(floor).collect(),
        holds: (lease.shard, layout),
        start_lsn: Lsn(job.start_lsn),
        end_lsn: Lsn(job.end_lsn),
        level: u8::try_from(job.level).map_err(|_| "a level beyond 255")?,
    };
    Ok(Assignment { lease, job, layer_target_bytes, names })
}

/// Offers of a process over gRPC.
pub struct JobService {
    jobs: Arc<dyn JobSource>,
}

impl JobService {
    /// To be added to a server of the caller's making.
    pub fn new(jobs: Arc<dyn JobSource>) -> CompactionServiceServer<JobService> {
        CompactionServiceServer::new(JobService { jobs }).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

fn refused(reason: Nonsense) -> Status {
    Status::invalid_argument(reason)
}

fn failed(error: SourceError) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl compaction_service_server::CompactionService for JobService {
    async fn take_job(
        &self,
        request: Request<wire::TakeJobRequest>,
    ) -> Result<Response<wire::TakeJobResponse>, Status> {
        let wire::TakeJobRequest { worker, version } = request.into_inner();
        if version != VERSION {
            let message = format!("jobs have version {VERSION} here, the worker knows {version}");
            return Err(Status::failed_precondition(message));
        }
        if worker.is_empty() || worker.len() > MAX_TEXT_BYTES {
            return Err(refused("a worker's name has 1 to 1024 bytes".to_owned()));
        }
        let taken = self.jobs.take(&worker).await.map_err(failed)?;
        Ok(Response::new(wire::TakeJobResponse { assignment: taken.as_ref().map(wire_assignment) }))
    }

    async fn renew_lease(
        &self,
        request: Request<wire::RenewLeaseRequest>,
    ) -> Result<Response<wire::RenewLeaseResponse>, Status> {
        let lease = lease(request.into_inner().lease).map_err(refused)?;
        let wanted = self.jobs.renew(lease).await.map_err(failed)?;
        Ok(Response::new(wire::RenewLeaseResponse { wanted }))
    }

    async fn finish_job(
        &self,
        request: Request<wire::FinishJobRequest>,
    ) -> Result<Response<wire::FinishJobResponse>, Status> {
        let wire::FinishJobRequest { lease: whose, mut failure, layers: made } = request.into_inner();
        let lease = lease(whose).map_err(refused)?;
        let outcome = if failure.is_empty() {
            Ok(layers(&made).map_err(refused)?)
        } else {
            failure.truncate(failure.floor_char_boundary(MAX_TEXT_BYTES));
            Err(failure)
        };
        let taken = self.jobs.finish(lease, outcome).await.map_err(failed)?;
        Ok(Response::new(wire::FinishJobResponse { taken }))
    }

    async fn list_jobs(&self, _: Request<wire::ListJobsRequest>) -> Result<Response<wire::ListJobsResponse>, Status> {
        let (workers, jobs) = self.jobs.list().await.map_err(failed)?;
        let worker = |WorkerSeen { name, silent_ms }| wire::Worker { name, silent_ms };
        let job = |job: OfferSeen| wire::OfferedJob {
            lease: Some(wire_lease(job.lease)),
            kind: wire_job_kind(job.kind),
            input_bytes: job.input_bytes,
            age_ms: job.age_ms,
            worker: job.worker,
        };
        let workers = workers.into_iter().map(worker).collect();
        Ok(Response::new(wire::ListJobsResponse { workers, jobs: jobs.into_iter().map(job).collect() }))
    }
}

/// A page server's jobs, asked for over a gRPC channel.
pub struct GrpcJobs {
    client: CompactionServiceClient<Channel>,
    timeout: Duration,
}

impl GrpcJobs {
    /// Over a channel, which may be lazy. A call that gets no answer within `timeout` has failed.
    pub fn new(channel: Channel, timeout: Duration) -> GrpcJobs {
        let client = CompactionServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        GrpcJobs { client, timeout }
    }

    async fn within<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, SourceError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(SourceError(status.message().to_owned())),
            Err(_) => Err(SourceError(format!("no answer within {} ms", self.timeout.as_millis()))),
        }
    }
}

fn nonsense(reason: Nonsense) -> SourceError {
    SourceError(format!("the page server's answer makes no sense: {reason}"))
}

#[async_trait]
impl JobSource for GrpcJobs {
    async fn take(&self, worker: &str) -> Result<Option<Assignment>, SourceError> {
        let request = wire::TakeJobRequest { worker: worker.to_owned(), version: VERSION };
        let answer = self.within(self.client.clone().take_job(request)).await?;
        answer.assignment.map(assignment).transpose().map_err(nonsense)
    }

    async fn renew(&self, lease: LeaseId) -> Result<bool, SourceError> {
        let request = wire::RenewLeaseRequest { lease: Some(wire_lease(lease)) };
        Ok(self.within(self.client.clone().renew_lease(request)).await?.wanted)
    }

    async fn finish(&self, lease: LeaseId, outcome: Result<Vec<LayerDescriptor>, String>) -> Result<bool, SourceError> {
        let (failure, layers) = match &outcome {
            Ok(layers) => (String::new(), encode_layers(layers)),
            Err(reason) if reason.is_empty() => ("no reason given".to_owned(), Bytes::new()),
            Err(reason) => (reason[..reason.floor_char_boundary(MAX_TEXT_BYTES)].to_owned(), Bytes::new()),
        };
        let request = wire::FinishJobRequest { lease: Some(wire_lease(lease)), failure, layers };
        Ok(self.within(self.client.clone().finish_job(request)).await?.taken)
    }

    async fn list(&self) -> Result<(Vec<WorkerSeen>, Vec<OfferSeen>), SourceError> {
        let answer = self.within(self.client.clone().list_jobs(wire::ListJobsRequest {})).await?;
        let job = |job: wire::OfferedJob| {
            let (lease, kind) = (lease(job.lease)?, job_kind(job.kind)?);
            let wire::OfferedJob { input_bytes, age_ms, worker, .. } = job;
            Ok(OfferSeen { lease, kind, input_bytes, age_ms, worker })
        };
        let worker = |wire::Worker { name, silent_ms }| WorkerSeen { name, silent_ms };
        let jobs = answer.jobs.into_iter().map(job).collect::<Result<_, _>>().map_err(nonsense)?;
        Ok((answer.workers.into_iter().map(worker).collect(), jobs))
    }
}
