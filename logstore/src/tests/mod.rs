//! Tests of the log service as a whole.

mod archive_tests;
mod fault_tests;
mod filter_tests;
mod grpc_tests;
mod node_tests;
mod read_tests;
mod segment_tests;
mod shifted_tests;
mod store_tests;
mod sync_tests;
mod trim_tests;
mod writers_tests;
