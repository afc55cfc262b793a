//! Compiles the gRPC definitions with protox, so that no system protoc is needed.

/// Files below `proto/`, each a package of its own.
const DEFINITIONS: &[&str] = &["compaction.proto", "logstore.proto", "pageserver.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(DEFINITIONS, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
