//! Runs seeds of the simulator: `alluvium-sim --seeds 1000 --jobs 2`, or one with `--seed 17`.
//!
//! Each seed has a process of its own, so that nothing is left over from the one before (see `sim::entropy`), a panic in
//! any task ends it, and one that hangs is ended from outside.

use std::io::Read;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;

/// Simulates whole clusters under faults, one run for each seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,

    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,

    /// Seeds that run at a time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,

    /// Only this seed, with what it did.
    #[arg(long)]
    seed: Option<u64>,

    /// With that seed: what its processes log; twice: also what happens in the world.
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Seconds that a seed may take.
    #[arg(long, default_value_t = 120)]
    limit_s: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => {
            if arguments.verbose > 0 {
                let levels = if arguments.verbose > 1 { "info,sim=debug" } else { "info" };
                let to_stderr = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time();
                to_stderr.with_env_filter(levels).with_ansi(false).init();
            }
            run_one(seed)
        }
        None => run_many(&arguments),
    }
}

/// In this process. Prints what it did.
fn run_one(seed: u64) -> ExitCode {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        eprintln!("seed {seed} failed");
        // A task's panic would else be its caller's to notice.
        std::process::exit(101);
    }));
    sim::entropy::begin(seed);
    // A thread whose hash tables draw from the seed.
    let run = std::thread::Builder::new().name("simulation".into()).stack_size(16 << 20).spawn(move || sim::run(seed));
    match run.map(std::thread::JoinHandle::join) {
        Ok(Ok(report)) => {
            println!("{report:?}");
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

struct Running {
    seed: u64,
    process: Child,
    began: Instant,
}

impl Running {
    fn begin(seed: u64) -> Running {
        let program = std::env::current_exe().expect("this program has a path");
        let process = Command::new(program)
            .args(["--seed", &seed.to_string()])
            // The message says what is wrong; a seed that failed can be run again for more.
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        Running { seed, process, began: now() }
    }

    /// What came of it, once it has ended: its report, or what it said.
    fn ended(&mut self, limit: Duration) -> Option<Result<String, String>> {
        let status = match self.process.try_wait().expect("a child can be waited for") {
            Some(status) => Some(status),
            None if self.began.elapsed() < limit => return None,
            None => {
                self.process.kill().expect("a child can be ended");
                self.process.wait().expect("a child can be waited for");
                None
            }
        };
        let mut text = String::new();
        let succeeded = status.is_some_and(|status| status.success());
        let pipe: &mut dyn Read = if succeeded {
            self.process.stdout.as_mut().expect("it is piped")
        } else {
            self.process.stderr.as_mut().expect("it is piped")
        };
        pipe.read_to_string(&mut text).expect("a program's output is text");
        if status.is_none() {
            text = format!("seed {} has not ended in {limit:?}\n{text}", self.seed);
        }
        Some(if succeeded { Ok(text) } else { Err(text) })
    }
}

#[expect(clippy::disallowed_methods, reason = "how long real processes take")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "children that end wake nobody")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// A number in a report.
fn number(report: &str, name: &str) -> u64 {
    let text = report.split_once(&format!("{name}: ")).map_or("", |(_, rest)| rest);
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().unwrap_or(0)
}

fn run_many(arguments: &Arguments) -> ExitCode {
    let names = [
        "events",
        "acknowledged",
        "register_operations",
        "pages_compared",
        "databases_checked",
        "branches_made",
        "commits",
        "snapshots_checked",
        "archived_groups",
        "histories_checked",
    ];
    let mut totals = [0; 10];
    let (mut running, mut failed, mut done) = (Vec::<Running>::new(), Vec::new(), 0);
    let mut seeds = arguments.from..arguments.from + arguments.seeds;
    loop {
        while running.len() < arguments.jobs.max(1)
            && let Some(seed) = seeds.next()
        {
            running.push(Running::begin(seed));
        }
        if running.is_empty() {
            break;
        }
        running.retain_mut(|one| {
            let Some(outcome) = one.ended(Duration::from_secs(arguments.limit_s)) else { return true };
            done += 1;
            match outcome {
                Ok(report) => {
                    for (total, name) in totals.iter_mut().zip(names) {
                        *total += number(&report, name);
                    }
                }
                Err(text) => {
                    eprintln!("== seed {}\n{}", one.seed, text.trim_end());
                    failed.push(one.seed);
                }
            }
            if done % 1_000 == 0 {
                eprintln!("{done} seeds, failed: {failed:?}");
            }
            false
        });
        pause();
    }
    let told: Vec<_> = names.iter().zip(totals).map(|(name, total)| format!("{total} {name}")).collect();
    println!("{done} seeds: {}; failed: {failed:?}", told.join(", "));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
