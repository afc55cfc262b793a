//! Seeds of the gate.

use std::process::Command;

fn simulate(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_alluvium-sim")).args(arguments).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Those of log nodes alone, and those with page servers and branches.
#[test]
fn a_seed_repeats_itself_event_by_event() {
    let mut reports = Vec::new();
    for seed in 1..=8u64 {
        let seed = seed.to_string();
        let (first, second) = (simulate(&["--seed", &seed]), simulate(&["--seed", &seed]));
        assert_eq!(first, second, "seed {seed}");
        reports.push(first.1);
    }
    let with_pages = reports.iter().filter(|report| !report.contains("pages_compared: 0,")).count();
    assert!((1..reports.len()).contains(&with_pages), "{with_pages} of {} had page servers", reports.len());
    assert_ne!(reports[0], reports[1]);
}

/// `ALLUVIUM_SIM_SEEDS` sets how many.
#[test]
fn seeds_hold() {
    let seeds = std::env::var("ALLUVIUM_SIM_SEEDS").unwrap_or_else(|_| "200".to_owned());
    let (holds, report, failures) = simulate(&["--seeds", &seeds, "--jobs", "2"]);
    assert!(holds, "{report}\n{failures}");
    // So many seeds do some of everything: nothing holds because nothing was looked at.
    let totals = report.split_once(": ").and_then(|(_, told)| told.split_once(';')).expect("totals").0;
    assert!(totals.split(", ").count() >= 8 && totals.split(", ").all(|total| !total.starts_with("0 ")), "{report}");
}
