//! The one binary. Each subcommand wires the crates together; there is no logic here.

mod admin;
mod archive;
mod cluster;
mod compactor;
mod compute;
mod ctl;
mod ctl_branch;
mod ctl_compactors;
mod ctl_pages;
mod dev;
mod directory;
#[cfg(test)]
mod documentation_tests;
mod front;
mod governor;
mod log_options;
mod logstore_node;
mod pageserver;
mod shell;
mod size;
mod status;
mod store;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Loads and large transactions take and give back memory in bursts, on many threads. The C library's allocator keeps much
/// of that for itself, far beyond `--memory`; this one gives it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How it does: an arena for each processor instead of four, and what is not used again within 200 ms goes back. A load
/// of 1 GB and an index on it at `--memory 128MiB` then took 267 MiB at most; half as much data took 510 with jemalloc's own
/// settings (10 s). `MALLOC_CONF` in the environment, prefixed with `_RJEM_`, goes before it.
// SAFETY: jemalloc looks for a string under this name, ended by a zero.
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: Settings =
    Settings(c"percpu_arena:percpu,background_thread:true,dirty_decay_ms:200,muzzy_decay_ms:0".as_ptr());

/// A pointer to a constant, as jemalloc reads it.
#[repr(transparent)]
struct Settings(*const std::ffi::c_char);

// SAFETY: nobody writes to the string.
unsafe impl Sync for Settings {}

/// A disaggregated, Postgres-compatible database engine.
#[derive(Parser)]
#[command(name = "alluvium", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every tier in one process on a local directory: connect with any Postgres client.
    Dev(dev::DevArguments),
    /// Runs one node of the log service.
    Logstore(logstore_node::LogstoreArguments),
    /// Serves pages: replays the log into layers on an object store. Or rewrites layers for those who do.
    Pageserver(pageserver::PageServerArguments),
    /// Runs the primary of a branch: connect with any Postgres client.
    Compute(compute::ComputeArguments),
    /// Operates a running system.
    Ctl(ctl::CtlArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("ALLUVIUM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,raft=warn,slog=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    let result = match arguments.command {
        Command::Dev(arguments) => dev::run(arguments),
        Command::Pageserver(arguments) => pageserver::run(arguments),
        Command::Logstore(arguments) => logstore_node::run(arguments),
        Command::Compute(arguments) => compute::run(arguments),
        Command::Ctl(arguments) => ctl::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("alluvium: {message}");
            ExitCode::FAILURE
        }
    }
}
