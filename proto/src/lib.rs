//! gRPC definitions between the tiers, generated from `proto/*.proto`. Conversions to and from the tiers' own
//! types live beside those types; there is no logic here.

/// The log service: `proto/logstore.proto`.
pub mod logstore {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("alluvium.logstore.v1");
}

/// Page servers: `proto/pageserver.proto`.
pub mod pageserver {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("alluvium.pageserver.v1");
}

/// Page servers and their compactors: `proto/compaction.proto`.
pub mod compaction {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("alluvium.compaction.v1");
}
