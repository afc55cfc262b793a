//! Licences of everything in the lock file, and the advisories that we live with: what `deny.toml` says, checked without a
//! network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages with a known advisory, as the lock file names them. Why we keep them: `deny.toml`.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("protobuf", "2.28.0", "RUSTSEC-2024-0437"), ("fxhash", "0.2.1", "RUSTSEC-2025-0057")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The licences between `allow = [` and `]` of `deny.toml`.
fn allowed() -> BTreeSet<String> {
    let text = read("deny.toml");
    let list = text.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("deny.toml allows some");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be satisfied: OR binds weaker than AND; old packages write `/` for OR.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    let (mut words, allowed) = (words.as_slice(), allowed);
    let result = any(&mut words, allowed);
    assert!(words.is_empty(), "licence {expression:?} cannot be read from {words:?}");
    result
}

fn any(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut result = all(words, allowed);
    while let Some((&"OR", rest)) = words.split_first() {
        *words = rest;
        result |= all(words, allowed);
    }
    result
}

fn all(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut result = one(words, allowed);
    while let Some((&"AND", rest)) = words.split_first() {
        *words = rest;
        result &= one(words, allowed);
    }
    result
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let result = any(words, allowed);
            assert_eq!(words.first(), Some(&")"), "a parenthesis is open");
            *words = &words[1..];
            result
        }
        [name, "WITH", exception, rest @ ..] => {
            *words = rest;
            allowed.contains(&format!("{name} WITH {exception}"))
        }
        [name, rest @ ..] => {
            *words = rest;
            allowed.contains(*name)
        }
        [] => panic!("a licence is missing"),
    }
}

#[test]
fn expressions_are_read() {
    let allowed: BTreeSet<String> = ["MIT", "A WITH x"].map(str::to_owned).into();
    let cases = [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND MIT", true),
        ("A WITH x OR GPL-3.0", true),
        ("A WITH y", false),
    ];
    for (expression, expected) in cases {
        assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn every_licence_is_allowed() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo answers in JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    assert!(packages.len() > 100, "only {} packages", packages.len());
    let allowed = allowed();
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|licence| satisfied(licence, &allowed)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "licences that deny.toml does not allow:\n  {}", refused.join("\n  "));
}

#[test]
fn exceptions_are_explained_and_still_needed() {
    let (lock, deny) = (read("Cargo.lock"), read("deny.toml"));
    for (name, version, advisory) in EXCEPTIONS {
        let locked = lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\""));
        assert!(locked, "{name} {version} is gone from Cargo.lock: take {advisory} out of deny.toml and of this test");
        assert!(deny.contains(advisory), "deny.toml does not explain {advisory} ({name} {version})");
    }
    assert_eq!(deny.matches("RUSTSEC-").count(), EXCEPTIONS.len(), "this test knows every exception of deny.toml");
}
