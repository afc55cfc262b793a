//! Histories written by hand, one for each anomaly and some that are right; and those of a toy store, right and broken.

mod toy;

use std::collections::BTreeMap;

use crate::Anomaly::{self, *};
use crate::{History, Isolation, Operation, Outcome, Transaction};

/// Reads a history from events in the order of time: `A rr` or `A rc` begins, `A x+1` appends, `A x=1,2` reads, `A x!1,2` reads the newest
/// under a lock, `A xy=1;2` reads two keys in one statement, `A commit`, `A abort`, `A lost` (nobody knows), `A undo 0` takes back what
/// came from that statement on. `A@2 rr` begins on another primary, `primary 2` starts that.
fn parse(text: &str) -> History {
    let (mut history, mut names, mut now) = (History::default(), BTreeMap::<&str, usize>::new(), 0);
    for event in text.lines().flat_map(|line| line.split('|')).map(str::trim).filter(|event| !event.is_empty()) {
        now += 10;
        let (who, what) = event.split_once(' ').expect("who does what");
        if who == "primary" {
            history.primaries.insert(what.parse().expect("a number"), now);
            continue;
        }
        if let "rr" | "rc" = what {
            let (name, primary) = who.split_once('@').unwrap_or((who, "1"));
            let isolation = if what == "rr" { Isolation::RepeatableRead } else { Isolation::ReadCommitted };
            names.insert(name, history.transactions.len());
            history.transactions.push(Transaction::begun(primary.parse().expect("a number"), isolation));
            continue;
        }
        let transaction = &mut history.transactions[names[who]];
        let list = |text: &str| -> Vec<u64> {
            text.split(',').filter(|one| !one.is_empty()).map(|one| one.parse().expect("a number")).collect()
        };
        match what {
            "commit" => {
                transaction.asked = Some(now);
                transaction.outcome = Outcome::Committed(now + 5);
            }
            "abort" => transaction.outcome = Outcome::Aborted,
            "lost" => {
                transaction.asked = Some(now);
                transaction.outcome = Outcome::Unknown;
            }
            _ if what.starts_with("undo ") => transaction.undo_from(what[5..].parse().expect("a number")),
            _ => {
                let mark = what.find(['+', '=', '!']).expect("an operation");
                let (keys, rest) = (what[..mark].chars().map(|key| key as u64), &what[mark + 1..]);
                let operations = keys.zip(rest.split(';')).map(|(key, rest)| match &what[mark..=mark] {
                    "+" => Operation::Append { key, value: rest.parse().expect("a number") },
                    "=" => Operation::Read { key, list: list(rest) },
                    _ => Operation::ReadNewest { key, list: list(rest) },
                });
                transaction.statement(now, now + 5, operations.collect());
            }
        }
    }
    history
}

#[track_caller]
fn check(expected: &[Anomaly], text: &str) {
    let findings = parse(text).check();
    let found: Vec<_> = findings.iter().map(|finding| finding.anomaly).collect();
    let told: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{text}: {told:#?}");
}

#[test]
fn histories_that_are_right_pass() {
    check(&[], "");
    check(&[], "A rr | A x+1 | A commit | B rr | B x=1 | B x+2 | B x=1,2 | B commit | C rc | C x=1,2 | C commit");
    // Concurrent, neither sees the other: write skew, which snapshots allow.
    check(&[], "A rr | B rr | A xy=; | B xy=; | A x+1 | B y+1 | A commit | B commit | C rr | C xy=1;1 | C commit");
    // A snapshot stays as it is.
    check(&[], "A rr | A x= | B rc | B x+1 | B commit | A x= | A y= | A commit");
    // READ COMMITTED sees what was committed between its statements.
    check(&[], "A rc | A x= | B rr | B x+1 | B commit | A x=1 | A x+2 | A x=1,2 | A commit | C rr | C x=1,2");
    // And writes behind what it has not read.
    check(&[], "A rc | A x= | B rr | B x+1 | B commit | A x+2 | A commit | C rr | C x=1,2");
    // Nor has a statement that does not read seen anything by then.
    check(&[], "A rc | A x+1 | A lost | B rc | B x+2 | B y+1 | C rr | C x= | B commit | D rr | D xy=1,2;1 | D commit");
    // What is given up or taken back is nowhere.
    check(
        &[],
        "A rr | A x+1 | A x=1 | A abort | B rc | B x= | B x+2 | B x=2 | B undo 1 | B x= | B x+3 | B commit | C rr | C x=3",
    );
    // An unknown outcome may have been the one or the other, and come late.
    check(&[], "A rr | A x+1 | A lost | B rr | B x=1 | B commit");
    check(&[], "A rr | A x+1 | A lost | B rr | B x= | B x+2 | B x=2 | B commit | C rr | C x=2");
    check(&[], "A rr | A x+1 | A lost | B rr | B x= | B commit | C rr | C x=1");
    // The newest under a lock, and what comes of it.
    check(&[], "A rc | B rc | B x= | A x+1 | A commit | B x!1 | B x+2 | B x=1,2 | B commit | C rr | C x=1,2");
    check(&[], "A rc | A x!  | A x+1 | A commit");
    // What was found under a lock need not have come to stay if the reader has not.
    check(
        &[],
        "A rc | A x+1 | A lost | B rc | B x!1 | B x+2 | B x=1,2 | B abort | C rc | C x= | C x+3 | C x=3 | C commit",
    );
    // A primary that was replaced may be behind, as long as nothing else tells.
    check(&[], "A@1 rr | A x+1 | A commit | primary 2 | B@2 rr | B x=1 | B x+2 | B commit | C@1 rr | C x=1 | C commit");
    let after = "primary 2 | B@2 rr | B x=1 | B x+2 | B commit";
    check(&[], &format!("A@1 rr | A x+1 | A commit | {after} | D@1 rc | D x=1 | D commit | C@1 rr | C x=1 | C commit"));
    check(&[], "A@1 rr | A x+1 | A lost | primary 2 | B@2 rr | B x= | B x+2 | B commit | C@2 rr | C x=2 | C commit");
}

#[test]
fn each_anomaly_has_its_name() {
    check(
        &[DirtyWrite],
        "A rr | B rr | A x+1 | B x+2 | B y+1 | A y+2 | A commit | B commit | C rc | C x=1,2 | C y=1,2",
    );
    check(&[AbortedRead], "A rr | A x+1 | B rc | B x=1 | A abort | B commit");
    check(&[AbortedRead], "A rr | A x+1 | A undo 0 | A y+1 | A commit | B rc | B x=1 | B y=1 | B commit");
    check(&[IntermediateRead], "A rr | A x+1 | A x+2 | B rc | A commit | B x=1 | B commit");
    check(&[CircularInformationFlow], "A rc | B rc | A x+1 | B y+1 | A y=1 | B x=1 | A lost | B lost");
    check(&[LostUpdate], "A rr | B rr | A x= | B x= | A x+1 | B x+2 | A commit | B commit | C rr | C x=1,2");
    check(&[NonRepeatableRead], "A rr | A x= | B rr | B x+1 | B commit | A x=1 | A commit");
    check(&[NonRepeatableRead], "A rr | A x= | B rr | B x+1 | B commit | A x=1 | A abort");
    check(&[ReadSkew], "A rr | A x= | B rr | B x+1 | B y+1 | B commit | A y=1 | A commit");
    check(&[ReadSkew], "A rr | A x= | B rr | B x+1 | B commit | C rr | C x=1 | C y+1 | C commit | A y=1 | A commit");
    // Two readers who do not agree which of two came first.
    check(
        &[NonadjacentCycle],
        "A rr | B rr | C rr | D rr | A x+1 | B y+1 | C xy=1; | D xy=;1 | A lost | B lost | C commit | D commit",
    );
    check(&[LostAppend], "A rr | A x+1 | A commit | B rr | B x= | B commit");
    check(&[LostAppend], "A rr | A x+1 | A commit | B rr | B x+2 | B x=2 | B commit | C rr | C x=2 | C commit");
    check(&[DuplicateAppend], "A rr | A x+1 | A commit | B rr | B x=1,1 | B commit");
    check(&[UnknownValue], "A rr | A x+1 | A commit | B rr | B y= | B x=1,7 | B commit");
    check(
        &[IncompatibleOrder],
        "A rc | A x+1 | B rc | B x+2 | A commit | B commit | C rc | C x=1,2 | D rc | D x=2,1 | C commit | D commit",
    );
    check(&[OwnAppendsMissing], "A rr | A x+1 | A x= | A commit | B rr | B x=1");
    check(&[StaleRead], "A rr | A x+1 | A commit | B rr | B x= | C rr | C x=1 | C commit | B commit");
    check(&[StaleRead], "A rc | A x+1 | B rc | B x= | A commit | B x= | B commit | C rr | C x=1 | C commit");
    check(&[EarlyRead], "A rr | A x+1 | B rc | B x=1 | B commit | A commit");
    check(&[TimeReversal], "A rr | A x+1 | A commit | B rr | B x+2 | B commit | C rr | C x=2,1 | C commit");
}

#[test]
fn read_committed_is_held_to_snapshots_of_statements() {
    // One statement, two snapshots.
    check(&[ReadSkew], "A rc | B rc | B x+1 | B y+1 | A xy=;1 | B lost | A commit");
    check(&[], "A rc | B rc | B x+1 | B y+1 | B commit | A xy=1;1 | A commit");
    // Two statements, the second with the older snapshot.
    check(&[NonRepeatableRead], "A rc | B rc | B x+1 | A x=1 | A x= | B lost | A commit");
    // What was found under a lock is gone in the next statement.
    check(&[NonRepeatableRead], "A rc | B rc | B x+1 | A x!1 | A x= | B lost | A commit");
    check(&[ReadSkew], "A rc | B rc | B x+1 | B y+1 | A x!1 | A y= | B lost | A commit");
    check(&[ReadSkew], "A rc | B rc | B x+1 | B y+1 | A x+2 | A y= | B lost | A commit | C rc | C xy=1,2;1 | C commit");
}

#[test]
fn primaries_that_follow_each_other_lose_nothing() {
    let text = "A@1 rr | A x+1 | A commit | primary 2 | B@2 rr | B x= | B commit";
    check(&[LostAppend], text);
    check(&[StaleRead], &format!("{text} | C@2 rr | C x=1 | C commit"));
    // The old one goes on, and nobody may have read what it had not been asked to commit.
    check(&[EarlyRead], "A@1 rr | A x+1 | primary 2 | B@2 rr | B x=1 | B commit | A commit");
}

/// The same reads are right at one level and wrong at the other.
#[test]
fn read_skew_is_what_tells_the_levels_apart() {
    let of = |level: &str| format!("A {level} | A x= | B {level} | B x+1 | B y+1 | B commit | A y=1 | A commit");
    check(&[], &of("rc"));
    check(&[ReadSkew], &of("rr"));
}
