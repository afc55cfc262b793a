//! gRPC definitions between the tiers, generated from `proto/*.proto`. Conversions to and from the tiers' own
//! types live beside those types; there is no logic here.

/// Page servers: `proto/pageserver.proto`.
pub mod pageserver {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("alluvium.pageserver.v1");
}
