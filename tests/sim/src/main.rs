//! Runs seeds of the simulator: `alluvium-sim --seeds 1000`, or one with `--seed 17`.

use std::process::ExitCode;

use clap::Parser;

/// Simulates log clusters under faults, one run for each seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,

    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,

    /// Only this seed, with what it did.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        println!("{:#?}", sim::run(seed));
        return ExitCode::SUCCESS;
    }
    let (mut failed, mut acknowledged, mut events) = (Vec::new(), 0, 0);
    for seed in arguments.from..arguments.from + arguments.seeds {
        match std::panic::catch_unwind(|| sim::run(seed)) {
            Ok(report) => {
                acknowledged += report.acknowledged;
                events += report.events;
            }
            Err(_) => {
                eprintln!("seed {seed} failed");
                failed.push(seed);
            }
        }
    }
    println!("{} seeds: {events} events, {acknowledged} appends acknowledged, failed: {failed:?}", arguments.seeds);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
