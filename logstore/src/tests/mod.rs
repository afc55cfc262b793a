//! Tests of the log service as a whole.

mod store_tests;
