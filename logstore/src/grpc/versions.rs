//! Versions in calls: each says which ones its client speaks, as the hello of a stream does ([`crate::stream`]).

use std::sync::LazyLock;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::stream::{CLIENT_VERSIONS, NODE_AND_CLIENT, Versions};

/// Header of a call: oldest and newest version, `1-1`. Without it, the client is older than the header.
pub(crate) const HEADER: &str = "log-versions";

static TOLD: LazyLock<MetadataValue<Ascii>> =
    LazyLock::new(|| CLIENT_VERSIONS.to_string().parse().expect("digits and a hyphen make a header's value"));

/// What looks at a call before it goes or is served.
type Interceptor = fn(Request<()>) -> Result<Request<()>, Status>;

/// A client or a service whose calls pass [`tell`] or [`check`].
pub type Versioned<T> = InterceptedService<T, Interceptor>;

/// The client's side.
pub(super) fn telling<T>(channel: T) -> Versioned<T> {
    InterceptedService::new(channel, tell)
}

/// The node's side.
pub(super) fn checking<T>(service: T) -> Versioned<T> {
    InterceptedService::new(service, check)
}

fn tell(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.metadata_mut().insert(HEADER, TOLD.clone());
    Ok(request)
}

fn check(request: Request<()>) -> Result<Request<()>, Status> {
    let told = match request.metadata().get(HEADER) {
        None => Versions::told(0, 0),
        Some(value) => value
            .to_str()
            .ok()
            .and_then(Versions::parse)
            .ok_or_else(|| Status::invalid_argument(format!("the header {HEADER} is no range of versions")))?,
    };
    CLIENT_VERSIONS.check(told, NODE_AND_CLIENT).map_err(Status::failed_precondition)?;
    Ok(request)
}
